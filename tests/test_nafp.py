"""The fingerprinter: its size, its loss, its training, its shipped weights."""

import json
import math
import shutil

import numpy as np
import pytest
import torch

from amg import checkpoint, files
from amg.sound import audio, pools
from amg.fingerprint import nafp, nafp_train, pairs
from amg.check import InputError
from conftest import unit_rows


def test_full_network_has_the_published_size():
    assert sum(p.numel() for p in nafp.NAFP(nafp.FULL).parameters()) == 19_224_576


def test_full_network_runs():
    vectors = nafp.NAFP(nafp.FULL)(torch.randn(2, 8000))
    assert vectors.shape == (2, 128)


def test_extract_gives_unit_rows():
    samples = np.random.default_rng(0).standard_normal(5 * 8000).astype(np.float32)
    rows = nafp.extract(nafp.load(), samples)
    assert rows.shape == (9, 128) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    one = nafp.extract(nafp.load(), samples[4000:12000])  # a frame does not see its neighbours
    np.testing.assert_allclose(one[0], rows[1], atol=1e-4)


def test_a_shorter_hop_interleaves_later_starts():
    samples = np.random.default_rng(0).standard_normal(5 * 8000).astype(np.float32)
    encoder = nafp.load()
    dense = next(nafp.extract_all(encoder, [[samples]], hop=1000))
    assert len(dense) == 4 * 8 + 1
    for k in range(4):
        np.testing.assert_allclose(dense[k::4], nafp.extract(encoder, samples[1000 * k :]), atol=1e-4)


@pytest.mark.parametrize("seconds", [(1, 1.4, 3), (40, 2), (0.6, 5), (35.5,)])
def test_recordings_in_blocks_equal_whole_clips(seconds):
    """Whatever the blocks, and whatever else shares the batch: the same rows."""
    rng = np.random.default_rng(0)
    encoder = nafp.load()
    clips = [rng.standard_normal(int(s * 8000)).astype(np.float32) for s in seconds]
    blocks = [np.split(clip, np.sort(rng.integers(0, len(clip), 4))) for clip in clips]
    if min(seconds) < 1:
        with pytest.raises(InputError, match="8000 samples"):
            list(nafp.extract_all(encoder, blocks))
        return
    found = list(nafp.extract_all(encoder, blocks))
    assert [len(rows) for rows in found] == [len(audio.frame(clip)) for clip in clips]
    for rows, clip in zip(found, clips):
        np.testing.assert_allclose(rows, nafp.extract(encoder, clip), atol=1e-5)


def test_a_long_recording_is_read_as_it_is_encoded():
    """Extraction asks for a block when it needs one: it never holds more than a few."""
    ahead = []

    def blocks():
        for number in range(6):
            ahead.append(number)
            yield np.zeros(30 * 8000, np.float32)

    class Counting(torch.nn.Linear):
        seen = 0

        def forward(self, windows):
            self.seen += len(windows)
            assert len(ahead) * 60 - self.seen <= 2 * 60
            return torch.ones(len(windows), 128)

    rows = next(nafp.extract_all(Counting(1, 1), [blocks()]))
    assert len(rows) == audio.n_frames(180)


def test_shipped_weights_are_small_and_described():
    path = nafp.shipped()
    card = json.loads(path.with_suffix(".json").read_text())
    assert path.stat().st_size <= 6_000_000 and card["sha256"] == files.sha256(path)
    assert {"music_hours", "noise", "steps", "training_hours", "seed", "validation"} <= set(card)
    assert card["test"]["weaknesses"] and card["test"]["queries_per_length"] >= 400


def test_changed_weights_are_refused(tmp_path):
    for suffix in (".safetensors", ".json"):
        shutil.copy(nafp.shipped().with_suffix(suffix), tmp_path / f"w{suffix}")
    raw = bytearray((tmp_path / "w.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "w.safetensors").write_bytes(raw)
    with pytest.raises(InputError, match="SHA-256"):
        nafp.load(tmp_path / "w.safetensors")


def test_missing_or_foreign_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match="00_fingerprinter"):
        nafp.load(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        nafp.load(tmp_path / "text.safetensors")


def test_weights_of_another_network_are_refused(tmp_path):
    other = nafp.NAFP(nafp.Config(128, (8,) * 7 + (128,), nafp.LITE.time_strides)).state_dict()
    checkpoint.save(tmp_path / "w.safetensors", checkpoint.prefixed("model", other), {"size": "lite"})
    with pytest.raises(InputError, match="trained for another network"):
        nafp.load(tmp_path / "w.safetensors")


def test_whitening_decorrelates():
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((4000, nafp.DIM)) * np.linspace(0.1, 1, nafp.DIM)
    vectors = (mixed @ rng.standard_normal((nafp.DIM, nafp.DIM)) + 3).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whitening = nafp.Whitening()
    unchanged = whitening(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(unchanged, vectors, atol=1e-6)
    whitening.fit(vectors, floor=0)
    white = whitening(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(np.linalg.norm(white, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.cov(white.T) * nafp.DIM, np.eye(nafp.DIM), atol=0.15)


def test_shipping_keeps_the_vectors_and_describes_them(noise, tmp_path, monkeypatch):
    monkeypatch.setattr(nafp, "shipped", lambda name="lite": tmp_path / f"nafp_{name}.safetensors")
    torch.manual_seed(0)
    encoder = nafp.NAFP().eval()
    nafp_train.whiten(encoder, noise[0], n_windows=400)
    path = nafp_train.ship(encoder, {"steps": 3}, "lite")
    sound = noise[0][0].astype(np.float32) / 32768
    kept = nafp.extract(nafp.load(path), sound)
    assert (kept * nafp.extract(encoder, sound)).sum(axis=1).min() > 0.99
    card = json.loads(nafp_train.add_to_card("test", {"top1": 50.0}).read_text())
    assert card == {"sha256": files.sha256(path), "steps": 3, "test": {"top1": 50.0}}


def test_nt_xent_against_a_naive_loop():
    rng = np.random.default_rng(0)
    a, b = unit_rows(rng, 5, 16), unit_rows(rng, 5, 16)
    rows, total = np.concatenate([a, b]).astype(float), 0.0
    for i in range(10):
        others = [math.exp(rows[i] @ rows[j] / 0.05) for j in range(10) if j != i]
        total -= math.log(math.exp(rows[i] @ rows[(i + 5) % 10] / 0.05) / sum(others))
    ours = nafp_train.nt_xent(torch.from_numpy(a), torch.from_numpy(b)).item()
    assert ours == pytest.approx(total / 10, rel=1e-5)


def test_windows_of_a_visit_come_from_one_place(noise):
    tracks = [np.full(20 * 8000, 1000 * (i + 1), np.int16) for i in range(9)]
    config = nafp_train.Config(pairs=8, per_visit=4)
    anchors, replicas = pairs.Pairs(tracks, noise[1], config)[3]
    level = (anchors[:, 0] * 32768 / 1000).round().int().tolist()
    assert len(set(level[:4])) == len(set(level[4:])) == 1
    assert anchors.shape == replicas.shape == (8, 8000)


def test_a_long_track_is_visited_more_often(noise):
    tracks = [np.full(n * 8000, 1000 * (i + 1), np.int16) for i, n in enumerate((3, 27))]
    batches = pairs.Pairs(tracks, noise[1], nafp_train.Config(pairs=50))
    levels = torch.cat([batches[i][0][:, 0] for i in range(8)]) * 32768 / 1000
    assert 0.85 < (levels.round() == 2).float().mean() < 0.95


def test_quiet_places_are_left_out(noise):
    track = np.zeros(60 * 8000, np.int16)
    track[: 30 * 8000] = 1000
    anchors, _ = pairs.Pairs([track], noise[1], nafp_train.Config(pairs=40, per_visit=1))[0]
    assert (anchors.abs().amax(dim=1) > 0).float().mean() > 0.9


@pytest.mark.parametrize("wrong", [{"size": "huge"}, {"steps": 0}, {"seed": -1},
                                   {"peak_lr": "fast"}, {"per_visit": 1.5}])
def test_a_wrong_configuration_is_refused(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is"):
        nafp_train.Config(**wrong)


def test_cut_out_blanks_one_rectangle():
    spectrograms = torch.zeros(20, 1, 64, 32)
    blank = pairs.cut_out(spectrograms, torch.Generator().manual_seed(0))[:, 0] == -1
    assert blank.any()
    for picture in blank:
        rows, columns = picture.any(1).sum(), picture.any(0).sum()
        assert picture.sum() == rows * columns and rows <= 33 and columns <= 17


@pytest.fixture
def noise():
    """Four clips of noise and a pool that only adds more of it: (clips, pool)."""
    rng = np.random.default_rng(0)
    clips = [(rng.standard_normal(24000) * 3000).astype(np.int16) for _ in range(4)]
    ones = np.ones((1, 1), np.float32)
    return clips, pools.Pool(rng.standard_normal((2, 24000)).astype(np.float32),
                             np.array(["coloured", "coloured"]), ones, ones, ones)


def test_training_resumes_exactly(noise, tmp_path):
    """Stopped after step 2 of 4 and started again: the same weights as undisturbed."""
    clips, pool = noise
    config = nafp_train.Config(steps=4, pairs=4)

    class Stop(Exception):
        pass

    def stop_at_second_validation(_, calls=[]):
        calls.append(1)
        if len(calls) == 2:
            raise Stop
        return {}

    whole, history = nafp_train.fit(config, clips, pool, tmp_path / "a.safetensors",
                                    lambda _: {}, every=2)
    with pytest.raises(Stop):
        nafp_train.fit(config, clips, pool, tmp_path / "b.safetensors",
                       stop_at_second_validation, every=2)
    resumed, _ = nafp_train.fit(config, clips, pool, tmp_path / "b.safetensors",
                                lambda _: {}, every=2)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert [row["step"] for row in history] == [2, 4]


def test_the_weights_that_validate_best_are_kept(noise, tmp_path):
    clips, pool = noise
    scores, seen = iter([1.0, 3.0, 2.0]), []

    def validate(encoder):
        seen.append({name: value.clone() for name, value in encoder.state_dict().items()})
        return {"top1": next(scores)}

    best, history = nafp_train.fit(nafp_train.Config(steps=3, pairs=4), clips, pool,
                                   tmp_path / "a.safetensors", validate, every=1)
    assert [row["score"] for row in history] == [1.0, 3.0, 2.0]
    for name, value in best.state_dict().items():
        assert torch.equal(value, seen[1][name]), name
    assert not torch.equal(seen[1]["head.w1"], seen[2]["head.w1"])


def test_another_run_is_put_aside(noise, tmp_path):
    clips, pool = noise
    config = nafp_train.Config(steps=1, pairs=2)
    path = tmp_path / "a.safetensors"
    nafp_train.fit(config, clips, pool, path, lambda _: {})
    best = tmp_path / "a-best.safetensors"
    kept, kept_best = path.read_bytes(), best.read_bytes()
    nafp_train.fit(config, clips[:2], pool, path, lambda _: {})
    assert (tmp_path / "a.safetensors.old-1").read_bytes() == kept != path.read_bytes()
    assert (tmp_path / "a-best.safetensors.old-1").read_bytes() == kept_best != best.read_bytes()
