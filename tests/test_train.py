"""Training of the AMG encoder: gradients, resuming, learning."""

import numpy as np
import pytest
import torch

import naive
from amg import files
from amg.fingerprint import features
from amg.embedding import batches, densenet, encoders, losses, runs, training
from amg.check import InputError
from conftest import unit_rows, write_training_set


@pytest.fixture
def data(home):
    return features.pack(write_training_set(home / "data/train/t", n_songs=8, n_frames=59))


def config(**changes):
    return runs.Config(**{"duration_max": 10, "layers": 1, "epochs": 4, "batch_size": 8,
                           "n_valid": 2, **changes})


def batch_of(data, settings, size=24):
    """The first batch of an epoch of all songs."""
    return batches.epoch(np.random.default_rng(3), data.length, size, settings.paired,
                         settings.duration_max)[0]


def update(data, home, settings, monkeypatch, micro_frames):
    """(loss, gradients) of one update."""
    monkeypatch.setattr(training, "MICRO_FRAMES", micro_frames)
    run = training.Run(settings, data, home / f"run{micro_frames}")
    loss = run._update(batch_of(data, settings), lr=0.0)
    return loss, [p.grad.clone() for group in run.optimiser.param_groups for p in group["params"]]


def assert_alike(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize("block", [1, 40, 10**6])
def test_blocks_of_classes_give_the_loss_and_gradients_of_the_whole_table(block, monkeypatch):
    monkeypatch.setattr(losses, "BLOCK", block)
    rng = np.random.default_rng(0)
    x, centres = (torch.tensor(rng.standard_normal((n, 16)), requires_grad=True) for n in (8, 23))
    label, margin = torch.tensor(rng.integers(0, 23, 8)), torch.tensor(rng.uniform(0.2, 0.4, 8))
    weight = torch.tensor(rng.random(8))  # each sample's gradient is its own
    ours = losses.arcface(x, centres, label, margin)
    expected = torch.nn.functional.cross_entropy(
        naive.margin_logits(x, centres, label, margin), label, reduction="none")
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(*(torch.autograd.grad(weight @ loss, (x, centres))
                                 for loss in (ours, expected)))


@pytest.mark.parametrize("loss", losses.TRAINABLE)
@pytest.mark.parametrize("encoder", encoders.TRAINABLE)
def test_micro_batches_give_the_gradient_of_the_whole_batch(data, home, monkeypatch, encoder, loss):
    settings = config(encoder=encoder, loss=loss, dropout=0.0, n_valid=0, batch_size=24)
    whole, one_go = update(data, home, settings, monkeypatch, 10**6)
    parts, accumulated = update(data, home, settings, monkeypatch, 48)
    assert whole == pytest.approx(parts, rel=1e-5)
    assert_alike(accumulated, one_go)


def test_the_update_is_that_of_the_padded_batch(data, home, monkeypatch):
    """Loss and every gradient against the published way: one batch padded to 24 frames, masked."""
    settings = config(dropout=0.0, n_valid=0, batch_size=24, layers=2)
    ours, gradients = update(data, home, settings, monkeypatch, 100)
    run, batch = training.Run(settings, data, home / "plain"), batch_of(data, settings)
    crop = batch.crop
    padded, mask = naive.pad([data.clip(s, c)[start : start + length] for s, c, start, length in zip(
        batch.song, batch.clip, crop.start, crop.length)], 24)
    expected = naive.published_loss(naive.published_forward(run.encoder, padded, mask), run.centres,
                                    torch.from_numpy(batch.song), torch.from_numpy(batch.crop.margin),
                                    torch.from_numpy(batch.clip == 0))
    expected.backward()
    assert ours == pytest.approx(expected.item(), rel=1e-5)
    assert_alike(gradients, [p.grad for p in (*run.encoder.parameters(), run.centres)])


class Stop(Exception):
    pass


@pytest.mark.parametrize("encoder, loss", [("mt", "amg"), ("mlstm", "arcface"), ("mcnn", "infonce"),
                                           ("mt", "triplet")])
@pytest.mark.parametrize("stop_at", [1, 3, 4])  # 3 batches an epoch: 3 stops between two of them
def test_resuming_ends_with_the_same_weights(data, home, monkeypatch, encoder, loss, stop_at):
    """Interrupted at a step, in the middle of an epoch or after one, and started again."""
    settings = config(encoder=encoder, loss=loss, layers=2, epochs=2 if encoder == "mcnn" else 4)
    whole = training.Run(settings, data, home / "whole")
    history = whole.fit()
    monkeypatch.setattr(training, "SAVE_S", 0.0)  # a checkpoint after every step
    update = training.Run._update

    def interrupted(run, batch, lr):
        if run.progress["step"] == stop_at:
            raise Stop
        return update(run, batch, lr)

    monkeypatch.setattr(training.Run, "_update", interrupted)
    with pytest.raises(Stop):
        training.Run(settings, data, home / "parts").fit()
    monkeypatch.setattr(training.Run, "_update", update)
    parts = training.Run(settings, data, home / "parts")
    assert parts.progress["step"] == stop_at
    seen = []
    resumed = parts.fit(lambda history: seen.append(len(history)))
    assert seen[-1] == settings.epochs
    for a, b in zip(history, resumed, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    for file in ("last", "best"):
        assert (files.sha256(home / f"whole/{file}.safetensors")
                == files.sha256(home / f"parts/{file}.safetensors"))


def test_a_loss_that_is_not_finite_ends_in_one_sentence(data, home, monkeypatch):
    monkeypatch.setattr(training.Run, "_loss", lambda run, vectors, batch: vectors.sum() * np.nan)
    with pytest.raises(InputError, match="no longer finite; train with a lower lr"):
        training.Run(config(), data, home / "run").fit()


def test_an_encoder_that_tells_nothing_apart_scores_nothing(data, home):
    run = training.Run(config(), data, home / "run")
    with torch.no_grad():
        for parameter in run.encoder.linear2.parameters():
            parameter.copy_(torch.ones_like(parameter) * (parameter.ndim == 1))
    assert run._validate() == {"top1": 0.0, "top10": 100.0 * (len(data.length) <= 10)}


def test_densenet_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in densenet.DenseNet121().parameters()) == 7_978_856


def test_training_learns(data, home):
    run = training.Run(config(epochs=12), data, home / "run")
    history = run.fit()
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert history[-1]["lr"] < history[0]["lr"] <= 1e-3
    assert history[-1]["lr"] == pytest.approx(1e-4, rel=0.2)


def test_another_configuration_is_put_aside(data, home, capsys):
    folder = home / "run"
    training.Run(config(epochs=1), data, folder).fit()
    kept = (folder / "last.safetensors").read_bytes()
    training.Run(config(epochs=1, lr=5e-4), data, folder).fit()
    assert (home / "run.old-1" / "last.safetensors").read_bytes() == kept
    assert "run.old-1" in capsys.readouterr().out


def test_changed_data_start_a_new_run(data, home):
    training.Run(config(epochs=1), data, home / "run").fit()
    other = features.pack(write_training_set(home / "data/train/u", n_songs=8, n_frames=59, seed=1))
    assert not training.Run(config(epochs=1), other, home / "run").history
    assert (home / "run.old-1" / "last.safetensors").exists()


def test_best_is_the_first_of_the_best_epochs(data, home):
    run = training.Run(config(epochs=6), data, home / "run")
    scores = [row["top1"] for row in run.fit()]
    _, _, history = runs.load(home / "run" / "best.safetensors")
    assert len(history) == 1 + int(np.argmax(scores))


def test_short_versions_and_lone_originals_can_be_held_out(home):
    rng = np.random.default_rng(0)
    for song in range(1, 6):
        features.save(features.song_file(home / "data/train/short", song, 0), unit_rows(rng, 59, 128))
        features.save(features.song_file(home / "data/train/short", song, 1), unit_rows(rng, 7, 128))
        features.save(features.song_file(home / "data/train/lone", song, 0), unit_rows(rng, 59, 128))
    history = training.Run(config(epochs=1), features.pack(home / "data/train/short"), home / "a").fit()
    assert 0 <= history[0]["top1"] <= 100
    lone = features.pack(home / "data/train/lone")
    assert "top1" not in training.Run(config(epochs=1), lone, home / "b").fit()[0]
    with pytest.raises(InputError, match="has none"):
        training.Run(config(loss="triplet"), lone, home / "c")


def test_stored_encoder_answers_alike(data, home):
    run = training.Run(config(epochs=1), data, home / "run")
    run.fit()
    stored, settings, history = runs.load(home / "run" / "best.safetensors")
    clips = [np.array(data.clip(s, 0)[:19]) for s in range(3)]
    assert np.array_equal(encoders.embed(stored, clips), encoders.embed(run.encoder, clips))
    assert settings == run.config and len(history) == 1


def test_embedding_ignores_padding_and_company():
    rng = np.random.default_rng(0)
    clips = [unit_rows(rng, n, 128) for n in (3, 19, 7, 12)]
    for model in (encoders.Transformer(layers=1), encoders.LSTM(layers=2, hidden=16),
                  encoders.CNN(24), encoders.Mean()):
        together = encoders.embed(model, clips)
        alone = np.concatenate([encoders.embed(model, [clip]) for clip in clips])
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("changes, message", [
    ({"duration_max": 7}, "duration_max is 7, but must be one of: 5, 10, 15, 30"),
    ({"encoder": "foo"}, "encoder is 'foo', but must be one of: mt, mlstm, mcnn"),
    ({"loss": "l2"}, "one of: amg, arcface, infonce, triplet, pam, tam"),
    ({"loss": "infonce", "batch_size": 2}, "batch_size is 2"), ({"temperature": 0}, "temperature is 0"),
    ({"epochs": 0}, "epochs is 0"), ({"lr": "fast"}, "lr is 'fast'"), ({"seed": -1}, "seed is -1")])
def test_bad_configurations_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        config(**changes)


def test_aliases_of_the_loss():
    assert config(loss="pam") == config(loss="tam") == config(loss="amg")


def test_holding_out_everything_is_refused(data, home):
    with pytest.raises(InputError, match="only 8 songs"):
        training.Run(config(n_valid=8), data, home / "run")


def test_missing_encoder_names_the_notebook(home):
    with pytest.raises(InputError, match="03_train"):
        runs.load(home / "best.safetensors")


def test_variants_have_settings_of_their_own():
    plain = config()
    found = runs.variants(plain, ["arcface"], {"mlstm": {"layers": 8}, "mcnn": {}})
    assert [v.name for v in found] == ["mt-arcface-10s", "mlstm-amg-10s", "mcnn-amg-10s"]
    assert [v.layers for v in found] == [1, 8, 1]
    for losses_, encoders_, message in (
            (["arcface"], ["mcnn"], "encoders is"), (["arcface"], {"mcnn": 64}, "encoders is"),
            (["arcface"], {"mt": {}}, "one of: mlstm, mcnn"), (["arcface"], {}, "encoders is {}"),
            (["arcface"], {"mcnn": {"loss": "amg"}}, "a setting of mcnn is 'loss'"),
            (["arcface"], {"mcnn": {"batch_size": 0}}, "batch_size is 0"),
            (["amg"], {"mcnn": {}}, "one of: arcface, infonce, triplet")):
        with pytest.raises(InputError, match=message):
            runs.variants(plain, losses_, encoders_)


def test_losses_against_naive_loops():
    rng = np.random.default_rng(0)
    x, centres = unit_rows(rng, 6, 16).astype(float), unit_rows(rng, 4, 16).astype(float)
    label, margin = np.array([0, 1, 2, 3, 0, 1]), np.linspace(0.2, 0.4, 6)
    total = 0.0
    for i in range(6):
        logits = []
        for c in range(4):
            cosine = float(x[i] @ centres[c])
            if c == label[i]:
                sine = np.sqrt(1 - cosine**2 + 1e-5)
                inside = cosine > np.cos(np.pi - margin[i])
                cosine = (cosine * np.cos(margin[i]) - sine * np.sin(margin[i]) if inside
                          else cosine - margin[i] * np.sin(np.pi - margin[i]))
            logits.append(32 * cosine)
        total += np.log(np.exp(logits).sum()) - logits[label[i]]
    tensors = [torch.from_numpy(a) for a in (x, centres, label, margin)]
    assert losses.arcface(*tensors).mean().item() == pytest.approx(total / 6, rel=1e-6)
    originals = torch.tensor([True, False, False, True, False, False])
    pull = np.mean([1 - x[i] @ centres[label[i]] for i in (0, 3)])
    assert losses.amg(*tensors, originals).item() == pytest.approx(total / 6 + 10 * pull, rel=1e-6)
    none = torch.zeros(6, dtype=torch.bool)
    assert losses.amg(*tensors, none).item() == pytest.approx(total / 6, rel=1e-6)
