"""The songs that a training learns from, those that it holds out, and what is a class of them."""

import numpy as np
import torch
from torch.nn import functional as F

from amg import check, paths, provenance
from amg.check import InputError
from amg.embedding import batches, validation
from amg.fingerprint import features
from amg.fingerprint.nafp import DIM


def split(config, data, train_set) -> tuple[np.ndarray, np.ndarray]:
    """Songs to train on, and the last `n_valid`, which are held out: int arrays."""
    n_songs = len(data.length)
    folder = paths.resolve(f"data/train/{train_set}")
    record = provenance.find(folder, "01_data_prep").record if folder.is_dir() else {}
    stated = record.get("parameters", {}).get("n_valid", config.n_valid)
    if config.n_valid != stated:
        raise InputError(
            f"n_valid is {config.n_valid}, but the last {stated} songs of {train_set} "
            f"were made for validation; set n_valid to {stated}."
        )
    if config.n_valid >= n_songs - 1:
        raise InputError(
            f"n_valid is {config.n_valid}, but the training set has only {n_songs} "
            "songs; keep at least 2 for training."
        )
    songs, held_out = np.split(np.arange(n_songs), [n_songs - config.n_valid])
    if config.batches != "classes" and not data.length[songs, 1:].any():
        raise InputError(
            f"the loss {config.loss} compares originals with degraded versions, but "
            "the training set has none."
        )
    return songs, held_out


def learnt(config, data) -> np.ndarray:
    """Frames of the clips that are learnt from, int (songs, 1 + versions), of a `TrainingSet`;
    InputError if it has fewer songs or versions than the config's `Variation` wants."""
    varied, length = config.variation, data.length[: len(data.length) - config.n_valid]
    n_songs, n_versions = len(length), length.shape[1] - 1
    check.integer("songs", varied.songs, 0, n_songs)
    check.integer("versions", varied.versions, 0, n_versions)
    return length[: varied.songs or n_songs, : 1 + (varied.versions or n_versions)]


def updates(config, data) -> int:
    """How many an epoch has, on a `TrainingSet`."""
    return batches.count(learnt(config, data), config.batch_size, config.batches)


def classes(config, train_set, n_songs) -> np.ndarray:
    """The class of each of the first songs of a training set, int64 (n_songs,)."""
    if config.variation.classes == "clip":
        return np.arange(n_songs)
    recordings = features.recordings(paths.resolve(f"data/train/{train_set}"), n_songs)[:n_songs]
    return np.unique(recordings, return_inverse=True)[1].astype(np.int64)


def first_centres(config, encoder, data, classes) -> torch.Tensor:
    """Where class centres begin, (n_classes, 128): at the mean of the mean fingerprints of their
    originals' centres, or at random. classes: as above, of the first songs of `data`."""
    n_classes, dimension = int(classes.max()) + 1, getattr(encoder, "dimension", DIM)
    if config.variation.centres == "random":
        return F.normalize(torch.randn(n_classes, dimension))
    check.one_of("the dimension of vectors whose centres are mean", dimension, (DIM,))
    prepare = getattr(encoder, "prepare", lambda frames: frames)
    places = zip(*validation.centres(data, np.arange(len(classes)), config.duration_max))
    means = torch.stack(
        [prepare(torch.tensor(data.frames[first : first + n])).mean(0) for first, n in places]
    )
    total = torch.zeros(n_classes, DIM).index_add_(0, torch.from_numpy(classes), means)
    return total / torch.from_numpy(np.bincount(classes))[:, None]
