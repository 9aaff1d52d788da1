"""More distractors than there are: songs modelled on real ones.

A real song is mirrored: about the mean of all frames, in the directions of their covariance, each
coordinate keeps its sign or changes it, the same way for all frames of the song. What comes out
sounds like nothing, yet it is spread as real frames are, and moves from frame to frame as real
music does. `scale.confusable` tells whether queries take it for an answer as often as real music.
"""

import numpy as np

from amg.retrieval.databases import Database

BLOCK = 4096  # segments that are modelled at once


class Mirror:
    """Songs made of real ones, float32 (T, 128) -> (T, 128), rows of unit norm."""

    def __init__(self, frames):
        """frames: float32 (N, 128), the distractors."""
        self.mean = frames.mean(axis=0)
        self.axes = np.linalg.eigh(np.cov(frames.T))[1].astype(np.float32)

    def __call__(self, song, signs) -> np.ndarray:
        """signs: -1 or 1, (128,) for all frames of a song, or as many rows as it has."""
        mirrored = ((song - self.mean) @ self.axes * signs) @ self.axes.T + self.mean
        return mirrored / np.linalg.norm(mirrored, axis=-1, keepdims=True)


def signs(song, copy, seed=0) -> np.ndarray:
    """Those of a copy of a distractor, float32 (128,); they follow from (seed, copy, song)."""
    return np.random.default_rng([seed, copy, song]).choice(np.float32([-1, 1]), 128)


def grown(database, n_frames, seed=0) -> Database:
    """The database with modelled distractors before its own, of about `n_frames` in all."""
    mirror, songs = Mirror(database.distractors), database.sequences.songs()
    missing, copy, modelled = n_frames - len(database.sequences.frames), 0, []
    while missing > 0:
        for song in range(database.first_test):
            if missing > 0:
                modelled.append(mirror(songs[song], signs(song, copy, seed)))
                missing -= len(songs[song])
        copy += 1
    names = [f"modelled {i}" for i in range(len(modelled))]
    first_test, recordings = len(names) + database.first_test, names + database.recordings
    return Database.of(modelled + songs, first_test, names + database.names, recordings)


def blocks(database, segments, n_segments, seed=0):
    """Frames of `n_segments` segments of modelled songs, in blocks, float32 (n, length, 128)."""
    mirror, n_real = Mirror(database.distractors), np.sum(segments.song < database.first_test)
    for low in range(0, n_segments, BLOCK):
        number = np.arange(low, min(low + BLOCK, n_segments))
        copy, of = number // n_real, number % n_real
        frames = database.sequences.frames[segments.start[of, None] + np.arange(segments.length)]
        each = np.stack([signs(*key, seed) for key in zip(segments.song[of], copy)])
        yield mirror(frames, each[:, None])
