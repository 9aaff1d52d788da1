"""`mt`: the Transformer of the paper (embedding stage)."""

from torch import nn
from torch.nn import functional as F

from amg.embedding import registry
from amg.embedding.encoders.mean import mean_of_valid
from amg.embedding.fast import packed
from amg.fingerprint.nafp import DIM


@registry.encoders.register("mt")
class Transformer(nn.Module):
    """Post-norm Transformer without positional encoding, mean over the frames.

    Parameter names are those of the published checkpoints.
    """

    limits = {"dropout": (0, 0.9)}
    packed = packed.transformer  # an equal that computes no padding

    def __init__(self, layers=10, width=256, heads=8, feedforward=256, dropout=0.1, dimension=DIM):
        super().__init__()
        self.dimension = dimension
        self.linear1 = nn.Linear(DIM, width)
        layer = nn.TransformerEncoderLayer(width, heads, feedforward, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.linear2 = nn.Linear(width, dimension)

    def forward(self, x, padding):  # (B, L, 128), (B, L)
        x = self.encoder(self.linear1(x), src_key_padding_mask=padding)  # (B, L, width)
        return F.normalize(self.linear2(mean_of_valid(x, padding)))  # (B, dimension)
