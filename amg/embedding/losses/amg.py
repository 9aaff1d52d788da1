"""The AMG loss (AMG paper, loss): softmax with a margin by overlap, and a pull to the centres."""

from torch.nn import functional as F

from amg.embedding import registry
from amg.embedding.losses.arcface import ArcFace

PULL = 10.0  # weight of the pull


@registry.losses.register("amg", "pam", "tam")  # the published code calls it both Pam and Tam
class AMG(ArcFace):
    """ArcFace, with its margin by overlap, plus 10 x the mean pull of the originals:
    1 - cos(vector, centre of its class).

    In a batch without originals there is no pull.
    """

    def forward(self, vectors, rows):
        pull = 1 - F.cosine_similarity(vectors, self.centres[rows.song])  # (B,)
        originals = rows.is_original.sum().clamp_min(1)
        return super().forward(vectors, rows) + PULL * (pull * rows.is_original).sum() / originals
