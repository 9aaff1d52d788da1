"""Which crops an epoch trains on, and in which batches: index arithmetic, no file is opened.

Losses over classes take every clip once, in any company. Contrasting losses take pairs: every
degraded version once, beside the original of its song, and no song twice in a batch.
"""

from dataclasses import dataclass, fields

import numpy as np

from amg.embedding import crops


@dataclass(frozen=True)
class Batch:
    """Row i is a crop of clip `clip[i]` of song `song[i]`; int64 (B,). Of pairs, the originals
    come first, then the degraded versions in the same order."""

    song: np.ndarray
    clip: np.ndarray
    crop: crops.Crops

    def __len__(self):
        return len(self.song)


def epoch(rng, length, batch_size, paired, duration_max, mu=crops.MARGIN_MAX, ml=crops.MARGIN_MIN):
    """All batches of an epoch, a list.

    length: frames of each clip, int (n_songs, n_clips), 0 where there is none. The fewest batches of
    at most `batch_size` rows, as alike in size as can be.
    """
    song, clip, sizes = (_pairs if paired else _clips)(rng, length, batch_size)
    drawn = crops.draw(rng, length[song, clip], clip == 0, duration_max, mu, ml)
    columns = [getattr(drawn, field.name) for field in fields(drawn)]
    return [Batch(song[rows], clip[rows], crops.Crops(*(column[rows] for column in columns)))
            for rows in np.split(np.arange(len(song)), np.cumsum(sizes)[:-1])]


def _clips(rng, length, batch_size):
    song, clip = np.divmod(rng.permutation(np.flatnonzero(length)), length.shape[1])
    return song, clip, _sizes(len(song), batch_size)


def _pairs(rng, length, batch_size):
    songs, clips, sizes = [], [], []
    for version in rng.permutation(np.flatnonzero(length[:, 1:].any(axis=0)) + 1):
        there = rng.permutation(np.flatnonzero(length[:, version]))
        for part in np.split(there, np.cumsum(_sizes(len(there), batch_size // 2))[:-1]):
            songs += [part, part]
            clips += [np.zeros_like(part), np.full_like(part, version)]
            sizes.append(2 * len(part))
    return np.concatenate(songs), np.concatenate(clips), sizes


def _sizes(n, most):
    """Sizes of the fewest parts of at most `most`, alike to 1."""
    n_parts = -(-n // most)
    return np.full(n_parts, n // n_parts) + (np.arange(n_parts) < n % n_parts)
