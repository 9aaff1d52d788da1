"""What the benchmarks run on: random fingerprints, for their values do not matter for time."""

import numpy as np

from amg.embedding import crops
from amg.fingerprint import features
from amg.retrieval import databases

N_CLIPS = 10


def fingerprints(rng, n_frames):
    """Random unit rows."""
    return _unit(rng.standard_normal((n_frames, 128), dtype=np.float32))


def training_set(folder, n_songs=100):
    """A training set in the published layout."""
    rng = np.random.default_rng(0)
    for song in range(1, n_songs + 1):
        for clip in range(N_CLIPS):
            features.save(features.song_file(folder, song, clip), fingerprints(rng, 59))
    return folder


def many_songs(n_songs, workspace):
    """A training set of `n_songs` songs whose clips share 100,000 frames on disk: the largest set
    would need 30 GB."""
    file, n_frames = workspace / "shared.f32", 100_000
    if not file.exists():
        fingerprints(np.random.default_rng(0), n_frames).tofile(file)
    first = np.random.default_rng(1).integers(0, n_frames - 59, (n_songs, N_CLIPS))
    return features.TrainingSet(
        np.memmap(file, np.float32, "r").reshape(-1, 128),
        first,
        np.full((n_songs, N_CLIPS), 59),
        str(n_songs),
        [],
    )


def database(root, n_dummies=1500, n_tests=500, duration_max=10, noise=0.05):
    """A database in the published layout, split into segments; queries are its songs with noise."""
    rng = np.random.default_rng(0)
    for folder, n in ((databases.DUMMY, n_dummies), (databases.TEST, n_tests)):
        for i in range(n):
            song = fingerprints(rng, 59)
            features.save(root / folder / f"{i:05d}.npy", song)
            if folder == databases.TEST:
                query = _unit(song + noise * rng.standard_normal(song.shape, dtype=np.float32))
                features.save(root / databases.QUERY / f"{i:05d}.npy", query)
        pieces = databases.split_folder(root / folder, duration_max)
        databases.split_database(root / folder, pieces, crops.segment_frames(duration_max))
    return root


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
