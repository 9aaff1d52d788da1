"""ArcFace (arXiv 1801.07698): softmax over all classes with an angular margin, one per sample."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from amg.embedding import crops, registry
from amg.embedding.fast import softmax

SCALE = 32.0


@registry.losses.register("arcface")
class ArcFace(nn.Module):
    """Every song is a class with a centre; the margin grows with a crop's overlap.

    margin: the law, called as `crops.margin`; scale: of the logits; margin_max, margin_min: at full
    overlap and at none, radians.
    """

    batches = "classes"
    limits = {"scale": (0, 1000), "margin_max": (0, 1.5), "margin_min": (0, 1.5)}

    def __init__(
        self, centres, margin, scale=SCALE, margin_max=crops.MARGIN_MAX, margin_min=crops.MARGIN_MIN
    ):
        super().__init__()
        self.centres = nn.Parameter(centres)  # (n_songs, 128)
        self.margin, self.scale = margin, scale
        self.margin_max, self.margin_min = margin_max, margin_min

    def forward(self, vectors, rows):
        margin = self.margin(rows.overlap, self.margin_max, self.margin_min)
        return arcface(vectors, self.centres, rows.song, margin, self.scale).mean()


def arcface(embedding, centres, label, margin, scale=SCALE) -> torch.Tensor:
    """Cross-entropy per sample, (B,), of logits `scale * cosine`, the true class's `with_margin`.

    embedding (B, D) and centres (n_classes, D), at least two, are normalised here; label int64
    (B,); margin (B,) in radians.
    """
    embedding = F.normalize(embedding)
    if len(centres) >= softmax.MANY:
        centres = F.normalize(centres)
        true = scale * with_margin((embedding * centres[label]).sum(1), margin)
        others = softmax.OtherClasses.apply(embedding, centres, label, scale)
        return F.softplus(others - true)  # the cross-entropy
    # the products are normalised, and not the centres, which may have thousands of values
    cosine = embedding @ centres.T / centres.norm(dim=1).clamp_min(1e-12)
    true = with_margin(cosine.gather(1, label[:, None]), margin[:, None])
    return F.cross_entropy(scale * cosine.scatter(1, label[:, None], true), label, reduction="none")


def with_margin(cosine, margin) -> torch.Tensor:
    """cos(theta) -> cos(theta + m) while theta + m < pi, and cos(theta) - m sin(pi - m) beyond."""
    sine = torch.sqrt(1.0 - cosine.square() + 1e-5)
    shifted = cosine * torch.cos(margin) - sine * torch.sin(margin)
    beyond = cosine - margin * torch.sin(math.pi - margin)
    return torch.where(cosine > torch.cos(math.pi - margin), shifted, beyond)
