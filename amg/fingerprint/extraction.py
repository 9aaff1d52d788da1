"""Data preparation: clips -> original and degraded versions -> stored fingerprints.

Each song is one job, done in a process of its own; files already there are kept, so that an
interrupted preparation continues. A folder remembers the recipe that made it (`features.claim`),
so that fingerprints of two recipes are never mixed.
"""

import hashlib
import json
from functools import lru_cache, partial

import joblib
import numpy as np

from amg import check, files, paths, progress
from amg.sound import audio, corpora, degrade, recordings
from amg.fingerprint import features, nafp
from amg.check import InputError

TRAIN, TEST = 1, 2  # first word of every degradation's seed: the two never coincide


def recipe(rows, weights, seed, **more):
    """What decides a folder of fingerprints: clips, fingerprinter, seed, code; a dict."""
    clips = [f"{row['piece']} {row['start_s']:.1f} {row['seconds']:.2f}"
             f"{row['sha256'] if isinstance(row.get('sha256'), str) else ''}" for row in rows]
    return {"clips": hashlib.sha256("\n".join(clips).encode()).hexdigest()[:12],
            "songs": len(rows), "fingerprinter": files.sha256(weights)[:12], "seed": seed,
            "code": paths.code("audio", "pools", "degrade", "sheet_music", "recordings", "open_music",
                               "corpora", "nafp"), **more}


def training_set(rows, folder, n_versions, pool, weights, seed, workers=2):
    """Write `{song}-{version:02d}.npy` for every clip; version 00 is the original.

    rows: clips, as `corpora.build` gives them; pool: a pools.Pool; weights: path of the
    fingerprinter. Version v of song s follows from (seed, s, v).
    """
    features.claim(folder, recipe(rows, weights, seed, versions=n_versions, pool=pool.digest))
    jobs = [(row, {features.song_file(folder, song, version):
                   partial(degrade.degrade, seed=[seed, TRAIN, song, version], pool=pool)
                   if version else None for version in range(n_versions)})
            for song, row in enumerate(rows, 1)]
    _run(jobs, weights, workers, folder.name)


def songs(rows, folder, weights, seed, workers=2, pool=None, kinds=degrade.FIELD, n_grids=1, **fixed):
    """Write `{i:05d}.npy` per clip, i from 0: as it is, or degraded if there is a `pool`.

    kinds, fixed: as for `degrade.degrade`. Clip i is degraded from (seed, i) alone, so that folders
    of other kinds share what they have in common. n_grids: frames per hop, as for
    `base.find_on_grids`; a divisor of the hop in samples.
    """
    features.claim(folder, recipe(rows, weights, seed, n_grids=n_grids, **_how(pool, kinds, fixed)))
    jobs = [(row, {folder / f"{i:05d}.npy": partial(
                degrade.degrade, seed=[seed, TEST, i], pool=pool, kinds=kinds, **fixed)
                if pool else None}) for i, row in enumerate(rows)]
    _run(jobs, weights, workers, folder.name, audio.HOP // n_grids)


def _how(pool, kinds, fixed):
    return {"pool": pool.digest, "kinds": list(kinds), **fixed} if pool else {}


def check_queries(rows, folder, weights, seed, pool):
    """InputError unless `songs` made `folder` with these very arguments."""
    note = features.recipe_of(folder)
    recipe_ = recipe(rows, weights, seed, n_grids=1, **_how(pool, degrade.FIELD, {}))
    if not note.exists() or json.loads(note.read_text()) != recipe_:
        raise InputError(f"{paths.relative(folder)} was made with other parameters than these; give "
                         "the corpus, seed, n_rooms, fingerprinter and report of notebook "
                         "01_data_prep, or run it again.")


def drawn(seed, i, pool, kinds=degrade.FIELD):
    """The degradation of test clip i in its query."""
    return degrade.draw(np.random.default_rng([seed, TEST, i]), pool, kinds)


def late_frames(n_clips, seed, pool):
    """How much later than its clip each query at any offset starts, in frames, float (n_clips,)."""
    late_s = [drawn(seed, i, pool, ("offset",)).offset_s for i in range(n_clips)]
    return np.array(late_s) * audio.SAMPLE_RATE / audio.HOP


def _run(jobs, weights, workers, label, hop=audio.HOP):
    waiting = [job for job in jobs if not all(target.exists() for target in job[1])]
    results = joblib.Parallel(workers, return_as="generator_unordered")(
        joblib.delayed(_one)(clip, versions, weights, hop) for clip, versions in waiting)
    for _ in progress.bar(results, desc=f"fingerprinting {label}", unit="song",
                          total=len(jobs), initial=len(jobs) - len(waiting)):
        pass


@lru_cache(1)
def _load(weights, stamp):
    return nafp.load(weights)


def encoder(weights):
    """The fingerprinter, loaded once per process and version of its file."""
    return _load(weights, weights.stat().st_mtime_ns)


def _one(clip, versions, weights, hop):
    """Fingerprint the versions of one clip that are not there yet; None is the clip as it is."""
    missing = {target: change for target, change in versions.items() if not target.exists()}
    heard = ([change(corpora.read(clip))] if change else corpora.blocks(clip)
             for change in missing.values())
    for target, fingerprints in zip(missing, nafp.extract_all(encoder(weights), heard, hop)):
        features.save(target, fingerprints)
