"""Packed sequences: attention and dropout against loops, finite differences and chance; encoders
against the padded modules that they stand for."""

import numpy as np
import pytest
import torch
from conftest import unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from amg.embedding import encoders
from amg.embedding.encoders.mean import Mean
from amg.embedding.encoders.transformer import Transformer
from amg.embedding.fast import packed

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    ),
]

HEADS, WIDTH = 2, 8
LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=12).map(np.array)


@given(LENGTHS)
def test_every_frame_has_a_place_and_sees_its_own_sequence(length):
    place, mask = packed.in_rows(length, "cpu")
    most, slots = length.max(), np.full((len(mask), length.max()), -1)
    slots.flat[place.numpy()] = np.repeat(np.arange(len(length)), length)
    assert len(place.unique()) == length.sum()
    for sequence in place.split(length.tolist()):
        assert (sequence.diff() == 1).all()
        assert sequence[0] // most == sequence[-1] // most
    for row, seen in zip(slots, mask):
        assert [[float(a != b) for b in row] for a in row] == seen.isinf().float().tolist()
    held = (slots >= 0).sum(1)
    assert len(held) == 1 or np.sort(held)[:2].sum() > most  # no two rows would fit in one


@pytest.mark.parametrize("p", [0.0, 1e-9])  # of torch in one piece, and with dropout, of nothing
def test_attention_is_that_of_the_loop(p):
    """Sequence by sequence and head by head, as the formula says."""
    length = np.array([3, 3, 4, 5, 5, 1])
    place, mask = packed.in_rows(length, "cpu")
    generator = torch.Generator().manual_seed(1)
    qkv = torch.randn(mask[..., 0].numel(), 3 * WIDTH, dtype=torch.float64, generator=generator)
    seen = packed.attend(qkv, mask, HEADS, p)
    for of in place.split(length.tolist()):
        for head in torch.arange(WIDTH).split(WIDTH // HEADS):
            q, k, v = (part[:, head] for part in qkv[of].chunk(3, dim=1))
            weights = torch.softmax(q @ k.T / np.sqrt(WIDTH / HEADS), dim=1)
            torch.testing.assert_close(seen[of][:, head], weights @ v)


def test_attention_drops_weights_and_scales_the_others():
    """Values that are rows of a unit matrix show the weights themselves."""
    qkv = torch.randn(4, 3 * 4, generator=torch.Generator().manual_seed(1))
    qkv[:, 8:] = torch.eye(4)
    mask = torch.zeros(1, 4, 4)
    whole = packed.attend(qkv, mask, 1, 0.0)
    torch.manual_seed(3)
    share = torch.stack([packed.attend(qkv, mask, 1, 0.4) for _ in range(200)]) / whole
    torch.testing.assert_close(share[share > 0], torch.full_like(share[share > 0], 1 / 0.6))
    assert (share == 0).float().mean().item() == pytest.approx(0.4, abs=0.04)


def test_dropout_follows_the_seed():
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(packed.kept(1001, 0.3))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[2], packed.kept(1001, 0.3))


def test_dropout_is_fair():
    torch.manual_seed(0)
    x = torch.full((500, 1001), 2.0, requires_grad=True)
    y = packed.dropout(x, 0.1)
    assert y.detach().unique().tolist() == pytest.approx([0, 2 / 0.9])
    dropped = (y == 0).float()
    assert dropped.mean().item() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / x.numel()))
    for axis in (0, 1):  # neither rows, columns nor neighbours know of each other
        assert dropped.mean(axis).std().item() == pytest.approx(
            np.sqrt(0.09 / x.shape[axis]), rel=0.15
        )
    neighbours = np.corrcoef(dropped[:, :-1].flatten(), dropped[:, 1:].flatten())[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(x.numel())
    y.sum().backward()
    assert torch.equal(x.grad, y.detach() / 2)
    assert torch.equal(packed.dropout(x, 0.0), x)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("encoder", [Transformer(layers=3, dropout=0.0), Mean()])
@given(LENGTHS, st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_packed_encoder_equals_the_padded_one(encoder, device, length, seed):
    """Vectors, and gradients of weights and input, for lengths in any order."""
    rng = np.random.default_rng(seed)
    encoder = encoder.double().train().to(device)  # in float32 rounding would hide small mistakes
    frames, weight = (
        torch.tensor(unit_rows(rng, n, 128), dtype=torch.double, device=device)
        for n in (length.sum(), len(length))
    )
    frames.requires_grad_()
    both = []
    for vectors in (encoder.packed(frames, length), encoder(*encoders.pad(frames, length))):
        gradients = torch.autograd.grad((vectors * weight).sum(), [frames, *encoder.parameters()])
        both.append([vectors, *gradients])
    for ours, plain in zip(*both, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-7, atol=1e-10)


def test_the_packed_encoder_drops_out_in_training_alone():
    encoder, frames = Transformer(layers=2, dropout=0.3), torch.randn(12, 128)
    length = np.array([5, 4, 3])
    encoder.eval()
    torch.testing.assert_close(
        encoder.packed(frames, length), encoder(*encoders.pad(frames, length))
    )
    encoder.train()
    assert not torch.equal(encoder.packed(frames, length), encoder.packed(frames, length))
