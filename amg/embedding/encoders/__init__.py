"""Encoders, fingerprints -> one unit vector: torch modules that have a name (see `registry`).

`forward(x, padding)`: (B, L, 128), bool (B, L) -> (B, 128), unit rows; `padding` is True at what
fills a sequence up to L frames, the longest of the batch. An argument `padded_frames` of the
constructor, without default, is given the longest training input, M.

An encoder with an attribute `dimension` gives vectors of that many values instead of 128; one with
a method `prepare` changes fingerprints first, and that of frames, float32 (..., 128), is what class
centres begin from.

One with an attribute `bits`, D, gives (B, D), of which only the signs are kept: D bits for a
vector, which stand for the unit vector +-1 / sqrt(D). One with an attribute `trained`, False, needs
no training; if it has a method `fit`, that is given frames of other music, float32 (N, 128).
"""

import hashlib
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from amg import files
from amg.check import InputError
from amg.embedding import crops
from amg.embedding.encoders import cnn, lift, lstm, transformer  # noqa: F401 each registers its class
from amg.embedding.encoders.mean import Mean  # noqa: F401 a name for notebooks
from amg.embedding.registry import encoders as registry
from amg.fingerprint.nafp import DIM

BATCH_FRAMES = {"cpu": 512, "cuda": 8192}  # what a core's cache holds, and what keeps a GPU busy

register = registry.register


def build(config) -> nn.Module:
    """A fresh encoder of a `runs.Config`."""
    padded = crops.PADDED_FRAMES[config.duration_max]
    return registry.build(config.encoder, config.settings, padded_frames=lambda: padded)


def needs_training(name) -> bool:
    """Whether an encoder has to go through notebook 03; InputError for a name that is not known."""
    return getattr(registry[registry.canonical(name)], "trained", True)


def untrained(name, frames) -> nn.Module:
    """An encoder that needs no training, fitted to frames of other music, float32 (N, 128);
    InputError for one that needs it."""
    if needs_training(name):
        raise InputError(f"the encoder {name} has to be trained; run notebook 03_train with it.")
    encoder = registry.build(name, {})
    if hasattr(encoder, "fit"):
        encoder.fit(frames)
    return encoder.eval()


def digest(encoder) -> str:
    """What tells an encoder from others: its class, weights and buffers."""
    state = {name: of.numpy(force=True).tobytes() for name, of in encoder.state_dict().items()}
    hashed = {name: hashlib.sha256(raw).hexdigest() for name, raw in state.items()}
    return files.digest([type(encoder).__name__, hashed])


def embed(encoder, clips) -> np.ndarray:
    """Embed fingerprint arrays, list of (L_i, 128) -> vectors as `embed_runs`."""
    length = np.array([len(clip) for clip in clips])
    return embed_runs(encoder, np.concatenate(clips), np.cumsum(length) - length, length)


def embed_runs(encoder, frames, first, length) -> np.ndarray:
    """Embed runs of rows, frames[first[i] : first[i] + length[i]], of any number.

    frames float32 (N, 128); first and length int (n,); returns float32 (n, 128 or its dimension),
    unit rows, or the packed bits, uint8 (n, bits / 8), of an encoder that has such.
    """
    encoder.eval()
    device = next(itertools.chain(encoder.parameters(), encoder.buffers()), torch.empty(0)).device
    bits = getattr(encoder, "bits", 0)
    width = bits // 8 or getattr(encoder, "dimension", DIM)
    vectors = np.empty((len(length), width), np.uint8 if bits else np.float32)

    @torch.inference_mode()
    def embed_batch(rows):
        embedded = forward(encoder, frames, first[rows], length[rows], device).cpu().numpy()
        vectors[rows] = np.packbits(embedded > 0, axis=1) if bits else embedded

    groups = crops.micro_batches(length, BATCH_FRAMES[device.type]) if len(length) else []
    if device.type == "cuda" or len(groups) <= 1:
        for rows in groups:
            embed_batch(rows)
        return vectors
    # a batch on each core: if all shared each batch, they would wait after every product
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(embed_batch, groups))  # raises what a call raised
    finally:
        torch.set_num_threads(threads)
    return vectors


def floats(vectors) -> np.ndarray:
    """The unit vectors, float32 (n, D), that vectors of `embed_runs` stand for."""
    if vectors.dtype != np.uint8:
        return vectors
    signs = 2 * np.unpackbits(vectors, axis=1).astype(np.float32) - 1
    return signs / np.sqrt(signs.shape[1], dtype=np.float32)


def forward(encoder, frames, first, length, device="cpu") -> torch.Tensor:
    """Vectors (n, 128) of a batch of runs of rows, as `embed_runs`; gradients can be taken.

    By the encoder's `packed` equal, if its very class has one: a subclass may compute otherwise.
    """
    within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    x = torch.from_numpy(frames[np.repeat(first, length) + within])  # (length.sum(), 128)
    if torch.device(device).type == "cuda":
        x = x.pin_memory().to(device, non_blocking=True)
    if "packed" in vars(type(encoder)):
        return encoder.packed(x, length)
    return encoder(*pad(x, length))


def pad(frames, length) -> tuple[torch.Tensor, torch.Tensor]:
    """Side by side: frames (N, 128), length int (B,) -> x (B, L, 128) and padding bool (B, L)."""
    padding = torch.from_numpy(np.arange(length.max()) >= length[:, None]).to(frames.device)
    x = frames.new_zeros(*padding.shape, frames.shape[1])
    return x.masked_scatter_(~padding[..., None], frames), padding
