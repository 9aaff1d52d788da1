"""Training crops (AMG paper, data augmentation): where they lie and what margin they earn.

An original shows its centre; a degraded version shows a random crop, mostly short. The more
a crop shares with the original's centre, the larger its margin in the loss.
"""

from typing import NamedTuple

import numpy as np

from amg.check import one_of

PADDED_FRAMES = {5: 12, 10: 24, 15: 32, 30: 64}  # M: longest training input per duration_max
DURATIONS = tuple(PADDED_FRAMES)  # seconds
MARGIN_MAX, MARGIN_MIN = 0.4, 0.2  # mu, ml (radians)
SHORTEST = 3  # frames
POWER = 3  # of u ~ U(0, 1): most crops are short


class Crops(NamedTuple):
    """One crop per row, (B,)."""

    start: np.ndarray  # frames
    length: np.ndarray  # frames
    overlap: np.ndarray  # share of the original's centre that it shows, float32 0 to 1


def segment_frames(duration_max) -> int:
    """Frames of a database segment of `duration_max` seconds (5, 10, 15 or 30): 9 to 59."""
    return 2 * one_of("duration_max", duration_max, DURATIONS, " (seconds)") - 1


def centre(n_frames, padded) -> tuple:
    """Original's centre [mid, mid + C): returns (mid, C), of ints or int arrays."""
    return np.maximum((n_frames - padded) // 2, 0), np.minimum(n_frames, padded)


def draw(rng, n_frames, is_original, duration_max, power=POWER) -> Crops:
    """Draw one crop per clip: n_frames int (B,), is_original bool (B,).

    With u ~ U(0, 1), a degraded crop has max(int(u^power C), 3) frames (or all, if there are
    fewer); its start is uniform over those that let it stick out of the centre by up to half
    its length. An original gives exactly its centre.
    """
    mid, centre_frames = centre(n_frames, PADDED_FRAMES[duration_max])
    drawn = (rng.random(len(n_frames)) ** power * centre_frames).astype(np.int64)
    length = np.minimum(np.maximum(drawn, SHORTEST), centre_frames)
    length = np.where(is_original, centre_frames, length)
    low = np.maximum(0, mid - length // 2)
    high = mid + centre_frames - length + (mid - low)
    start = np.where(is_original, mid, rng.integers(low, high + 1))
    shown = np.minimum(start + length, mid + centre_frames) - np.maximum(start, mid)
    return Crops(start, length, (shown / centre_frames).astype(np.float32))


def margin(overlap, high=MARGIN_MAX, low=MARGIN_MIN):
    """Radians, from `low` at no overlap to `high` at full; overlap: 0 to 1, array or tensor."""
    return (high - low) * overlap + low


def micro_batches(length, max_frames) -> list:
    """Index arrays that cut a batch in groups of about `max_frames` frames, longest crops first."""
    order = np.argsort(-length, kind="stable")
    group = (np.cumsum(length[order]) - 1) // max_frames
    return np.split(order, np.flatnonzero(np.diff(group)) + 1)
