"""`lift`: one bit for each of many random directions, nothing to train.

The paper's vector has to say which frames a segment holds. A mean of frames cannot: different
frames cancel. So each frame is lifted first, from 128 dimensions to thousands, where different
frames are nearly orthogonal and a mean keeps them apart: the inner product of two lifted means is,
but for noise, the mean of k(x, y) over all pairs of their frames x and y, with a kernel k near the
square of their cosine. A bit tells whether the energy along a direction, (w.x)^2, is above what is
usual in other music.

Its forebears: compact bilinear pooling (Gao et al., CVPR 2016, arXiv 1511.06062) lifts to the same
kernel, and one-bit random projections (Charikar, STOC 2002) keep signs.
"""

from pathlib import Path

import torch
from torch import nn

from amg import checkpoint
from amg.embedding import registry
from amg.embedding.encoders.mean import mean_of_valid
from amg.fingerprint.nafp import DIM

MOST = 3.0  # of the energy; 1 is usual. Single outliers would decide a short query's bits
FIT_FRAMES = 512  # whose energies are held at once
KEPT = Path(__file__).parents[2] / "weights" / "directions.safetensors"


@registry.encoders.register("lift")
class Lift(nn.Module):
    """Mean over the frames of their energies along `bits` directions, minus what is usual.

    It is fitted, not trained: `fit` learns what is usual, the directions are drawn from a seed.
    """

    trained = False
    limits = {"bits": (8, 2**16)}

    def __init__(self, bits=4096):
        super().__init__()
        self.bits = 8 * (bits // 8)  # whole bytes
        self.register_buffer("directions", directions(self.bits))
        self.register_buffer("usual", torch.ones(self.bits))

    @torch.no_grad()
    def fit(self, frames) -> None:
        """Learn the usual energies from frames of other music, float32 (N, 128)."""
        parts = torch.from_numpy(frames).split(FIT_FRAMES)
        self.usual.copy_(sum(self.energies(part).sum(0) for part in parts) / len(frames))

    def energies(self, x) -> torch.Tensor:  # (..., 128) -> (..., bits)
        return (x @ self.directions.T).square().clamp(max=MOST)

    def forward(self, x, padding):  # (B, L, 128), (B, L) -> (B, bits), of which signs are kept
        return mean_of_valid(self.energies(x), padding) - self.usual


@registry.encoders.register("lift1024")
class Lift1024(Lift):
    """The same in 128 bytes, a quarter of what 128 floats take."""

    def __init__(self, bits=1024):
        super().__init__(bits)


def directions(n) -> torch.Tensor:
    """Random directions, float32 (n, 128), orthogonal in blocks of 128, so that they overlap least.
    Their squares sum up to 128: the energy of a unit vector is 1 on average.

    The first ones come with the kit: last bits of `drawn` follow from the number of cores.
    """
    kept = checkpoint.load(KEPT)[0]["directions"]
    return kept[:n] if n <= len(kept) else drawn(n)


def drawn(n, seed=0) -> torch.Tensor:
    """The same, computed."""
    random = torch.Generator().manual_seed(seed)
    blocks = torch.randn(-(-n // DIM), DIM, DIM, generator=random)
    return DIM**0.5 * torch.linalg.qr(blocks).Q.reshape(-1, DIM)[:n]
