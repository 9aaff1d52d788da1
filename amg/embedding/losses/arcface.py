"""ArcFace (arXiv 1801.07698): softmax over all classes with an angular margin, one per sample."""

import math

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from amg.embedding import crops, registry

SCALE = 32.0
BLOCK = 2**21  # logits that are held at once


@registry.losses.register("arcface")
class ArcFace(nn.Module):
    """Every song is a class with a centre; the margin grows with a crop's overlap.

    scale: of the logits; margin_max, margin_min: at full overlap and at none, radians.
    """

    batches = "classes"
    limits = {"scale": (0, 1000), "margin_max": (0, 1.5), "margin_min": (0, 1.5)}

    def __init__(
        self, centres, scale=SCALE, margin_max=crops.MARGIN_MAX, margin_min=crops.MARGIN_MIN
    ):
        super().__init__()
        self.centres = nn.Parameter(centres)  # (n_songs, 128)
        self.scale, self.margin_max, self.margin_min = scale, margin_max, margin_min

    def forward(self, vectors, rows):
        margin = crops.margin(rows.overlap, self.margin_max, self.margin_min)
        return arcface(vectors, self.centres, rows.song, margin, self.scale).mean()


def arcface(embedding, centres, label, margin, scale=SCALE) -> torch.Tensor:
    """Cross-entropy per sample, (B,), of logits `scale * cosine`, the true class's `with_margin`.

    embedding (B, D) and centres (n_classes, D), at least two, are normalised here; label int64
    (B,); margin (B,) in radians.
    """
    embedding, centres = F.normalize(embedding), F.normalize(centres)
    true = scale * with_margin((embedding * centres[label]).sum(1), margin)
    return F.softplus(OtherClasses.apply(embedding, centres, label, scale) - true)


def with_margin(cosine, margin) -> torch.Tensor:
    """cos(theta) -> cos(theta + m) while theta + m < pi, and cos(theta) - m sin(pi - m) beyond."""
    sine = torch.sqrt(1.0 - cosine.square() + 1e-5)
    shifted = cosine * torch.cos(margin) - sine * torch.sin(margin)
    beyond = cosine - margin * torch.sin(math.pi - margin)
    return torch.where(cosine > torch.cos(math.pi - margin), shifted, beyond)


class OtherClasses(torch.autograd.Function):
    """log of the sum of exp(scale * x . c) over all centres c but the true one, (B,).

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
