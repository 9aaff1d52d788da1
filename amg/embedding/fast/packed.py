"""Faster ways to the same vectors: no padding is computed, which is three quarters of a batch.

Sequences come packed: `frames` (N, 128) holds one after the other, `length` int (B,) counts the
frames of each. Those of equal length should be neighbours, for their means are taken together.

A class names its function here as its attribute `packed`; tests hold it to its own `forward`.
"""

import itertools

import numpy as np
import torch
from torch.nn import functional as F


def transformer(encoder, frames, length) -> torch.Tensor:
    """`encoders.transformer.Transformer`: frames (N, 128), length (B,) -> (B, 128), unit rows.

    Short sequences share a row of a batch, in which each frame attends to its own sequence alone.
    Layer by layer what torch's layers compute, from their own weights: the norms come after the
    sums, as in the paper, or before attention and feed-forward, as the layers have it.
    """
    place, mask = in_rows(length, frames.device)
    x = encoder.linear1(frames)  # (N, width)
    x = x.new_zeros(mask.shape[0] * mask.shape[1], x.shape[1]).index_copy(0, place, x)
    for layer in encoder.encoder.layers:
        if layer.norm_first:
            x = attended(layer, layer.norm1(x), mask).add_(x)
            x = fed_forward(layer, layer.norm2(x)).add_(x)
        else:
            x = layer.norm1(attended(layer, x, mask).add_(x))
            x = layer.norm2(fed_forward(layer, x).add_(x))
    if encoder.encoder.norm is not None:
        x = encoder.encoder.norm(x)
    return F.normalize(encoder.linear2(means(x.index_select(0, place), length)))


def attended(layer, x, mask) -> torch.Tensor:
    """Attention and its dropout, of a torch.nn.TransformerEncoderLayer: (R * L, width).

    Sums and ReLU go where their terms were: new memory would cost as much time as they do.
    """
    attention, p = layer.self_attn, layer.dropout.p if layer.training else 0.0
    qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    return dropout(attention.out_proj(attend(qkv, mask, attention.num_heads, p)), p)


def fed_forward(layer, x) -> torch.Tensor:
    """The feed-forward half of such a layer, with its dropout: (R * L, width)."""
    p = layer.dropout.p if layer.training else 0.0
    return dropout(layer.linear2(dropout(layer.linear1(x).relu_(), p)), p)


def mean(encoder, frames, length) -> torch.Tensor:
    """`encoders.mean.Mean`: frames (N, 128), length (B,) -> (B, 128), unit rows."""
    return F.normalize(means(frames, length))


def means(x, length) -> torch.Tensor:
    """Mean of each sequence: (N, D) -> (B, D)."""
    runs = [(n, sum(1 for _ in same)) for n, same in itertools.groupby(length.tolist())]
    parts = x.split([n * many for n, many in runs])
    return torch.cat([part.unflatten(0, (-1, n)).mean(1) for part, (n, _) in zip(parts, runs)])


def in_rows(length, device) -> tuple:
    """Sequences in rows (R) as long as the longest of them (L), as `first_fit` puts them.

    Returns where each frame goes, int64 (N,), below R * L; and what is added to the products of
    two places of a row, (R, L, L): 0 within a sequence, minus infinity between two.
    """
    first, n_rows = first_fit(length)
    place = np.repeat(first - np.cumsum(length) + length, length) + np.arange(length.sum())
    of = np.full((n_rows, length.max()), -1)  # nobody's places attend to each other
    of.flat[place] = np.repeat(np.arange(len(length)), length)
    of = torch.from_numpy(of).to(device)
    apart = of[:, :, None] != of[:, None]
    mask = torch.zeros(apart.shape, device=device).masked_fill_(apart, -torch.inf)
    return torch.from_numpy(place).to(device), mask


def first_fit(length) -> tuple:
    """Where each sequence begins, int (B,), in rows that short ones share; and how many rows there
    are. The longest comes first, each into a row that has room for it."""
    most, n_rows, left = int(length.max()), 0, {}  # left: row -> places that are free in it
    first = np.empty_like(length)
    for sequence in np.argsort(-length, kind="stable"):
        n = int(length[sequence])
        row = next((row for row, free in left.items() if free >= n), n_rows)
        n_rows = max(n_rows, row + 1)
        free = left.pop(row, most)
        first[sequence] = (row + 1) * most - free
        if free > n:
            left[row] = free - n
    return first, n_rows


def attend(qkv, mask, heads, p) -> torch.Tensor:
    """Scaled dot-product attention within rows, with dropout `p` on its weights.

    qkv (R * L, 3 * width): queries, keys and values of all places, of all heads; mask (R, L, L) is
    added to their products. Returns (R * L, width).
    """
    n_rows, length, _ = mask.shape
    mask = mask.to(qkv.dtype)[:, None]
    q, k, v = qkv.view(n_rows, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    if p:  # torch's, in one piece, would draw value by value
        weights = (q @ k.mT * q.shape[-1] ** -0.5 + mask).softmax(-1)
        seen = dropout(weights, p) @ v
    else:
        seen = F.scaled_dot_product_attention(q, k, v, mask)
    return seen.transpose(1, 2).reshape(len(qkv), -1)


def dropout(x, p) -> torch.Tensor:
    """Zero each value with probability `p` (to 1/65536) and scale the others by 1 / (1 - p)."""
    if not p or x.is_cuda:
        return F.dropout(x, p)
    return x * kept(x.numel(), p).view_as(x)


def kept(n, p) -> torch.Tensor:
    """0 with probability `p` and 1 / (1 - p) otherwise, float32 (n,), on the CPU."""
    # torch draws value by value; here 64 bits make four, from a seed of torch's generator
    bits = np.random.SFC64(int(torch.randint(2**62, ()))).random_raw(-(-n // 4))
    drawn = torch.from_numpy(bits.view(np.int16)[:n])
    return torch.ge(drawn, round(p * 2**16) - 2**15, out=torch.empty(n)).mul_(1 / (1 - p))
