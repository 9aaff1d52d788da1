"""The one-bit lift: its kernel, its bits, and what it is for."""

import numpy as np
import pytest
import torch
from conftest import unit_rows, write_training_set

from amg.check import InputError
from amg.embedding import encoders, validation
from amg.embedding.encoders import lift
from amg.fingerprint import features
from amg.retrieval import databases, evaluate, search
from amg.studies import lifts


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
    w = lift.drawn(300, seed=1)
    assert torch.equal(w, lift.drawn(300, seed=1))
    assert not torch.equal(w, lift.drawn(300, seed=2))
    for block in w.split(128):
        torch.testing.assert_close(block @ block.T, 128 * torch.eye(len(block)), atol=1e-3, rtol=0)


def test_the_kept_directions_are_the_drawn_ones():
    """But for the last bits, which differ from machine to machine."""
    kept = lift.directions(4096)
    torch.testing.assert_close(kept, lift.drawn(4096, seed=0), atol=2e-4, rtol=0)
    assert torch.equal(lift.directions(300), kept[:300])
    assert len(lift.directions(4224)) == 4224


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
    found = evaluate.trained("t", "lift", "amg", [5, 10], db=database)
    assert torch.equal(found[5].encoder.usual, run.encoder.usual)


def test_lifts_that_were_tried():
    """The first of them is the lift; values are unit vectors, and products have the square's
    kernel."""
    rng = np.random.default_rng(1)
    clips, others = [unit_rows(rng, n, 128) for n in (3, 9)], unit_rows(rng, 400, 128)
    (_, kind, first), *_ = lifts.candidates()
    kept = lift.Lift()
    for encoder in (first, kept):
        encoder.fit(others)
    assert kind == "bits" and np.array_equal(*(encoders.embed(of, clips) for of in (first, kept)))
    values = lifts.Lifted(torch.square, 64, values=True)
    values.fit(others)
    found = encoders.embed(values, clips)
    assert found.shape == (2, 64) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    x, y = lifts.Products().energies(torch.from_numpy(clips[0][:2]))
    assert float(x @ y) == pytest.approx(float(clips[0][0] @ clips[0][1]) ** 2, abs=1e-6)


def test_kernels_are_those_of_their_functions():
    degrees = [0, 30, 60, 90]
    angle, found = np.radians(degrees), lifts.kernels(degrees)
    np.testing.assert_allclose(found["p itself"], np.cos(angle), atol=0.05)
    np.testing.assert_allclose(found["square"], np.cos(angle) ** 2, atol=0.06)
    np.testing.assert_allclose(found["cube less 3 p"], np.cos(angle) ** 3, atol=0.08)
    assert all(curve[0] == pytest.approx(1) for curve in found.values())


def test_candidates_are_compared_on_held_out_songs(home, monkeypatch):
    data = features.pack(write_training_set(home / "data/train/t", n_songs=9))
    few = [(lifts.MEAN, "values", encoders.Mean()), (lifts.KEPT, "bits", lift.Lift(256))]
    monkeypatch.setattr(lifts, "candidates", lambda: few)
    found = lifts.compare_lifts(data, 4, 5)
    held_out = np.arange(5, 9)
    asked = [(song, clip) for song in held_out for clip in (1, 2)]
    assert set(found.function) == {lifts.MEAN, lifts.KEPT} and len(found) == 2 * len(asked)
    for _, of in found.groupby("function"):
        assert list(zip(of.song, of["clip"])) == asked
    mean = validation.ranks(encoders.Mean(), data, held_out, 5)
    assert np.array_equal(found[found.function == lifts.MEAN]["rank"], mean["rank"])
    usual = few[1][2].energies(
        torch.from_numpy(np.concatenate([data.clip(s, 0) for s in range(5)]))
    )
    torch.testing.assert_close(few[1][2].usual, usual.mean(0))


def test_refusals():
    with pytest.raises(InputError, match="mt has to be trained; run notebook 03_train"):
        encoders.untrained("mt", None)
    with pytest.raises(InputError, match="others is 'mt', but must be one of: mean, lift"):
        evaluate.untrained(["mt"], None)
    with pytest.raises(InputError, match="others is 5, but must be a list"):
        evaluate.untrained(5, None)
    with pytest.raises(InputError, match="encoder is 'none', but must be one of"):
        encoders.needs_training("none")
