"""Fast equals of encoders: the same vectors without computing padding.

Sequences come packed: `frames` (N, 128) holds one after the other, `length` int (B,) counts the
frames of each, N = length.sum(). Crops average a quarter of the padded input, so that three
quarters of a padded batch would be computed for nothing. Sequences of equal length should be
neighbours: they share matrix products. A *run* is such neighbours: (frames in all, length of each).

A class names its equal as its attribute `packed`; tests hold it to the class's own `forward`.
"""

import itertools

import torch
from torch.nn import functional as F

from amg.embedding.attention import attend, dropout, split


def transformer(encoder, frames, length):
    """`encoders.transformer.Transformer`: frames (N, 128), length (B,) -> (B, 128), unit rows.

    Layer by layer what torch's post-norm layers compute, from their own weights. Sums and ReLU go
    where their terms were: new memory would cost as much time as they do.
    """
    runs = runs_of(length)
    x = encoder.linear1(frames)  # (N, width)
    for layer in encoder.encoder.layers:
        attention, p = layer.self_attn, layer.dropout.p if layer.training else 0.0
        qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        seen = attention.out_proj(attend(qkv, runs, attention.num_heads, p))
        x = layer.norm1(dropout(seen, p).add_(x))
        hidden = dropout(layer.linear1(x).relu_(), p)
        x = layer.norm2(dropout(layer.linear2(hidden), p).add_(x))
    return F.normalize(encoder.linear2(means(x, runs)))


def mean(encoder, frames, length):
    """`encoders.mean.Mean`: frames (N, 128), length (B,) -> (B, 128), unit rows."""
    return F.normalize(means(frames, runs_of(length)))


def means(x, runs):
    """Mean of each sequence: (N, D) -> (B, D)."""
    return torch.cat([part.unflatten(0, (-1, n)).mean(1) for part, n in split(x, runs)])


def runs_of(length):
    """Neighbouring sequences of equal length: a list of (frames in all, length of each)."""
    return [(n * sum(1 for _ in same), n) for n, same in itertools.groupby(length.tolist())]
