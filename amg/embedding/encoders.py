"""The AMG encoders: sequences of fingerprints -> unit vectors (B, 128).

Sequences come packed: `frames` (N, 128) holds one after the other, `length` (B,) counts the
frames of each, N = length.sum(). No encoder computes padding, save the CNN, which was published
that way. Sequences of equal length should be neighbours: they share matrix products.
Parameter names of the first two are those of the published checkpoints.
"""

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from amg.embedding import crops, densenet
from amg.embedding.attention import attend, dropout, split
from amg.fingerprint.nafp import DIM


class Transformer(nn.Module):
    """`mt`: post-norm Transformer without positional encoding, mean over the frames."""

    whole_batch = False

    def __init__(self, layers=10, width=256, heads=8, feedforward=256, dropout=0.1):
        super().__init__()
        self.linear1 = nn.Linear(DIM, width)
        # holds the weights under their published names; `forward` computes without padding
        layer = nn.TransformerEncoderLayer(width, heads, feedforward, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.linear2 = nn.Linear(width, DIM)
        self.heads, self.dropout = heads, dropout

    def forward(self, frames, length):
        runs = _runs(length)
        p = self.dropout if self.training else 0.0
        x = self.linear1(frames)  # (N, width)
        for layer in self.encoder.layers:
            attention = layer.self_attn
            qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
            seen = attention.out_proj(attend(qkv, runs, self.heads, p))
            x = layer.norm1(x + dropout(seen, p))
            hidden = dropout(F.relu(layer.linear1(x)), p)
            x = layer.norm2(x + dropout(layer.linear2(hidden), p))
        return F.normalize(self.linear2(_means(x, runs)))


class LSTM(nn.Module):
    """`mlstm`: bidirectional LSTM, output at the last frame."""

    whole_batch = False

    def __init__(self, layers=8, hidden=256, dropout=0.1):
        super().__init__()
        self.lstm = nn.LSTM(DIM, hidden, layers, batch_first=True, bidirectional=True,
                            dropout=dropout if layers > 1 else 0.0)  # it lies between layers
        self.fc = nn.Linear(2 * hidden, DIM)

    def forward(self, frames, length):
        # packed, so that the backward direction begins at the last frame, not in padding
        packed = nn.utils.rnn.pack_sequence(frames.split(length.tolist()), enforce_sorted=False)
        output, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return F.normalize(self.fc(output[torch.arange(len(length)), torch.from_numpy(length) - 1]))


class CNN(nn.Module):
    """`mcnn`: DenseNet-121 on the whole input of `padded_frames`, zeros included."""

    whole_batch = True  # batch normalisation: its statistics are those of the whole batch

    def __init__(self, padded_frames):
        super().__init__()
        self.padded_frames = padded_frames
        self.conv = nn.Conv2d(1, 3, 1)
        self.densenet = densenet.DenseNet121()
        self.fc = nn.Linear(1000, DIM)

    def forward(self, frames, length):
        padded = frames.new_zeros(len(length), self.padded_frames, DIM)
        padded[torch.arange(self.padded_frames) < torch.from_numpy(length)[:, None]] = frames
        image = F.interpolate(self.conv(padded[:, None]), (32, DIM), mode="bilinear")
        return F.normalize(self.fc(self.densenet(image)))


class Mean(nn.Module):
    """`mean`: the normalised mean of the frames; nothing to train, the baseline to beat."""

    def forward(self, frames, length):
        return F.normalize(_means(frames, _runs(length)))


TRAINABLE = ("mt", "mlstm", "mcnn")


def build(name, duration_max, layers, dropout):
    """A fresh encoder of TRAINABLE; DenseNet-121 has layers and dropout of its own."""
    if name == "mcnn":
        return CNN(crops.PADDED_FRAMES[duration_max])
    return {"mt": Transformer, "mlstm": LSTM}[name](layers=layers, dropout=dropout)


def embed(encoder, clips):
    """Embed fingerprint arrays, list of (L_i, 128) -> float32 (n, 128), unit rows."""
    length = np.array([len(clip) for clip in clips])
    return embed_runs(encoder, np.concatenate(clips), np.cumsum(length) - length, length)


@torch.inference_mode()
def embed_runs(encoder, frames, first, length, max_frames=8192):
    """Embed many runs of rows: run i is frames[first[i] : first[i] + length[i]].

    frames float32 (N, 128); first and length int (n,); returns float32 (n, 128), unit rows.
    Batches hold about `max_frames` frames, of runs of like length.
    """
    encoder.eval()
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    vectors = np.empty((len(length), DIM), dtype=np.float32)
    for group in crops.micro_batches(length, max_frames):
        batch = torch.from_numpy(frames[crops.rows_of(first[group], length[group])])
        vectors[group] = encoder(batch.to(device), length[group]).cpu().numpy()
    return vectors


def _runs(length):
    """Consecutive sequences of equal length: a list of (frames in all, length of each)."""
    return [(n * sum(1 for _ in same), n) for n, same in itertools.groupby(length.tolist())]


def _means(x, runs):
    """Mean of each sequence: (N, D) -> (B, D)."""
    return torch.cat([part.unflatten(0, (-1, n)).mean(1) for part, n in split(x, runs)])
