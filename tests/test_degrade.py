"""Degradations: what was asked for is what is heard."""

from dataclasses import replace

import numpy as np
import pytest

from amg.check import InputError
from amg.sound import degrade, pools

RATE = 8000
NOTHING = degrade.Degradation(*[None, 0.0, 0.0, None, None, None, None, None, None, 0.0, None])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Small pools of all three sides."""
    rng = np.random.default_rng(0)
    sounds = {
        name: [rng.standard_normal(n * RATE).astype(np.float32) for n in (1, 2, 3)]
        for name in ("music", "speech")
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMG_HOME", str(tmp_path_factory.mktemp("pools")))
        patch.setattr(pools, "N_NOISES", dict.fromkeys(pools.SIDES, 3))
        yield {side: pools.make(side, sounds, 4, 0, 1) for side in pools.SIDES}


@pytest.fixture
def clip():
    return (0.1 * np.random.default_rng(1).standard_normal(3 * RATE)).astype(np.float32)


def test_version_follows_from_its_seed(clip, made):
    first, again, other = (
        degrade.degrade(lambda _: clip, [7, 1, v], made["train"]) for v in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.allclose(first, other)
    assert first.dtype == np.float32 and first.shape == clip.shape and np.abs(first).max() <= 1


def test_kinds_share_what_they_have_in_common(made):
    def drawn(kinds):
        return degrade.draw(np.random.default_rng(3), made["test"], kinds)

    all_kinds, alone = drawn(degrade.KINDS), drawn(("room",))
    assert alone == replace(
        NOTHING,
        room=all_kinds.room,
        snr_db=all_kinds.snr_db,
        noise_offset=all_kinds.noise_offset,
        gain_db=all_kinds.gain_db,
    )
    assert drawn(()).room is None and drawn(degrade.FIELD).codec is None


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_snr_is_the_one_asked_for(clip, made, snr_db):
    heard = degrade.apply(clip, replace(NOTHING, noise=1, snr_db=snr_db), made["test"])
    measured = 10 * np.log10(np.mean(clip**2) / np.mean((heard - clip) ** 2))
    assert measured == pytest.approx(snr_db, abs=0.05)


@pytest.mark.parametrize("step", ["room", "microphone", "speaker"])
def test_degraded_stays_aligned(made, step):
    """A click stays where it was: rooms and devices add no delay."""
    click = np.zeros(2 * RATE, np.float32)
    click[RATE] = 0.5
    for number in range(4):
        heard = degrade.apply(click, replace(NOTHING, **{step: number}), made["test"])
        assert abs(int(np.abs(heard).argmax()) - RATE) <= 4


@pytest.mark.parametrize("offset_s", [-0.2, 0.0, 0.25])
def test_an_offset_moves_the_sound_and_nothing_else(clip, made, offset_s):
    """The version is a later or earlier excerpt of the recording; no silence is put in."""
    settings = replace(NOTHING, offset_s=offset_s)
    heard = degrade.apply(clip, settings, made["test"], 0.25)
    first = round((0.25 + offset_s) * RATE)
    assert np.array_equal(heard, clip[first : first + len(clip) - RATE // 2])
    with pytest.raises(InputError, match="offset_s is 0.3, but must be at most the 0.25 s"):
        degrade.apply(clip, replace(settings, offset_s=0.3), made["test"], 0.25)


def test_queries_at_any_offset_hold_no_silence_that_was_not_there(clip, made):
    """White noise all along: every millisecond of a query at any offset sounds."""
    margins_s = []

    def read(margin_s):
        margins_s.append(margin_s)
        return clip

    for seed in range(20):
        heard = degrade.degrade(read, seed, made["test"], ("offset",))
        assert len(heard) == len(clip) - round(2 * degrade.MAX_OFFSET_S * RATE)
        assert np.abs(heard[: len(heard) // 8 * 8].reshape(-1, 8)).max(axis=1).min() > 0
    degrade.degrade(read, 0, made["test"], degrade.FIELD)
    assert margins_s == [degrade.MAX_OFFSET_S] * 20 + [0]


def test_overload_clips_and_a_codec_does_not_shift(made):
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)
    loud = degrade.apply(tone, replace(NOTHING, overload_db=6.0), made["test"])
    assert np.mean(np.abs(loud) > 0.999) > 0.5
    sweep = np.sin(np.cumsum(np.linspace(0.1, 1.2, 2 * RATE))).astype(np.float32) / 3
    for codec in degrade.CODECS:
        heard = degrade.apply(sweep, replace(NOTHING, codec=codec), made["test"])
        lag = np.correlate(heard[4000:12000], sweep[4200:11800], "valid").argmax() - 200
        assert heard.shape == sweep.shape and abs(lag) <= 80 and not np.allclose(heard, sweep)


def test_automatic_gain_levels_what_lasts(made):
    """A tone that is 20 dB louder in its second half is so by 20 / ratio dB, and not shifted."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)
    tone[:RATE] *= 0.1
    heard = degrade.apply(tone, replace(NOTHING, ratio=4.0), made["test"])
    soft, loud = (np.std(half[RATE // 2 :]) for half in np.split(heard, 2))
    assert 20 * np.log10(loud / soft) == pytest.approx(20 / 4, abs=2)
    assert np.corrcoef(heard[-RATE // 2 :], tone[-RATE // 2 :])[0, 1] > 0.999


def test_direct_sound_comes_first_and_echoes_later():
    rng = np.random.default_rng(2)
    for _ in range(5):
        response = pools.diffuse_response(rng)
        assert response[0] == 1 and not response[1 : round(0.002 * RATE)].any()
        share_db = -10 * np.log10(np.sum(response[1:] ** 2))
        assert pools.DIRECT_DB[0] - 0.1 < share_db < pools.DIRECT_DB[1] + 0.1


def test_pools_share_nothing(made):
    for one, other in (("train", "test"), ("train", "valid"), ("valid", "test")):
        for kind in ("noises", "rooms", "microphones", "speakers"):
            ours, theirs = (getattr(made[side], kind) for side in (one, other))
            assert len(ours) and len(theirs), kind
            assert not any(np.array_equal(a, b) for a in ours for b in theirs), kind


def test_noises_are_of_every_kind_and_of_equal_power(made):
    kinds, counts = np.unique(made["test"].kinds, return_counts=True)
    assert list(kinds) == ["coloured", "music", "speech"] and set(counts) == {3}
    np.testing.assert_allclose(np.sqrt(np.mean(made["test"].noises ** 2, axis=1)), 1, rtol=1e-3)


@pytest.mark.parametrize("simulator", pools.SIMULATORS)
def test_rooms_ring_as_long_as_they_say(simulator):
    """T60 by backward integration of the echoes in the simulated response."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(6):
        energy = np.cumsum(simulator(rng)[1:][::-1] ** 2)[::-1]
        decay_db = 10 * np.log10(energy / energy[0] + 1e-12)
        t5, t25 = (np.argmax(decay_db < level) / RATE for level in (-5, -25))
        found.append(3 * (t25 - t5))
    assert min(found) > 0.05 and max(found) < 1.4 and max(found) > 2 * min(found)


def test_a_pool_is_made_once(home, monkeypatch):
    sounds = {"music": [np.random.default_rng(0).standard_normal(RATE).astype(np.float32)]}
    monkeypatch.setattr(pools, "N_NOISES", {"test": 1})
    first = pools.make("test", sounds, 1, 0, 1)
    monkeypatch.setattr(pools, "_make", lambda *_: pytest.fail("made again"))
    again = pools.make("test", sounds, 1, 0, 1)
    assert again.digest == first.digest and np.array_equal(again.rooms, first.rooms)
    monkeypatch.undo()
    monkeypatch.setenv("AMG_HOME", str(home))
    monkeypatch.setattr(pools, "N_NOISES", {"test": 1})
    monkeypatch.setattr(pools.code, "digest", lambda *_: "of other code")
    monkeypatch.setattr(pools, "_make", lambda *_: pytest.fail("made anew"))
    with pytest.raises(pytest.fail.Exception, match="made anew"):
        pools.make("test", sounds, 1, 0, 1)


def test_silence_stays_finite(made):
    silence = np.zeros(2 * RATE, np.float32)
    heard = degrade.degrade(lambda _: silence, 3, made["train"], degrade.KINDS)
    assert np.isfinite(heard).all()
