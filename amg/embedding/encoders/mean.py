"""Mean pooling: nothing to train, the baseline to beat."""

from torch import Tensor, nn
from torch.nn import functional as F

from amg.embedding import registry
from amg.embedding.fast import packed


@registry.encoders.register("mean")
class Mean(nn.Module):
    """The normalised mean of the frames."""

    trained = False
    packed = packed.mean

    def __init__(self):  # no settings
        super().__init__()

    def forward(self, x, padding):  # (B, L, 128), (B, L)
        return F.normalize(mean_of_valid(x, padding))


def mean_of_valid(x, padding) -> Tensor:
    """Mean over the frames that are no padding: (B, L, D), (B, L) -> (B, D)."""
    valid = (~padding)[..., None].to(x.dtype)  # (B, L, 1)
    return (x * valid).sum(1) / valid.sum(1)
