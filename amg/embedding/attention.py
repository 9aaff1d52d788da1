"""Self-attention within packed sequences (see `encoders`), and dropout; both fit for CPUs.

Sequences of equal length lie together: a *run* is (frames in all, length of each).
"""

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def attend(qkv, runs, heads, p):
    """Scaled dot-product attention within each sequence, with dropout `p` on its weights.

    qkv (N, 3 * width): queries, keys and values of all frames, of all heads -> (N, width).
    """
    if p and not qkv.is_cuda:  # torch has no fused kernel for it on CPUs
        return DroppedAttention.apply(qkv, runs, heads, p)
    seen = [F.scaled_dot_product_attention(*by_head(part, n, heads, 3), dropout_p=p)
            .transpose(1, 2).flatten(0, 1).flatten(1) for part, n in split(qkv, runs)]
    return seen[0] if len(seen) == 1 else torch.cat(seen)


class DroppedAttention(torch.autograd.Function):
    """`attend` from batched products, with the gradient that torch would find.

    Written out, every run reads its rows from one table and writes them to one table, so that
    nothing is cut up and laid together again.
    """

    @staticmethod
    def forward(ctx, qkv, runs, heads, p):
        out, saved = qkv.new_empty(len(qkv), qkv.shape[1] // 3), []
        sizes = [total * n * heads for total, n in runs]
        for (part, n), (to, _), mask in zip(split(qkv, runs), split(out, runs),
                                            kept(sum(sizes), p).split(sizes)):
            q, k, v = q_k_v = by_head(part, n, heads, 3).flatten(1, 2)  # (B * heads, n, D) each
            weights = _product(q, k.mT, q.shape[-1] ** -0.5).softmax(-1)
            mask = mask.view_as(weights)
            by_head(to, n, heads)[0] = (weights * mask @ v).unflatten(0, (-1, heads))
            saved += [q_k_v, weights, mask]
        ctx.save_for_backward(out, *saved)
        ctx.runs, ctx.heads = runs, heads
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        heads, (out, *saved) = ctx.heads, ctx.saved_tensors
        of_qkv = gradient.new_empty(len(out), 3 * out.shape[1])
        # what the softmax takes off each row, sum_j weights_ij gradient_ij, equals gradient_i . out_i
        off = (gradient * out).unflatten(1, (heads, -1)).sum(-1)
        for (part, n), (less, _), (to, _), q_k_v, weights, mask in zip(
                *(split(table, ctx.runs) for table in (gradient, off, of_qkv)),
                saved[::3], saved[1::3], saved[2::3]):
            (q, k, v), scale = q_k_v, q_k_v.shape[-1] ** -0.5
            g, less = (by_head(rows, n, heads)[0].flatten(0, 1) for rows in (part, less))
            of_logits = (g @ v.mT).mul_(mask).sub_(less).mul_(weights)
            found = torch.stack([_product(of_logits, k, scale), _product(of_logits.mT, q, scale),
                                 (weights * mask).mT @ g])
            by_head(to, n, heads, 3).copy_(found.unflatten(1, (-1, heads)))
        return of_qkv, None, None, None


def by_head(rows, n, heads, parts=1):
    """View of rows (B * n, parts * heads * D) as (parts, B, heads, n, D)."""
    return rows.view(-1, n, parts, heads, rows.shape[1] // (parts * heads)).permute(2, 0, 3, 1, 4)


def split(x, runs):
    """Pairs of (rows of a run, length of its sequences)."""
    return zip(x.split([total for total, _ in runs]), (n for _, n in runs))


def _product(a, b, scale):
    """scale * a @ b, batched."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale)


def dropout(x, p):
    """Zero each value with probability `p` (to 1/65536) and scale the others by 1 / (1 - p)."""
    if not p or x.is_cuda:
        return F.dropout(x, p)
    return x * kept(x.numel(), p).view_as(x)


def kept(n, p):
    """0 with probability `p` and 1 / (1 - p) otherwise, float32 (n,), on the CPU.

    On many CPUs torch draws value by value in one thread. NumPy draws 64 bits for four values, from
    a seed of torch's generator.
    """
    bits = np.random.SFC64(int(torch.randint(2**62, ()))).random_raw(-(-n // 4))
    drawn = torch.from_numpy(bits.view(np.int16)[:n])
    return torch.ge(drawn, round(p * 2**16) - 2**15, out=torch.empty(n)).mul_(1 / (1 - p))
