"""`mcnn`: the convolutional encoder of the paper's ablations."""

import torch
from torch import nn
from torch.nn import functional as F

from amg.embedding import registry
from amg.fingerprint.nafp import DIM

GROWTH = 32
BLOCKS = (6, 12, 24, 16)


@registry.encoders.register("mcnn")
class CNN(nn.Module):
    """DenseNet-121 on a sequence as an image, 32 x 128 pixels.

    As published it sees the padding: its input is always of `padded_frames`, zeros included.
    """

    def __init__(self, padded_frames):
        super().__init__()
        self.padded_frames = padded_frames
        self.conv = nn.Conv2d(1, 3, 1)
        self.densenet = DenseNet121()
        self.fc = nn.Linear(1000, DIM)

    def forward(self, x, padding):  # (B, L, 128), L up to padded_frames
        x = F.pad(x, (0, 0, 0, self.padded_frames - x.shape[1]))  # (B, M, 128)
        image = F.interpolate(self.conv(x[:, None]), (32, DIM), mode="bilinear")  # (B, 3, 32, 128)
        return F.normalize(self.fc(self.densenet(image)))


class DenseNet121(nn.Module):
    """Images (B, 3, H, W) -> (B, 1000): arXiv 1608.06993, 7,978,856 parameters."""

    def __init__(self):
        super().__init__()
        channels = 64
        parts = [
            nn.Conv2d(3, channels, 7, 2, 3, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        for block, n_layers in enumerate(BLOCKS):
            if block:  # halve channels, height and width
                parts += [
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                    nn.Conv2d(channels, channels // 2, 1, bias=False),
                    nn.AvgPool2d(2),
                ]
                channels //= 2
            parts += [Layer(channels + GROWTH * i) for i in range(n_layers)]
            channels += GROWTH * n_layers
        self.features = nn.Sequential(*parts, nn.BatchNorm2d(channels), nn.ReLU())
        self.classifier = nn.Linear(channels, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        self.to(memory_format=torch.channels_last)  # the faster layout on CPUs

    def forward(self, x):
        x = x.contiguous(memory_format=torch.channels_last)
        return self.classifier(self.features(x).mean((2, 3)))


class Layer(nn.Module):
    """Adds GROWTH channels to those that it sees: norm, 1x1, norm, 3x3."""

    def __init__(self, channels):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * GROWTH)
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x):
        new = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, new], 1)
