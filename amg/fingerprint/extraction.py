"""Data preparation: clips -> original and degraded versions -> stored fingerprints.

Each song is one job, done in a process of its own; files already there are kept, so that an
interrupted preparation continues. Fingerprints of a clip as it was recorded are kept in
`data/cache/`, by the checksum of its sound: comparing roles, training set and database share them.
"""

from functools import partial
from pathlib import Path

import numpy as np

from amg import code, files, machine, paths, progress, provenance
from amg.check import InputError
from amg.fingerprint import features
from amg.sound import audio, degrade
from amg.sound.clips import to_table, write_csv

TRAIN, TEST = 1, 2  # first word of every degradation's seed: the two never coincide


def recipe(kind, clips, fingerprinter, seed, pool, device, **parameters) -> provenance.Recipe:
    """What decides stored fingerprints; clips: role -> list of Clip, the rest as for `songs`."""
    heard = {
        role: files.digest(
            [[clip.piece, clip.role, clip.start_s, clip.seconds, clip.sha256] for clip in of_role]
        )
        for role, of_role in clips.items()
    }
    sizes = {f"n_{role}": len(of_role) for role, of_role in clips.items()}
    return provenance.Recipe(
        kind,
        {**sizes, "seed": seed, **parameters},
        {"fingerprinter": fingerprinter.digest, "pool": pool.digest, **heard},
        {"device": device},
        {**code.of(__name__, "amg.sound.pools"), **fingerprinter.code},
    )


def training_set(
    clips, folder, n_versions, pool, fingerprinter, seed, workers=2, device="cpu"
) -> None:
    """Write `{song}-{version:02d}.npy` for every clip, song from 1; version 00 is the original.

    pool: a pools.Pool; fingerprinter: a fingerprinters.Source. Version v of song s follows from
    (seed, s, v). A table beside the folder tells what the songs are (`features.songs_table`).
    """
    jobs = []
    for song, clip in enumerate(clips, 1):
        seeds = [None, *([seed, TRAIN, song, version] for version in range(1, n_versions))]
        targets = [features.song_file(folder, song, version) for version in range(n_versions)]
        jobs.append((clip, dict(zip(targets, seeds))))
    _run(jobs, fingerprinter, workers, device, folder.name, pool)
    write_csv(to_table(clips), features.songs_table(folder))


def songs(clips, folder, fingerprinter, seed, workers=2, pool=None, device="cpu", **how) -> None:
    """Write `{i:05d}.npy` per clip, i from 0: as it is, or degraded if there is a `pool`.

    how: kinds, n_grids and settings, as for `condition`. Clip i is degraded from (seed, i) alone,
    so that folders of other kinds share what they have in common.
    """
    seeds = ([seed, TEST, i] if pool else None for i in range(len(clips)))
    jobs = [(clips[i], {folder / f"{i:05d}.npy": own}) for i, own in enumerate(seeds)]
    _run(jobs, fingerprinter, workers, device, folder.name, pool, **how)


def condition(
    clips, name, fingerprinter, seed, workers, pool, kinds, n_grids=1, device="cpu", **fixed
) -> None:
    """Degraded `songs` as a made thing under the path `name`.

    kinds, fixed: as for `degrade.degrade`; n_grids: frames per hop, as for
    `nafp_search.find_on_grids`, a divisor of the hop in samples.
    """
    how = {"kinds": list(kinds), "n_grids": n_grids, **fixed}
    made_by = recipe("fingerprints", {"test": clips}, fingerprinter, seed, pool, device, **how)
    with provenance.making(name, made_by) as place:
        songs(clips, place.folder, fingerprinter, seed, workers, pool, device, **how)


def write_songs(clips, root) -> None:
    """Write `songs.csv` of a database: its clips in the order of the index, distractors first."""
    table = to_table(clips)
    names = table.groupby("role").cumcount().map("{:05d}".format)
    write_csv(table.assign(name=names), root / "songs.csv")


def check_queries(root, tests, dummies, fingerprinter, seed, pool) -> None:
    """InputError unless the database at `root` was made with these very arguments."""
    record = provenance.find(root, "01_data_prep").record
    device = record.get("computed", {}).get("device", "")  # whatever it was
    clips = {"test": tests, "dummy": dummies}
    same = recipe("database", clips, fingerprinter, seed, pool, device).identity
    if not same.items() <= record.items():
        raise InputError(
            f"{paths.relative(root)} was made with other parameters than these; give the corpus, "
            "seed, n_rooms and fingerprinter of notebook 01_data_prep, or run it again."
        )


def drawn(seed, i, pool, kinds=degrade.FIELD) -> degrade.Degradation:
    """The degradation of test clip i in its query."""
    return degrade.draw(np.random.default_rng([seed, TEST, i]), pool, kinds)


def late_frames(n_clips, seed, pool) -> np.ndarray:
    """How much later than its clip each query at any offset starts, in frames, float (n_clips,)."""
    late_s = [drawn(seed, i, pool, ("offset",)).offset_s for i in range(n_clips)]
    return np.array(late_s) * audio.SAMPLE_RATE / audio.HOP


def originals(clips, fingerprinter, workers=2, device="cpu", label="clips") -> list[Path]:
    """Files of the clips' fingerprints as they were recorded, made where they are missing."""
    cached = [_cached(clip, fingerprinter, device) for clip in clips]
    jobs = [(clip, {file: None}) for clip, file in zip(clips, cached)]
    _run(jobs, fingerprinter, workers, device, label)
    return cached


def _cached(clip, fingerprinter, device):
    code_digest = files.digest(fingerprinter.code)[:8]
    folder = f"data/cache/fingerprints/{fingerprinter.digest}-{device}-{code_digest}"
    return paths.resolve(folder) / f"{clip.sha256[:32]}.npy"


def _run(jobs, fingerprinter, workers, device, label, pool=None, **how):
    """jobs: of (clip, {file to write: seed of its degradation, or None: as it was recorded})."""
    waiting = [job for job in jobs if not all(target.exists() for target in job[1])]
    n_done, label = len(jobs) - len(waiting), f"fingerprinting {label}"
    how |= {"fingerprinter": fingerprinter, "device": machine.device(device), "pool": pool}
    one = partial(_one, **how)
    list(progress.parallel(one, waiting, workers, n_done, desc=label, unit="song"))


def _one(clip, seeds, fingerprinter, device, pool, kinds=degrade.FIELD, n_grids=1, **fixed):
    """Fingerprint the versions of one clip that are not there yet."""
    clip.check()
    kept = _cached(clip, fingerprinter, device)
    for target, seed in seeds.items():
        if seed is None and kept.exists() and not target.exists():
            features.save(target, features.load(kept))
    missing = {target: seed for target, seed in seeds.items() if not target.exists()}
    sounds = (
        [degrade.degrade(clip.read, seed, pool, kinds, **fixed)] if seed else clip.blocks()
        for seed in missing.values()
    )
    prints = fingerprinter.load(device).extract(sounds, audio.HOP // n_grids)
    for target, fingerprints in zip(missing, prints):
        features.save(target, fingerprints)
