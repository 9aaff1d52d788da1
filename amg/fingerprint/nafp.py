"""The fingerprinter: Neural Audio Fingerprint (NAFP, arXiv 2010.11910), sec. 3.

1 s of audio -> log-mel -> 8 separable convolution blocks -> divide-and-encode -> a 128-d unit
vector. `FULL` is the published network. `LITE`, whose weights the kit ships, is for CPUs: half the
mels, an eighth to half of the width, narrowest where maps are large and channels cost most.
"""

import itertools
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from amg import checkpoint
from amg.check import InputError
from amg.sound import audio

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
        x = self.norm1(F.elu(convolve(self.over_time, x)))  # (B, C, F, T')
        return self.norm2(F.elu(convolve(self.over_freq, x)))  # (B, C, F/2, T')


def convolve(layer, x) -> torch.Tensor:
    """What a convolution makes of x (B, C, F, T), without its taps that meet padding alone.

    They add nothing, but in bfloat16 PyTorch 2.13 gets them wrong on CPUs with AMX.
    """
    weight, padding = layer.weight, list(layer.padding)
    for axis in (-2, -1):
        n = x.shape[axis]
        if padding[axis] and n <= layer.stride[axis]:  # a single row, or column, comes out
            weight, padding[axis] = weight.narrow(axis, 1, n), 0
    return F.conv2d(x, weight, layer.bias, layer.stride, padding)


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


@torch.inference_mode()
def extract_all(encoder, recordings, hop=audio.HOP) -> Iterator[np.ndarray]:
    """Fingerprint recordings that come in blocks; yields float32 (T, dimension) for each, in order.

    encoder: a module (B, 8000) -> (B, dimension), on any device; recordings: iterable of iterables
    of consecutive sample blocks, as from `audio.blocks`; hop: samples from one window to the next.
    A batch takes windows from one recording after the other, and blocks are asked for when their
    windows are due. Each window has an STFT of its own: the hop of 4000 samples is no multiple of
    the STFT's 256. Raises InputError for a recording shorter than 1 s.
    """
    windows = (
        (number, window)
        for number, blocks in enumerate(recordings)
        for part in audio.frames(blocks, hop)
        for window in part
    )
    for _, rows in itertools.groupby(_encoded(encoder, windows), operator.itemgetter(0)):
        vectors = bytearray()  # grows in place; small arrays leave holes between freed batches
        for _, row in rows:
            vectors += row.tobytes()
        yield np.frombuffer(vectors, np.float32).reshape(-1, encoder.dimension)


def _encoded(encoder, windows):
    """(number, window) -> (number, vector), in batches."""
    device = next(itertools.chain(encoder.parameters(), encoder.buffers())).device
    size = BATCH if device.type == "cpu" else GPU_BATCH
    while batch := list(itertools.islice(windows, size)):
        numbers, sounds = zip(*batch)
        vectors = encoder(torch.from_numpy(np.stack(sounds)).to(device))
        yield from zip(numbers, vectors.cpu().numpy())


class NAFP(nn.Module):
    """1 s windows (B, 8000) -> unit vectors (B, 128)."""

    dimension, hop, window = DIM, audio.HOP, audio.WINDOW

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

    extract = extract_all  # (recordings, hop)


def extract(encoder, samples) -> np.ndarray:
    """A clip, float32 (n_samples,) at 8 kHz -> float32 (2 * seconds - 1, dimension), unit rows."""
    return next(extract_all(encoder, [[samples]]))


def shipped(name="lite") -> Path:
    """Path of the shipped weights of that name; their model card is the .json beside it."""
    return Path(__file__).parents[1] / "weights" / f"nafp_{name}.safetensors"


def load(path=None, device="cpu") -> NAFP:
    """Load a fingerprinter (default: the shipped lite one) on a device, ready for `extract`.

    Raises InputError if the file is damaged or is not the one its model card describes.
    """
    path = Path(path or shipped())
    if not path.is_file():
        raise InputError(
            f"{path} is missing; run notebook 00_fingerprinter to train weights, "
            "or leave the parameter `fingerprinter` empty for the shipped ones."
        )
    tensors, record = checkpoint.load(path)
    weights = {name: tensor.float() for name, tensor in checkpoint.part("model", tensors).items()}
    try:
        encoder = NAFP(CONFIGS[record["size"]])
        if "whitening.matrix" in weights:
            encoder.whitening = Whitening()
        encoder.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError):
        raise InputError(
            f"{path} is not a NAFP checkpoint of this version; give one that notebook "
            "00_fingerprinter wrote, or train again with it."
        ) from None
    return encoder.to(device).eval()
