"""What an encoder knows of songs that it was not trained on: ranks, and cosine against overlap.

Every function asks any encoder, mean pooling included, the same questions.
"""

import numpy as np
import pandas as pd

from amg.embedding import crops, encoders

RANKS, OVERLAPS = 2, 3  # second word of the seeds; training has the first


def ranks(encoder, data, held_out, duration_max, seed=0) -> pd.DataFrame:
    """Half a segment of every degraded version of the held-out songs (int (n,)), at random from its
    centre, is looked for among the centres of all originals.

    Columns song, clip, and rank: how many originals score at least as high as the true one, which
    is not counted. 0 is a hit.
    """
    rng = np.random.default_rng([seed, RANKS])
    asked, halves = _degraded(data, held_out), []
    for song, clip in asked[["song", "clip"]].to_numpy():
        mid, most = crops.centre(data.length[song, clip], crops.PADDED_FRAMES[duration_max])
        half = max(min(most, crops.segment_frames(duration_max)) // 2, 1)
        start = mid + rng.integers(most - half + 1)
        halves.append(data.clip(song, clip)[start : start + half])
    if asked.empty:
        return asked.assign(rank=0)
    stored = encoders.embed(encoder, centres(data, range(len(data.length)), duration_max))
    scores = encoders.embed(encoder, halves) @ stored.T
    true = scores[asked.index, asked.song]
    return asked.assign(rank=(scores >= true[:, None]).sum(axis=1) - 1)


def overlaps(encoder, data, held_out, duration_max, seed=0) -> pd.DataFrame:
    """How near a crop lies to its original, by how much they share.

    A crop of each degraded version of the held-out songs, placed as in training, but of lengths
    uniform up to the whole. Columns song, clip, overlap (share of the original's centre, 0 to 1),
    cosine with that centre, and others: the mean cosine with the other held-out songs' centres.
    """
    rng, asked = np.random.default_rng([seed, OVERLAPS]), _degraded(data, held_out)
    if asked.empty:
        return asked.assign(overlap=0.0, cosine=0.0, others=0.0)
    at = tuple(asked.to_numpy().T)  # songs, clips
    crop = crops.draw(rng, data.length[at], np.zeros(len(asked), bool), duration_max, power=1)
    stored = encoders.embed(encoder, centres(data, held_out, duration_max))
    cosine = encoders.embed_runs(encoder, data.frames, data.first[at] + crop.start,
                                 crop.length) @ stored.T
    own = np.asarray(held_out) == asked.song.to_numpy()[:, None]
    return asked.assign(overlap=crop.share, cosine=cosine[own], others=(
        cosine.sum(axis=1) - cosine[own]) / max(len(held_out) - 1, 1))


def _degraded(data, songs):
    """Song and clip of every degraded version of some songs."""
    song, clip = np.nonzero(data.length[songs, 1:])
    return pd.DataFrame({"song": np.asarray(songs)[song], "clip": clip + 1})


def centres(data, songs, duration_max) -> list:
    """Centre frames of songs' originals, arrays (C, 128)."""
    at = [crops.centre(data.length[song, 0], crops.PADDED_FRAMES[duration_max]) for song in songs]
    return [data.clip(song, 0)[mid : mid + most] for song, (mid, most) in zip(songs, at)]
