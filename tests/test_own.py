"""An encoder and a loss of one's own, as in a notebook's cell: trained, found, evaluated, named."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from conftest import interrupted_at, unit_rows, write_training_set
from torch import nn
from torch.nn import functional as F

from amg import files
from amg.check import InputError
from amg.embedding import encoders, losses, runs, training
from amg.embedding.encoders.transformer import Transformer
from amg.fingerprint import features
from amg.report import charts, tables
from amg.retrieval import databases, evaluate, intervals, search, trials


@pytest.fixture
def own():
    """The registries are afterwards what they were before."""
    kept = [(registry, dict(registry)) for registry in (encoders.registry, losses.registry)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


def define(bias=True):
    """What the cell would hold."""

    @encoders.register("toy")
    class Toy(nn.Module):
        limits = {"slope": (0, 1)}

        def __init__(self, width=16, slope=0.1):
            super().__init__()
            self.lift, self.fall = nn.Linear(128, width, bias=bias), nn.Linear(width, 128)
            self.slope = slope

        def forward(self, x, padding):
            x = F.leaky_relu(self.lift(x), self.slope) * ~padding[..., None]
            return F.normalize(self.fall(x.sum(1) / (~padding).sum(1, keepdim=True)))

    @losses.register("nearest")
    class Nearest(nn.Module):
        batches = "classes"

        def __init__(self, centres, sharpness=5.0):
            super().__init__()
            self.centres, self.log = (
                nn.Parameter(centres),
                nn.Parameter(torch.tensor(sharpness).log()),
            )

        def forward(self, vectors, rows):
            return F.cross_entropy(
                self.log.exp() * vectors @ F.normalize(self.centres).T, rows.song
            )


@pytest.fixture
def data(home):
    return features.pack(write_training_set(home / "data/train/t", n_songs=12, n_frames=59))


def settings(**changes):
    return runs.Config(
        **{
            "encoder": "toy",
            "loss": "nearest",
            "epochs": 3,
            "batch_size": 12,
            "n_valid": 3,
            "settings": {"width": 24, "sharpness": 8.0},
            **changes,
        }
    )


def train(config, data, train_set):
    run = training.Run(config, data, train_set, "cpu")
    return run, run.fit()


def test_it_trains_and_resumes_like_the_kits_own(own, data):
    define()
    config = settings(n_valid=0)
    whole, history = train(config, data, "whole")
    assert history[-1]["loss"] < history[0]["loss"]
    assert whole.encoder.lift.out_features == 24 and "-width24-sharpness8.0-" in whole.folder.name
    with interrupted_at(4):
        train(config, data, "parts")
    parts, _ = train(config, data, "parts")
    for file in ("last.safetensors", "best.safetensors"):
        assert files.sha256(whole.folder / file) == files.sha256(parts.folder / file)
    found = runs.find("whole", "toy", "nearest", 10)
    assert found.finished and found.config == config and found.name == whole.folder.name
    clips = [np.array(data.clip(song, 0)[:7]) for song in range(3)]
    assert np.array_equal(
        encoders.embed(found.encoder, clips), encoders.embed(whole.encoder, clips)
    )


@pytest.mark.parametrize(
    "encoder, loss", [("toy", "amg"), ("toy", "triplet"), ("mt", "nearest"), ("mlstm", "nearest")]
)
def test_it_goes_with_the_kits_own(own, data, encoder, loss):
    define()
    _, history = train(
        settings(encoder=encoder, loss=loss, epochs=1, settings={"layers": 1, "width": 16}),
        data,
        "t",
    )
    assert np.isfinite(history[0]["loss"])


def test_it_is_evaluated_and_named_in_tables_and_figures(own, data):
    define()
    train(settings(), data, "t")
    run = runs.find("t", "toy", "nearest", 10)
    songs = [np.array(data.clip(song, 0)) for song in range(12)]
    queries = [np.array(data.clip(song, 2)) for song in range(12)]
    database = databases.Database.of(songs)
    segments = search.Segments.of(database.sequences, 19)
    asked = trials.recorded(trials.draw([59] * 12, (5, 19), 2, 0, [19]), database)
    labels = evaluate.labels("toy", "nearest", 10, run)
    indexed = evaluate.Indexed.of(run.encoder, database, segments, labels)
    table = intervals.table(evaluate.amg(asked, queries, indexed))
    assert (table.run == run.name).all() and set(table.encoder) == {"toy"}
    assert tables.ablation_label(table.iloc[0]) == "toy, nearest loss"
    assert tables.curve_label(table.iloc[0]) == "toy, nearest loss, 10 s, single-stage"
    assert "toy, nearest loss, two-stage" in tables.ablations(table).index.get_level_values(0)
    drawn = [
        line.get_label() for axis in charts.recall_vs_duration(table).axes for line in axis.lines
    ]
    assert set(drawn) == {"toy, nearest loss"}


def test_a_changed_class_is_another_run(own, data):
    define()
    first, _ = train(settings(epochs=1), data, "t")
    again, _ = train(settings(epochs=1), data, "t")

    @encoders.register("toy")
    class Toy(encoders.registry["toy"]):
        def forward(self, x, padding):
            return super().forward(-x, padding)

    with pytest.raises(InputError, match="another class of the name toy or nearest"):
        runs.find("t", "toy", "nearest", 10)
    other, _ = train(settings(epochs=1), data, "t")
    assert first.folder == again.folder != other.folder


def test_a_subclass_of_the_transformer_computes_its_own_way(own):
    class Backwards(Transformer):
        def forward(self, x, padding):
            return -super().forward(x, padding)

    torch.manual_seed(0)
    clips = [unit_rows(np.random.default_rng(0), n, 128) for n in (4, 9)]
    plain, backwards = Transformer(1).eval(), Backwards(1).eval()
    backwards.load_state_dict(plain.state_dict())
    np.testing.assert_allclose(
        encoders.embed(backwards, clips), -encoders.embed(plain, clips), atol=1e-5
    )


def test_a_default_may_lie_below_what_others_may_be(own):
    @encoders.register("odd")
    class Odd(nn.Module):
        def __init__(self, depth=0, shift=-1.0):
            super().__init__()

    config = settings(encoder="odd", loss="amg", settings={})
    assert (
        config.settings["depth"] == 0 and runs.Config(**asdict(config)) == config
    )  # as `find` does


def test_mistakes_end_in_one_sentence(own, data):
    with pytest.raises(
        InputError, match="encoder is 'toy', but must be one of: .* once it is registered"
    ):
        settings()
    define()
    for changes, message in (
        ({"slope": 2.0}, "slope is 2.0, but must be a number from 0 to 1"),
        ({"width": 0}, "width is 0"),
        ({"wide": 3}, "a setting is 'wide'"),
    ):
        with pytest.raises(InputError, match=message):
            settings(settings=changes)

    @losses.register("aimless")
    class Aimless(nn.Module):
        batches = "everything"

        def __init__(self, tables):
            super().__init__()

    with pytest.raises(
        InputError, match="batches of aimless is 'everything', but must be one of: classes"
    ):
        settings(loss="aimless", settings={})
    Aimless.batches = "classes"
    with pytest.raises(InputError, match="the loss aimless cannot be built with .*tables"):
        train(settings(loss="aimless", settings={}), data, "t")
