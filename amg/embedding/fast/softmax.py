"""The sum of a softmax over very many classes, block by block; `losses.arcface` has it plainly."""

import math

import torch
from torch.autograd.function import once_differentiable

# classes from which blocks pay: `make bench` compares both ways; with few the plain one is faster
MANY = 10_000
BLOCK = 2**21  # logits that are held at once


class OtherClasses(torch.autograd.Function):
    """log of the sum of exp(scale * x . c) over all centres c but the true one, (B,), of x (B, D),
    centres (n_classes, D), label int64 (B,) and scale.

    Forward and backward take the centres block by block: a table of all cosines, and the others
    that its gradient needs, would grow with the number of classes.
    """

    @staticmethod
    def blocks(x, centres, label, scale):
        """Pairs of (slice of the classes, logits of x for them with the true class at -inf)."""
        width = max(1, BLOCK // len(x))
        for begin in range(0, len(centres), width):
            part = centres[begin : begin + width]
            logits = (scale * x) @ part.T
            # by a mask, not by indices: to count those, a GPU would have to be waited for
            column = (label - begin).clamp(0, len(part) - 1)[:, None]
            here = column == (label - begin)[:, None]
            logits.scatter_(1, column, logits.gather(1, column).masked_fill(here, -math.inf))
            yield slice(begin, begin + width), logits

    @staticmethod
    def forward(ctx, x, centres, label, scale):
        blocks = OtherClasses.blocks(x, centres, label, scale)
        total = torch.stack([logits.logsumexp(1) for _, logits in blocks]).logsumexp(0)
        ctx.save_for_backward(x, centres, label, total)
        ctx.scale = scale
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, centres, label, total = ctx.saved_tensors
        by_row = ctx.scale * gradient[:, None]
        of_x, of_centres, weighted = torch.zeros_like(x), torch.empty_like(centres), by_row * x
        for part, logits in OtherClasses.blocks(x, centres, label, ctx.scale):
            share = logits.sub_(total[:, None]).exp_()  # of the softmax, (B, classes)
            of_x.addmm_(share, centres[part])
            of_centres[part] = share.T @ weighted
        return by_row * of_x, of_centres, None, None
