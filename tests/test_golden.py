"""The published implementation's answers on seeded inputs."""

import json

import naive
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from amg.embedding import batches, crops, encoders
from amg.embedding.encoders.lstm import LSTM
from amg.embedding.losses import amg, arcface, infonce, triplet
from amg.retrieval import databases, evaluate, published, search, trials


@pytest.fixture
def batch(golden):
    data = np.load(golden / "losses.npz", allow_pickle=False)
    tensors = {name: torch.from_numpy(data[name]) for name in data.files if data[name].ndim}
    tensors["embedding"].requires_grad_(True)
    return data, tensors


def close(ours, theirs, tolerance=1e-5):
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(
        np.asarray(ours), theirs, rtol=0, atol=tolerance * np.abs(theirs).max()
    )


def over_classes(loss, t):
    """Loss and gradient of a loss over classes; overlaps are those that earn the recorded
    margins."""
    overlap = (t["margin"] - crops.MARGIN_MIN) / (crops.MARGIN_MAX - crops.MARGIN_MIN)
    value = loss(t["embedding"], batches.Rows(t["label"], overlap, t["is_anchor"]))
    return value.item(), torch.autograd.grad(value, t["embedding"])[0]


def test_amg_loss_and_gradient(batch):
    data, t = batch
    logits = naive.margin_logits(t["embedding"], t["centres"], t["label"], t["margin"])
    close(logits.detach(), data["amg_logits"])
    loss, gradient = over_classes(amg.AMG(t["centres"], crops.margin), t)
    close(loss, data["amg_loss"])
    close(gradient, data["amg_grad"])


def test_arcface_loss_and_gradient(batch):
    data, t = batch
    loss, gradient = over_classes(arcface.ArcFace(t["centres"], crops.margin), t)
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
        model = published.load_published(golden / "published_style.pth")  # the same weights
    else:
        model = LSTM(layers=2, hidden=32).eval()
        model.load_state_dict(load_file(golden / "lstm.safetensors"))
    x, padding = torch.from_numpy(data["x"]), torch.from_numpy(data["padding_mask"])
    length = (~padding).sum(1).numpy()
    with torch.no_grad():
        close(model(x, padding), data[name])
        packed = encoders.forward(model, x[~padding].numpy(), np.cumsum(length) - length, length)
        close(packed, data[name])


def test_crops_inside_recorded_geometry(golden):
    """Every recorded crop must be one that `draw` can give, with the margin it gives."""
    table = pd.read_csv(golden / "crops.csv")
    durations = {padded: d for d, padded in crops.PADDED_FRAMES.items()}
    for (n_frames, padded), group in table.groupby(["n_frames", "max_len"]):
        n = 20000
        ours = crops.draw(
            np.random.default_rng(0), np.full(n, n_frames), np.zeros(n, bool), durations[padded]
        )
        mid, centre_frames = crops.centre(n_frames, padded)
        shown = np.rint(ours.overlap * centre_frames).astype(int)
        possible = set(zip(ours.start.tolist(), ours.length.tolist(), shown.tolist()))
        for row in group.itertuples():
            low = max(0, mid - row.length // 2)
            assert low <= row.start <= mid + centre_frames - row.length + (mid - low)
            shown = min(row.start + row.length, mid + centre_frames) - max(row.start, mid)
            assert shown == row.overlap  # in frames there
            assert row.margin == pytest.approx(crops.margin(row.overlap / centre_frames), abs=1e-6)
        seen = set(zip(group.start, group.length, group.overlap))
        assert len(seen & possible) > 0.8 * len(seen)
        assert ours.length.min() == group.length.min()


class Recorded:
    """A database, its queries and start positions, and the published hit rates on it."""

    def __init__(self, golden, name):
        data = np.load(golden / f"{name}.npz", allow_pickle=False)
        songs = {part: list(data[part].astype(np.float32)) for part in data.files}
        answers = json.loads((golden / f"{name}.json").read_text())
        self.db = databases.Database.of(songs["dummy"] + songs["db"], len(songs["dummy"]))
        self.queries, self.rates = songs["query"], answers["hit_rates_percent"]
        self.encoder = published.load_published(golden / "published_style.pth")
        self.starts = {
            int(duration): {int(length): at for length, at in of_length.items()}
            for duration, of_length in answers["test_ids"].items()
        }

    def scored(self, duration, protocol="published"):
        """Trials with their hits, of both stages."""
        segments = search.Segments.of(self.db.sequences, crops.segment_frames(duration))
        indexed = evaluate.Indexed.of(self.encoder, self.db, segments)
        asked = trials.at(self.db, self.queries, self.starts[duration])
        return evaluate.amg(asked, self.queries, indexed, protocol=protocol)


@pytest.fixture(scope="module")
def recorded(golden):
    return {name: Recorded(golden, name) for name in ("retrieval", "retrieval_edge")}


@pytest.mark.parametrize("name", ["retrieval", "retrieval_edge"])
def test_the_published_protocol_gives_the_published_hit_rates(recorded, name):
    """`retrieval_edge`: songs that repeat themselves, and votes that go below segment 0."""
    seen = 0
    for duration in recorded[name].starts:
        for scored, stage, tolerance in zip(
            recorded[name].scored(duration), ("single", "two"), ("segment", "exact")
        ):
            theirs = recorded[name].rates[f"{duration}/{stage}_stage"]
            rank = scored[f"{tolerance}_rank"].groupby(scored.query_frames)
            for ours, key in (
                (rank.apply(lambda r: 100 * (r == 1).mean()), "top1"),
                (rank.apply(lambda r: 100 * (r > 0).mean()), "top10"),
            ):
                assert ours.index.tolist() == sorted(theirs["query_frames"])
                assert ours[theirs["query_frames"]].tolist() == pytest.approx(theirs[key], abs=1e-9)
            seen += 1
    assert seen == len(recorded[name].rates) > 0


def test_the_published_start_positions_are_those_of_their_file(golden, recorded):
    assert published.load_test_ids(golden / "test_ids.pkl") == recorded["retrieval"].starts


def test_the_contiguous_protocol_repairs_the_border_defect(recorded):
    """Queries as long as a segment or longer, same data, encoder and starts: matches that run over
    a segment's end are found, which the published protocol scores against a stranger."""
    rates = {}
    for protocol in evaluate.PROTOCOLS:
        two = recorded["retrieval"].scored(15, protocol)[1]
        longest = two.query_frames == two.query_frames.max()
        rates[protocol] = 100 * (two.exact_rank[longest] == 1).mean()
    theirs = recorded["retrieval"].rates["15/two_stage"]
    assert rates["published"] == pytest.approx(theirs["top1"][np.argmax(theirs["query_frames"])])
    assert rates["published"] + 10 < rates["contiguous"]
