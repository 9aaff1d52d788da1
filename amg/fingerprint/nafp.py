"""The fingerprinter: Neural Audio Fingerprint (NAFP, arXiv 2010.11910), sec. 3.

1 s of audio -> log-mel -> 8 separable convolution blocks -> divide-and-encode -> a 128-d unit
vector. `FULL` is the published network. `LITE`, whose weights the kit ships, is for CPUs: half the
mels, an eighth to half of the width, narrowest where maps are large and channels cost most.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from amg import checkpoint, files
from amg.sound import audio
from amg.check import InputError

DIM = 128  # values in a fingerprint
HIDDEN = 32  # units per slice of the divide-and-encode head
BATCH = 59  # windows per forward pass: 30 s; larger batches fall out of a CPU's cache
GPU_BATCH = 16 * BATCH


@dataclass(frozen=True)
class Config:
    """Size of the network. Each block halves frequency, and time where its stride is 2."""

    n_mels: int
    channels: tuple
    time_strides: tuple


FULL = Config(256, (128, 128, 256, 256, 512, 512, 1024, 1024), (1, 2, 2, 2, 1, 2, 1, 2))
LITE = Config(128, (16, 32, 64, 128, 192, 256, 384, 384), (2, 2, 2, 2, 1, 2, 1, 1))
CONFIGS = {"full": FULL, "lite": LITE}


class Block(nn.Module):
    """conv 1x3, ELU, layer norm, conv 3x1, ELU, layer norm; the norms span (C, F, T)."""

    def __init__(self, c_in, c_out, n_freq, n_time, time_stride):
        super().__init__()
        half_freq, n_time = -(-n_freq // 2), -(-n_time // time_stride)
        self.over_time = nn.Conv2d(c_in, c_out, (1, 3), (1, time_stride), padding=(0, 1))
        self.norm1 = nn.LayerNorm([c_out, n_freq, n_time])
        self.over_freq = nn.Conv2d(c_out, c_out, (3, 1), (2, 1), padding=(1, 0))
        self.norm2 = nn.LayerNorm([c_out, half_freq, n_time])
        self.out_shape = (c_out, half_freq, n_time)

    def forward(self, x):
        x = self.norm1(F.elu(self.over_time(x)))  # (B, C, F, T')
        return self.norm2(F.elu(self.over_freq(x)))  # (B, C, F/2, T')


class DivideAndEncode(nn.Module):
    """Cut the features in DIM slices; a small network of its own maps each to one value."""

    def __init__(self, n_features):
        super().__init__()
        width = n_features // DIM
        self.w1 = nn.Parameter(torch.randn(DIM, width, HIDDEN) / width**0.5)
        self.b1 = nn.Parameter(torch.zeros(DIM, HIDDEN))
        self.w2 = nn.Parameter(torch.randn(DIM, HIDDEN) / HIDDEN**0.5)
        self.b2 = nn.Parameter(torch.zeros(DIM))

    def forward(self, x):  # (B, n_features)
        slices = x.unflatten(1, (DIM, -1))  # (B, DIM, width)
        hidden = F.elu(torch.einsum("bdw,dwh->bdh", slices, self.w1) + self.b1)
        return (hidden * self.w2).sum(-1) + self.b2  # (B, DIM)


class Whitening(nn.Module):
    """Unit vectors -> unit vectors whose values are uncorrelated and of equal variance.

    Contrastive training leaves much of what tells sounds apart in directions of little variance,
    where an inner product does not see it.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(DIM))
        self.register_buffer("matrix", torch.eye(DIM))

    def fit(self, vectors, floor=1e-3) -> None:
        """Set it to the ZCA of float32 (N, 128); `floor` is added to the variances."""
        variance, axes = np.linalg.eigh(np.cov(vectors.T))
        matrix = axes / np.sqrt(variance + floor) @ axes.T
        self.mean.copy_(torch.from_numpy(vectors.mean(axis=0)))
        self.matrix.copy_(torch.from_numpy(matrix))

    def forward(self, vectors):
        return F.normalize((vectors - self.mean) @ self.matrix)


class NAFP(nn.Module):
    """1 s windows (B, 8000) -> unit vectors (B, 128)."""

    name, dimension, hop, window = "nafp", DIM, audio.HOP, audio.WINDOW

    def __init__(self, config=LITE):
        super().__init__()
        self.log_mel = audio.LogMel(config.n_mels)
        blocks, shape = [], (1, config.n_mels, audio.N_COLUMNS)
        for channels, stride in zip(config.channels, config.time_strides):
            blocks.append(Block(shape[0], channels, shape[1], shape[2], stride))
            shape = blocks[-1].out_shape
        self.blocks = nn.Sequential(*blocks)
        self.head = DivideAndEncode(shape[0] * shape[1] * shape[2])
        self.whitening = nn.Identity()  # a Whitening once the network is trained

    def forward(self, windows):
        return self.encode(self.log_mel(windows))

    def encode(self, spectrograms) -> torch.Tensor:
        """Log-mel (B, 1, n_mels, 32) -> unit vectors (B, 128)."""
        return self.whitening(F.normalize(self.head(self.blocks(spectrograms).flatten(1))))

    def extract(self, recordings, hop=audio.HOP) -> Iterator[np.ndarray]:
        """As `extract_all`."""
        return extract_all(self, recordings, hop)


def extract(encoder, samples) -> np.ndarray:
    """Fingerprint a clip: float32 (n_samples,) at 8 kHz -> float32 (T, dimension), unit rows.

    `T = 2 * seconds - 1`: one row for each 1 s window, every 0.5 s.
    """
    return next(extract_all(encoder, [[samples]]))


@torch.inference_mode()
def extract_all(encoder, recordings, hop=audio.HOP) -> Iterator[np.ndarray]:
    """Fingerprint recordings that come in blocks; yields float32 (T, dimension) for each, in order.

    encoder: a module (B, 8000) -> (B, dimension), on any device; recordings: iterable of iterables of
    consecutive sample blocks, as from `audio.blocks`; hop: samples from one window to the next. A
    batch takes windows from one recording after the other, so that short ones cost no more than long
    ones; no more than the windows of a block and of a batch are in memory. Each window has an STFT
    of its own: the usual hop of 4000 samples is no multiple of the STFT's 256, so that two windows
    share no column. Raises InputError for a recording shorter than 1 s.
    """
    device = next(itertools.chain(encoder.parameters(), encoder.buffers())).device
    batch = BATCH if device.type == "cpu" else GPU_BATCH
    done, held = [], []  # counts of finished recordings; windows to encode
    vectors = bytearray()  # grows in place; between small arrays, freed batches would leave holes
    size = encoder.dimension * np.dtype(np.float32).itemsize

    def encode(n_windows):
        windows = np.concatenate(held)
        held[:] = [windows[n_windows:]]
        found = encoder(torch.from_numpy(windows[:n_windows]).to(device))
        vectors.extend(found.cpu().numpy().data.cast("B"))

    def finished():
        while done and done[0] * size <= len(vectors):
            end = done.pop(0) * size
            yield np.frombuffer(vectors[:end], np.float32).reshape(-1, encoder.dimension)
            del vectors[:end]

    for blocks in recordings:
        n_windows = 0
        for windows in audio.frames(blocks, hop):
            held.append(windows)
            n_windows += len(windows)
            while sum(map(len, held)) >= batch:
                encode(batch)
        done.append(n_windows)
        yield from finished()
    if sum(map(len, held)):
        encode(None)
    yield from finished()


def shipped(name="lite") -> Path:
    """Path of the shipped weights of that name; their model card is the .json beside it."""
    return Path(__file__).parents[1] / "weights" / f"nafp_{name}.safetensors"


def load(path=None, device="cpu") -> NAFP:
    """Load a fingerprinter (default: the shipped lite one) on a device, ready for `extract`.

    Raises InputError if the file is damaged or is not the one its model card describes.
    """
    path = Path(path or shipped())
    if not path.is_file():
        raise InputError(f"{path} is missing; run notebook 00_fingerprinter to train weights, "
                         "or leave the parameter `fingerprinter` empty for the shipped ones.")
    card = path.with_suffix(".json")
    if card.exists() and (files.read_json(card) or {}).get("sha256") != files.sha256(path):
        raise InputError(f"{path} does not have the SHA-256 that {card.name} states; "
                         "restore both files from the repository.")
    tensors, record = checkpoint.load(path)
    size = str(record.get("size"))
    if size not in CONFIGS:
        raise InputError(f"{path} is not a NAFP checkpoint of this kit; "
                         "give one that notebook 00_fingerprinter wrote.")
    encoder = NAFP(CONFIGS[size])
    weights = {name: tensor.float() for name, tensor in checkpoint.part("model", tensors).items()}
    if "whitening.matrix" in weights:
        encoder.whitening = Whitening()
    try:
        encoder.load_state_dict(weights)
    except RuntimeError:
        raise InputError(f"{path} was trained for another network than the {size!r} one of "
                         "this version; train again with notebook 00_fingerprinter.") from None
    return encoder.to(device).eval()
