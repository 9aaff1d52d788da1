"""Clips that share sound: left out before anything is measured, looked at when they are misses."""

from pathlib import Path

import joblib
import numpy as np
import scipy.fft

from amg import progress
from amg.check import InputError
from amg.sound import audio, corpora, degrade
from amg.fingerprint import extraction, nafp
from amg.retrieval import search

# mean inner product over 5 s from which on two clips count as near-duplicates: the same sound a
# quarter of a second off, the worst case, is mostly above it, other music below
ALIKE = 0.7
EXCERPT_FRAMES = 9
SAME = 0.9  # correlation of two undegraded waveforms from which on they sound the same


def likeness(sound, place) -> float:
    """Highest correlation of `sound` (n,) with any n consecutive samples of `place` (m >= n,).

    From 0 to 1, whatever the level and polarity: 1 is the same waveform.
    """
    size = scipy.fft.next_fast_len(len(place), real=True)  # what wraps around is not looked at
    spectrum = scipy.fft.rfft(place, size) * scipy.fft.rfft(sound, size).conj()
    products = scipy.fft.irfft(spectrum, size)[: len(place) - len(sound) + 1]
    energy = np.cumsum(np.concatenate([[0.0], np.square(place, dtype=float)]))
    energy = np.maximum(energy[len(sound) :] - energy[: -len(sound)], 1e-9)
    return float(np.max(np.abs(products) / np.sqrt(energy * (np.square(sound).sum() + 1e-9))))


def distinct(clips, sizes, weights, workers=2, threshold=ALIKE):
    """Leave out clips that sound like another one, then cut each role to its size.

    clips: role -> manifest rows, in order of precedence: of two that are alike, the later is
    left out; those of the last role are not compared among themselves. Returns (clips, a dict
    from each piece left out to the one it sounds like, the most alike pairs as (piece, other,
    similarity)). Raises InputError if fewer than `sizes[role]` clips remain.
    """
    flat = [(role, row) for role, rows in clips.items() for row in rows]
    jobs = (joblib.delayed(_original)(row, weights) for _, row in flat)
    originals = list(progress.bar(joblib.Parallel(workers, return_as="generator")(jobs),
                                  desc="comparing clips", unit="clip", total=len(flat)))
    n_compared = len(flat) - len(list(clips.values())[-1])
    pairs = near_duplicates(originals, threshold - 0.1, n_compared)  # in the order of clips
    dropped = {}
    for clip, other, similarity in pairs:
        if similarity >= threshold and clip not in dropped:
            dropped.setdefault(other, clip)
    pairs.sort(key=lambda pair: -pair[2])
    kept = {role: [row for i, (of, row) in enumerate(flat) if of == role and i not in dropped]
            for role in clips}
    for role, size in sizes.items():
        if len(kept[role]) < size:
            raise InputError(f"n_{role} is {size}, but only {len(kept[role])} clips of that role "
                             "do not sound like another one; ask for fewer.")
    return ({role: rows[: sizes[role]] for role, rows in kept.items()},
            {flat[other][1]["piece"]: flat[clip][1]["piece"] for other, clip in dropped.items()},
            [(flat[i][1]["piece"], flat[j][1]["piece"], score) for i, j, score in pairs])


def _original(clip, weights):
    return next(nafp.extract_all(extraction.encoder(weights), [corpora.blocks(clip)]))


def near_duplicates(songs, threshold=ALIKE, n_compared=None):
    """Pairs of songs that share 5 s of sound: list of (song, other, mean inner product).

    songs: list of float32 (T, 128). Consecutive excerpts of each of the first `n_compared` songs
    (default: all) are compared with every whole place in every later song; a pair is reported if
    its best place reaches `threshold`.
    """
    sequences = search.Sequences.of(songs)
    starts = np.arange(len(sequences.frames) - EXCERPT_FRAMES + 1)
    song_of = sequences.song_of(starts)
    whole = song_of == sequences.song_of(starts + EXCERPT_FRAMES - 1)
    found = []
    for i, song in enumerate(progress.bar(songs[:n_compared], desc="near-duplicates", unit="song")):
        later = int(sequences.bounds[i + 1])
        similarity = song @ sequences.frames[later:].T  # (T, frames of all later songs)
        best = np.full(max(similarity.shape[1] - EXCERPT_FRAMES + 1, 0), -1.0, np.float32)
        for begin in range(0, len(song) - EXCERPT_FRAMES + 1, EXCERPT_FRAMES):
            diagonal = sum(similarity[begin + k, k : k + len(best)] for k in range(EXCERPT_FRAMES))
            np.maximum(best, diagonal / EXCERPT_FRAMES, out=best)
        at = np.flatnonzero(whole[later:] & (best >= threshold))
        for other in np.unique(song_of[later:][at]):
            score = best[at[song_of[later:][at] == other]].max()
            found.append((i, int(other), float(score)))
    return found


def hear(position, n_frames, clips, sequences):
    """Undegraded samples of `n_frames` frames from `position` on; clips: in the order of songs."""
    clip, start = place(position, clips, sequences)
    return corpora.read({**clip, "start_s": clip["start_s"] + start / 2,
                         "seconds": audio.seconds(n_frames)})


def place(position, clips, sequences):
    """The clip that holds a position of `sequences`, and the frame of the clip that it is."""
    song = int(sequences.song_of(position))
    return clips[song], int(position - sequences.bounds[song])


def listen(miss, clips, sequences, seed, pool):
    """The sound of a miss: what was asked, what should have come back, what did.

    miss: a row of `robustness.explain`. Returns (three float32 arrays, three titles).
    """
    clip, start = place(miss.truth, clips, sequences)
    query = degrade.apply(corpora.read(clip), extraction.drawn(seed, miss.song, pool), pool)
    query = query[start * audio.HOP :][: (miss.query_frames + 1) * audio.HOP]
    sounds = [query, *(hear(at, miss.query_frames, clips, sequences)
                       for at in (miss.truth, miss.guess))]
    titles = []
    for name, at in (("asked", miss.truth), ("should come back", miss.truth),
                     ("came back", miss.guess)):
        clip, start = place(at, clips, sequences)
        track = Path(clip["piece"]).name.split("@")[0]
        titles.append(f"{name}: {corpora.origin(clip)}\n{track}, {clip['start_s'] + start / 2:.1f} s")
    return sounds, titles
