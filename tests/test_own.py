"""An encoder and a loss of one's own, as in a notebook's cell: trained, found, evaluated, named."""

import inspect
import sys
import textwrap
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
import torch
from conftest import interrupted_at, unit_rows, write_training_set
from torch import nn
from torch.nn import functional as F

from amg import files
from amg.check import InputError
from amg.embedding import crops, encoders, losses, registry, runs, training
from amg.embedding.encoders.transformer import Transformer
from amg.fingerprint import features
from amg.report import charts, tables
from amg.retrieval import databases, evaluate, intervals, search, trials


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

    # the loss
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
    assert tables.curve_label(table.iloc[0]) == "toy, nearest loss, 3 epochs, 10 s, single-stage"
    drawn = [
        line.get_label() for axis in charts.recall_vs_duration(table).axes for line in axis.lines
    ]
    assert set(drawn) == {"toy, nearest loss, 3 epochs"}


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


def short_crops(rng, n_frames, is_original, duration_max):
    return crops.draw(rng, n_frames, is_original, duration_max, power=6)


class Falling:
    """A schedule with a number of its own."""

    def __init__(self, half):
        self.half = half

    def __call__(self, done, lr, final_lr):
        return lr * 0.5 ** (done / self.half)


PARTS = [
    {},
    {"crop": short_crops},
    {"crop": partial(crops.draw, power=1)},
    {"crop": partial(crops.draw, power=2)},
    {"margin": lambda overlap, high, low: low + 0 * overlap},
    {"schedule": Falling(0.5)},
    {"schedule": Falling(0.25)},
    {"optimiser": torch.optim.AdamW},
    {"optimiser": partial(torch.optim.SGD, momentum=0.9)},
]


def test_crop_law_margin_schedule_and_optimiser_can_be_ones_own(data):
    """Each trains, is another run than the others, and is found again."""
    config = settings(encoder="mt", loss="amg", epochs=2, settings={"layers": 1, "width": 16})
    trained = [training.Run(config, data, "t", "cpu", **parts) for parts in PARTS]
    losses_of = [[row["loss"] for row in run.fit()] for run in trained]
    assert np.isfinite(losses_of).all()
    assert (
        len({run.folder for run in trained}) == len({tuple(of) for of in losses_of}) == len(PARTS)
    )
    again = training.Run(config, data, "t", "cpu", schedule=Falling(0.5))
    assert len(again.fit()) == 2 and again.folder == trained[5].folder
    rates = [row["lr"] for row in again.fit()]  # of the last of three steps of each epoch
    assert rates == pytest.approx([1e-3 * 0.5 ** (2 * done) for done in (2 / 6, 5 / 6)])
    assert runs.find("t", "mt", "amg", 10).name == again.folder.name


def test_a_loss_without_a_margin_takes_no_law_of_margins(data):
    config = settings(encoder="mt", loss="triplet", settings={"layers": 1})
    with pytest.raises(InputError, match="the loss triplet has no margin law"):
        training.Run(config, data, "t", "cpu", margin=lambda overlap, high, low: low)


def test_a_module_of_ones_own_is_named_by_a_parameter(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    source = inspect.getsource(define).partition("# the loss\n")[0].splitlines()[3:]
    header = "from torch import nn\nfrom torch.nn import functional as F\n"
    header += "from amg.embedding import encoders\nbias = True\n"
    (tmp_path / "my_toy.py").write_text(header + textwrap.dedent("\n".join(source)))
    registry.load("")
    assert "toy" not in encoders.registry
    registry.load("my_toy")
    assert encoders.registry["toy"].__module__ == "my_toy"
    (tmp_path / "my_slip.py").write_text("1 / 0")
    for name, message in (
        ("my_slip", r"cannot be imported \(ZeroDivisionError.*put my_slip.py beside"),
        ("my_other", "cannot be imported .ModuleNotFoundError"),
        ("a/b.py", "must be the name of a module"),
        (3, "must be the name of a module"),
    ):
        with pytest.raises(InputError, match=message):
            registry.load(name)


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
