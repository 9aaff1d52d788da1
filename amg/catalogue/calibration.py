"""How good a score has to be: fitted to music that a catalogue does not hold.

`amg calibrate` writes, for one fingerprinter, the lift's usual energies, the background,
and the two numbers of `significance.law` for each length of window: of two stages, whose scores
depend on nothing else, and of the first stage of each encoder and length of segments. They come
from the training songs of a profile, the songs that notebooks hold out for validation check them;
of the database's distractors every other one is background, and the rest the catalogue. Test songs
are not heard.
"""

import itertools

import numpy as np
import pandas as pd
import torch

from amg import check, checkpoint, files, paths, progress
from amg.catalogue import models, significance, windows
from amg.catalogue.catalogue import Catalogue
from amg.check import InputError
from amg.embedding import crops, encoders
from amg.fingerprint import features, fingerprinters
from amg.retrieval import databases
from amg.sound import audio

LENGTHS = (3, 5, 9, 14, 19, 29, 39, 59)  # frames of windows; 19 are a segment of 10 s
LEVELS = np.array([0.9, 0.99])  # quantiles of unknown windows' scores that the law is fitted to
SMALL = 8  # the law is checked in a smaller catalogue, too: one in so many of the songs
OUT_OF_TUNE = 2 ** (1 / 24), 2 ** (-1 / 24)  # speeds: a quarter-tone up and down
SEED = 0


def fit(u, n_frames) -> tuple[float, float]:
    """`middle` and `rate` of `significance.law`, from u, float (n,), of the best scores of windows
    in a catalogue of `n_frames` that does not hold them."""
    u, due = np.quantile(u, LEVELS), -np.log(LEVELS)
    rate = np.log(due[0] / due[1]) / (u[1] - u[0])
    return float(u[1] - np.log(n_frames / due[1]) / rate), float(rate)


def calibrate(data, database, n_valid, fingerprinter="") -> pd.DataFrame:
    """Write these three files to `models.home`; returns what the held-out songs show, a row per
    method, encoder, length of segments and of windows.

    data: a `features.TrainingSet`, whose last `n_valid` songs are held out; database: a
    `databases.Database` whose clips are known; both of the fingerprinter, as for
    `fingerprinters.find`. false_accepts, and in_small for a part of the catalogue: percentage of
    their windows for which something counts that chance gives at most `significance.ALLOWED` times.
    """
    check.integer("n_valid", n_valid, 2, len(data.length) - 2)
    source = fingerprinters.find(fingerprinter)
    if {data.fingerprinter, database.fingerprinter} != {source.digest} or not database.clips:
        raise InputError(
            "train_set and database must be what notebook 01_data_prep made with the "
            f"fingerprinter {source.digest}; give the --fingerprinter that they were made with."
        )
    folder, first_held = models.home(source), len(data.length) - n_valid
    _write_usual(folder, np.concatenate([data.clip(song, 0) for song in range(first_held)]))
    songs = database.sequences.songs()[: database.first_test]
    _write_background(folder, songs[::2], database.clips[: database.first_test : 2], source)
    songs = songs[1::2]
    background = significance.background(source)
    asked = {}  # length -> windows, whether they are held out, and their ordinary scores
    for length in progress.bar(LENGTHS, desc="background", unit="length"):
        queries, song = _windows(data, length)
        ordinary = significance.ordinary(queries, background)
        asked[length] = queries, song >= first_held, ordinary
    rows, fitted = [], set()  # of two stages: lengths, each by the shortest segment that is as long
    jobs = list(itertools.product(models.ENCODERS, crops.DURATIONS))
    for encoder, duration_max in progress.bar(jobs, desc="calibrating", unit="encoder"):
        made_by = models.load(encoder, duration_max, fingerprinter)
        whole, small = Catalogue.of(songs, made_by), Catalogue.of(songs[::SMALL], made_by)
        for length in (length for length in LENGTHS if length <= whole.segments.length):
            of_law = {"encoder": encoder, "duration_max": duration_max, "frames": length}
            for method in ("single_stage",) if length in fitted else ("single_stage", "two_stage"):
                law = _law(*asked[length], whole, small, method)
                rows.append({"method": method, **of_law, **law})
            fitted.add(length)
    table = pd.DataFrame(rows)
    _write_laws(folder, table, source, whole.n_frames, small.n_frames)
    return table


def command(train_set, database, n_valid, fingerprinter) -> None:
    """`amg calibrate`: prints what held-out songs say."""
    check.texts(train_set=train_set, database=database)
    data = features.pack(paths.resolve(f"data/train/{train_set}"))
    table = calibrate(data, databases.load(paths.resolve(database))[0], n_valid, fingerprinter)
    print(table.round(3).to_string(index=False))


def _law(queries, held, ordinary, whole, small, method):
    """The law of windows (n, L, 128) in a catalogue, fitted to those that are not `held`, bool
    (n,); and what those say of it, there and in a small one."""
    u = significance.scale(_best(queries, whole, method), ordinary)
    law = fit(u[~held], whole.n_frames)
    small_u = significance.scale(_best(queries[held], small, method), ordinary[held])
    return {
        "middle": law[0],
        "rate": law[1],
        "n_fitted": int((~held).sum()),
        "n_held": int(held.sum()),
        "false_accepts": _accepted(u[held], whole.n_frames, law),
        "in_small": _accepted(small_u, small.n_frames, law),
    }


def _accepted(u, n_frames, law):
    """Percentage of windows for which something counts that chance gives."""
    counts = significance.law(u, n_frames, *law) <= significance.ALLOWED
    return round(100 * float(np.mean(counts)), 2)


def _best(queries, catalogue, method):
    """The best score of each window, float (n,); there is one grid."""
    return windows.find(queries[:, None], catalogue, method)[1][:, 0, 0]


def _write_usual(folder, frames):
    """The lift's usual energies of music, frames float32 (N, 128)."""
    usual = {name: encoders.untrained(name, frames).usual.float() for name in models.FITTED}
    checkpoint.save(folder / models.USUAL, usual, {"frames": len(frames)})


def _write_background(folder, songs, clips, fingerprinter):
    """The first frames of songs that have so many as the longest segment, in a byte each value; of
    every other one as it sounds out of tune."""
    n_frames = crops.segment_frames(max(crops.DURATIONS))
    speeds = itertools.cycle(OUT_OF_TUNE)
    detuned = [  # what is faster is shorter, so it begins anew
        audio.resampled(itertools.chain(clip.blocks(), clip.blocks()), speed * audio.SAMPLE_RATE)
        for clip, speed in zip(clips[1::2], speeds)
    ]
    songs[1::2] = fingerprinter.load().extract(progress.bar(detuned, desc="detuning", unit="song"))
    frames = np.stack([song[:n_frames] for song in songs if len(song) >= n_frames])
    whole = np.clip(np.round(frames / significance.STEP), -127, 127).astype(np.int8)
    tensors = {"frames": torch.from_numpy(whole)}
    checkpoint.save(folder / significance.BACKGROUND, tensors, {"songs": len(whole)})


def _write_laws(folder, table, fingerprinter, n_frames, n_frames_small):
    """The laws as `significance.load` reads them."""
    what = ["method", "encoder", "duration_max"]
    by_encoder = table[table.method == "single_stage"].groupby(what[1:])
    two_stage = table[table.method == "two_stage"].sort_values("frames")
    laws = {
        "fingerprinter": fingerprinter.digest,
        "catalogue_frames": n_frames,
        "smallest_frames": n_frames_small,
        "single_stage": {
            f"{encoder} {duration_max} s": rows.drop(columns=what).to_dict("list")
            for (encoder, duration_max), rows in by_encoder
        },
        "two_stage": two_stage.drop(columns=what).to_dict("list"),
    }
    files.write_json(folder / significance.LAWS, laws)


def _windows(data, length):
    """A window of each degraded version, float32 (n, length, 128), and its song, int (n,)."""
    rng, queries = np.random.default_rng([SEED, length]), []
    versions = np.argwhere(data.length[:, 1:] >= length) + (0, 1)
    for song, version in versions:
        start = rng.integers(data.length[song, version] - length + 1)
        queries.append(data.clip(song, version)[start : start + length])
    return np.stack(queries), versions[:, 0]
