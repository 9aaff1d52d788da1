"""The triplet loss, by cosine (arXiv 1503.03832 has it by distance)."""

from torch import nn
from torch.nn import functional as F

from amg.embedding import registry


@registry.losses.register("triplet")
class Triplet(nn.Module):
    """A degraded crop must lie nearer to its song's original than to another song's, by a margin:
    cos(anchor, negative) - cos(anchor, positive) + margin, mean of those above zero; 0 if none is.
    """

    batches = "triplets"
    limits = {"triplet_margin": (0, 2)}

    def __init__(self, triplet_margin=0.2):
        super().__init__()
        self.triplet_margin = triplet_margin

    def forward(self, vectors, rows):
        anchor, positive, negative = vectors.chunk(3)  # (B / 3, 128) each
        violation = F.relu(
            F.cosine_similarity(anchor, negative)
            - F.cosine_similarity(anchor, positive)
            + self.triplet_margin
        )
        return violation.sum() / (violation > 0).sum().clamp_min(1)
