"""Which crops an epoch trains on, and in which batches: index arithmetic, no file is opened.

A loss says what its batches hold (`PARTS`). With classes, every clip comes once, in a batch with
any others. With pairs and triplets, every degraded version comes once and no song twice in a batch:
beside each lies the original of its song, and in triplets also that of another song.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from amg.embedding import crops

# kind of batch -> rows that belong together: a clip; (original, degraded version), the halves of a
# batch; (degraded version, its song's original, another song's), its thirds
PARTS = {"classes": 1, "pairs": 2, "triplets": 3}


class Rows(NamedTuple):
    """What a loss may know of the rows of a batch, tensors (B,)."""

    song: torch.Tensor  # int64, its class: the song, unless classes are made of several
    overlap: torch.Tensor  # float32, what the crop shares with its original's centre: 0 to 1 of it
    is_original: torch.Tensor  # bool


@dataclass(frozen=True)
class Batch:
    """Row i is a crop of clip `clip[i]` of song `song[i]`; int64 (B,)."""

    song: np.ndarray
    clip: np.ndarray
    crop: crops.Crops

    def rows(self, device, classes) -> Rows:
        """What a loss is told of the rows; classes: the class of each song, int64 (n_songs,)."""
        columns = classes[self.song], self.crop.overlap, self.clip == 0
        return Rows(*(torch.from_numpy(column).to(device) for column in columns))


def epoch(rng, length, batch_size, kind, duration_max, draw=crops.draw) -> list:
    """All batches of an epoch, the fewest of at most `batch_size` rows, as alike in size as can be.

    length: frames of each clip, int (n_songs, n_clips), 0 where there is none; draw: the crop law,
    called as `crops.draw`.
    """
    if kind == "classes":
        clips = rng.permutation(np.flatnonzero(length))
        parts = [np.divmod(part, length.shape[1]) for part in _cut(clips, batch_size)]
    else:
        parts = list(_contrasts(rng, length, batch_size // PARTS[kind], kind))
    song, clip = np.concatenate(parts, axis=1)
    crop = draw(rng, length[song, clip], clip == 0, duration_max)
    ends = np.cumsum([len(songs) for songs, _ in parts])[:-1]
    columns = [np.split(column, ends) for column in (song, clip, *crop)]
    return [Batch(song, clip, crops.Crops(*crop)) for song, clip, *crop in zip(*columns)]


def count(length, batch_size, kind) -> int:
    """How many batches an epoch has; arguments as of `epoch`."""
    if kind == "classes":
        return -(-int((length > 0).sum()) // batch_size)
    n_songs = (length[:, 1:] > 0).sum(axis=0)  # of each version
    return int(np.ceil(n_songs / (batch_size // PARTS[kind])).sum())


def _contrasts(rng, length, most, kind):
    """Songs and clips of batches of at most `most` pairs or triplets, a version after the other."""
    for version in rng.permutation(np.flatnonzero(length[:, 1:].any(axis=0)) + 1):
        for song in _cut(rng.permutation(np.flatnonzero(length[:, version])), most):
            other = (song + rng.integers(1, len(length), len(song))) % len(length)
            original, degraded = np.zeros_like(song), np.full_like(song, version)
            rows = [(song, original), (song, degraded)]
            if kind == "triplets":
                rows = [(song, degraded), (song, original), (other, original)]
            yield np.concatenate(rows, axis=1)


def _cut(rows, most):
    return np.array_split(rows, -(-len(rows) // most))
