"""How good a score has to be: fitted to music that a catalogue does not hold.

`python -m amg calibrate` writes what ships with the kit in `amg/weights/`: the lift's usual energies,
and the two numbers of `windows.chance` for each method and length of window. Both come from the
training songs of a profile, the songs that notebooks hold out for validation check them; the
catalogue is the distractors of the database. Test songs are not heard.
"""

import numpy as np
import pandas as pd

from amg import check, files, progress
from amg.catalogue import models as models_, windows
from amg.catalogue.memory import Catalogue

LENGTHS = (3, 5, 9, 14, 19)  # frames of windows; 19 are a segment of 10 s
LEVELS = np.array([0.9, 0.99])  # quantiles of unknown windows' scores that get their due
SMALL = 8  # a part of the catalogue, one in so many of its songs, shows that its size is seen to


def fit(scores, n_frames) -> tuple[float, float]:
    """`middle` and `rate` of `windows.chance`, from the best scores, float (n,), of windows in a
    catalogue of `n_frames` that does not hold them."""
    u, due = windows.scale(np.quantile(scores, LEVELS)), -np.log(LEVELS)
    rate = np.log(due[0] / due[1]) / (u[1] - u[0])
    return float(u[1] - np.log(n_frames / due[1]) / rate), float(rate)


def calibrate(data, database, n_valid, allowed=0.01, seed=0) -> pd.DataFrame:
    """Write both files; returns what the held-out songs show, a row per method and length.

    data: a `features.TrainingSet`, whose last `n_valid` songs are held out. false_accepts, and
    in_small for a part of the catalogue: percentage of their windows for which something counts
    that chance gives at most `allowed` times.
    """
    check.integer("n_valid", n_valid, 2, len(data.length) - 2)
    first_held = len(data.length) - n_valid
    models_.ship(np.concatenate([data.clip(song, 0) for song in range(first_held)]))
    models, songs = models_.load(), database.sequences.songs()[: database.first_test]
    whole, small = Catalogue.of(songs, models), Catalogue.of(songs[::SMALL], models)
    rows = []
    for method in progress.bar(windows.FITTED, desc="calibrating", unit="method"):
        for length in LENGTHS:
            asked, song = _windows(data, length, seed)
            best = windows.find(asked, whole, method)[1][:, 0]
            middle, rate = fit(best[song < first_held], whole.n_frames)
            row = {"method": method, "frames": length, "middle": middle, "rate": rate,
                   "n_fitted": int((song < first_held).sum()), "n_held": int((song >= first_held).sum())}
            held = song >= first_held
            in_small = windows.find(asked[held], small, method)[1][:, 0]
            for name, score, of in (("false_accepts", best[held], whole), ("in_small", in_small, small)):
                by_chance = windows.by_chance(score, of.n_frames, middle, rate)
                row[name] = round(100 * float(np.mean(by_chance <= allowed)), 2)
            rows.append(row)
    table = pd.DataFrame(rows)
    files.write_json(models_.CALIBRATION, {
        "fingerprinter": models.fingerprinter.digest, "catalogue_frames": whole.n_frames,
        "smallest_frames": small.n_frames, "allowed": allowed, **{method: of.drop(columns="method").to_dict("list")
                               for method, of in table.groupby("method")}})
    return table


def _windows(data, length, seed):
    """A window of each degraded version, float32 (n, length, 128), and its song, int (n,)."""
    rng, asked, song = np.random.default_rng([seed, length]), [], []
    for of_song, version in np.argwhere(data.length[:, 1:] >= length) + (0, 1):
        start = rng.integers(data.length[of_song, version] - length + 1)
        asked.append(data.clip(of_song, version)[start : start + length])
        song.append(of_song)
    return np.stack(asked), np.array(song)
