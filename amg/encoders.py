"""The AMG encoders: fingerprints (B, L, 128) and a padding mask (B, L) -> unit vectors (B, 128).

The mask is True at padding. A sequence encodes to the same vector however far it is padded.
Parameter names are those of the published checkpoints.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from amg import crops
from amg.nafp import DIM


class Transformer(nn.Module):
    """`mt`: post-norm Transformer without positional encoding, mean over valid frames."""

    def __init__(self, layers=10, width=256, heads=8, feedforward=256, dropout=0.1):
        super().__init__()
        self.linear1 = nn.Linear(DIM, width)
        layer = nn.TransformerEncoderLayer(width, heads, feedforward, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.linear2 = nn.Linear(width, DIM)

    def forward(self, x, padding_mask):
        hidden = self.encoder(self.linear1(x), src_key_padding_mask=padding_mask)
        return F.normalize(self.linear2(_masked_mean(hidden, padding_mask)))


class LSTM(nn.Module):
    """`mlstm`: bidirectional LSTM, output at the last valid frame."""

    def __init__(self, layers=8, hidden=256, dropout=0.1):
        super().__init__()
        self.lstm = nn.LSTM(DIM, hidden, layers, batch_first=True, bidirectional=True,
                            dropout=dropout)
        self.fc = nn.Linear(2 * hidden, DIM)

    def forward(self, x, padding_mask):
        length = (~padding_mask).sum(1)
        # packed, so that the backward direction begins at the last valid frame, not in padding
        packed = pack_padded_sequence(x, length.cpu(), batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return F.normalize(self.fc(output[torch.arange(len(x)), length - 1]))


class Mean(nn.Module):
    """`mean`: the normalised mean of the frames; nothing to train, the baseline to beat."""

    def forward(self, x, padding_mask):
        return F.normalize(_masked_mean(x, padding_mask))


TRAINABLE = {"mt": Transformer, "mlstm": LSTM}


@torch.inference_mode()
def embed(encoder, clips, max_frames=8192):
    """Embed many fingerprint arrays, list of (L_i, 128) -> float32 (n, 128), unit rows.

    Clips of like length share a batch of at most `max_frames` frames, padding included.
    """
    encoder.eval()
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    vectors = np.empty((len(clips), DIM), dtype=np.float32)
    for group in crops.micro_batches(np.array([len(clip) for clip in clips]), max_frames):
        batch, mask = crops.pad_list([clips[i] for i in group])
        vectors[group] = encoder(batch.to(device), mask.to(device)).cpu().numpy()
    return vectors


def _masked_mean(x, padding_mask):
    valid = (~padding_mask).unsqueeze(-1).to(x.dtype)  # (B, L, 1)
    return (x * valid).sum(1) / valid.sum(1)
