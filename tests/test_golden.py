"""The published implementation's answers on seeded inputs."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import naive
from amg.embedding import crops, encoders, losses, runs
from amg.retrieval import databases, evaluate, search


@pytest.fixture
def batch(golden):
    data = np.load(golden / "losses.npz", allow_pickle=False)
    tensors = {name: torch.from_numpy(data[name]) for name in data.files if data[name].ndim}
    tensors["embedding"].requires_grad_(True)
    return data, tensors


def close(ours, theirs, tolerance=1e-5):
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_amg_loss_and_gradient(batch):
    data, t = batch
    logits = naive.margin_logits(t["embedding"], t["centres"], t["label"], t["margin"])
    close(logits.detach(), data["amg_logits"])
    loss = losses.amg(t["embedding"], t["centres"], t["label"], t["margin"], t["is_anchor"])
    close(loss.item(), data["amg_loss"])
    close(torch.autograd.grad(loss, t["embedding"])[0], data["amg_grad"])


def test_arcface_loss_and_gradient(batch):
    data, t = batch
    loss = losses.arcface(t["embedding"], t["centres"], t["label"], t["margin"]).mean()
    close(loss.item(), data["arcface_loss"])
    close(torch.autograd.grad(loss, t["embedding"])[0], data["arcface_grad"])


def test_contrastive_losses(batch):
    data, t = batch
    close(losses.infonce(t["embedding"], t["positive"]).item(), data["infonce_loss"])
    close(losses.triplet(t["embedding"], t["positive"], t["negative"]).item(), data["triplet_loss"])


@pytest.mark.parametrize("name", ["transformer", "lstm"])
def test_encoders(golden, name):
    data = np.load(golden / "encoders.npz", allow_pickle=False)
    if name == "transformer":
        model = runs.load_published(golden / "published_style.pth")  # the same weights
    else:
        model = encoders.LSTM(layers=2, hidden=32).eval()
        model.load_state_dict(load_file(golden / "lstm.safetensors"))
    with torch.no_grad():
        valid = ~data["padding_mask"]
        ours = model(torch.from_numpy(data["x"][valid]), valid.sum(1))
    close(ours, data[name])


def test_crops_inside_recorded_geometry(golden):
    """Every recorded crop must be one that `draw` can give, with the margin it gives."""
    table = pd.read_csv(golden / "crops.csv")
    durations = {padded: d for d, padded in crops.PADDED_FRAMES.items()}
    for (n_frames, padded), group in table.groupby(["n_frames", "max_len"]):
        n = 20000
        ours = crops.draw(np.random.default_rng(0), np.full(n, n_frames), np.zeros(n, bool),
                          durations[padded])
        possible = set(zip(ours.start.tolist(), ours.length.tolist(), ours.overlap.tolist()))
        mid, most = crops.centre(n_frames, padded)
        for row in group.itertuples():
            low = max(0, mid - row.length // 2)
            assert low <= row.start <= mid + most - row.length + (mid - low)
            overlap = min(row.start + row.length, mid + most) - max(row.start, mid)
            assert overlap == row.overlap
            assert row.margin == pytest.approx(0.2 * row.overlap / most + 0.2, abs=1e-6)
        seen = set(zip(group.start, group.length, group.overlap))
        assert len(seen & possible) > 0.8 * len(seen)
        assert ours.length.min() == group.length.min()


@pytest.fixture(scope="module")
def retrieval(golden):
    """Songs, queries, the published checkpoint, start positions and hit rates."""
    data = np.load(golden / "retrieval.npz", allow_pickle=False)
    songs = {name: list(data[name].astype(np.float32)) for name in data.files}
    sequences = search.Sequences.of(songs["dummy"] + songs["db"])
    encoder = runs.load_published(golden / "published_style.pth")
    starts = databases.load_test_ids(golden / "test_ids.pkl")
    published = json.loads((golden / "retrieval.json").read_text())["hit_rates_percent"]
    return sequences, len(songs["dummy"]), songs["query"], encoder, starts, published


def scored(retrieval, duration, protocol):
    """{stage: (trials with their hits, the tolerance that the published code knows)}."""
    sequences, first_test, queries, encoder, starts, _ = retrieval
    segments = search.Segments.of(sequences, crops.segment_frames(duration))
    vectors = evaluate.segment_vectors(encoder, segments, sequences)
    trials = evaluate.trials_at(queries, starts[duration])
    single, two = evaluate.embedding_search(trials, queries, encoder, vectors, segments, sequences,
                                            first_test, protocol)
    return {"single": (single, "segment"), "two": (two, "exact")}


@pytest.mark.parametrize("duration", crops.DURATIONS)
def test_the_published_protocol_gives_the_published_hit_rates(retrieval, duration):
    for stage, (trials, tolerance) in scored(retrieval, duration, "published").items():
        theirs = retrieval[-1][f"{duration}/{stage}_stage"]
        ours = 100 * trials.groupby("query_frames")[[f"{tolerance}1", f"{tolerance}10"]].mean()
        assert ours.index.tolist() == theirs["query_frames"]
        for column, rates in zip(ours, (theirs["top1"], theirs["top10"])):
            assert ours[column].tolist() == pytest.approx(rates, abs=1e-9)


def test_the_contiguous_protocol_repairs_the_border_defect(retrieval):
    """Queries of 29 frames at duration_max 15, same data, encoder and starts: nearly all are found,
    where the published protocol finds little more than half."""
    rates = {}
    for protocol in evaluate.PROTOCOLS:
        trials, _ = scored(retrieval, 15, protocol)["two"]
        rates[protocol] = 100 * trials[trials.query_frames == 29].exact1.mean()
    assert rates["published"] == pytest.approx(52.777777, abs=1e-4) and rates["contiguous"] > 99
