"""Training losses, all on unit vectors (AMG paper, loss; NAFP for the contrastive ones).

    amg       additive angular margin softmax with a margin per sample, plus a pull of the
              originals towards their class centres
    arcface   the softmax alone
    infonce   original against degraded crop, the other rows of the batch as negatives
    triplet   cosine margin, mean over the triplets that still violate it
"""

import math

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from amg.check import one_of

SCALE = 32.0
ANCHOR_WEIGHT = 10.0
TEMPERATURE = 0.1
TRIPLET_MARGIN = 0.2
BLOCK = 2**21  # logits that are held at once
CONTRASTING = ("infonce", "triplet")  # pairs; the others know classes
TRAINABLE = ("amg", "arcface", *CONTRASTING)
ALIASES = {"pam": "amg", "tam": "amg"}  # both names of the AMG loss in the published code


def canonical(name):
    """The name of a trainable loss, aliases resolved; InputError for any other."""
    return ALIASES.get(one_of("loss", name, (*TRAINABLE, *ALIASES)), name)


def with_margin(cosine, margin):
    """cos(theta) -> cos(theta + m) while theta + m < pi, and cos(theta) - m sin(pi - m) beyond.

    cosine and margin (in radians) are (B,), as is the result.
    """
    sine = torch.sqrt(1.0 - cosine.square() + 1e-5)
    shifted = cosine * torch.cos(margin) - sine * torch.sin(margin)
    beyond = cosine - margin * torch.sin(math.pi - margin)
    return torch.where(cosine > torch.cos(math.pi - margin), shifted, beyond)


def arcface(embedding, centres, label, margin, scale=SCALE):
    """Additive angular margin softmax: cross-entropy per sample, (B,).

    embedding (B, D) and centres (n_classes, D) need not be unit: they are normalised here.
    label int64 (B,); margin (B,) in radians. Logits are `scale * cosine`, the true class's
    `with_margin`.
    """
    embedding, centres = F.normalize(embedding), F.normalize(centres)
    true = scale * with_margin((embedding * centres[label]).sum(1), margin)
    return F.softplus(OtherClasses.apply(embedding, centres, label, scale) - true)


class OtherClasses(torch.autograd.Function):
    """log of the sum of exp(scale * x . c) over all centres c but the true one, (B,).

    There are at least two centres. Forward and backward take them block by block: a table of all
    cosines, and the others that its gradient needs, would grow with the number of classes.
    """

    @staticmethod
    def blocks(x, centres, label, scale):
        """Pairs of (slice of the classes, logits of x for them with the true class at -inf)."""
        width = max(1, BLOCK // len(x))
        for begin in range(0, len(centres), width):
            part = centres[begin : begin + width]
            logits = (scale * x) @ part.T
            row = ((label >= begin) & (label < begin + len(part))).nonzero()[:, 0]
            logits[row, label[row] - begin] = -math.inf
            yield slice(begin, begin + width), logits

    @staticmethod
    def forward(ctx, x, centres, label, scale):
        of_block = [logits.logsumexp(1) for _, logits in OtherClasses.blocks(x, centres, label, scale)]
        total = torch.stack(of_block).logsumexp(0)
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


def anchor_pull(embedding, centres, label):
    """1 - cos(embedding, centre of its class) per sample, (B,)."""
    return 1 - F.cosine_similarity(embedding, centres[label])


def amg(embedding, centres, label, margin, is_original, scale=SCALE):
    """AMG loss of a batch, a scalar: mean ArcFace plus 10 x mean pull over the originals.

    is_original bool (B,); with no original in the batch the second term is 0.
    """
    loss = arcface(embedding, centres, label, margin, scale).mean()
    if is_original.any():
        loss = loss + ANCHOR_WEIGHT * anchor_pull(
            embedding[is_original], centres, label[is_original]).mean()
    return loss


def infonce(anchor, positive, temperature=TEMPERATURE):
    """Cross-entropy of each anchor's similarities to all positives (B, D), (B, D): a scalar."""
    similarity = F.normalize(anchor) @ F.normalize(positive).T / temperature
    return F.cross_entropy(similarity, torch.arange(len(anchor), device=anchor.device))


def triplet(anchor, positive, negative, margin=TRIPLET_MARGIN):
    """Cosine triplet loss, mean over triplets above zero (0 if there are none): a scalar."""
    violation = F.relu(F.cosine_similarity(anchor, negative)
                       - F.cosine_similarity(anchor, positive) + margin)
    return violation.sum() / (violation > 0).sum().clamp_min(1)
