"""Fast equals of encoders: the same vectors without computing padding, three quarters of a batch.

Sequences come packed: `frames` (N, 128) holds one after the other, `length` int (B,) counts the
frames of each. Those of equal length should be neighbours, for they share matrix products: such
neighbours are a *run*, (frames in all, length of each).

A class names its equal as its attribute `packed`; tests hold it to the class's own `forward`.
"""

import itertools

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def transformer(encoder, frames, length) -> torch.Tensor:
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


def mean(encoder, frames, length) -> torch.Tensor:
    """`encoders.mean.Mean`: frames (N, 128), length (B,) -> (B, 128), unit rows."""
    return F.normalize(means(frames, runs_of(length)))


def runs_of(length) -> list:
    """Lengths, int (B,), as runs of equal ones: (frames in the whole run, length)."""
    return [(n * sum(1 for _ in same), n) for n, same in itertools.groupby(length.tolist())]


def means(x, runs) -> torch.Tensor:
    """Mean of each sequence: (N, D) -> (B, D)."""
    parts = x.split([total for total, _ in runs])
    return torch.cat([part.unflatten(0, (-1, n)).mean(1) for part, (_, n) in zip(parts, runs)])


def attend(qkv, runs, heads, p) -> torch.Tensor:
    """Scaled dot-product attention within each sequence, with dropout `p` on its weights.

    qkv (N, 3 * width): queries, keys and values of all frames, of all heads -> (N, width).
    """
    if p and not qkv.is_cuda:  # torch has no fused kernel for it on CPUs
        return DroppedAttention.apply(qkv, runs, heads, p)
    seen = [
        F.scaled_dot_product_attention(*q_k_v, dropout_p=p).transpose(1, 2).flatten(0, 1)
        for q_k_v in by_head(qkv, runs, heads, 3)
    ]  # (frames of the run, heads, D) each
    return (seen[0] if len(seen) == 1 else torch.cat(seen)).flatten(1)


class DroppedAttention(torch.autograd.Function):
    """`attend` from batched products, with the gradient that torch would find, written out: every
    run reads from one table and writes to one table, nothing is cut up and laid together again."""

    @staticmethod
    def forward(ctx, qkv, runs, heads, p):
        out, saved = qkv.new_empty(len(qkv), qkv.shape[1] // 3), []
        sizes = [total * n * heads for total, n in runs]
        for q_k_v, to, mask in zip(
            by_head(qkv, runs, heads, 3),
            by_head(out, runs, heads),
            kept(sum(sizes), p).split(sizes),
        ):
            q, k, v = q_k_v = q_k_v.flatten(1, 2)  # (B * heads, n, D) each
            weights = _product(q, k.mT, q.shape[-1] ** -0.5).softmax(-1)
            mask = mask.view_as(weights)
            to[0] = (weights * mask @ v).unflatten(0, (-1, heads))
            saved += [q_k_v, weights, mask]
        ctx.save_for_backward(out, *saved)
        ctx.runs, ctx.heads = runs, heads
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        runs, heads, (out, *saved) = ctx.runs, ctx.heads, ctx.saved_tensors
        of_qkv = gradient.new_empty(len(out), 3 * out.shape[1])
        # what the softmax takes off each row, sum_j weights_ij gradient_ij, is gradient_i . out_i
        off = (gradient * out).unflatten(1, (heads, -1)).sum(-1)
        for g, less, to, q_k_v, weights, mask in zip(
            by_head(gradient, runs, heads),
            by_head(off, runs, heads),
            by_head(of_qkv, runs, heads, 3),
            saved[::3],
            saved[1::3],
            saved[2::3],
        ):
            (q, k, v), scale = q_k_v, q_k_v.shape[-1] ** -0.5
            g, less = g[0].flatten(0, 1), less[0].flatten(0, 1)
            of_logits = (g @ v.mT).mul_(mask).sub_(less).mul_(weights)
            found = torch.stack(
                [
                    _product(of_logits, k, scale),
                    _product(of_logits.mT, q, scale),
                    (weights * mask).mT @ g,
                ]
            )
            to.copy_(found.unflatten(1, (-1, heads)))
        return of_qkv, None, None, None


def by_head(table, runs, heads, parts=1) -> list:
    """Views of a table (N, parts * heads * D), one per run: (parts, B, heads, n, D)."""
    return [
        rows.view(-1, n, parts, heads, table.shape[1] // (parts * heads)).permute(2, 0, 3, 1, 4)
        for rows, (_, n) in zip(table.split([total for total, _ in runs]), runs)
    ]


def _product(a, b, scale):
    """scale * a @ b, batched."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale)


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
