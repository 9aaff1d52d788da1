"""Training of the AMG encoder: gradients, resuming, learning; runs as files."""

import dataclasses
import multiprocessing
import shutil
import threading

import naive
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import interrupted_at, unit_rows, write_training_set
from torch import nn
from torch.nn import functional as F

from amg import checkpoint, files, provenance
from amg.check import InputError
from amg.embedding import (
    batches,
    chosen,
    crops,
    encoders,
    losses,
    runs,
    songs,
    training,
    validation,
)
from amg.embedding.encoders.cnn import CNN, DenseNet121
from amg.embedding.encoders.lstm import LSTM
from amg.embedding.encoders.transformer import Transformer
from amg.embedding.fast import products, softmax
from amg.embedding.losses import arcface
from amg.embedding.losses.triplet import Triplet
from amg.fingerprint import features, nafp
from amg.retrieval import published

ENCODERS, LOSSES = ("mt", "mlstm", "mcnn"), ("amg", "arcface", "infonce", "triplet")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
DEVICES = ["cpu", pytest.param("cuda", marks=cuda)]


@pytest.fixture
def data(home):
    return features.pack(write_training_set(home / "data/train/t", n_songs=8, n_frames=59))


def config(settings=(), **changes):
    return runs.Config(
        **{"duration_max": 10, "epochs": 4, "batch_size": 8, "n_valid": 2, **changes},
        settings={"layers": 1, **dict(settings)},
    )


def train(settings, data, train_set="t"):
    run = training.Run(settings, data, train_set, "cpu")
    return run, run.fit()


def batch_of(data, settings, size=24):
    """The first batch of an epoch of all songs."""
    return batches.epoch(
        np.random.default_rng(3), data.length, size, settings.batches, settings.duration_max
    )[0]


def update(data, settings, monkeypatch, micro_frames, device="cpu"):
    """(loss, gradients) of one update."""
    monkeypatch.setattr(training, "MICRO_FRAMES", micro_frames)
    run = training.Run(settings, data, "t", device)
    loss = run._update(batch_of(data, settings), lr=0.0)
    return loss, [p.grad.cpu() for group in run.optimiser.param_groups for p in group["params"]]


def assert_alike(ours, theirs, tolerance=1e-4):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            a, b, rtol=tolerance, atol=tolerance / 4 * float(b.detach().abs().max())
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("block", [1, 40, 10**6])
def test_blocks_of_classes_give_the_loss_and_gradients_of_the_whole_table(
    block, device, monkeypatch
):
    monkeypatch.setattr(softmax, "BLOCK", block)
    rng = np.random.default_rng(0)
    x, centres = (
        torch.tensor(rng.standard_normal((n, 16)), device=device, requires_grad=True)
        for n in (8, 23)
    )
    label, margin, weight = (
        torch.tensor(column, device=device)
        for column in (rng.integers(0, 23, 8), rng.uniform(0.2, 0.4, 8), rng.random(8))
    )  # a gradient each
    expected = torch.nn.functional.cross_entropy(
        naive.margin_logits(x, centres, label, margin), label, reduction="none"
    )
    for many in (24, 23):  # the whole table, and blocks
        monkeypatch.setattr(softmax, "MANY", many)
        ours = arcface.arcface(x, centres, label, margin)
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(
            *(
                torch.autograd.grad(weight @ loss, (x, centres), retain_graph=True)
                for loss in (ours, expected)
            )
        )


@cuda
@pytest.mark.parametrize("many", [24, 23])
def test_the_softmax_over_classes_never_waits_for_the_gpu(many, monkeypatch):
    monkeypatch.setattr(softmax, "MANY", many)
    monkeypatch.setattr(softmax, "BLOCK", 40)
    x, centres = (torch.randn(n, 16, device="cuda", requires_grad=True) for n in (8, 23))
    label = torch.arange(8, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        arcface.arcface(x, centres, label, torch.full((8,), 0.3, device="cuda")).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("unrounded")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_micro_batches_give_the_gradient_of_the_whole_batch(data, monkeypatch, encoder, loss):
    settings = config({"dropout": 0.0}, encoder=encoder, loss=loss, n_valid=0, batch_size=24)
    whole, one_go = update(data, settings, monkeypatch, 10**6)
    parts, accumulated = update(data, settings, monkeypatch, 48)
    assert whole == pytest.approx(parts, rel=1e-5)
    assert_alike(accumulated, one_go)


@cuda
@pytest.mark.parametrize("encoder, tolerance", [("mt", 0.1), ("mlstm", 0.1)])
def test_an_update_on_cuda_is_that_of_the_cpu(data, monkeypatch, encoder, tolerance):
    settings = config({"dropout": 0.0}, encoder=encoder, n_valid=0, batch_size=24)
    on_cpu, gradients = update(data, settings, monkeypatch, 100)
    on_cuda, theirs = update(data, settings, monkeypatch, 100, "cuda")
    assert on_cuda == pytest.approx(on_cpu, rel=0.02)  # bfloat16
    for a, b in zip(theirs, gradients):
        assert (a - b).norm() <= tolerance * b.norm() + 1e-3


@pytest.mark.skipif(not products.rounded_here(), reason="nothing is rounded here")
@pytest.mark.parametrize("encoder", ["mt", "mlstm"])
def test_an_update_of_rounded_products_is_nearly_that_of_exact_ones(data, monkeypatch, encoder):
    settings = config({"dropout": 0.0}, encoder=encoder, n_valid=0, batch_size=24)
    ours, gradients = update(data, settings, monkeypatch, 100)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    exact, theirs = update(data, settings, monkeypatch, 100)
    assert ours != exact and ours == pytest.approx(exact, rel=0.02)
    for a, b in zip(gradients, theirs, strict=True):
        assert (a - b).norm() <= 0.1 * b.norm() + 1e-3


@pytest.mark.usefixtures("unrounded")
def test_the_update_is_that_of_the_padded_batch(data, monkeypatch):
    """Loss and every gradient against the published way: one batch padded to 24 frames, masked."""
    settings = config({"dropout": 0.0, "layers": 2}, n_valid=0, batch_size=24)
    ours, gradients = update(data, settings, monkeypatch, 100)
    run, batch = training.Run(settings, data, "t"), batch_of(data, settings)
    crop = batch.crop
    padded, mask = naive.pad(
        [
            data.clip(s, c)[start : start + length]
            for s, c, start, length in zip(batch.song, batch.clip, crop.start, crop.length)
        ],
        24,
    )
    margin = torch.from_numpy(0.2 * crop.overlap + 0.2).float()
    expected = naive.published_loss(
        run.encoder(padded, mask),
        run.loss.centres,
        torch.from_numpy(batch.song),
        margin,
        torch.from_numpy(batch.clip == 0),
    )
    expected.backward()
    assert ours == pytest.approx(expected.item(), rel=1e-5)
    assert_alike(gradients, [p.grad for p in (*run.encoder.parameters(), *run.loss.parameters())])


def test_triplets_are_the_published_ones(data, monkeypatch):
    """Anchor a degraded crop, positive its song's original centre, negative another song's."""
    settings = config({"dropout": 0.0, "triplet_margin": 2.0}, loss="triplet", n_valid=0)
    ours, _ = update(data, settings, monkeypatch, 100)
    run, batch = training.Run(settings, data, "t"), batch_of(data, settings)

    def vector(clip):
        return encoders.embed(run.encoder, [clip])[0]

    total, n = 0.0, len(batch.song) // 3
    for i in range(n):
        song, other, version = batch.song[i], batch.song[2 * n + i], batch.clip[i]
        start, length = batch.crop.start[i], batch.crop.length[i]
        anchor = vector(data.clip(song, version)[start : start + length])
        positive, negative = (vector(data.clip(s, 0)[17:41]) for s in (song, other))  # 24 of 59
        assert version and song != other
        total += max(0.0, float(anchor @ negative - anchor @ positive) + 2.0)
    assert ours == pytest.approx(total / n, rel=1e-4)


def test_triplets_without_loss_are_left_out_of_the_mean():
    axes = torch.eye(3, 128)
    loss = Triplet()(torch.cat([axes[[0, 0]], axes[[0, 1]], axes[[1, 0]]]), None)
    assert loss.item() == pytest.approx(1.2)  # the first triplet has none; the second 1 - 0 + 0.2
    assert Triplet()(torch.cat([axes[:1], axes[:1], axes[1:2]]), None).item() == 0


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "encoder, loss, stop_at",
    [
        *(
            (*kind, stop_at)
            for kind in (("mt", "amg"), ("mlstm", "arcface"), ("mt", "triplet"))
            for stop_at in (1, 3, 4)
        ),  # 3 batches an epoch: 3 stops between two of them
        ("mcnn", "infonce", 3),
    ],
)  # the slow one: within an epoch alone
def test_resuming_ends_with_the_same_weights(data, encoder, loss, stop_at):
    """Interrupted at a step, in the middle of an epoch or after one, and started again."""
    settings = config(
        {"layers": 2}, encoder=encoder, loss=loss, epochs=2 if encoder == "mcnn" else 3
    )
    whole, history = train(settings, data, "whole")
    with interrupted_at(stop_at):
        train(settings, data, "parts")
    with pytest.raises(InputError, match="is not finished; run notebook 03_train again"):
        runs.find("parts", encoder, loss, 10)
    parts, seen = training.Run(settings, data, "parts", "cpu"), []
    resumed = parts.fit(lambda history: seen.append(len(history)))
    assert seen[-1] == settings.epochs
    for a, b in zip(history, resumed, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    for file in ("last.safetensors", "best.safetensors"):
        assert files.sha256(whole.folder / file) == files.sha256(parts.folder / file)


def test_an_unfinished_run_can_be_asked_for(data, monkeypatch):
    save = training.Run._save

    def interrupted(run, **options):
        save(run, **options)
        raise Stop

    monkeypatch.setattr(training.Run, "_save", interrupted)
    with pytest.raises(Stop):
        train(config(), data)
    found = runs.find("t", unfinished=True)
    assert not found.finished and len(found.history) == 1
    monkeypatch.setattr(training.Run, "_save", save)
    train(config(), data)
    assert runs.find("t").finished


def test_a_loss_that_is_not_finite_ends_in_one_sentence(data, monkeypatch):
    monkeypatch.setattr(
        arcface.ArcFace, "forward", lambda loss, vectors, rows: vectors.sum() * np.nan
    )
    with pytest.raises(InputError, match="no longer finite; train with a lower lr"):
        train(config(loss="arcface"), data)


def test_an_encoder_that_tells_nothing_apart_scores_nothing(data):
    run = training.Run(config(), data, "t", "cpu")
    with torch.no_grad():
        for parameter in run.encoder.linear2.parameters():
            parameter.copy_(torch.ones_like(parameter) * (parameter.ndim == 1))
    assert run._validate() == {"top1": 0.0, "top10": 100.0}  # there are eight originals


def test_densenet_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in DenseNet121().parameters()) == 7_978_856


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("encoder", ["mt", "mlstm"])
def test_training_learns(data, device, encoder):
    run = training.Run(config(epochs=12, encoder=encoder), data, "t", device)
    history = run.fit()
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert history[-1]["lr"] < history[0]["lr"] <= 1e-3
    assert history[-1]["lr"] == pytest.approx(1e-4, rel=0.2)


def test_a_finished_run_is_shown_and_not_trained_again(data, monkeypatch, capsys):
    run, history = train(config(epochs=2), data)
    monkeypatch.setattr(training.Run, "_update", lambda *_: pytest.fail("trained again"))
    again, shown = train(config(epochs=2), data)
    assert shown == history and again.folder == run.folder
    assert "2 of 2 epochs were trained earlier" in capsys.readouterr().out
    for a, b in zip(run.encoder.parameters(), again.encoder.parameters()):
        assert torch.equal(a, b)


def test_another_configuration_lies_elsewhere_and_is_found_again(data, monkeypatch):
    first, _ = train(config(epochs=1), data)
    kept = (first.folder / "best.safetensors").read_bytes()
    other, _ = train(config(epochs=1, lr=5e-4), data)
    assert other.folder.name.startswith("mt-amg-10s-epochs1-batch_size8-lr0.0005-n_valid2-layers1-")
    assert runs.find("t").name == other.folder.name and runs.find("t").config.lr == 5e-4
    monkeypatch.setattr(training.Run, "_update", lambda *_: pytest.fail("trained again"))
    train(config(epochs=1), data)
    assert runs.find("t").name == first.folder.name
    digest = other.folder.name[-8:]
    assert chosen.named("t", digest, "mt", "pam", [5, 10]) == {10: other.folder}
    assert runs.find("t", folder=other.folder).config == other.config
    for run, durations in (("none", [5, 10]), (digest, [5])):
        with pytest.raises(InputError, match=f"run is '{run}', but must be one of: .*runs of t,"):
            chosen.named("t", run, "mt", "amg", durations)
    assert (first.folder / "best.safetensors").read_bytes() == kept


def test_changed_data_start_a_new_run(data, home):
    first, _ = train(config(epochs=1), data)
    other = features.pack(write_training_set(home / "data/train/u", n_songs=8, n_frames=59, seed=1))
    second, _ = train(config(epochs=1), other)
    assert first.folder != second.folder and (first.folder / "last.safetensors").exists()


def _train_slowly(home, started):
    import os

    os.environ["AMG_HOME"] = str(home)
    training.Run._save = lambda run, **_: (started.set(), threading.Event().wait())
    train(config(), features.pack(home / "data/train/t"))


def test_a_second_process_in_one_run_is_told(data, home):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_train_slowly, args=(home, started), daemon=True)
    process.start()
    try:
        assert started.wait(60)
        with pytest.raises(
            InputError, match="another process is working on data/models/t/mt-amg-10s"
        ):
            train(config(), data)
    finally:
        process.kill()
        process.join()
    train(config(), data)  # a killed one keeps nobody out


def test_best_is_the_first_of_the_best_epochs(data, monkeypatch):
    scores = iter([20.0, 60.0, 60.0, 40.0])
    monkeypatch.setattr(training.Run, "_validate", lambda run: {"top1": next(scores)})
    _, history = train(config(epochs=4), data)
    assert [row["top1"] for row in history] == [20.0, 60.0, 60.0, 40.0]
    assert [row["top1"] for row in runs.find("t").history] == [20.0, 60.0]


def test_short_versions_and_lone_originals_can_be_held_out(home):
    """Versions of 7 frames, the first of their songs' centre."""
    rng, short, lone = np.random.default_rng(0), home / "data/train/short", home / "data/train/lone"
    for song in range(1, 6):
        original = unit_rows(rng, 59, 128)
        features.save(features.song_file(short, song, 0), original)
        features.save(features.song_file(short, song, 1), original[17:24])
        features.save(features.song_file(lone, song, 0), original)
    packed = features.pack(short)
    run, history = train(config(epochs=1), packed, "short")
    assert history[0]["top1"] in (0, 50, 100)  # of two songs
    found = validation.ranks(encoders.Mean(), packed, run.held_out, 10)
    assert found.values.tolist() == [[3, 1, 0], [4, 1, 0]]
    lone = features.pack(home / "data/train/lone")
    run, history = train(config(epochs=1), lone, "lone")
    assert "top1" not in history[0]
    assert validation.overlaps(run.encoder, lone, run.held_out, 10).empty
    with pytest.raises(InputError, match="has none"):
        training.Run(config(loss="triplet"), lone, "lone")


def test_held_out_songs_are_those_that_the_training_set_names(data, home):
    made_by = provenance.Recipe("training set", {"n_valid": 3}).identity
    files.write_json(provenance.record_of(home / "data/train/t"), {**made_by, "finished": True})
    with pytest.raises(
        InputError, match="n_valid is 2, but the last 3 songs of t .*; set n_valid to 3"
    ):
        training.Run(config(), data, "t")
    assert training.Run(config(n_valid=3), data, "t").held_out.tolist() == [5, 6, 7]
    with pytest.raises(InputError, match="only 8 songs"):
        training.Run(config(n_valid=8), data, "foreign")


def test_cosines_by_overlap_are_those_of_the_crops(data):
    """Mean pooling of songs whose versions are nearly their originals, against a naive reading."""
    found = validation.overlaps(encoders.Mean(), data, np.array([5, 7]), 10)
    assert found.song.tolist() == [5, 5, 7, 7] and found["clip"].tolist() == [1, 2, 1, 2]
    rng = np.random.default_rng([0, validation.OVERLAPS])
    drawn = crops.draw(rng, np.full(4, 59), np.zeros(4, bool), 10, power=1)
    centres = {song: data.clip(song, 0)[17:41].mean(0) for song in (5, 7)}  # 24 of 59
    for row, start, length, overlap in zip(found.itertuples(), *drawn, strict=True):
        shown = data.clip(row.song, row.clip)[start : start + length].mean(0)
        cosine, others = (
            shown @ centres[song] / np.linalg.norm(shown) / np.linalg.norm(centres[song])
            for song in (row.song, 12 - row.song)
        )
        assert row.overlap == overlap
        assert (row.cosine, row.others) == pytest.approx((cosine, others), abs=1e-5)
    assert (found.cosine > found.others).all()
    again = validation.overlaps(encoders.Mean(), data, np.array([5, 7]), 10)
    assert found.equals(again)
    assert not found.equals(
        validation.overlaps(encoders.Mean(), data, np.array([5, 7]), 10, seed=1)
    )


def test_songs_are_looked_for_among_the_first_ones_and_themselves(data, monkeypatch):
    held_out = np.array([5, 7])
    found = validation.ranks(encoders.Mean(), data, held_out, 10)
    monkeypatch.setattr(validation, "MOST", 3)
    kept = validation.ranks(encoders.Mean(), data, held_out, 10)
    some = [0, 1, 2, 5, 7]
    among = dataclasses.replace(data, first=data.first[some], length=data.length[some])
    again = validation.ranks(encoders.Mean(), among, np.array([3, 4]), 10)
    assert kept["rank"].tolist() == again["rank"].tolist()
    assert (kept["rank"] <= found["rank"]).all()


def test_ranks_count_the_originals_that_score_as_high(data):
    found = validation.ranks(encoders.Mean(), data, np.arange(8), 10)
    assert (
        len(found) == 16 and (found["rank"] == 0).mean() > 0.8
    )  # a mean of half the centre's rows
    rng = np.random.default_rng([0, validation.RANKS])
    for row in found.itertuples():
        start = 17 + rng.integers(24 - 9 + 1)
        half = data.clip(row.song, row.clip)[start : start + 9].mean(0)
        scores = []
        for song in range(8):
            centre = data.clip(song, 0)[17:41].mean(0)
            scores.append(half @ centre / np.linalg.norm(centre))
        assert row.rank == sum(score >= scores[row.song] for score in scores) - 1


def test_stored_encoder_answers_alike(data):
    run, _ = train(config(epochs=1), data)
    found = runs.find("t")
    clips = [np.array(data.clip(s, 0)[:19]) for s in range(3)]
    assert np.array_equal(encoders.embed(found.encoder, clips), encoders.embed(run.encoder, clips))
    assert found.config == run.config and len(found.history) == 1 and found.finished
    assert found.name == run.folder.name


def test_embedding_ignores_padding_and_company():
    rng = np.random.default_rng(0)
    clips = [unit_rows(rng, n, 128) for n in (3, 19, 7, 12)]
    for model in (Transformer(layers=1), LSTM(layers=2, hidden=16), CNN(24), encoders.Mean()):
        together = encoders.embed(model, clips)
        alone = np.concatenate([encoders.embed(model, [clip]) for clip in clips])
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"duration_max": 7}, "duration_max is 7, but must be one of: 5, 10, 15, 30"),
        (
            {"encoder": "foo"},
            "encoder is 'foo', but must be one of: mcnn, mean, lift, lift1024, mlstm, mt",
        ),
        ({"loss": "l2"}, "one of: arcface, amg, infonce, triplet, pam, tam"),
        ({"loss": "infonce", "batch_size": 2}, "batch_size is 2"),
        ({"loss": "infonce", "settings": {"temperature": 0}}, "temperature is 0"),
        ({"settings": {"scales": 0}}, "a setting is 'scales', but must be one of: bits, centres, "),
        ({"settings": {"dropout": 1.0}}, "dropout is 1.0"),
        ({"settings": {"layers": 0}}, "layers is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_configurations_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        config(**changes)


def test_equal_configurations_are_written_alike():
    assert config(loss="pam") == config(loss="tam") == config(loss="amg")
    assert (
        config({"scale": 32, "temperature": 0.3}) == config() and config(lr=1, loss="amg").lr == 1.0
    )
    assert runs.Config().differs == "" and runs.Config(settings={"layers": 2}).differs == "layers2"


def test_settings_that_cannot_be_built_are_refused(data):
    with pytest.raises(InputError, match="the encoder mt cannot be built with .*divisible"):
        training.Run(config({"heads": 7}), data, "t")


def test_missing_runs_name_the_notebook(home):
    with pytest.raises(InputError, match="mt-amg-10s is missing; run notebook 03_train"):
        runs.find("t")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda t, r: ({}, {}), "no such checkpoint of this kit"),
        (lambda t, r: (t, {**r, "config": {"layers": 2}}), "holds another run than mt-amg-10s"),
        (
            lambda t, r: (t, {**r, "config": {**r["config"], "duration_max": 5}}),
            "holds another run than mt-amg-10s",
        ),
        (lambda t, r: ({n: w * np.nan for n, w in t.items()}, r), "holds infinite weights or NaN"),
        (
            lambda t, r: (t, {**r, "config": {**r["config"], "settings": {"layers": 2}}}),
            "do not fit",
        ),
    ],
)
def test_other_files_than_its_checkpoint_are_refused(data, home, spoil, message):
    """In a folder that came from elsewhere: it has no record."""
    run, _ = train(config(epochs=1), data)
    away = home / "data/models/away/mt-amg-10s"
    shutil.copytree(run.folder, away)
    assert runs.find("away").finished
    tensors, record = checkpoint.load(away / "best.safetensors")
    checkpoint.save(away / "best.safetensors", *spoil(tensors, record))
    with pytest.raises(InputError, match=message):
        runs.find("away")
    (away / "best.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        runs.find("away")
    with pytest.raises(InputError, match="was not made by this kit"):
        train(config(epochs=1), data, "away")


def test_shipped_weights_are_the_runs_and_keep_to_their_card(data, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "shipped", lambda name: tmp_path / f"{name}.safetensors")
    with pytest.raises(
        InputError, match="mt-amg-10s.safetensors is missing; run notebook 03_train"
    ):
        runs.find(runs.SHIPPED)
    train(config(epochs=1), data)
    ours = runs.find("t")
    file = runs.ship(ours, data, {"songs": 6})
    theirs = runs.find(runs.SHIPPED)
    assert (theirs.config, theirs.history, theirs.fingerprinter) == (
        ours.config,
        ours.history,
        ours.fingerprinter,
    )
    assert theirs.finished and theirs.name == "shipped mt-amg-10s"
    clips = [data.clip(song, 0) for song in range(4)]
    cosine = (encoders.embed(ours.encoder, clips) * encoders.embed(theirs.encoder, clips)).sum(
        axis=1
    )
    assert cosine == pytest.approx(np.ones(4), abs=1e-4)
    files.write_json(file.with_suffix(".json"), {"sha256": "another's"})
    with pytest.raises(InputError, match="does not have the SHA-256"):
        runs.find(runs.SHIPPED)


def test_published_checkpoints_of_several_gpus_are_read(golden, tmp_path):
    stored = torch.load(golden / "published_style.pth", weights_only=True)
    spread = {"model": {f"module.{name}": weight for name, weight in stored["model"].items()}}
    torch.save(spread, tmp_path / "spread.pth")
    one, other = (
        published.load_published(path)
        for path in (golden / "published_style.pth", tmp_path / "spread.pth")
    )
    assert_alike(one.parameters(), other.parameters())
    torch.save({"model": {n: w * np.nan for n, w in stored["model"].items()}}, tmp_path / "nan.pth")
    with pytest.raises(InputError, match="not finite"):
        published.load_published(tmp_path / "nan.pth")


def test_losses_against_naive_loops():
    rng = np.random.default_rng(0)
    x, centres = unit_rows(rng, 6, 16).astype(float), unit_rows(rng, 4, 16).astype(float)
    label, overlap = np.array([0, 1, 2, 3, 0, 1]), np.linspace(0, 1, 6)
    margin, total = 0.2 + 0.2 * overlap, 0.0
    for i in range(6):
        logits = []
        for c in range(4):
            cosine = float(x[i] @ centres[c])
            if c == label[i]:
                sine = np.sqrt(1 - cosine**2 + 1e-5)
                inside = cosine > np.cos(np.pi - margin[i])
                cosine = (
                    cosine * np.cos(margin[i]) - sine * np.sin(margin[i])
                    if inside
                    else cosine - margin[i] * np.sin(np.pi - margin[i])
                )
            logits.append(32 * cosine)
        total += np.log(np.exp(logits).sum()) - logits[label[i]]
    pull = np.mean([1 - x[i] @ centres[label[i]] for i in (0, 3)])
    vectors, first, song, overlap = (torch.from_numpy(a) for a in (x, centres, label, overlap))
    for name, originals, expected in (
        ("arcface", [0, 3], total / 6),
        ("amg", [], total / 6),
        ("amg", [0, 3], total / 6 + 10 * pull),
    ):
        loss = losses.registry.build(name, {}, centres=first.clone, margin=lambda: crops.margin)
        is_original = torch.isin(torch.arange(6), torch.tensor(originals))
        assert loss(vectors, batches.Rows(song, overlap, is_original)).item() == pytest.approx(
            expected, rel=1e-6
        )


def test_an_encoder_without_training_is_not_trained(home):
    data = features.pack(write_training_set(home / "data/train/t", n_songs=8, n_frames=59))
    with pytest.raises(InputError, match="the encoder lift has nothing to train; notebook 04"):
        training.Run(runs.Config(encoder="lift", n_valid=2), data, "t")


def test_the_kits_own_encoders_are_of_its_fingerprinter_and_have_cards():
    weights = [runs.shipped(f"mt-amg-{duration}s") for duration in crops.DURATIONS]
    assert sum(file.stat().st_size for file in weights) <= 12_000_000
    for duration, file in zip(crops.DURATIONS, weights):
        found, card = (
            runs.find(runs.SHIPPED, duration_max=duration),
            files.read_json(file.with_suffix(".json")),
        )
        assert found.config.duration_max == card["duration_max"] == duration
        assert found.fingerprinter == card["fingerprinter"] == files.sha256(nafp.shipped())[:16]
        assert (
            card["songs"] > 500 and card["music_hours"] and card["best_epoch"] == len(found.history)
        )
        assert card["validation_top1"] == pytest.approx(found.history[-1]["top1"], abs=0.06)
        assert {"of_mean_pooling", "training_minutes", "made_with", "seed"} <= set(card)


class Constant(nn.Module):
    """Learns nothing but one direction: an encoder that has collapsed."""

    def __init__(self):
        super().__init__()
        self.direction = nn.Parameter(torch.ones(128))

    def forward(self, x, padding):
        return F.normalize(self.direction.expand(len(x), -1) + 0 * x.sum(1))


def test_a_collapse_is_told_once(home, monkeypatch, capsys):
    write_training_set(home / "data/train/t", n_songs=12, n_frames=59)
    data = features.pack(home / "data/train/t")
    config = runs.Config(epochs=2, batch_size=12, n_valid=3, settings={"layers": 1})
    training.Run(config, data, "t", "cpu").fit()
    assert "collapsed" not in capsys.readouterr().out
    for n_valid in (3, 0):
        config = runs.Config(
            epochs=2, batch_size=12, n_valid=n_valid, settings={"layers": 1}, seed=1
        )
        run = training.Run(config, data, "t", "cpu")
        monkeypatch.setattr(run, "encoder", Constant())
        run.optimiser = torch.optim.Adam(run.encoder.parameters(), lr=1e-3)
        run.fit()
        said = capsys.readouterr().out
        assert said.count("has collapsed after epoch 1") == 1
        assert "mean cosine 1.000); train with a lower lr, 0.0003 say" in said


def test_the_cosine_between_songs_is_that_of_all_pairs(home):
    write_training_set(home / "data/train/t", n_songs=6, n_frames=59)
    data, songs = features.pack(home / "data/train/t"), np.arange(1, 6)
    first, length = validation.centres(data, songs, 10)
    means = [data.frames[at : at + n].mean(axis=0) for at, n in zip(first, length)]
    means = [mean / np.linalg.norm(mean) for mean in means]
    pairs = [one @ other for i, one in enumerate(means) for other in means[:i]]
    assert np.isclose(
        validation.between(encoders.Mean(), data, songs, 10), np.mean(pairs), atol=1e-5
    )


def test_settings_of_no_class_are_kept_where_they_are_not_as_published(data):
    assert config().settings == config({"crop_power": 3, "classes": "clip"}).settings
    varied = config({"crop_power": 1, "songs": 4, "classes": "recording"})
    assert varied.settings["crop_power"] == 1 and varied.variation.songs == 4
    assert "crop_power1" in varied.differs and varied.variation.centres == "mean"
    for wrong in ({"classes": "song"}, {"crop_power": 0}, {"warm_up": 2.0}, {"patience": -1}):
        (name,) = wrong
        with pytest.raises(InputError, match=f"{name} is"):
            config(wrong)
    for wrong in ({"songs": 7}, {"versions": 9}):
        with pytest.raises(InputError, match="whole number from 0 to"):
            training.Run(config(wrong), data, "t", "cpu")


def test_a_training_learns_from_the_songs_and_versions_that_it_is_given(data):
    run = training.Run(config({"songs": 4, "versions": 2}), data, "t", "cpu")
    assert run.learnt.shape == (4, 3) and run.loss.centres.shape == (4, 128)
    np.testing.assert_array_equal(run.learnt, data.length[:4, :3])
    seen = batches.epoch(np.random.default_rng(0), run.learnt, 8, "classes", 10)
    assert {*np.concatenate([b.song for b in seen])} == {*range(4)}
    assert {*np.concatenate([b.clip for b in seen])} == {*range(3)}
    assert songs.updates(run.config, data) == 2  # of 8 rows, for 12 clips
    assert (run.held_out == [6, 7]).all()


def test_classes_of_recordings_hold_all_their_clips(data, home):
    table = pd.DataFrame({"recording": list("aabbccdd")})
    table.to_csv(home / "data/train/t.songs.csv", index=False)
    run = training.Run(config({"classes": "recording"}), data, "t", "cpu")
    assert run.classes.tolist() == [0, 0, 1, 1, 2, 2]
    plain = training.Run(config(), data, "t", "cpu").loss.centres
    torch.testing.assert_close(run.loss.centres, (plain[::2] + plain[1::2]) / 2)
    rows = batch_of(data, run.config).rows("cpu", np.arange(8) // 2)
    assert rows.song.max() == 3 and run.fit()[-1]["loss"] > 0


def test_centres_at_random_have_the_dimension_of_the_vectors(data):
    with pytest.raises(InputError, match="dimension"):
        training.Run(config({"dimension": 16}), data, "t", "cpu")
    run = training.Run(config({"dimension": 16, "centres": "random"}), data, "t", "cpu")
    assert run.loss.centres.shape == (6, 16)
    torch.testing.assert_close(run.loss.centres.norm(dim=1), torch.ones(6))
    run.fit()
    found = runs.find("t", folder=run.folder)
    assert encoders.embed(found.encoder, [data.clip(0, 0)]).shape == (1, 16)


def test_the_rate_rises_first(data):
    run = training.Run(config({"warm_up": 0.5}), data, "t", "cpu")
    usual = training.Run(config(), data, "t", "cpu")
    shares = [run._learning_rate(x) / usual._learning_rate(x) for x in (0, 0.1, 0.25, 0.5, 0.8)]
    assert shares == pytest.approx([0, 0.2, 0.5, 1, 1])


def test_patience_ends_a_training(data, monkeypatch):
    top1 = iter(
        [10.0, 30.0, 20.0, 30.0, 40.0, 50.0]
    )  # the second is not beaten by the third, fourth
    monkeypatch.setattr(training.Run, "_validate", lambda self: {"top1": next(top1)})
    settings = config({"patience": 2}, epochs=20)
    run, history = train(settings, data)
    assert [row["top1"] for row in history] == [10.0, 30.0, 20.0, 30.0]
    assert provenance.find(run.folder, "").finished
    assert train(settings, data)[1] == history  # and it is not continued


def test_a_training_may_continue_another(data):
    first, _ = train(config({"songs": 4}), data)
    start = f"t/{first.folder.name}"
    run = training.Run(config({"start": start}), data, "t", "cpu")
    best = runs.find("t", folder=first.folder).encoder
    assert_alike(run.encoder.state_dict().values(), best.state_dict().values(), 0)
    with pytest.raises(InputError, match="start is 't/mt-none'"):
        training.Run(config({"start": "t/mt-none"}), data, "t", "cpu")
    with pytest.raises(InputError, match="do not fit"):
        training.Run(config({"start": start, "layers": 2}), data, "t", "cpu")
    once, _ = train(config({"start": "t/mt-amg-10s"}), data)
    assert runs.find("t", folder=once.folder).name == once.folder.name
    train(config({"songs": 5}), data)  # which the name stands for now
    again, _ = train(config({"start": "t/mt-amg-10s"}), data)
    assert again.folder != once.folder
    others = dataclasses.replace(data, fingerprinter="another")
    with pytest.raises(InputError, match="another fingerprinter"):
        training.Run(config({"start": start}), others, "t", "cpu")


def test_a_crop_law_of_ones_own_and_a_power_exclude_each_other(data):
    with pytest.raises(InputError, match="crop_power is 2, but"):
        training.Run(config({"crop_power": 2}), data, "t", "cpu", crop=lambda rng, length: length)


def test_products_by_onednn_are_as_exact():
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(4096, 256, generator=rng), torch.randn(256, 768, generator=rng)
    before = torch.backends.mkldnn.matmul.fp32_precision
    with products.by_onednn():
        found = a @ b, a.T @ (a @ b)
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    a, b = a.double(), b.double()
    for ours, theirs in zip(found, (a @ b, a.T @ (a @ b))):
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()  # bfloat16: above 1e-3


def test_a_run_says_how_exact_its_products_are(monkeypatch):
    for able, device, precision in (
        ({}, "cpu", "float32"),
        ({"amx_bf16": True}, "cpu", "bfloat16 products"),
        ({}, "cuda", "bfloat16 autocast"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        said = runs.recipe(config(), "content", "fingerprinter", device).computed
        assert said == {"device": device, "precision": precision}
