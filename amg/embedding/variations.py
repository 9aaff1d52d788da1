"""What a training may vary beside its encoder, loss and optimiser: data, classes, start, schedule.

The defaults are the published recipe. They are given, and kept, as settings of a `runs.Config`.
"""

from dataclasses import dataclass

import numpy as np

from amg.embedding import crops


@dataclass(frozen=True)
class Variation:
    """Settings of a training that belong to no class."""

    songs: int = 0  # learnt from: the first so many; 0: all
    versions: int = 0  # degraded ones of each song: the first so many; 0: all
    classes: str = "clip"  # what a class is: clip, or recording, with all clips of one
    centres: str = "mean"  # class centres begin as mean fingerprints, or random
    crop_power: int = crops.POWER  # a crop shows the share u ** crop_power of the centre
    warm_up: float = 0.0  # share of the updates in which the rate rises from 0
    patience: int = 0  # epochs without a better validation Top-1 that end it; 0: it never ends so
    start: str = ""  # run whose encoder it continues, as open_music/mt-amg-10s; "": none

    limits = {
        "classes": ("clip", "recording"),
        "centres": ("mean", "random"),
        "crop_power": (1, 10),
        "warm_up": (0, 1),
    }

    def rate(self, done) -> float:
        """What the learning rate is multiplied with; done: share of the updates, 0 to 1."""
        return min(1.0, done / self.warm_up) if self.warm_up else 1.0

    def ended(self, history) -> bool:
        """Whether patience is at an end, by the history's validation Top-1."""
        top1 = [row["top1"] for row in history if "top1" in row]
        return 0 < self.patience <= len(top1) - 1 - int(np.argmax(top1 or [0]))
