"""What an encoder knows of songs that it was not trained on: ranks, and cosine against overlap.

Both functions put the same questions to any encoder, mean pooling included.
"""

import numpy as np
import pandas as pd

from amg.embedding import crops, encoders

RANKS, OVERLAPS = 2, 3  # second word of the seeds; training has the first
MOST = 2000  # songs that others are looked for among, so that what is asked does not grow with data


def ranks(encoder, data, held_out, duration_max, seed=0) -> pd.DataFrame:
    """Half a segment of every degraded version of the held-out songs (int (n,)), at random from its
    centre, is looked for among the centres of their originals and of those of the first MOST songs.

    Columns song, clip, and rank: how many originals score at least as high as the true one, which
    is not counted. 0 is a hit.
    """
    versions, at = _degraded(data, held_out)
    mid, centre_frames = crops.centre(data.length[at], crops.PADDED_FRAMES[duration_max])
    half = np.maximum(np.minimum(centre_frames, crops.segment_frames(duration_max)) // 2, 1)
    start = mid + np.random.default_rng([seed, RANKS]).integers(centre_frames - half + 1)
    halves = _vectors(encoder, data, data.first[at] + start, half)
    among = np.union1d(held_out, np.arange(min(MOST, len(data.length))))
    stored = _vectors(encoder, data, *centres(data, among, duration_max))
    scores = halves @ stored.T
    true = scores[versions.index, np.searchsorted(among, versions.song)]
    return versions.assign(rank=(scores >= true[:, None]).sum(axis=1) - 1)


def overlaps(encoder, data, held_out, duration_max, seed=0) -> pd.DataFrame:
    """How near a crop lies to its original, by how much they share.

    A crop of each degraded version of the held-out songs, placed as in training, but of lengths
    uniform up to the whole. Columns song, clip, overlap (share of the original's centre, 0 to 1),
    cosine with that centre, and others: the mean cosine with the other held-out songs' centres.
    """
    versions, at = _degraded(data, held_out)
    rng, whole = np.random.default_rng([seed, OVERLAPS]), np.zeros(len(versions), bool)
    crop = crops.draw(rng, data.length[at], whole, duration_max, power=1)
    shown = _vectors(encoder, data, data.first[at] + crop.start, crop.length)
    stored = _vectors(encoder, data, *centres(data, held_out, duration_max))
    cosine = shown @ stored.T
    own = held_out == versions.song.to_numpy()[:, None]
    others = (cosine.sum(axis=1) - cosine[own]) / max(len(held_out) - 1, 1)
    return versions.assign(overlap=crop.overlap, cosine=cosine[own], others=others)


def between(encoder, data, songs, duration_max) -> float:
    """Mean cosine between the centres of different songs' originals, int (n,); 1: all alike."""
    vectors = _vectors(encoder, data, *centres(data, songs, duration_max))
    n = len(vectors)
    return float((np.square(vectors.sum(axis=0)).sum() - n) / max(n * (n - 1), 1))


def _vectors(encoder, data, first, length):
    return encoders.floats(encoders.embed_runs(encoder, data.frames, first, length))


def _degraded(data, songs):
    """Song and clip of every degraded version of some songs: as a table, and as an index."""
    song, clip = np.nonzero(data.length[songs, 1:])
    at = songs[song], clip + 1
    return pd.DataFrame({"song": at[0], "clip": at[1]}), at


def centres(data, songs, duration_max) -> tuple:
    """Where the centres of songs' originals lie: first row and number of frames, int (n,) each."""
    mid, centre_frames = crops.centre(data.length[songs, 0], crops.PADDED_FRAMES[duration_max])
    return data.first[songs, 0] + mid, centre_frames
