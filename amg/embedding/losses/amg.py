"""The AMG loss (AMG paper, loss): softmax with a margin by overlap, and a pull to the centres."""

from torch.nn import functional as F

from amg.embedding import registry
from amg.embedding.crops import MARGIN_MAX, MARGIN_MIN
from amg.embedding.losses.arcface import SCALE, ArcFace

PULL = 10.0  # weight of the pull


@registry.losses.register("amg", "pam", "tam")  # the published code calls it both Pam and Tam
class AMG(ArcFace):
    """ArcFace, with its margin by overlap, plus `pull` times the mean over the originals of
    1 - cos(vector, centre of its class), or 0 in a batch without originals.
    """

    limits = {**ArcFace.limits, "pull": (0, 1e6)}

    def __init__(
        self, centres, margin, scale=SCALE, margin_max=MARGIN_MAX, margin_min=MARGIN_MIN, pull=PULL
    ):
        super().__init__(centres, margin, scale, margin_max, margin_min)
        self.pull = pull

    def forward(self, vectors, rows):
        apart = 1 - F.cosine_similarity(vectors, self.centres[rows.song])  # (B,)
        originals = rows.is_original.sum().clamp_min(1)
        pull = (apart * rows.is_original).sum() / originals
        return super().forward(vectors, rows) + self.pull * pull
