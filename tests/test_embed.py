"""Embedding many sequences, a batch on each core: the vectors of the plain modules, in order."""

import numpy as np
import pytest
import torch

from amg.embedding import encoders
from amg.embedding.encoders.lstm import LSTM
from amg.embedding.encoders.mean import Mean
from amg.embedding.encoders.transformer import Transformer
from conftest import unit_rows


@pytest.mark.parametrize("encoder", [Transformer(layers=3), LSTM(layers=1, hidden=16), Mean()],
                         ids=lambda encoder: type(encoder).__name__)
@pytest.mark.parametrize("n", [1, 90])  # one batch, several
def test_vectors_are_those_of_the_padded_module(encoder, n, monkeypatch):
    monkeypatch.setitem(encoders.BATCH_FRAMES, "cpu", 128)
    rng, threads = np.random.default_rng(0), torch.get_num_threads()
    first, length = rng.integers(0, 140, n), rng.integers(3, 60, n)
    frames = unit_rows(rng, 200, 128)
    found = encoders.embed_runs(encoder, frames, first, length)
    for vector, low, size in zip(found, first, length):
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
