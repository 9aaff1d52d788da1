"""InfoNCE (arXiv 1807.03748; the NAFP paper's NT-Xent without its second direction)."""

import torch
from torch import nn
from torch.nn import functional as F

from amg.embedding import registry


@registry.losses.register("infonce")
class InfoNCE(nn.Module):
    """An original must be nearer to a degraded crop of its song than to the other songs' crops:
    cross-entropy of its cosines with all crops, over a temperature."""

    batches = "pairs"
    limits = {"temperature": (1e-3, 10)}

    def __init__(self, temperature=0.1):
        super().__init__()
        self.temperature = temperature

    def forward(self, vectors, rows):
        original, degraded = vectors.chunk(2)  # (B / 2, 128) each
        cosine = F.normalize(original) @ F.normalize(degraded).T
        truth = torch.arange(len(cosine), device=cosine.device)
        return F.cross_entropy(cosine / self.temperature, truth)
