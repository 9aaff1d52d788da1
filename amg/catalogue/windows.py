"""A query in windows, and where each is heard.

A query is heard on two grids, the second a quarter of a second later, so that no window lies
farther than an eighth from a stored frame. Windows lie within what sounds, and are as long as a
segment, or as that part if it is shorter. The first stage hears a window on both grids at once, the
second one on each by itself.
"""

from typing import NamedTuple

import numpy as np

from amg.catalogue import significance
from amg.embedding import encoders
from amg.retrieval import search
from amg.sound import audio

METHODS = ("two_stage", "single_stage", "sequence")
GRIDS = 2
STEP = 10  # frames from one window to the next, or half a window if that is less
BATCH = 64  # windows that are searched for at once
PAUSE = 8  # frames of both grids: a silence of no more than 2 s belongs to the music around it
HOP_S = audio.HOP / audio.SAMPLE_RATE
TICK_S = HOP_S / GRIDS  # from one frame of a query to the next, which is of another grid


class Hits(NamedTuple):
    """Where windows are heard: arrays (n,), times in seconds."""

    begin_s: np.ndarray  # of the window, in the query
    end_s: np.ndarray
    song: np.ndarray  # int, number of the sound
    position_s: np.ndarray  # in the sound, where the window begins
    score: np.ndarray
    chance: np.ndarray  # how many as good ones chance gives in the whole query


def begins(n_frames, length) -> list[int]:
    """Where the windows of a grid begin, in frames: every STEP, or half a window if that is less,
    and the last at the end."""
    last = n_frames - length
    return sorted({*range(0, last, min(STEP, -(-length // 2))), last}) if last >= 0 else []


def parts(sounding) -> list[tuple[int, int]]:
    """Bounds (begin, end) of what sounds in a query, bool (T,) of its frames, pauses included."""
    at = np.flatnonzero(sounding)
    cuts = np.flatnonzero(np.diff(at) > PAUSE)
    return [(int(of[0]), int(of[-1]) + 1) for of in np.split(at, cuts + 1) if len(of)]


def laid(sounding, longest, beyond=0) -> dict[int, list[int]]:
    """Where windows of at most `longest` frames a grid begin: length -> frames of the query.

    A window in which less than half of the frames sound is left out, and parts of the query that
    have no more than `beyond` frames a grid.
    """
    windows: dict[int, list[int]] = {}
    for begin, end in parts(sounding):
        n_frames = max((end - begin) // GRIDS, 1)
        length = min(longest, n_frames)
        for at in begins(n_frames, length) if n_frames > beyond else ():
            first = begin + GRIDS * at
            if sounding[first : first + GRIDS * length].mean() >= 0.5:
                windows.setdefault(length, []).append(first)
    return windows


def ask(frames, windows, catalogue, method) -> Hits:
    """The ten best hits of each window of a query, on each grid; `chance` counts all of them.

    frames: float32 (T, 128), of all grids by turns; windows: as `laid`.
    """
    n_windows = sum(map(len, windows.values()))
    hits = [Hits(*np.zeros((6, 0)))._replace(song=np.zeros(0, int))]
    for length, first in windows.items():
        # a part of a single frame has it on both grids
        rows = np.minimum(np.add.outer(first, np.arange(GRIDS * length)), len(frames) - 1)
        queries = frames[rows].reshape(len(first), length, GRIDS, -1).swapaxes(1, 2)
        of_length = _hits(np.ascontiguousarray(queries), np.array(first), catalogue, method)
        hits.append(of_length._replace(chance=n_windows * of_length.chance))
    return Hits(*map(np.concatenate, zip(*hits)))


def _hits(queries, first, catalogue, method):
    """Those of windows (W, G, L, 128) that begin at frames `first` (W,) of the query; `chance` is
    that of a single window."""
    grids, length = queries.shape[1:3]
    places, scores = find(queries, catalogue, method)
    row, grid, rank = np.nonzero(places >= 0)
    place, score = places[row, grid, rank], scores[row, grid, rank]
    begin_s = (first[row] + grid) * TICK_S
    song = catalogue.sequences.song_of(place)
    position_s = (place - catalogue.sequences.bounds[song]) * HOP_S
    calibration = catalogue.calibration
    flat = queries.reshape(-1, length, queries.shape[-1])
    ordinary = significance.ordinary(flat, calibration.background).reshape(-1, grids)[row, grid]
    expected = calibration.expected(score, ordinary, length, catalogue.n_frames, method)
    chance = places.shape[1] * expected
    return Hits(begin_s, begin_s + audio.seconds(length), song, position_s, score, chance)


def find(windows, catalogue, method) -> tuple[np.ndarray, np.ndarray]:
    """Positions of frames, or -1, and scores, both (W, G, 10), of windows float32 (W, G, L, 128), L
    a segment at most, on G grids; (W, 1, 10) by the first stage of an encoder without order."""
    if len(windows) > BATCH:
        batches = np.split(windows, range(BATCH, len(windows), BATCH))
        of_batches = [find(batch, catalogue, method) for batch in batches]
        places, scores = map(np.concatenate, zip(*of_batches))
        return places, scores
    queries = windows.reshape(-1, *windows.shape[2:])
    if method == "sequence":
        answers = _sequences(queries, catalogue)
    else:
        listed, scores = _segments(windows, catalogue)
        if method == "two_stage":
            listed = np.repeat(listed, len(queries) // len(listed), axis=0)
            answers = search.two_stage(queries, listed, catalogue.segments, catalogue.sequences)
        else:
            best = slice(search.N_BEST)
            answers = catalogue.segments.first_frames(listed[:, best]), scores[:, best]
    return tuple(of.reshape(len(windows), -1, of.shape[-1]) for of in answers)


def _segments(windows, catalogue):
    """The first stage's segments and their scores, (Q, SHORTLIST) or as many as there are.

    What an untrained encoder makes of frames has no order, so it takes those of all grids at once,
    Q = W; a trained one hears each grid by itself, Q = W * G.
    """
    encoder, index = catalogue.models.encoder, catalogue.index("vectors")
    ordered = getattr(encoder, "trained", True)
    rows = windows.shape[2] if ordered else windows.shape[1] * windows.shape[2]
    vectors = encoders.embed(encoder, list(windows.reshape(-1, rows, windows.shape[-1])))
    scores, segments = search.nearest(index, vectors, min(search.SHORTLIST, index.ntotal))
    return segments, scores


def _sequences(queries, catalogue):
    """What the base system finds."""
    index, flat = catalogue.index("frames"), queries.reshape(-1, queries.shape[-1])
    neighbours = index.search(flat, min(search.FRAME_NEIGHBOURS, index.ntotal))[1]
    neighbours = neighbours.reshape(*queries.shape[:2], -1)
    return search.sequence_search(queries, neighbours, catalogue.sequences)


def heard(frames, hits, best, begin_s, end_s, catalogue) -> tuple[float, float]:
    """Which part of a query, between two of its times, is what a hit says: from where to where, in
    seconds, its frames are like the song's by more than half the hit's score, on balance.

    frames, hits: as `ask` takes and gives them; best: the hit's number.
    """
    low, high = catalogue.sequences.bounds[hits.song[best] :][:2]
    times_s = begin_s, hits.begin_s[best], end_s - audio.seconds(1)
    begin, at, end = (round(time_s / TICK_S) for time_s in times_s)
    rows = np.arange(at - (at - begin) // GRIDS * GRIDS, min(end + 1, len(frames)), GRIDS)
    place = low + round(hits.position_s[best] / HOP_S) + (rows - at) // GRIDS
    likeness = np.full(len(rows), -1.0)
    for late in (-1, 0, 1):  # the tempo may not be quite the same
        inside = (place + late >= low) & (place + late < high)
        there = catalogue.sequences.frames[place[inside] + late]
        products = np.einsum("ld,ld->l", frames[rows[inside]], there)
        likeness[inside] = np.maximum(likeness[inside], products)
    gain = np.cumsum(np.append(0, likeness - hits.score[best] / 2))
    last = np.argmax(gain - np.minimum.accumulate(gain))
    first = np.argmin(gain[: last + 1])
    return rows[first] * TICK_S, rows[max(last - 1, first)] * TICK_S + audio.seconds(1)
