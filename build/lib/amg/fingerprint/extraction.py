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
from amg.sound import clips as clips_

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
    jobs = [
        (
            clip,
            {
                features.song_file(folder, song, version): [seed, TRAIN, song, version]
                if version
                else None
                for version in range(n_versions)
            },
        )
        for song, clip in enumerate(clips, 1)
    ]
    _run(jobs, fingerprinter, workers, device, folder.name, pool)
    _write_table(clips_.to_table(clips), features.songs_table(folder))


def songs(clips, folder, fingerprinter, seed, workers=2, pool=None, device="cpu", **how) -> None:
    """Write `{i:05d}.npy` per clip, i from 0: as it is, or degraded if there is a `pool`.

    how: kinds, n_grids and settings, as for `condition`. Clip i is degraded from (seed, i) alone,
    so that folders of other kinds share what they have in common.
    """
    jobs = [
        (clip, {folder / f"{i:05d}.npy": [seed, TEST, i] if pool else None})
        for i, clip in enumerate(clips)
    ]
    _run(jobs, fingerprinter, workers, device, folder.name, pool, **how)


def condition(
    clips, name, fingerprinter, seed, workers, pool, kinds, n_grids=1, device="cpu", **fixed
) -> None:
    """Degraded `songs` as a made thing under the path `name`.

    kinds, fixed: as for `degrade.degrade`; n_grids: frames per hop, as for
    `nafp_search.find_on_grids`, a divisor of the hop in samples.
    """
    made_by = recipe(
        "fingerprints",
        {"test": clips},
        fingerprinter,
        seed,
        pool,
        device,
        kinds=list(kinds),
        n_grids=n_grids,
        **fixed,
    )
    with provenance.making(name, made_by) as place:
        songs(
            clips,
            place.folder,
            fingerprinter,
            seed,
            workers,
            pool,
            device,
            kinds=kinds,
            n_grids=n_grids,
            **fixed,
        )


def write_songs(clips, root) -> None:
    """Write `songs.csv` of a database: its clips in the order of the index, distractors first."""
    table = clips_.to_table(clips)
    names = table.groupby("role").cumcount().map("{:05d}".format)
    _write_table(table.assign(name=names), root / "songs.csv")


def _write_table(table, path):
    with files.atomic(path) as temporary:
        table.to_csv(temporary, index=False)


def check_queries(root, tests, dummies, fingerprinter, seed, pool) -> None:
    """InputError unless the database at `root` was made with these very arguments."""
    asked = recipe("database", {"test": tests, "dummy": dummies}, fingerprinter, seed, pool, "")
    record = provenance.find(root, "01_data_prep").record
    if any(record.get(key) != value for key, value in asked.identity.items() if key != "computed"):
        raise InputError(
            f"{paths.relative(root)} was made with other parameters than these; give "
            "the corpus, seed, n_rooms and fingerprinter of notebook 01_data_prep, or "
            "run it again."
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
    found = [_cached(clip, fingerprinter, device) for clip in clips]
    jobs = [(clip, {file: None}) for clip, file in zip(clips, found)]
    _run(jobs, fingerprinter, workers, device, label)
    return found


def _cached(clip, fingerprinter, device):
    return paths.resolve(
        f"data/cache/fingerprints/{fingerprinter.digest}-{device}-"
        f"{files.digest(fingerprinter.code)[:8]}/{clip.sha256[:32]}.npy"
    )


def _run(jobs, fingerprinter, workers, device, label, pool=None, **how):
    """jobs: of (clip, {file to write: seed of its degradation, or None: as it was recorded})."""
    device = machine.device(device)
    waiting = [job for job in jobs if not all(target.exists() for target in job[1])]
    one = partial(_one, fingerprinter=fingerprinter, device=device, pool=pool, **how)
    for _ in progress.parallel(
        one, waiting, workers, len(jobs) - len(waiting), desc=f"fingerprinting {label}", unit="song"
    ):
        pass


def _one(clip, seeds, fingerprinter, device, pool, kinds=degrade.FIELD, n_grids=1, **fixed):
    """Fingerprint the versions of one clip that are not there yet."""
    clip.check()
    missing = {target: seed for target, seed in seeds.items() if not target.exists()}
    kept, margin_s = _cached(clip, fingerprinter, device), degrade.margin_s(kinds)
    for target, seed in list(missing.items()):
        if seed is None and target != kept and kept.exists():
            features.save(target, features.load(kept))
            del missing[target]
    heard = (
        [degrade.degrade(clip.read(margin_s), seed, pool, kinds, margin_s, **fixed)]
        if seed
        else clip.blocks()
        for seed in missing.values()
    )
    found = fingerprinter.load(device).extract(heard, audio.HOP // n_grids)
    for target, fingerprints in zip(missing, found):
        features.save(target, fingerprints)
