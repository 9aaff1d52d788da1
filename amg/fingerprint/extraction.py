"""Data preparation: clips -> original and degraded versions -> stored fingerprints.

Each song is one job, done in a process of its own; files already there are kept, so that an
interrupted preparation continues. Fingerprints of a clip as it was recorded are kept in
`data/cache/`, by the checksum of its sound: comparing roles, training set and database share them.
"""

from functools import partial
from pathlib import Path

import joblib
import numpy as np

from amg import files, machine, made, paths, progress
from amg.check import InputError
from amg.fingerprint import features
from amg.sound import audio, clips as clips_, degrade

TRAIN, TEST = 1, 2  # first word of every degradation's seed: the two never coincide


def content(clips) -> str:
    """Digest of what the clips are and of their sound."""
    return files.digest([[clip.piece, clip.role, clip.start_s, clip.seconds, clip.sha256]
                         for clip in clips])


def training_recipe(train, valid, n_versions, fingerprinter, seed, pool, device) -> made.Recipe:
    """What decides a training set; arguments as for `training_set`."""
    return made.Recipe("training set", {"n_train": len(train), "n_valid": len(valid),
                                        "n_versions": n_versions, "seed": seed},
                       {"fingerprinter": fingerprinter.digest, "pool": pool.digest,
                        "train": content(train), "valid": content(valid)}, {"device": device})


def database_recipe(tests, dummies, fingerprinter, seed, pool, device) -> made.Recipe:
    """What decides a database and its queries; arguments as for `songs`."""
    return made.Recipe("database", {"n_test": len(tests), "n_dummy": len(dummies), "seed": seed},
                       {"fingerprinter": fingerprinter.digest, "pool": pool.digest,
                        "test": content(tests), "dummy": content(dummies)}, {"device": device})


def training_set(clips, folder, n_versions, pool, fingerprinter, seed, workers=2,
                 device="cpu") -> None:
    """Write `{song}-{version:02d}.npy` for every clip, song from 1; version 00 is the original.

    pool: a pools.Pool; fingerprinter: a fingerprinters.Source. Version v of song s follows from
    (seed, s, v).
    """
    jobs = [(clip, {features.song_file(folder, song, version):
                    partial(degrade.degrade, seed=[seed, TRAIN, song, version], pool=pool)
                    if version else None for version in range(n_versions)})
            for song, clip in enumerate(clips, 1)]
    _run(jobs, fingerprinter, workers, device, folder.name)


def songs(clips, folder, fingerprinter, seed, workers=2, pool=None, kinds=degrade.FIELD, n_grids=1,
          device="cpu", **fixed) -> None:
    """Write `{i:05d}.npy` per clip, i from 0: as it is, or degraded if there is a `pool`.

    kinds, fixed: as for `degrade.degrade`. Clip i is degraded from (seed, i) alone, so that folders
    of other kinds share what they have in common. n_grids: frames per hop, as for
    `base.find_on_grids`; a divisor of the hop in samples.
    """
    margin_s = degrade.margin_s(kinds) if pool else 0.0
    jobs = [(clip, {folder / f"{i:05d}.npy": partial(
                degrade.degrade, seed=[seed, TEST, i], pool=pool, kinds=kinds, **fixed)
                if pool else None}) for i, clip in enumerate(clips)]
    _run(jobs, fingerprinter, workers, device, folder.name, audio.HOP // n_grids, margin_s)


def condition(clips, name, fingerprinter, seed, workers, pool, kinds, n_grids=1, device="cpu",
              **fixed) -> Path:
    """`songs` as a made thing under the path `name`; returns its folder."""
    parameters = {"seed": seed, "kinds": list(kinds), "n_grids": n_grids, **fixed}
    recipe = made.Recipe("fingerprints", parameters,
                         {"fingerprinter": fingerprinter.digest, "pool": pool.digest,
                          "test": content(clips)}, {"device": device})
    with made.making(name, recipe) as place:
        songs(clips, place.folder, fingerprinter, seed, workers, pool, kinds, n_grids, device,
              **fixed)
    return place.folder


def write_songs(clips, root) -> None:
    """Write `songs.csv` of a database: its clips in the order of the index, distractors first."""
    names = [f"{i:05d}" for role in ("dummy", "test")
             for i in range(sum(clip.role == role for clip in clips))]
    with files.atomic(root / "songs.csv") as temporary:
        clips_.to_table(clips).assign(name=names).to_csv(temporary, index=False)


def check_queries(root, tests, dummies, fingerprinter, seed, pool) -> None:
    """InputError unless the database at `root` was made with these very arguments."""
    recipe = database_recipe(tests, dummies, fingerprinter, seed, pool, "").identity
    record = made.find(root, "01_data_prep").record
    if any(record.get(key) != recipe[key] for key in ("kind", "format", "parameters", "inputs")):
        raise InputError(f"{paths.relative(root)} was made with other parameters than these; give "
                         "the corpus, seed, n_rooms and fingerprinter of notebook 01_data_prep, or "
                         "run it again.")


def drawn(seed, i, pool, kinds=degrade.FIELD) -> degrade.Degradation:
    """The degradation of test clip i in its query."""
    return degrade.draw(np.random.default_rng([seed, TEST, i]), pool, kinds)


def late_frames(n_clips, seed, pool) -> np.ndarray:
    """How much later than its clip each query at any offset starts, in frames, float (n_clips,)."""
    late_s = [drawn(seed, i, pool, ("offset",)).offset_s for i in range(n_clips)]
    return np.array(late_s) * audio.SAMPLE_RATE / audio.HOP


def originals(clips, fingerprinter, workers=2, device="cpu", label="clips") -> list[Path]:
    """Files of the clips' fingerprints as they were recorded, made where they are missing."""
    found = [_cached(clip, fingerprinter, device) for clip in clips]
    jobs = [(clip, {file: None}) for clip, file in zip(clips, found)]
    _run(jobs, fingerprinter, workers, device, label)
    return found


def _cached(clip, fingerprinter, device):
    version = made.FORMATS["fingerprints"]
    return paths.resolve(f"data/cache/fingerprints/{fingerprinter.digest}-{device}-v{version}/"
                         f"{clip.sha256[:32]}.npy")


def _run(jobs, fingerprinter, workers, device, label, hop=audio.HOP, margin_s=0.0):
    device = machine.device(device)
    waiting = [job for job in jobs if not all(target.exists() for target in job[1])]
    results = joblib.Parallel(workers, return_as="generator_unordered")(
        joblib.delayed(_one)(clip, versions, fingerprinter, device, hop, margin_s)
        for clip, versions in waiting)
    for _ in progress.bar(results, desc=f"fingerprinting {label}", unit="song",
                          total=len(jobs), initial=len(jobs) - len(waiting)):
        pass


def _one(clip, versions, fingerprinter, device, hop, margin_s):
    """Fingerprint the versions of one clip that are not there yet; None is the clip as it is."""
    clip.check()
    missing = {target: change for target, change in versions.items() if not target.exists()}
    kept = _cached(clip, fingerprinter, device)
    for target, change in list(missing.items()):
        if change is None and target != kept and kept.exists() and hop == audio.HOP:
            features.save(target, features.load(kept))
            del missing[target]
    heard = ([change(clip.read(margin_s), margin_s=margin_s)] if change else clip.blocks()
             for change in missing.values())
    for target, fingerprints in zip(missing, fingerprinter.load(device).extract(heard, hop)):
        features.save(target, fingerprints)
