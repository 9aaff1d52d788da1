"""Training of the AMG encoder: gradients, resuming, learning."""

import numpy as np
import pytest
import torch

from amg import crops, encoders, features, losses, train
from amg.check import InputError
from conftest import unit_rows, write_training_set


@pytest.fixture
def data(home):
    return features.pack(write_training_set(home / "data/train/t", n_songs=8, n_frames=59))


def config(**changes):
    return train.Config(**{"duration_max": 10, "layers": 1, "epochs": 4, "batch_size": 8,
                           "n_valid": 2, **changes})


def test_micro_batches_give_the_gradient_of_the_padded_batch(data, home, monkeypatch):
    settings = config(dropout=0.0, n_valid=0, batch_size=24)
    order = np.arange(24)

    def gradients(max_frames):
        monkeypatch.setattr(train, "MICRO_FRAMES", max_frames)
        run = train.Run(settings, data, home / f"run{max_frames}")
        loss = run._update(order, np.random.default_rng(3), lr=0.0)
        return loss, [p.grad.clone() for p in (*run.encoder.parameters(), run.centres)]

    whole, one_go = gradients(10**6)
    parts, accumulated = gradients(48)
    assert whole == pytest.approx(parts, rel=1e-5)
    for a, b in zip(one_go, accumulated):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(a.abs().max()))


def test_the_batch_loss_is_the_one_of_the_paper(data, home):
    """`_update` against the loss computed plainly: one padded batch of the published length."""
    settings = config(dropout=0.0, n_valid=0, batch_size=24)
    run = train.Run(settings, data, home / "run")
    batch = np.arange(24)
    song, clip = np.divmod(batch, 3)
    crop = crops.draw(np.random.default_rng(3), np.full(24, 59), clip == 0, 10)
    padded = torch.zeros(24, 24, 128)
    mask = torch.ones(24, 24, dtype=torch.bool)
    for i, (s, c) in enumerate(zip(song, clip)):
        rows = data.clip(s, c)[crop.start[i] :][: crop.length[i]]
        padded[i, : len(rows)] = torch.from_numpy(np.array(rows))
        mask[i, : len(rows)] = False
    with torch.no_grad():
        expected = losses.amg(run.encoder(padded, mask), run.centres, torch.from_numpy(song),
                              torch.from_numpy(crop.margin), torch.from_numpy(clip == 0))
    assert run._update(batch, np.random.default_rng(3), 0.0) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("encoder", train.encoders.TRAINABLE)
def test_resuming_ends_with_the_same_weights(data, home, encoder):
    class Stop(Exception):
        pass

    def stop(history):
        if len(history) == 2:
            raise Stop

    settings = config(encoder=encoder, layers=2)
    whole = train.Run(settings, data, home / "whole")
    history = whole.fit()
    with pytest.raises(Stop):
        train.Run(settings, data, home / "parts").fit(stop)
    parts = train.Run(settings, data, home / "parts")
    assert len(parts.history) == 2
    seen = []
    resumed = parts.fit(lambda history: seen.append(len(history)))
    assert seen == [2, 3, 4]
    for a, b in zip(whole.encoder.state_dict().values(), parts.encoder.state_dict().values()):
        assert torch.equal(a, b)
    assert torch.equal(whole.centres, parts.centres)
    for a, b in zip(history, resumed):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_training_learns(data, home):
    run = train.Run(config(epochs=12), data, home / "run")
    history = run.fit()
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert history[-1]["lr"] < history[0]["lr"] <= 1e-3
    assert history[-1]["lr"] == pytest.approx(1e-4, rel=0.2)


def test_another_configuration_is_put_aside(data, home, capsys):
    folder = home / "run"
    train.Run(config(epochs=1), data, folder).fit()
    kept = (folder / "last.safetensors").read_bytes()
    train.Run(config(epochs=1, lr=5e-4), data, folder).fit()
    assert (home / "run.old-1" / "last.safetensors").read_bytes() == kept
    assert "run.old-1" in capsys.readouterr().out


def test_changed_data_start_a_new_run(data, home):
    train.Run(config(epochs=1), data, home / "run").fit()
    other = features.pack(write_training_set(home / "data/train/u", n_songs=8, n_frames=59, seed=1))
    assert not train.Run(config(epochs=1), other, home / "run").history
    assert (home / "run.old-1" / "last.safetensors").exists()


def test_best_is_the_first_of_the_best_epochs(data, home):
    run = train.Run(config(epochs=6), data, home / "run")
    scores = [row["top1"] for row in run.fit()]
    _, _, history = train.load_encoder(home / "run" / "best.safetensors")
    assert len(history) == 1 + int(np.argmax(scores))


def test_short_versions_and_lone_originals_can_be_held_out(home):
    rng = np.random.default_rng(0)
    for song in range(1, 6):
        features.save(features.song_file(home / "data/train/short", song, 0), unit_rows(rng, 59, 128))
        features.save(features.song_file(home / "data/train/short", song, 1), unit_rows(rng, 7, 128))
        features.save(features.song_file(home / "data/train/lone", song, 0), unit_rows(rng, 59, 128))
    history = train.Run(config(epochs=1), features.pack(home / "data/train/short"), home / "a").fit()
    assert 0 <= history[0]["top1"] <= 100
    assert "top1" not in train.Run(config(epochs=1), features.pack(home / "data/train/lone"),
                                   home / "b").fit()[0]


def test_stored_encoder_answers_alike(data, home):
    run = train.Run(config(epochs=1), data, home / "run")
    run.fit()
    stored, settings, history = train.load_encoder(home / "run" / "best.safetensors")
    clips = [np.array(data.clip(s, 0)[:19]) for s in range(3)]
    assert np.array_equal(encoders.embed(stored, clips), encoders.embed(run.encoder, clips))
    assert settings == run.config and len(history) == 1


def test_embedding_ignores_padding_and_company():
    rng = np.random.default_rng(0)
    clips = [unit_rows(rng, n, 128) for n in (3, 19, 7, 12)]
    for model in (encoders.Transformer(layers=1), encoders.LSTM(layers=2, hidden=16), encoders.Mean()):
        together = encoders.embed(model, clips)
        alone = np.concatenate([encoders.embed(model, [clip]) for clip in clips])
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("changes, message", [
    ({"duration_max": 7}, "duration_max is 7, but must be one of: 5, 10, 15, 30"),
    ({"encoder": "foo"}, "encoder is 'foo', but must be one of: mt, mlstm"),
    ({"loss": "l2"}, "one of: amg, arcface, pam, tam"),
    ({"epochs": 0}, "epochs is 0"), ({"lr": "fast"}, "lr is 'fast'"), ({"seed": -1}, "seed is -1")])
def test_bad_configurations_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        config(**changes)


def test_aliases_of_the_loss():
    assert config(loss="pam") == config(loss="tam") == config(loss="amg")


def test_holding_out_everything_is_refused(data, home):
    with pytest.raises(InputError, match="only 8 songs"):
        train.Run(config(n_valid=8), data, home / "run")


def test_missing_encoder_names_the_notebook(home):
    with pytest.raises(InputError, match="03_train"):
        train.load_encoder(home / "best.safetensors")


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
