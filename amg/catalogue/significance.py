"""How good a hit has to be: how many equally good ones chance would give.

Some sounds, a held chord or a plain beat, resemble much music, others little. So a score counts by
how far it lies above the ordinary one, which the same window gets in other music, a background of a
few hundred songs, half of them out of tune: with u = logit(score) - logit(ordinary), music that is
not in a catalogue of n frames finds n * exp(-rate * (u - middle)) hits there as good as u. The two
numbers are fitted, by method and length of window, to songs that are not there (`calibration`), for
one fingerprinter and, where its scores count, for one encoder and its length of segments.
"""

from dataclasses import dataclass

import numpy as np

from amg import checkpoint, files
from amg.catalogue import models

BACKGROUND, LAWS = "background.safetensors", "identify.json"  # what `calibration` wrote
ALLOWED = 0.005  # a match that chance gives more often is "not here"
ALIKE = 10  # songs of the background: the score of those that are most alike is ordinary
TOGETHER = 8  # windows that are compared with the background at once
STEP = 1 / 255  # of the background's values, which lie between -0.5 and 0.5


@dataclass(frozen=True)
class Calibration:
    """What chance does with the fingerprints of one fingerprinter."""

    background: np.ndarray  # fingerprints of other music, float32 (S, T, 128)
    smallest_frames: int  # of the smallest catalogue that was checked
    laws: dict  # method -> {"frames": [...], "middle": [...], "rate": [...]}

    def expected(self, score, ordinary, length, n_frames, method) -> np.ndarray:
        """How many hits of a window of `length` frames are as good as `score` by chance: float
        (n,), of scores and ordinary scores, float (n,).

        A catalogue that is smaller than the smallest one that was checked counts as that.
        """
        n_frames = max(n_frames, self.smallest_frames)
        return law(scale(score, ordinary), n_frames, *self._fitted(length, method))

    def enough(self, score, chance, length, method) -> np.ndarray:
        """The score that chance would give ALLOWED times where it gives `score` `chance` times:
        float (n,), of windows of `length` frames."""
        excess = np.log(np.maximum(chance, 1e-300) / ALLOWED)
        return 1 / (1 + np.exp(-_logit(score) - excess / self._fitted(length, method)[1]))

    def _fitted(self, length, method):
        """`middle` and `rate`."""
        laws = self.laws[method]
        return [np.interp(length, laws["frames"], laws[name]) for name in ("middle", "rate")]


def load(made_by) -> Calibration:
    """The calibration that fits a `models.Models`; InputError if there is none."""
    known = files.read_json(models.calibrated(made_by.fingerprinter, LAWS)) or {}
    encoder = f"{made_by.about['encoder']} {made_by.duration_max} s"
    laws = {"two_stage": known["two_stage"], "sequence": known["two_stage"]}
    laws["single_stage"] = known["single_stage"][encoder]
    return Calibration(background(made_by.fingerprinter), known["smallest_frames"], laws)


def background(fingerprinter) -> np.ndarray:
    """What a `fingerprinters.Source` makes of other music, float32 (S, T, 128)."""
    tensors, _ = checkpoint.load(models.calibrated(fingerprinter, BACKGROUND))
    return tensors["frames"].numpy().astype(np.float32) * np.float32(STEP)


def ordinary(windows, songs) -> np.ndarray:
    """The mean best score in the songs that are most alike: float32 (W,), of windows float32 (W, L,
    128) in songs (S, T, 128), L at most T."""
    n_songs, n_frames, dim = songs.shape
    length, means = windows.shape[1], np.empty(len(windows), np.float32)
    n_starts = n_frames - length + 1
    for low in range(0, len(windows), TOGETHER):
        part = slice(low, low + TOGETHER)
        likeness = windows[part].reshape(-1, dim) @ songs.reshape(-1, dim).T
        likeness = likeness.reshape(-1, length, n_songs, n_frames)
        score = sum(likeness[:, at, :, at : at + n_starts] for at in range(length)).max(2) / length
        means[part] = np.sort(score)[:, -ALIKE:].mean(1)
    return means


def law(u, n_frames, middle, rate) -> np.ndarray:
    """How many hits as good as u, float (n,), chance gives in a catalogue of `n_frames`."""
    return n_frames * np.exp(-rate * (u - middle))


def scale(score, ordinary) -> np.ndarray:
    """u, on which the scores of unknown music fall off exponentially."""
    return _logit(score) - _logit(ordinary)


def _logit(score):
    score = np.clip(score, 1e-3, 1 - 1e-6)
    return np.log(score / (1 - score))
