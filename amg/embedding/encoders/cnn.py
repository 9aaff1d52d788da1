"""`mcnn`: the convolutional encoder of the paper's ablations."""

from torch import nn
from torch.nn import functional as F

from amg.embedding import encoders
from amg.embedding.encoders import densenet
from amg.fingerprint.nafp import DIM


@encoders.register("mcnn")
class CNN(nn.Module):
    """DenseNet-121 on a sequence as an image, 32 x 128 pixels.

    As published it sees the padding: its input is always of `padded_frames`, zeros included.
    """

    def __init__(self, padded_frames):
        super().__init__()
        self.padded_frames = padded_frames
        self.conv = nn.Conv2d(1, 3, 1)
        self.densenet = densenet.DenseNet121()
        self.fc = nn.Linear(1000, DIM)

    def forward(self, x, padding):  # (B, L, 128), L up to padded_frames
        x = F.pad(x, (0, 0, 0, self.padded_frames - x.shape[1]))  # (B, M, 128)
        image = F.interpolate(self.conv(x[:, None]), (32, DIM), mode="bilinear")  # (B, 3, 32, 128)
        return F.normalize(self.fc(self.densenet(image)))
