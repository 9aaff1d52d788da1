"""The encoders that sweeps compare with the paper's, against naive loops."""

import numpy as np
import pytest
import torch
from conftest import unit_rows

from amg.embedding import encoders, runs
from amg.embedding.encoders import lift
from amg.fingerprint import nafp

NAMES = ("linear", "products", "hrr", "unequal", "prenorm", "raw")


pytestmark = pytest.mark.usefixtures("rivals")


def build(name):
    torch.manual_seed(0)
    config = runs.Config(10, name, settings={"layers": 2, "dropout": 0.0})
    return encoders.build(config).eval()


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_of_unit_norm_and_know_no_padding(name):
    encoder = build(name)
    clips = [unit_rows(np.random.default_rng(i), n, 128) for i, n in enumerate((3, 19, 7))]
    x, padding = encoders.pad(torch.from_numpy(np.concatenate(clips)), np.array([3, 19, 7]))
    together = encoder(x, padding)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    for clip, vector in zip(clips, together):
        alone = encoder(torch.from_numpy(clip)[None], torch.zeros(1, len(clip), dtype=bool))[0]
        torch.testing.assert_close(alone, vector, atol=1e-5, rtol=0)
    assert encoders.embed(encoder, clips) == pytest.approx(together.detach().numpy(), abs=1e-5)


@pytest.mark.parametrize("name", ["unequal", "prenorm", "raw"])
def test_gradients_without_padding_are_those_with_it(name):
    encoder = build(name).train()
    clips = [unit_rows(np.random.default_rng(i), n, 128) for i, n in enumerate((3, 3, 7))]
    frames, length = torch.from_numpy(np.concatenate(clips)), np.array([3, 3, 7])
    of_each = []
    for vectors in (encoder(*encoders.pad(frames, length)), encoder.packed(frames, length)):
        encoder.zero_grad()
        (vectors * torch.linspace(-1, 1, 128)).sum().backward()
        of_each.append([parameter.grad.clone() for parameter in encoder.parameters()])
    torch.testing.assert_close(of_each[0], of_each[1], atol=1e-4, rtol=1e-4)


def test_products_are_those_of_a_naive_loop():
    encoder, clip = build("products"), torch.from_numpy(unit_rows(np.random.default_rng(0), 5, 128))
    second = torch.stack(
        [
            sum(128 * frame[i] * frame[j] for frame in clip)
            for i in range(128)
            for j in range(i, 128)
        ]
    )
    expected = torch.nn.functional.normalize(encoder.linear(second), dim=0)
    ours = encoder(clip[None], torch.zeros(1, 5, dtype=bool))[0]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_neighbours_are_bound_by_circular_convolution():
    encoder, clip = build("hrr"), torch.from_numpy(unit_rows(np.random.default_rng(0), 4, 128))
    total = clip.sum(0)
    for one, other in zip(clip, clip[1:, encoder.order]):
        total += torch.stack(
            [(one * other[(k - torch.arange(128)) % 128]).sum() for k in range(128)]
        )
    ours = encoder(clip[None], torch.zeros(1, 4, dtype=bool))[0]
    torch.testing.assert_close(ours, total / total.norm(), atol=1e-5, rtol=0)
    backwards = encoder(clip.flip(0)[None], torch.zeros(1, 4, dtype=bool))[0]
    assert ours @ backwards < 0.9  # order counts


def test_raw_fingerprints_are_those_before_whitening():
    whitening = nafp.load().whitening
    raw = torch.nn.functional.normalize(whitening.mean + 0.1 * torch.randn(50, 128))
    torch.testing.assert_close(build("raw").prepare(whitening(raw)), raw, atol=1e-5, rtol=0)


def test_layers_begin_unequal():
    """torch's own are copies of one."""
    for name, alike in (("mt", True), ("unequal", False), ("prenorm", False)):
        first, second = (layer.linear1.weight for layer in build(name).encoder.layers)
        assert torch.equal(first, second) == alike
    assert build("prenorm").encoder.layers[0].norm_first


@pytest.mark.parametrize("pairs", [0.0, 0.5])
def test_a_learnt_lift_begins_as_the_lift(pairs):
    config = runs.Config(10, "learnt_lift", settings={"bits": 64, "pairs": pairs})
    learnt, drawn = encoders.build(config).eval(), lift.Lift(64)
    clip = torch.from_numpy(unit_rows(np.random.default_rng(0), 6, 128))
    ours = learnt(clip[None], torch.zeros(1, 6, dtype=bool))[0]
    n_own = 64 - learnt.n_pairs
    torch.testing.assert_close(
        ours[:n_own], drawn(clip[None], torch.zeros(1, 6, dtype=bool))[0][:n_own]
    )
    for bit in range(n_own, 64):
        left, right = learnt.directions[bit], learnt.next_directions[bit - n_own]
        products = [((a @ left) * (b @ right)).clamp(-3, 3) for a, b in zip(clip, clip[1:])]
        assert ours[bit].item() == pytest.approx(sum(products).item() / 5, abs=1e-4)


def test_a_learnt_lift_learns_through_its_signs(home):
    learnt = encoders.build(
        runs.Config(10, "learnt_lift", settings={"bits": 64, "pairs": 0.5})
    ).train()
    clip = torch.from_numpy(unit_rows(np.random.default_rng(0), 6, 128))
    vectors = learnt(clip[None], torch.zeros(1, 6, dtype=bool))
    torch.testing.assert_close(vectors.abs(), torch.ones(1, 64))
    vectors[0, 0].backward()  # a bit of one frame, whose direction and threshold get a gradient
    assert learnt.directions.grad[0].norm() > 0 and learnt.usual.grad[0] < 0
    assert learnt.weight.weight.grad.norm() > 0 and not learnt.directions.grad[1:].any()
