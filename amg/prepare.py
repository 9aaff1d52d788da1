"""Data preparation: clips -> original and degraded versions -> stored fingerprints.

Each song is one job, done in a process of its own; files already there are kept, so that an
interrupted preparation continues. A folder remembers the recipe that made it (`features.claim`),
so that fingerprints of two recipes are never mixed.
"""

import hashlib
from functools import lru_cache

import joblib
import numpy as np

from amg import audio, checkpoint, degrade, features, nafp, paths, progress, search
from amg.check import InputError

TRAIN, TEST = 1, 2  # first word of every degradation's seed: the two never coincide
ALIKE = 0.9  # mean inner product over 5 s from which on two clips count as near-duplicates
EXCERPT_FRAMES = 9


def recipe(rows, weights, seed, **more):
    """What decides a folder of fingerprints: clips, fingerprinter, seed, code; a dict."""
    pieces = ",".join(row["piece"] for row in rows)
    return {"clips": hashlib.sha256(pieces.encode()).hexdigest()[:12], "songs": len(rows),
            "fingerprinter": checkpoint.sha256(weights)[:12], "seed": seed,
            "code": paths.code("audio", "degrade", "corpora", "nafp"), **more}


def training_set(rows, folder, n_versions, pool, weights, seed, workers=2):
    """Write `{song}-{version:02d}.npy` for every clip; version 00 is the original.

    rows: manifest of clips (dicts with `file` and `piece`); pool: a degrade.Pool; weights: path
    of the fingerprinter. Version v of song s follows from (seed, s, v).
    """
    features.claim(folder, recipe(rows, weights, seed, versions=n_versions))
    jobs = [(row["file"], [(features.song_file(folder, song, version),
                            [seed, TRAIN, song, version] if version else None)
                           for version in range(n_versions)])
            for song, row in enumerate(rows, 1)]
    _run(jobs, pool, weights, workers, folder.name)


def songs(rows, folder, weights, seed, workers=2, pool=None):
    """Write `{i:05d}.npy` per clip, i from 0: as it is, or degraded if there is a `pool`."""
    features.claim(folder, recipe(rows, weights, seed))
    jobs = [(row["file"], [(folder / f"{i:05d}.npy", [seed, TEST, i] if pool else None)])
            for i, row in enumerate(rows)]
    _run(jobs, pool, weights, workers, folder.name)


def _run(jobs, pool, weights, workers, label):
    waiting = [job for job in jobs if not all(target.exists() for target, _ in job[1])]
    results = joblib.Parallel(workers, return_as="generator_unordered")(
        joblib.delayed(_one)(file, versions, pool, weights) for file, versions in waiting)
    for _ in progress.bar(results, desc=f"fingerprinting {label}", unit="song",
                          total=len(jobs), initial=len(jobs) - len(waiting)):
        pass


_encoder = lru_cache(nafp.load)  # once per process


def _one(file, versions, pool, weights):
    """Fingerprint the versions of one clip that are not there yet."""
    clip = audio.load(paths.resolve(file))
    for target, seed in versions:
        if not target.exists():
            heard = clip if seed is None else degrade.degrade(clip, seed, pool)
            features.save(target, nafp.extract(_encoder(weights), heard))


def distinct(clips, sizes, weights, workers=2, threshold=ALIKE):
    """Leave out clips that sound like another one, then cut each role to its size.

    clips: role -> manifest rows, in order of precedence: of two that are alike, the later is
    left out. Returns (clips, pieces left out, the most alike pairs as (piece, other, similarity)).
    Raises InputError if fewer than `sizes[role]` clips remain.
    """
    flat = [(role, row) for role, rows in clips.items() for row in rows]
    jobs = (joblib.delayed(_original)(row["file"], weights) for _, row in flat)
    originals = list(progress.bar(joblib.Parallel(workers, return_as="generator")(jobs),
                                  desc="comparing clips", unit="clip", total=len(flat)))
    pairs = sorted(near_duplicates(originals, threshold - 0.1), key=lambda pair: -pair[2])
    dropped = {other for _, other, similarity in pairs if similarity >= threshold}
    kept = {role: [row for i, (of, row) in enumerate(flat) if of == role and i not in dropped]
            for role in clips}
    for role, size in sizes.items():
        if len(kept[role]) < size:
            raise InputError(f"n_{role} is {size}, but only {len(kept[role])} clips of that role "
                             "do not sound like another one; ask for fewer.")
    return ({role: rows[: sizes[role]] for role, rows in kept.items()},
            [flat[i][1]["piece"] for i in sorted(dropped)],
            [(flat[i][1]["piece"], flat[j][1]["piece"], score) for i, j, score in pairs])


def _original(file, weights):
    return nafp.extract(_encoder(weights), audio.load(paths.resolve(file)))


def near_duplicates(songs, threshold=ALIKE):
    """Pairs of songs that share 5 s of sound: list of (song, other, mean inner product).

    songs: list of float32 (T, 128). Consecutive excerpts of each song are compared with every
    whole place in every later song; a pair is reported if its best place reaches `threshold`.
    """
    sequences = search.Sequences.of(songs)
    starts = np.arange(len(sequences.frames) - EXCERPT_FRAMES + 1)
    song_of = sequences.song_of(starts)
    whole = song_of == sequences.song_of(starts + EXCERPT_FRAMES - 1)
    found = []
    for i, song in enumerate(progress.bar(songs, desc="near-duplicates", unit="song")):
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
