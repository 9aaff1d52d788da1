"""Embedding many sequences, a batch on each core: the vectors of the plain modules, in order."""

import numpy as np
import pytest
import torch
from conftest import unit_rows

from amg.embedding import encoders
from amg.embedding.encoders.lstm import LSTM
from amg.embedding.encoders.mean import Mean
from amg.embedding.encoders.transformer import Transformer


@pytest.mark.parametrize(
    "encoder",
    [Transformer(layers=3), LSTM(layers=1, hidden=16), Mean()],
    ids=lambda encoder: type(encoder).__name__,
)
@pytest.mark.parametrize("n", [1, 90])  # one batch, several
def test_vectors_are_those_of_the_padded_module(encoder, n, monkeypatch):
    monkeypatch.setitem(encoders.BATCH_FRAMES, "cpu", 128)
    rng, threads = np.random.default_rng(0), torch.get_num_threads()
    first, length = rng.integers(0, 140, n), rng.integers(3, 60, n)
    frames = unit_rows(rng, 200, 128)
    found = encoders.embed_runs(encoder, frames, first, length)
    for vector, low, size in zip(found, first, length, strict=True):
        x = torch.from_numpy(frames[None, low : low + size])
        with torch.no_grad():
            plain = encoder.eval()(x, torch.zeros(1, size, dtype=torch.bool))[0]
        np.testing.assert_allclose(vector, plain.numpy(), atol=1e-5)
    assert torch.get_num_threads() == threads


def test_what_goes_wrong_in_a_batch_is_raised(monkeypatch):
    class Broken(torch.nn.Module):
        def forward(self, x, padding):
            raise ArithmeticError

    monkeypatch.setitem(encoders.BATCH_FRAMES, "cpu", 16)
    threads = torch.get_num_threads()
    with pytest.raises(ArithmeticError):
        encoders.embed(Broken(), [np.zeros((10, 128), np.float32)] * 4)
    assert torch.get_num_threads() == threads


class Signs(torch.nn.Module):
    """Bits of a random projection of the mean: an encoder of one's own that keeps signs."""

    bits = 64

    def __init__(self):
        super().__init__()
        self.project = torch.nn.Linear(128, self.bits)

    def forward(self, x, padding):
        return self.project(Mean()(x, padding))


def test_an_encoder_with_bits_is_stored_as_bits():
    torch.manual_seed(0)
    encoder, rng = Signs(), np.random.default_rng(0)
    clips = [unit_rows(rng, n, 128) for n in rng.integers(3, 60, 30)]
    found = encoders.embed(encoder, clips)
    assert found.shape == (30, 8) and found.dtype == np.uint8
    with torch.no_grad():
        plain = [
            encoder(torch.from_numpy(clip)[None], torch.zeros(1, len(clip), dtype=torch.bool))[0]
            for clip in clips
        ]
    signs = np.where(np.stack(plain) > 0, 1, -1)
    np.testing.assert_allclose(encoders.floats(found), signs / 8, rtol=1e-6)
    vectors = unit_rows(rng, 4, 128)
    assert encoders.floats(vectors) is vectors
