"""How the lift was chosen: other kernels, fewer and more directions, bits or values.

All of it on the held-out songs of a training set, by `validation.ranks`; never on test songs.
"""

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from amg import progress
from amg.embedding import encoders, validation
from amg.embedding.encoders import lift

KEPT, EXACT, MEAN = "square, at most 3", "the kernel itself", "mean pooling"
FUNCTIONS = {  # of p = w.x, which is a standard normal variable over directions w
    KEPT: lambda p: p.square().clamp(max=lift.MOST),
    "square": torch.square,
    "4th power": lambda p: p**4,
    "cube less 3 p": lambda p: p**3 - 3 * p,
    "cosine of 2 p": lambda p: torch.cos(2 * p),
    "p itself": lambda p: p,
}
SIZES = (512, 1024, 2048, 4096, 8192, 16384)  # directions


class Lifted(lift.Lift):
    """A lift by another function of p: its bits, or unit vectors of its values, (B, n)."""

    def __init__(self, function, n=4096, values=False):
        super().__init__(n)
        self.function, self.bits, self.dimension = function, 0 if values else n, n

    def energies(self, x):
        return self.function(x @ self.directions.T)

    def forward(self, x, padding):
        lifted = super().forward(x, padding)
        return lifted if self.bits else F.normalize(lifted)


class Products(Lifted):
    """All products of two values of a frame: the square's kernel, without drawing directions."""

    def __init__(self):
        super().__init__(None, 128**2, values=True)

    def energies(self, x):
        return (x[..., :, None] * x[..., None, :]).flatten(-2)


def candidates() -> list:
    """(name of the function, bits or values, encoder): the lift that is kept comes first."""
    of_kept = FUNCTIONS[KEPT]
    return [
        *((name, "bits", Lifted(function)) for name, function in FUNCTIONS.items()),
        *((KEPT, "bits", Lifted(of_kept, n)) for n in SIZES if n != 4096),
        *((KEPT, "values", Lifted(of_kept, n, values=True)) for n in SIZES),
        (EXACT, "values", Products()),
        (MEAN, "values", encoders.Mean()),
    ]


def kernels(angle) -> dict:
    """What two frames at an angle, degrees (n,), have in common by each of FUNCTIONS, float (n,):
    the covariance over directions, as a share of the variance."""
    radians = torch.deg2rad(torch.tensor(angle, dtype=torch.float))
    frames = torch.zeros(len(angle), 128)
    frames[:, 0], frames[:, 1] = radians.cos(), radians.sin()
    one = torch.tensor([[1.0] + 127 * [0.0]])
    curves = {}
    for name, function in FUNCTIONS.items():
        lifted = Lifted(function, SIZES[-1])
        fixed, turned = (lifted.energies(x).double().numpy() for x in (one, frames))
        fixed, turned = fixed - fixed.mean(), turned - turned.mean(axis=1, keepdims=True)
        curves[name] = (turned @ fixed[0]) / (fixed @ fixed[0])
    return curves


def card(chosen, train_set) -> dict:
    """Model card of the lift, which has no weights; chosen: `lifts.csv`, from a training set's
    validation songs."""
    bits = chosen[(chosen.function == KEPT) & (chosen.kind == "bits")].sort_values("dimensions")
    return {
        "encoder": "lift",
        "function": KEPT,
        "seed": 0,
        "weights": "none: directions follow from the seed, usual energies from the distractors of "
        "whatever database it is used on",
        "chosen_on": train_set,
        "duration_max": float(chosen.duration_max.iloc[0]),
        "queries": int(chosen.n_queries.iloc[0]),
        "validation_top1": dict(zip([f"{n} bits" for n in bits.dimensions], bits.top1)),
        "of_mean_pooling": float(chosen.top1[chosen.function == MEAN].iloc[0]),
    }


def compare(data, n_valid, duration_max, seed=0) -> pd.DataFrame:
    """Whether each candidate finds each degraded version of the last `n_valid` songs.

    data: a `features.TrainingSet`; candidates are fitted to the originals of its other songs.
    Columns function, kind and dimensions of the candidate, and those of `validation.ranks`.
    """
    n_songs = len(data.length) - n_valid
    held_out = np.arange(n_songs, n_songs + n_valid)
    originals = np.concatenate([data.clip(song, 0) for song in range(n_songs)])
    found = []
    for name, kind, model in progress.bar(candidates(), desc="lifts", unit="lift"):
        if hasattr(model, "fit"):
            model.fit(originals)
        ranks = validation.ranks(model, data, held_out, duration_max, seed)
        found.append(
            ranks.assign(function=name, kind=kind, dimensions=getattr(model, "dimension", 128))
        )
    return pd.concat(found, ignore_index=True)
