"""Data preparation: clips -> original and degraded versions -> stored fingerprints.

Each song is one job, done in a process of its own; files already there are kept, so that an
interrupted preparation continues. A folder remembers the recipe that made it and refuses
another one, so that fingerprints of two recipes are never mixed.
"""

import json
from functools import lru_cache

import joblib
import numpy as np

from amg import audio, checkpoint, degrade, features, nafp, paths, progress, search
from amg.check import InputError

TRAIN, TEST = 1, 2  # first word of every degradation's seed: the two never coincide


def training_set(rows, folder, n_versions, pool, recipe, workers=2):
    """Write `{song}-{version:02d}.npy` for every clip; version 00 is the original.

    rows: manifest of clips (dicts with `file`); pool: a degrade.Pool; recipe: a JSON-able dict
    with at least `seed` and `fingerprinter`. Version v of song s follows from (seed, s, v).
    """
    claim(folder, recipe)
    jobs = [(row["file"], [(features.song_file(folder, song, version),
                            [recipe["seed"], TRAIN, song, version] if version else None)
                           for version in range(n_versions)])
            for song, row in enumerate(rows, 1)]
    _run(jobs, pool, recipe["fingerprinter"], workers, folder.name)


def songs(rows, folder, recipe, workers=2, pool=None):
    """Write `{i:05d}.npy` per clip, i from 0: as it is, or degraded if there is a `pool`."""
    claim(folder, recipe)
    jobs = [(row["file"], [(folder / f"{i:05d}.npy",
                            [recipe["seed"], TEST, i] if pool else None)])
            for i, row in enumerate(rows)]
    _run(jobs, pool, recipe["fingerprinter"], workers, folder.name)


def claim(folder, recipe):
    """Mark `folder` as made by `recipe`; InputError if it holds anything else's files."""
    note = folder / "recipe.json"
    if note.exists():
        found = json.loads(note.read_text())
        changed = [f"{key} {found.get(key)!r} there, {recipe.get(key)!r} here"
                   for key in sorted({*found, *recipe}) if found.get(key) != recipe.get(key)]
        if changed:
            raise InputError(f"{paths.relative(folder)} was made by another recipe "
                             f"({'; '.join(changed)}); choose another name, or delete that folder.")
    elif folder.is_dir() and any(folder.glob("[!.]*.npy")):
        raise InputError(f"{paths.relative(folder)} holds fingerprints that this notebook did not "
                         "make; choose another name, or move them elsewhere.")
    else:
        with paths.atomic(note) as temporary:
            temporary.write_text(json.dumps(recipe, indent=1) + "\n")


def fingerprinter_id(path=""):
    """Twelve hex digits that name the weights: part of every recipe."""
    return checkpoint.sha256(paths.resolve(path) if path else nafp.shipped())[:12]


def _run(jobs, pool, fingerprinter, workers, label):
    waiting = [job for job in jobs if not all(target.exists() for target, _ in job[1])]
    weights = _weights(fingerprinter)
    results = joblib.Parallel(workers, return_as="generator_unordered")(
        joblib.delayed(_one)(file, versions, pool, weights) for file, versions in waiting)
    for _ in progress.bar(results, desc=f"fingerprinting {label}", unit="song",
                          total=len(jobs), initial=len(jobs) - len(waiting)):
        pass


def _weights(fingerprinter):
    """Path of the weights whose id is `fingerprinter`: the shipped ones or one in data/models."""
    for path in (nafp.shipped(), *paths.resolve("data/models").glob("*.safetensors")):
        if path.exists() and checkpoint.sha256(path)[:12] == fingerprinter:
            return str(path)
    raise InputError(f"no fingerprinter {fingerprinter} is shipped or lies in data/models; "
                     "run notebook 00_fingerprinter, or leave `fingerprinter` empty.")


_encoder = lru_cache(nafp.load)  # once per process


def _one(file, versions, pool, weights):
    """Fingerprint the versions of one clip that are not there yet."""
    clip = audio.load(paths.resolve(file))
    for target, seed in versions:
        if not target.exists():
            heard = clip if seed is None else degrade.degrade(clip, seed, pool)
            features.save(target, nafp.extract(_encoder(weights), heard))


def near_duplicates(songs, threshold=0.8, excerpt_frames=9):
    """Pairs of songs that share 5 s of sound: list of (song, other, mean inner product).

    songs: list of float32 (T, 128). Consecutive excerpts of each song are looked for in all the
    others; a pair whose best excerpt scores at least `threshold` is reported once.
    """
    sequences = search.Sequences.of(songs)
    index = search.flat_index(sequences.frames)
    k = min(search.FRAME_NEIGHBOURS, index.ntotal)
    found = {}
    for i, song in enumerate(progress.bar(songs, desc="near-duplicates", unit="song")):
        neighbours = index.search(song, k)[1]
        neighbours[sequences.song_of(neighbours) == i] = -1
        for start in range(0, len(song) - excerpt_frames + 1, excerpt_frames):
            part = slice(start, start + excerpt_frames)
            places, scores = search.sequence_search(song[part], neighbours[part], sequences)
            for other, score in zip(sequences.song_of(places), scores):
                if score >= threshold and other != i:
                    pair = (min(i, int(other)), max(i, int(other)))
                    found[pair] = max(found.get(pair, 0.0), float(score))
    return [(*pair, score) for pair, score in sorted(found.items())]
