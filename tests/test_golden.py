"""The published implementation's answers on seeded inputs."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import naive
from amg.embedding import batches, crops, encoders, runs
from amg.embedding.encoders.lstm import LSTM
from amg.embedding.losses import amg, arcface, infonce, triplet
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


def over_classes(loss, t):
    """Loss and gradient of a loss over classes; overlaps are those that earn the recorded margins."""
    overlap = (t["margin"] - crops.MARGIN_MIN) / (crops.MARGIN_MAX - crops.MARGIN_MIN)
    value = loss(t["embedding"], batches.Rows(t["label"], overlap, t["is_anchor"]))
    return value.item(), torch.autograd.grad(value, t["embedding"])[0]


def test_amg_loss_and_gradient(batch):
    data, t = batch
    logits = naive.margin_logits(t["embedding"], t["centres"], t["label"], t["margin"])
    close(logits.detach(), data["amg_logits"])
    loss, gradient = over_classes(amg.AMG(t["centres"]), t)
    close(loss, data["amg_loss"])
    close(gradient, data["amg_grad"])


def test_arcface_loss_and_gradient(batch):
    data, t = batch
    loss, gradient = over_classes(arcface.ArcFace(t["centres"]), t)
    close(loss, data["arcface_loss"])
    close(gradient, data["arcface_grad"])


def test_contrastive_losses(batch):
    data, t = batch
    x, positive, negative = t["embedding"], t["positive"], t["negative"]
    close(infonce.InfoNCE()(torch.cat([x, positive]), None).item(), data["infonce_loss"])
    close(triplet.Triplet()(torch.cat([x, positive, negative]), None).item(), data["triplet_loss"])


@pytest.mark.parametrize("name", ["transformer", "lstm"])
def test_encoders(golden, name):
    """The padded module, and what training and evaluation choose in its place."""
    data = np.load(golden / "encoders.npz", allow_pickle=False)
    if name == "transformer":
        model = runs.load_published(golden / "published_style.pth")  # the same weights
    else:
        model = LSTM(layers=2, hidden=32).eval()
        model.load_state_dict(load_file(golden / "lstm.safetensors"))
    x, padding = torch.from_numpy(data["x"]), torch.from_numpy(data["padding_mask"])
    with torch.no_grad():
        close(model(x, padding), data[name])
        close(encoders.forward(model, x[~padding], (~padding).sum(1).numpy()), data[name])


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
            assert row.margin == pytest.approx(crops.margin(row.overlap / most), abs=1e-6)
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
