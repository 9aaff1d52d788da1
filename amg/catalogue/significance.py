"""How good a hit has to be: how many equally good ones chance would give.

Some sounds, a held chord or a plain beat, resemble much music, others little. So a score counts by
how far it lies above the ordinary one, which the same window gets in other music, a background of a
few hundred songs that comes with the kit: with u = logit(score) - logit(ordinary), music that is
not in a catalogue of n frames finds n * exp(-rate * (u - middle)) hits there as good as u. The two
numbers are fitted, by method and length of window, to songs that are not there (`calibration`).
"""

from functools import cache

import numpy as np

from amg import checkpoint, files
from amg.embedding import runs

BACKGROUND = runs.shipped("background")
CALIBRATION = BACKGROUND.with_name("identify.json")  # what `calibration` wrote
ALLOWED = 0.005  # a match that chance gives more often is "not here"
ALIKE = 10  # songs of the background: the score of those that are most alike is ordinary
TOGETHER = 8  # windows that are compared with the background at once
STEP = 1 / 255  # of the background's values, which lie between -0.5 and 0.5
FITTED = ("two_stage", "single_stage")  # the base system's score is that of two stages


@cache
def background() -> np.ndarray:
    """Fingerprints of other music, float32 (S, T, 128)."""
    return checkpoint.load(BACKGROUND)[0]["frames"].numpy().astype(np.float32) * np.float32(STEP)


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


def expected(score, ordinary, length, n_frames, method) -> np.ndarray:
    """How many hits of a window of `length` frames are as good as `score` by chance: float (n,), of
    scores and ordinary scores, float (n,).

    A catalogue that is smaller than the smallest one that was checked counts as that.
    """
    n_frames = max(n_frames, files.read_json(CALIBRATION)["smallest_frames"])
    return law(scale(score, ordinary), n_frames, *_fitted(length, method))


def enough(score, chance, length, method) -> np.ndarray:
    """The score that chance would give ALLOWED times where it gives `score` `chance` times: float
    (n,), of windows of `length` frames."""
    excess = np.log(np.maximum(chance, 1e-300) / ALLOWED)
    return 1 / (1 + np.exp(-_logit(score) - excess / _fitted(length, method)[1]))


def _fitted(length, method):
    """`middle` and `rate`."""
    laws = files.read_json(CALIBRATION)[method if method in FITTED else FITTED[0]]
    return [np.interp(length, laws["frames"], laws[name]) for name in ("middle", "rate")]


def law(u, n_frames, middle, rate) -> np.ndarray:
    """The same, with the two numbers given."""
    return n_frames * np.exp(-rate * (u - middle))


def scale(score, ordinary) -> np.ndarray:
    """u, on which the scores of unknown music fall off exponentially."""
    return _logit(score) - _logit(ordinary)


def _logit(score):
    score = np.clip(score, 1e-3, 1 - 1e-6)
    return np.log(score / (1 - score))
