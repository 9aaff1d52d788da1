"""The fingerprinter: its size, its loss, its training, its shipped weights."""

import json
import math
import shutil

import numpy as np
import pytest
import torch

from amg import checkpoint, degrade, nafp, nafp_train
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


def test_shipped_weights_are_small_and_described():
    path = nafp.shipped()
    card = json.loads(path.with_suffix(".json").read_text())
    assert path.stat().st_size <= 4_000_000 and card["sha256"] == checkpoint.sha256(path)
    assert {"data", "steps", "seed", "validation"} <= set(card)


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


def test_nt_xent_against_a_naive_loop():
    rng = np.random.default_rng(0)
    a, b = unit_rows(rng, 5, 16), unit_rows(rng, 5, 16)
    rows, total = np.concatenate([a, b]).astype(float), 0.0
    for i in range(10):
        others = [math.exp(rows[i] @ rows[j] / 0.05) for j in range(10) if j != i]
        total -= math.log(math.exp(rows[i] @ rows[(i + 5) % 10] / 0.05) / sum(others))
    ours = nafp_train.nt_xent(torch.from_numpy(a), torch.from_numpy(b)).item()
    assert ours == pytest.approx(total / 10, rel=1e-5)


def test_cut_out_blanks_one_rectangle():
    spectrograms = torch.zeros(20, 1, 64, 32)
    blank = nafp_train.cut_out(spectrograms, torch.Generator().manual_seed(0))[:, 0] == -1
    assert blank.any()
    for picture in blank:
        rows, columns = picture.any(1).sum(), picture.any(0).sum()
        assert picture.sum() == rows * columns and rows <= 33 and columns <= 17


@pytest.fixture
def noise():
    """Four clips of noise and a pool that only adds more of it: (clips, pool)."""
    rng = np.random.default_rng(0)
    clips = [(rng.standard_normal(24000) * 3000).astype(np.int16) for _ in range(4)]
    ones = [np.ones(1, np.float32)]
    return clips, degrade.Pool(rng.standard_normal((2, 24000)).astype(np.float32), ones, ones)


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


def test_another_run_is_put_aside(noise, tmp_path):
    clips, pool = noise
    config = nafp_train.Config(steps=1, pairs=2)
    path = tmp_path / "a.safetensors"
    nafp_train.fit(config, clips, pool, path, lambda _: {})
    kept = path.read_bytes()
    nafp_train.fit(config, clips[:2], pool, path, lambda _: {})
    assert (tmp_path / "a.safetensors.old-1").read_bytes() == kept != path.read_bytes()
