"""How good a score has to be: fitted to music that a catalogue does not hold.

`python -m amg calibrate` writes what ships with the kit in `amg/weights/`: the lift's usual
energies, the background, and the two numbers of `significance.law` for each method and length of
window. The first and the last come from the training songs of a profile, the songs that notebooks
hold out for validation check them; of the database's distractors every other one is background, and
the rest the catalogue. Test songs are not heard.
"""

import numpy as np
import pandas as pd
import torch

from amg import check, checkpoint, files, progress
from amg.catalogue import models as models_
from amg.catalogue import significance, windows
from amg.catalogue.catalogue import Catalogue
from amg.embedding import crops

LENGTHS = (3, 5, 9, 14, 19)  # frames of windows; 19 are a segment of 10 s
LEVELS = np.array([0.9, 0.99])  # quantiles of unknown windows' scores that get their due
SMALL = 8  # a part of the catalogue, one in so many of its songs, shows that its size is seen to


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
    models_.ship(np.concatenate([data.clip(song, 0) for song in range(first_held)]))
    models, songs = models_.load(), database.sequences.songs()[: database.first_test]
    _ship_background(songs[::2])
    songs = songs[1::2]
    whole, small = Catalogue.of(songs, models), Catalogue.of(songs[::SMALL], models)
    rows = []
    for method in progress.bar(significance.FITTED, desc="calibrating", unit="method"):
        for length in LENGTHS:
            asked, song = _windows(data, length, seed)
            ordinary = significance.ordinary(asked, significance.background())
            u = significance.scale(_best(asked, whole, method), ordinary)
            middle, rate = fit(u[song < first_held], whole.n_frames)
            row = {
                "method": method,
                "frames": length,
                "middle": middle,
                "rate": rate,
                "n_fitted": int((song < first_held).sum()),
                "n_held": int((song >= first_held).sum()),
            }
            held = song >= first_held
            in_small = significance.scale(_best(asked[held], small, method), ordinary[held])
            for name, found, of in (
                ("false_accepts", u[held], whole),
                ("in_small", in_small, small),
            ):
                expected = significance.law(found, of.n_frames, middle, rate)
                row[name] = round(100 * float(np.mean(expected <= significance.ALLOWED)), 2)
            rows.append(row)
    table = pd.DataFrame(rows)
    files.write_json(
        models_.CALIBRATION,
        {
            "fingerprinter": models.fingerprinter.digest,
            "catalogue_frames": whole.n_frames,
            "smallest_frames": small.n_frames,
            **{
                method: of.drop(columns="method").to_dict("list")
                for method, of in table.groupby("method")
            },
        },
    )
    return table


def _best(asked, catalogue, method):
    """The best score of each window, float (n,); there is one grid."""
    return windows.find(asked[:, None], catalogue, method)[1][:, 0, 0]


def _ship_background(songs):
    """The first frames of songs that have so many as the longest segment, in a byte each value."""
    n_frames = crops.segment_frames(max(crops.DURATIONS))
    frames = np.stack([song[:n_frames] for song in songs if len(song) >= n_frames])
    whole = np.clip(np.round(frames / significance.STEP), -127, 127).astype(np.int8)
    checkpoint.save(
        significance.BACKGROUND, {"frames": torch.from_numpy(whole)}, {"songs": len(whole)}
    )
    significance.background.cache_clear()


def _windows(data, length, seed):
    """A window of each degraded version, float32 (n, length, 128), and its song, int (n,)."""
    rng, asked, song = np.random.default_rng([seed, length]), [], []
    for of_song, version in np.argwhere(data.length[:, 1:] >= length) + (0, 1):
        start = rng.integers(data.length[of_song, version] - length + 1)
        asked.append(data.clip(of_song, version)[start : start + length])
        song.append(of_song)
    return np.stack(asked), np.array(song)
