"""Other programs beside the kit: what they answer, and under which conditions."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile

from amg.check import InputError
from amg.report import charts, tables
from amg.sound import audio
from amg.sound.audio import SAMPLE_RATE
from amg.sound.clips import Clip
from amg.studies import other_systems, rivals


def tune(seed, seconds=14):
    """Notes of a third of a second, drawn anew for each song."""
    rng, third = np.random.default_rng(seed), SAMPLE_RATE // 3
    notes = 220 * 2 ** (rng.integers(0, 24, 3 * seconds) / 12)
    t = np.arange(third) / SAMPLE_RATE
    sound = [np.sin(2 * np.pi * f * t) * np.exp(-6 * t) for f in notes]
    return np.float32(0.5 * np.concatenate(sound) + 0.001 * rng.standard_normal(third * len(notes)))


@pytest.fixture(params=other_systems.SYSTEMS)
def system(request):
    try:
        return other_systems.SYSTEMS[request.param]()
    except InputError as reason:
        pytest.skip(str(reason))


def test_what_a_system_holds_is_named_and_it_is_less_sure_of_what_it_does_not(system):
    songs = [tune(seed) for seed in range(4)]
    system.hold([system.hear(song) for song in songs])
    for number, song in enumerate(songs):
        found = system.ask(song[SAMPLE_RATE : 11 * SAMPLE_RATE])
        assert found.song == number and found.named and found.score > 0
    other = system.ask(tune(9)[: 10 * SAMPLE_RATE])
    assert other.score < found.score
    assert system.n_bytes > 0


def test_a_system_that_is_not_installed_is_left_out_in_a_sentence(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "audfprint2", None)
    assert other_systems.at_hand(["identify", "audfprint"]) == ["identify"]
    told = capsys.readouterr().out
    assert told.startswith("audfprint is left out, for it needs audfprint2") and "rivals" in told
    monkeypatch.setitem(sys.modules, "chromaprint", None)  # as without its library
    assert other_systems.at_hand(["chromaprint"]) == []
    assert "libchromaprint1" in capsys.readouterr().out
    with pytest.raises(InputError, match="an item of systems is 'shazam', but must be one of"):
        other_systems.at_hand(["shazam"])
    monkeypatch.setattr(rivals.importlib.util, "find_spec", lambda name: None)
    assert not {*rivals.PITCHES} & {*rivals.conditions()}
    assert "left out" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [20, [20], [20, 0], [20, 3.5]])
def test_settings_of_audfprint_are_two_numbers(wrong):
    with pytest.raises(InputError, match="^an item of audfprint"):
        other_systems.check_landmarks("an item of audfprint", wrong)


def test_chromaprint_compares_every_place_within_a_song():
    rng = np.random.default_rng(0)
    found = object.__new__(other_systems.Chromaprint)
    found.most_bits = 2
    songs = [rng.integers(0, 2**32, n, dtype=np.uint32) for n in (9, 3, 12)]
    found.hold(songs)
    query = songs[2][4:8] ^ np.array([0b11, 0b111, 0, 1 << 31], np.uint32)  # three are alike
    across = np.concatenate([songs[0][-3:], songs[1][:1]])  # is nowhere within one song

    def naive(query):
        best = (-1, -1)
        for number, song in enumerate(songs):
            for at in range(len(song) - len(query) + 1):
                pairs = zip(query.tolist(), song[at:].tolist())
                n = sum((a ^ b).bit_count() <= 2 for a, b in pairs)
                best = max(best, (n, -number))
        return best[0] / len(query)

    for asked, share in ((query, 0.75), (across, naive(across)), (songs[0], 1.0)):
        found.hear = lambda sound, asked=asked: asked
        assert found.ask(None).score == share == naive(asked)
    assert naive(across) < 1
    found.hear = lambda sound: np.zeros(0, np.uint32)
    assert found.ask(None) == other_systems.NOTHING


@pytest.fixture
def clip(home):
    soundfile.write(home / "tune.wav", tune(0, 16), SAMPLE_RATE)
    return Clip("tune", "tune", "here", file="tune.wav", start_s=1.0, seconds=14.0)


@pytest.mark.parametrize("condition", [c for c in rivals.CONDITIONS if c not in rivals.KINDS])
def test_conditions_change_length_or_pitch_as_they_say(clip, condition):
    if condition in rivals.PITCHES:
        pytest.importorskip("pedalboard")
    sound, speed = rivals.altered(clip, 0, condition, 0, None)
    assert sound.dtype == np.float32
    assert len(sound) == pytest.approx(len(clip.read()) / speed, abs=SAMPLE_RATE // 10)
    power = np.abs(np.fft.rfft(sound, 16 * SAMPLE_RATE)) ** 2
    before = np.abs(np.fft.rfft(clip.read(), 16 * SAMPLE_RATE)) ** 2
    higher = rivals.SPEEDS.get(condition, 2 ** (rivals.PITCHES.get(condition, 0) / 12))
    centre, was = (np.average(np.arange(len(of)), weights=of) for of in (power, before))
    assert centre / was == pytest.approx(higher, rel=0.02 if condition in rivals.PITCHES else 0.005)


def test_an_excerpt_is_the_same_music_at_another_speed(clip):
    asked = rivals.draw([clip], [5, 9], 0)
    assert asked.recording.tolist() == ["tune"] * 2
    for condition in ("as recorded", "2 % faster"):
        question = rivals.Question("q", 1, asked, [clip], condition, 0, None)
        for trial, sound in zip(asked.itertuples(), rivals.excerpts(question), strict=True):
            speed = rivals.SPEEDS.get(condition, 1.0)
            begin = round(trial.start * audio.HOP / speed)
            whole = rivals.altered(clip, 0, condition, 0, None)[0]
            n = round(audio.seconds(trial.query_frames) * SAMPLE_RATE / speed)
            assert np.array_equal(sound, whole[begin : begin + n]) and len(sound) == n


def answers(name, scores, right, condition=rivals.FIELD):
    """Answers to a question, all of one length."""
    table = pd.DataFrame({"score": scores, "right": right, "named": [s > 2 for s in scores]})
    named = table.assign(query_frames=5, ms=2.0, recording=[f"{i}" for i in table.index])
    return named.assign(question=name, condition=condition)


def tried(scores, right):
    strange = answers("valid, not there", list(range(100)), False)
    return pd.concat([strange, answers("valid, there", scores, right)], ignore_index=True)


def test_settings_and_thresholds_come_from_validation_alone():
    settled = rivals.settle(
        {
            "kit": tried([200.0, 98.5], [True, True]),
            "other, few": tried([50.0, 200.0], [True, False]),
            "other, many": tried([150.0, 50.0], [True, True]),
        }
    )
    assert settled.label.tolist() == ["kit", "other, many"] and settled.named.tolist() == [100, 50]
    (level,) = settled.levels[0].values()
    assert 98 < level < 98.001  # one of 100 unknown ones reaches more


def test_rates_of_a_perfect_and_of_a_wrongly_set_up_system(capsys):
    labels = ["kit", "other", "broken"]
    rows = [(name, name, 0.0, {5: 1.0}) for name in labels]
    settled = pd.DataFrame(rows, columns=["system", "label", "named", "levels"])
    n, half = 12, [True, False] * 6
    clean = {"kit": True, "other": True, "broken": False}
    examined = {
        name: (
            pd.concat(
                [
                    answers("not there", [0.5] * (n - 3) + [3.0] * 3, False),
                    answers(rivals.CLEAN, [5.0] * n, clean[name], rivals.CLEAN),
                    answers(rivals.FIELD, [5.0] * n, True if name == "kit" else half),
                ],
                ignore_index=True,
            ),
            {"times_real_time": 9.0, "bytes_per_hour": 10.0},
        )
        for name in labels
    }
    rates, costs = rivals.rates(examined, settled)
    assert "broken finds 0.0 %" in capsys.readouterr().out
    assert costs.system.tolist() == ["kit", "other"] and costs.answer_3s_ms.tolist() == [2, 2]
    in_field = rates[rates.condition == rivals.FIELD].set_index("system")
    assert in_field.named.tolist() == in_field.named_own.tolist() == [100, 50]
    assert in_field.false.tolist() == [25, 25]
    assert rates[rates.condition == rivals.CLEAN].false.isna().all()
    gained = rivals.differences(examined, settled.iloc[:2])
    assert gained.difference.tolist() == [0, 50] and gained.low[1] > 0
    assert len(charts.rivals(rates).axes) == 2 and len(tables.rivals(rates)) == 2


class Counting:
    """Names the first song, as surely as it holds songs."""

    n_bytes = 28

    def hear(self, sound):
        return sound

    def hold(self, songs):
        self.n_songs = len(songs)

    def ask(self, sound):
        return other_systems.Named(0, float(self.n_songs), True)


def test_what_was_answered_is_not_asked_again(clip, tmp_path):
    """Of one song or of both, which go by names that look like numbers."""
    both = [replace(clip, recording=name) for name in ("007", "NA")]
    drawn = rivals.draw(both, [5], 0)
    asked = [
        rivals.Question(name, n_held, drawn, both, "as recorded", 0, None)
        for name, n_held in (("few", 1), ("all", 2))
    ]
    answers, cost = rivals.examine(tmp_path, "it", Counting, both, asked)
    assert answers.score.tolist() == [1, 1, 2, 2] and answers.question.tolist()[1:3] == [
        "few",
        "all",
    ]
    assert answers.recording.tolist() == ["007", "NA"] * 2
    assert answers.right.tolist() == [True, False] * 2
    assert cost["bytes_per_hour"] == 3600 and cost["times_real_time"] > 0
    again = rivals.examine(tmp_path, "it", lambda: pytest.fail("asked again"), both, asked)
    assert again[0].equals(answers) and again[1] == cost
    (tmp_path / "it-all.csv").unlink()
    assert rivals.examine(tmp_path, "it", Counting, both, asked)[0].score.tolist() == [1, 1, 2, 2]
