"""Training losses, all on unit vectors (AMG paper, loss; NAFP for the contrastive ones).

    amg       additive angular margin softmax with a margin per sample, plus a pull of the
              originals towards their class centres
    arcface   the softmax alone
    infonce   original against degraded crop, the other rows of the batch as negatives
    triplet   cosine margin, mean over the triplets that still violate it
"""

import math

import torch
from torch.nn import functional as F

from amg.check import one_of

SCALE = 32.0
ANCHOR_WEIGHT = 10.0
TEMPERATURE = 0.1
TRIPLET_MARGIN = 0.2
CONTRASTING = ("infonce", "triplet")  # pairs; the others know classes
TRAINABLE = ("amg", "arcface", *CONTRASTING)
ALIASES = {"pam": "amg", "tam": "amg"}  # both names of the AMG loss in the published code


def canonical(name):
    """The name of a trainable loss, aliases resolved; InputError for any other."""
    return ALIASES.get(one_of("loss", name, (*TRAINABLE, *ALIASES)), name)


def margin_logits(embedding, centres, label, margin, scale=SCALE):
    """Logits of the additive angular margin softmax, (B, n_classes).

    embedding (B, D) and centres (n_classes, D) need not be unit: they are normalised here.
    label int64 (B,); margin (B,) in radians. For the true class, cos(theta) becomes
    cos(theta + m) while theta + m < pi, and cos(theta) - m sin(pi - m) beyond.
    """
    cosine = F.normalize(embedding) @ F.normalize(centres).T
    true = cosine.gather(1, label[:, None])
    m = margin[:, None]
    sine = torch.sqrt(1.0 - true.square() + 1e-5)
    shifted = true * torch.cos(m) - sine * torch.sin(m)
    beyond = true - m * torch.sin(math.pi - m)
    phi = torch.where(true > torch.cos(math.pi - m), shifted, beyond)
    return scale * cosine.scatter(1, label[:, None], phi)


def arcface(embedding, centres, label, margin, scale=SCALE):
    """Cross-entropy of `margin_logits` per sample, (B,)."""
    return F.cross_entropy(margin_logits(embedding, centres, label, margin, scale), label,
                           reduction="none")


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
