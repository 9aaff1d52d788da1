"""Encoders that sweeps compare with the paper's: `-p own_module rivals` in notebooks 03 and 04."""

import torch
from torch import nn
from torch.nn import functional as F

from amg.embedding import encoders
from amg.embedding.encoders import lift
from amg.embedding.encoders.mean import mean_of_valid
from amg.embedding.encoders.transformer import Transformer
from amg.embedding.fast import packed
from amg.fingerprint import nafp

DIM = nafp.DIM


@encoders.register("linear")
class Linear(nn.Module):
    """The mean of the frames, turned and stretched by a matrix that is learnt; it begins as the
    mean."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)
        nn.init.eye_(self.linear.weight)

    def forward(self, x, padding):  # (B, L, 128), (B, L)
        return F.normalize(self.linear(mean_of_valid(x, padding)))


@encoders.register("products")
class Products(nn.Module):
    """A learnt matrix on the mean of all products of two values of a frame, in 128 d: what the
    kernel of the lift sees, as short as the paper's vector."""

    def __init__(self):
        super().__init__()
        rows, columns = torch.triu_indices(DIM, DIM)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.linear = nn.Linear(len(rows), DIM)

    def forward(self, x, padding):
        x = x * ~padding[..., None]
        second = x.transpose(1, 2) @ x  # sums of products over the frames, (B, 128, 128)
        return F.normalize(self.linear(DIM * second[:, self.rows, self.columns]))


@encoders.register("hrr")
class HolographicReduced(nn.Module):
    """Frames bound to their neighbours by circular convolution, and summed with the frames
    themselves (holographic reduced representations, as in arXiv 2406.13139; nothing to train).

    There a frame is bound to its place in the segment, and a query is asked once for each place.
    Bound to its neighbour, turned by a fixed permutation so that their order counts, it is the same
    wherever the segment begins.
    """

    trained = False

    def __init__(self):
        super().__init__()
        order = torch.randperm(DIM, generator=torch.Generator().manual_seed(0))
        self.register_buffer("order", order)

    def forward(self, x, padding):
        x = x * ~padding[..., None]
        one, next_one = x[:, :-1], x[:, 1:, self.order]
        bound = torch.fft.irfft(torch.fft.rfft(one) * torch.fft.rfft(next_one), n=DIM)
        return F.normalize(x.sum(1) + bound.sum(1))


@encoders.register("unequal")
class Unequal(Transformer):
    """The paper's Transformer, its layers drawn one by one; torch copies the first into all."""

    packed = packed.transformer
    norm_first = False

    def __init__(self, layers=10, width=256, heads=8, feedforward=256, dropout=0.1):
        super().__init__(layers, width, heads, feedforward, dropout)
        options = {"batch_first": True, "norm_first": self.norm_first}
        self.encoder.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, feedforward, dropout, **options)
            for _ in range(layers)
        )
        if self.norm_first:  # the last sum would else never be normalised
            self.encoder.norm = nn.LayerNorm(width)


@encoders.register("prenorm")
class PreNorm(Unequal):
    """The same with the norm before attention and feed-forward, in place of after their sums."""

    norm_first = True


@encoders.register("raw")
class Raw(Transformer):
    """The paper's Transformer on fingerprints as they were before whitening.

    Whitening kept only the direction of (v - mean) M; as v has unit norm, that is enough to find v.
    """

    def __init__(self, layers=10, width=256, heads=8, feedforward=256, dropout=0.1):
        super().__init__(layers, width, heads, feedforward, dropout)
        whitening = nafp.load().whitening
        self.register_buffer("mean", whitening.mean)
        self.register_buffer("inverse", torch.linalg.inv(whitening.matrix.double()).float())

    def prepare(self, frames):  # (..., 128) -> (..., 128), unit rows
        along = frames @ self.inverse
        a, b = along.square().sum(-1), along @ self.mean
        times = (torch.sqrt(b**2 + a * (1 - self.mean.square().sum())) - b) / a
        return self.mean + times[..., None] * along

    def forward(self, x, padding):
        x = x.masked_fill(padding[..., None], DIM**-0.5)  # any unit row: zeros have no direction
        return super().forward(self.prepare(x), padding)

    def packed(self, frames, length):  # (N, 128), (B,) -> (B, 128)
        return packed.transformer(self, self.prepare(frames), length)


@encoders.register("learnt_lift")
class LearntLift(nn.Module):
    """The one-bit lift, its directions, thresholds and weights of frames learnt; some bits see the
    product of a frame along one direction and the next frame along another, and so know order.

    It begins as the lift. Gradients pass a sign as if it were a hyperbolic tangent
    (straight-through). pairs: share of such bits; softness: of the tangent, in energies.
    """

    limits = {"bits": (8, 2**15), "pairs": (0, 1), "softness": (0.01, 100)}

    def __init__(self, bits=4096, pairs=0.0, softness=0.3):
        super().__init__()
        self.bits, self.softness = 8 * (bits // 8), softness
        self.dimension = self.bits  # of class centres, if the loss has such
        self.n_pairs = int(pairs * self.bits)
        drawn = lift.directions(self.bits + self.n_pairs)
        self.directions = nn.Parameter(drawn[: self.bits].clone())
        self.next_directions = nn.Parameter(drawn[self.bits :].clone())
        usual = torch.ones(self.bits)
        usual[self.bits - self.n_pairs :] = 0
        self.usual = nn.Parameter(usual)
        self.weight = nn.Linear(DIM, 1)
        nn.init.zeros_(self.weight.weight)
        nn.init.zeros_(self.weight.bias)

    def forward(self, x, padding):  # (B, L, 128), (B, L) -> (B, bits)
        weight = self.weight(x).exp() * ~padding[..., None]  # (B, L, 1)
        along = x @ self.directions.T
        own, first = along.split([self.bits - self.n_pairs, self.n_pairs], dim=-1)
        both = first[:, :-1] * (x[:, 1:] @ self.next_directions.T)
        of_both = weight[:, :-1] * weight[:, 1:]
        energies = [
            (of * values.clamp(-lift.MOST, lift.MOST)).sum(1) / of.sum(1).clamp_min(1e-6)
            for of, values in ((weight, own.square()), (of_both, both))
        ]
        above = torch.cat(energies, dim=1) - self.usual
        if not self.training:
            return above
        soft = torch.tanh(above / self.softness)
        return soft + (above.sign() - soft).detach()
