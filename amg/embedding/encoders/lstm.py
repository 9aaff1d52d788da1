"""`mlstm`: the recurrent encoder of the paper's ablations."""

import torch
from torch import nn
from torch.nn import functional as F

from amg.embedding import registry
from amg.fingerprint.nafp import DIM


@registry.encoders.register("mlstm")
class LSTM(nn.Module):
    """Bidirectional LSTM, output at the last frame.

    Parameter names are those of the published checkpoints.
    """

    limits = {"dropout": (0, 0.9)}

    def __init__(self, layers=8, hidden=256, dropout=0.1):
        super().__init__()
        between = dropout if layers > 1 else 0.0  # it lies between layers
        self.lstm = nn.LSTM(
            DIM, hidden, layers, batch_first=True, bidirectional=True, dropout=between
        )
        self.fc = nn.Linear(2 * hidden, DIM)

    def forward(self, x, padding):  # (B, L, 128), (B, L)
        length = (~padding).sum(1)
        # packed, so that the backward direction begins at the last frame, not in padding
        sequences = nn.utils.rnn.pack_padded_sequence(
            x.float(), length.cpu(), batch_first=True, enforce_sorted=False
        )
        # autocast would run it in float16, whatever type it is told, and overflow: no scaling here
        with torch.autocast(x.device.type, enabled=False):
            output, _ = self.lstm(sequences)
        output, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)  # (B, L, 2 * hidden)
        return F.normalize(self.fc(output[torch.arange(len(x), device=x.device), length - 1]))
