"""How good a score has to be: fitted to music that a catalogue does not hold.

`python -m amg calibrate` writes what ships with the kit in `amg/weights/`: the lift's usual
energies, the background, and the two numbers of `significance.law` for each method and length of
window. The first and the last come from the training songs of a profile, the songs that notebooks
hold out for validation check them; of the database's distractors every other one is background, and
the rest the catalogue. Test songs are not heard.
"""

import itertools

import numpy as np
import pandas as pd
import torch

from amg import check, checkpoint, files, paths, progress
from amg.catalogue import models, significance, windows
from amg.catalogue.catalogue import Catalogue
from amg.embedding import crops, encoders
from amg.fingerprint import features
from amg.retrieval import databases

LENGTHS = (3, 5, 9, 14, 19)  # frames of windows; 19 are a segment of 10 s
LEVELS = np.array([0.9, 0.99])  # quantiles of unknown windows' scores that the law is fitted to
SMALL = 8  # the law is checked in a smaller catalogue, too: one in so many of the songs


def fit(u, n_frames) -> tuple[float, float]:
    """`middle` and `rate` of `significance.law`, from u, float (n,), of the best scores of windows
    in a catalogue of `n_frames` that does not hold them."""
    u, due = np.quantile(u, LEVELS), -np.log(LEVELS)
    rate = np.log(due[0] / due[1]) / (u[1] - u[0])
    return float(u[1] - np.log(n_frames / due[1]) / rate), float(rate)


def calibrate(data, database, n_valid, seed=0) -> pd.DataFrame:
    """Write these three files; returns what the held-out songs show, a row per method and length.

    data: a `features.TrainingSet`, whose last `n_valid` songs are held out. false_accepts, and
    in_small for a part of the catalogue: percentage of their windows for which something counts
    that chance gives at most `significance.ALLOWED` times.
    """
    check.integer("n_valid", n_valid, 2, len(data.length) - 2)
    first_held = len(data.length) - n_valid
    _ship_usual(np.concatenate([data.clip(song, 0) for song in range(first_held)]))
    made_by, songs = models.load(), database.sequences.songs()[: database.first_test]
    _ship_background(songs[::2])
    songs = songs[1::2]
    whole, small = Catalogue.of(songs, made_by), Catalogue.of(songs[::SMALL], made_by)
    rows = []
    jobs = list(itertools.product(significance.FITTED, LENGTHS))
    for method, length in progress.bar(jobs, desc="calibrating", unit="law"):
        queries, song = _windows(data, length, seed)
        held = song >= first_held
        ordinary = significance.ordinary(queries, significance.background())
        u = significance.scale(_best(queries, whole, method), ordinary)
        u_small = significance.scale(_best(queries[held], small, method), ordinary[held])
        law = fit(u[~held], whole.n_frames)
        row = {"method": method, "frames": length, "middle": law[0], "rate": law[1]}
        row |= {"n_fitted": int((~held).sum()), "n_held": int(held.sum())}
        row["false_accepts"] = _accepted(u[held], whole.n_frames, law)
        row["in_small"] = _accepted(u_small, small.n_frames, law)
        rows.append(row)
    table = pd.DataFrame(rows)
    laws = {
        "fingerprinter": made_by.fingerprinter.digest,
        "catalogue_frames": whole.n_frames,
        "smallest_frames": small.n_frames,
    }
    for method, of_method in table.groupby("method"):
        laws[method] = of_method.drop(columns="method").to_dict("list")
    files.write_json(significance.CALIBRATION, laws)
    return table


def command(arguments) -> None:
    """`python -m amg calibrate`: prints what held-out songs say."""
    check.texts(train_set=arguments.train_set, database=arguments.database)
    data = features.pack(paths.resolve(f"data/train/{arguments.train_set}"))
    database, _ = databases.load(paths.resolve(arguments.database))
    print(calibrate(data, database, arguments.n_valid).round(3).to_string(index=False))


def _accepted(u, n_frames, law):
    """Percentage of windows for which something counts that chance gives."""
    counts = significance.law(u, n_frames, *law) <= significance.ALLOWED
    return round(100 * float(np.mean(counts)), 2)


def _best(queries, catalogue, method):
    """The best score of each window, float (n,); there is one grid."""
    return windows.find(queries[:, None], catalogue, method)[1][:, 0, 0]


def _ship_usual(frames):
    """The lift's usual energies of music, frames float32 (N, 128)."""
    usual = {name: encoders.untrained(name, frames).usual.float() for name in models.FITTED}
    checkpoint.save(models.USUAL, usual, {"frames": len(frames)})


def _ship_background(songs):
    """The first frames of songs that have so many as the longest segment, in a byte each value."""
    n_frames = crops.segment_frames(max(crops.DURATIONS))
    frames = np.stack([song[:n_frames] for song in songs if len(song) >= n_frames])
    whole = np.clip(np.round(frames / significance.STEP), -127, 127).astype(np.int8)
    tensors = {"frames": torch.from_numpy(whole)}
    checkpoint.save(significance.BACKGROUND, tensors, {"songs": len(whole)})
    significance.background.cache_clear()


def _windows(data, length, seed):
    """A window of each degraded version, float32 (n, length, 128), and its song, int (n,)."""
    rng, queries = np.random.default_rng([seed, length]), []
    versions = np.argwhere(data.length[:, 1:] >= length) + (0, 1)
    for song, version in versions:
        start = rng.integers(data.length[song, version] - length + 1)
        queries.append(data.clip(song, version)[start : start + length])
    return np.stack(queries), versions[:, 0]
