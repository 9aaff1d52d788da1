"""Which crops an epoch trains on, and in which batches: index arithmetic, no file is opened.

A loss says what its batches hold (`PARTS`). Of classes, every clip comes once, in any company. Of
pairs and triplets, every degraded version comes once and no song twice in a batch: beside each lies
the original of its song, and in triplets also that of another song.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch

from amg.embedding import crops

# kind of batch -> rows that belong together
PARTS = {"classes": 1,  # a clip
         "pairs": 2,  # (original, degraded version): the first half of a batch, and the second
         "triplets": 3}  # (degraded version, its song's original, another's): three thirds


class Rows(NamedTuple):
    """What a loss may know of the rows of a batch, tensors (B,)."""

    song: torch.Tensor  # int64, the class
    overlap: torch.Tensor  # float32, what the crop shares with its original's centre: 0 to 1 of it
    is_original: torch.Tensor  # bool


@dataclass(frozen=True)
class Batch:
    """Row i is a crop of clip `clip[i]` of song `song[i]`; int64 (B,)."""

    song: np.ndarray
    clip: np.ndarray
    crop: crops.Crops

    def __len__(self):
        return len(self.song)

    def rows(self, device) -> Rows:
        """What the loss is told."""
        return Rows(*(torch.from_numpy(column).to(device)
                      for column in (self.song, self.crop.share, self.clip == 0)))


def epoch(rng, length, batch_size, kind, duration_max) -> list:
    """All batches of an epoch.

    length: frames of each clip, int (n_songs, n_clips), 0 where there is none. The fewest batches of
    at most `batch_size` rows, as alike in size as can be.
    """
    if kind == "classes":
        song, clip, sizes = _clips(rng, length, batch_size)
    else:
        song, clip, sizes = _contrasts(rng, length, batch_size, kind)
    drawn = crops.draw(rng, length[song, clip], clip == 0, duration_max)
    columns = [getattr(drawn, field.name) for field in fields(drawn)]
    return [Batch(song[rows], clip[rows], crops.Crops(*(column[rows] for column in columns)))
            for rows in np.split(np.arange(len(song)), np.cumsum(sizes)[:-1])]


def _clips(rng, length, batch_size):
    song, clip = np.divmod(rng.permutation(np.flatnonzero(length)), length.shape[1])
    return song, clip, _sizes(len(song), batch_size)


def _contrasts(rng, length, batch_size, kind):
    """Pairs or triplets, a version after the other, each over all songs that have it."""
    songs, clips, sizes = [], [], []
    for version in rng.permutation(np.flatnonzero(length[:, 1:].any(axis=0)) + 1):
        there = rng.permutation(np.flatnonzero(length[:, version]))
        n_parts = PARTS[kind]
        for part in np.split(there, np.cumsum(_sizes(len(there), batch_size // n_parts))[:-1]):
            original, degraded = np.zeros_like(part), np.full_like(part, version)
            other = (part + rng.integers(1, len(length), len(part))) % len(length)
            songs += [part, part] if kind == "pairs" else [part, part, other]
            clips += [original, degraded] if kind == "pairs" else [degraded, original, original]
            sizes.append(n_parts * len(part))
    return np.concatenate(songs), np.concatenate(clips), sizes


def _sizes(n, most):
    """Sizes of the fewest parts of at most `most`, alike to 1."""
    n_parts = -(-n // most)
    return np.full(n_parts, n // n_parts) + (np.arange(n_parts) < n % n_parts)
