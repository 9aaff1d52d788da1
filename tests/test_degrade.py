"""Degradations: what was asked for is what is heard."""

import numpy as np
import pytest

from amg import degrade

RATE = 8000


@pytest.fixture(scope="module")
def pools():
    rng = np.random.default_rng(0)
    music = [rng.standard_normal(3 * RATE).astype(np.float32) for _ in range(4)]
    saved = degrade.N_ROOMS
    degrade.N_ROOMS = 4
    yield [degrade.make_pool(np.random.default_rng([0, side]), music) for side in (0, 1)]
    degrade.N_ROOMS = saved


@pytest.fixture
def clip():
    return (0.1 * np.random.default_rng(1).standard_normal(3 * RATE)).astype(np.float32)


def test_version_follows_from_its_seed(clip, pools):
    first, again, other = (degrade.degrade(clip, [7, 1, v], pools[0]) for v in (1, 1, 2))
    assert np.array_equal(first, again) and not np.allclose(first, other)
    assert first.dtype == np.float32 and first.shape == clip.shape and np.abs(first).max() <= 1


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_snr_is_the_one_asked_for(clip, snr_db):
    identity = [np.ones(1, np.float32)]
    noise = np.random.default_rng(2).standard_normal((1, 5 * RATE)).astype(np.float32)
    pool = degrade.Pool(noise, identity, identity)
    heard = degrade.apply(clip, degrade.Degradation(0, 0.3, snr_db, 0, 0, 0.0), pool)
    measured = 10 * np.log10(np.mean(clip**2) / np.mean((heard - clip) ** 2))
    assert measured == pytest.approx(snr_db, abs=0.05)


def test_degraded_stays_aligned(pools):
    """A click stays where it was: room and microphone add no delay."""
    click = np.zeros(2 * RATE, np.float32)
    click[RATE] = 1.0
    for room in range(len(pools[0].rooms)):
        setting = degrade.Degradation(0, 0.0, 60.0, room, 0, 0.0)
        heard = degrade.apply(click, setting, pools[0])
        assert abs(int(np.abs(heard).argmax()) - RATE) <= 4


def test_pools_share_nothing(pools):
    train, test = pools
    for a in train.noises:
        assert not any(np.array_equal(a, b) for b in test.noises)
    for kind in ("rooms", "microphones"):
        for a in getattr(train, kind):
            assert not any(np.array_equal(a, b) for b in getattr(test, kind))


def test_silence_stays_finite(pools):
    assert np.isfinite(degrade.degrade(np.zeros(2 * RATE, np.float32), 3, pools[0])).all()
