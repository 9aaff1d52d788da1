"""What counts as a hit: tolerances as pure functions over arrays.

A *position* counts the frames of all stored songs, one after the other. A trial begins at one,
`begin` int (n,); a method gives its ten best `answers`, (n, 10), best first, -1 where there are
fewer: positions, or numbers of segments. Each tolerance says which answers are right, bool (n, 10):

    exact        at most half a frame (0.25 s) from where the query begins
    near         at most 1 frame (0.5 s) from there
    segment      the segment in which the query begins, or the next one of the same song
    same_audio   exact (of segments: segment), or a place that holds the same sound
    song         anywhere in the right recording

Near follows from exact, song from near or segment, and same_audio from exact or segment.
"""

from functools import lru_cache

import numpy as np

from amg.retrieval import search
from amg.sound.audio import SAME, likeness

TOLERANCES = ("segment", "exact", "near", "same_audio", "song")
# mean inner product of two places' undegraded fingerprints below which they are not listened to:
# far below that of the same sound. It can only take a hit from `same_audio`, never give one.
HEARD = 0.5


def within(answers, begin, frames, sequences, late=0.0) -> np.ndarray:
    """Answers in the right song, at most `frames` from where the query begins, bool (n, 10).

    late: how much later than its frame the query begins, in frames, a number or (n,). Answers may
    lie between two frames; before the first frame of a song they are of that song.
    """
    truth = np.asarray(begin + late)[:, None]
    same = song_of(answers, sequences) == sequences.song_of(begin)[:, None]
    return same & (np.abs(answers - truth) <= frames)


def segment(answers, begin, segments) -> np.ndarray:
    """Segments in which the query begins, or the next of the same song, bool (n, 10); none for a
    query that begins in a tail."""
    first = np.searchsorted(segments.start, begin, side="right") - 1
    held = (first >= 0) & (begin < segments.start[first] + segments.length)
    after = np.minimum(first + 1, len(segments.song) - 1)
    after = np.where(segments.song[after] == segments.song[first], after, first)
    return held[:, None] & ((answers == first[:, None]) | (answers == after[:, None]))


def same_recording(song, begin, sequences, recordings) -> np.ndarray:
    """Answers out of the recording that was asked for, bool (n, 10); song: of each answer, -1 for
    none; recordings: list of str, one per song."""
    code = np.append(np.unique(recordings, return_inverse=True)[1], -1)  # of song -1, none
    return code[song] == code[sequences.song_of(begin)][:, None]


def same_audio(right, places, begin, query_frames, alike) -> np.ndarray:
    """`right`, and places (of the answers, -1 for none) that are `alike` to where the query begins,
    bool (n, 10); after a right one nobody listens."""
    right = right.copy()
    for column in range(right.shape[1]):
        rows = ~right[:, : column + 1].any(axis=1) & (places[:, column] >= 0)
        right[rows, column] = alike(begin[rows], places[rows, column], query_frames[rows])
    return right


def rank(right) -> np.ndarray:
    """Rank of the first right answer, 1 to 10, int (n,); 0 if none is right."""
    return np.where(right.any(axis=1), right.argmax(axis=1) + 1, 0)


def song_of(answers, sequences) -> np.ndarray:
    """Song of each position, int (n, 10), -1 for no answer."""
    return np.where(answers > -1, sequences.song_of(np.ceil(answers)), -1)


def frames_of(answers, sequences) -> np.ndarray:
    """The frame of the same song nearest to each answer, int (n, 10), -1 for none."""
    first = sequences.bounds[np.maximum(song_of(answers, sequences), 0)]
    return np.where(answers > -1, np.maximum(np.rint(answers).astype(int), first), -1)


class Alike:
    """Do two places hold the same sound? What was once listened to is remembered.

    Called with int (n,): whether the undegraded sound of `query_frames` frames from `begin` on also
    begins between `before` frames before `place` and `after` frames after it, whole within its
    song: waveforms correlate to SAME or more. hear: (position, n_frames) -> undegraded samples.
    """

    def __init__(self, sequences, hear):
        self.sequences, self.hear, self.known = sequences, lru_cache(32)(hear), {}

    def __call__(self, begin, place, query_frames, before=1, after=1) -> np.ndarray:
        trials = zip(begin.tolist(), place.tolist(), query_frames.tolist())
        keys = [(*trial, before, after) for trial in trials]
        fresh = sorted({*keys} - self.known.keys())
        for key, likely in zip(fresh, self._likely(fresh, before, after)):
            self.known[key] = bool(likely) and self.likeness(*key) >= SAME
        return np.array([self.known[key] for key in keys], bool)

    def _likely(self, keys, before, after):
        """Whether fingerprints of the two places reach HEARD at one of the starts, bool (n,)."""
        begin, place, query_frames, *_ = np.array(keys, int).reshape(-1, 5).T
        likely, frames = np.zeros(len(begin), bool), self.sequences.frames
        for length in np.unique(query_frames):
            rows = np.flatnonzero(query_frames == length)
            queries, first = frames[begin[rows, None] + np.arange(length)], place[rows] - before
            means = search.slide(queries, frames, np.arange(len(rows)), first, before + after + 1)
            likely[rows] = means.max(axis=1) >= HEARD
        return likely

    def likeness(self, begin, place, query_frames, before=1, after=1) -> float:
        """Highest correlation of the two places, 0 to 1; 0 if the song ends too early."""
        low, high = self.sequences.bounds[self.sequences.song_of(place) + np.arange(2)]
        first, last = max(place - before, low), min(place + after + query_frames, high)
        if last - first < query_frames:
            return 0.0
        return likeness(self.hear(begin, query_frames), self.hear(first, last - first))
