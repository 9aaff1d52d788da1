"""The one-bit lift: its kernel, its bits, and what it is for."""

import numpy as np
import pytest
import torch

from amg.check import InputError
from amg.embedding import encoders
from amg.embedding.encoders import lift
from amg.retrieval import databases, evaluate, search
from conftest import unit_rows


def naive_bits(frames, directions, usual):
    """A bit at a time, in loops."""
    bits = []
    for w, expected in zip(directions.astype(np.float64), usual.astype(np.float64)):
        bits.append(np.mean([min(float(w @ x) ** 2, 3.0) for x in frames]) > expected)
    return np.array(bits)


def test_bits_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    encoder = lift.Lift(bits=64)
    others, clips = unit_rows(rng, 500, 128), [unit_rows(rng, n, 128) for n in (3, 19, 7)]
    encoder.fit(others)
    directions = encoder.directions.numpy()
    usual = np.minimum((others @ directions.T).astype(np.float64) ** 2, 3).mean(0)
    np.testing.assert_allclose(encoder.usual, usual, rtol=1e-5)
    found = np.unpackbits(encoders.embed(encoder, clips), axis=1)
    assert np.array_equal(found, [naive_bits(clip, directions, usual) for clip in clips])


def test_directions_follow_from_the_seed_and_are_orthogonal_in_blocks():
    w = lift.directions(300, seed=1)
    assert torch.equal(w, lift.directions(300, seed=1))
    assert not torch.equal(w, lift.directions(300, seed=2))
    for block in w.split(128):
        torch.testing.assert_close(block @ block.T, 128 * torch.eye(len(block)), atol=1e-3, rtol=0)


def test_the_kernel_grows_with_the_square_of_the_cosine():
    """Covariance of two frames' energies: nothing at right angles, and more the nearer they are."""
    encoder, angle = lift.Lift(bits=32768), np.radians([0, 30, 60, 90])
    frames = np.zeros((4, 128), np.float32)
    frames[:, 0], frames[:, 1] = np.cos(angle), np.sin(angle)
    energy = encoder.energies(torch.from_numpy(frames)).numpy()
    covariance = np.cov(energy)[0]
    np.testing.assert_allclose(covariance / covariance[0], np.cos(angle) ** 2, atol=0.06)
    assert np.all(np.diff(covariance) < 0)


def test_a_part_of_a_segment_finds_it():
    rng = np.random.default_rng(5)
    segments = list(unit_rows(rng, 300 * 19, 128).reshape(300, 19, 128))
    noise = 0.06 * rng.standard_normal((300, 5, 128)).astype(np.float32)
    asked = [segment[4:9] + part for segment, part in zip(segments, noise)]
    asked = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in asked]
    encoder = lift.Lift()
    encoder.fit(unit_rows(rng, 2000, 128))
    index = search.flat_index(encoders.embed(encoder, segments))
    found = search.nearest(index, encoders.embed(encoder, asked), 1)[1][:, 0]
    assert (found == np.arange(300)).mean() > 0.95


def test_what_needs_no_training_is_fitted_to_the_distractors():
    songs = list(unit_rows(np.random.default_rng(0), 5 * 30, 128).reshape(5, 30, 128))
    database = databases.Database.of(songs, first_test=3)
    run = evaluate.untrained(["lift"], database)["lift"]
    energies = run.encoder.energies(torch.from_numpy(np.concatenate(songs[:3])))
    torch.testing.assert_close(run.encoder.usual, energies.mean(0))
    assert run.name == "" and run.finished
    assert evaluate.labels("lift", "amg", 10, run)["loss"] == "none"
    found = evaluate.trained("t", "lift", "amg", [5, 10], database=database)
    assert torch.equal(found[5].encoder.usual, run.encoder.usual)


def test_vectors_may_have_another_dimension():
    class Values(lift.Lift):
        dimension = 64

        def forward(self, x, padding):
            return torch.nn.functional.normalize(super().forward(x, padding))

    encoder = Values(64)
    encoder.bits = 0
    clips = [unit_rows(np.random.default_rng(1), n, 128) for n in (3, 9)]
    found = encoders.embed(encoder, clips)
    assert found.shape == (2, 64) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_refusals():
    with pytest.raises(InputError, match="mt has to be trained; run notebook 03_train"):
        encoders.untrained("mt", None)
    with pytest.raises(InputError, match="others is 'mt', but must be one of: mean, lift"):
        evaluate.untrained(["mt"], None)
    with pytest.raises(InputError, match="others is 5, but must be a list"):
        evaluate.untrained(5, None)
    with pytest.raises(InputError, match="encoder is 'none', but must be one of"):
        encoders.needs_training("none")
