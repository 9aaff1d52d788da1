"""Conditions, and why a trial missed."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import hearing, unit_rows

from amg.retrieval import databases, hits, intervals, search
from amg.sound import clips, degrade
from amg.studies import robustness


def test_every_kind_of_degradation_is_a_condition():
    conditions = robustness.CONDITIONS["degradation"]
    assert set(conditions) == {*degrade.KINDS, "all"} - {"offset"}


def test_misses_are_explained():
    """Song 1 repeats itself at frames 2 and 12 (there a little later), song 2 the end of song 0."""
    rng = np.random.default_rng(0)
    sounds = [rng.standard_normal(84000) for _ in range(3)]
    sounds[1][49000:73000] = 0.3 * sounds[1][8000:32000]
    sounds[2][:24000] = sounds[0][60000:]
    database = databases.Database.of([unit_rows(rng, 20, 128) for _ in sounds])
    sequences = database.sequences

    trials = pd.DataFrame(
        {"song": [0, 1, 1, 0, 0, 1], "start": [3, 2, 2, 15, 4, 6], "query_frames": 5}
    )
    first = [3, 32, 21, 40, 9, None]  # what came back for each, as a position
    guesses = np.array([[-1 if f is None else f, 0] for f in first])
    missed = robustness.explain(
        trials, guesses, database, hits.Alike(sequences, hearing(sounds, sequences))
    )
    assert list(missed.reason) == [
        "same audio elsewhere",
        "within 1 frame",
        "same audio elsewhere",
        "same clip elsewhere",
        "nothing came back",
    ]
    assert missed.likeness.iloc[0] > 0.99 and list(missed.truth) == [22, 22, 15, 4, 26]
    table = robustness.reasons(missed, trials, "field")
    assert table.shape == (1, 8) and np.isclose(table.exact[0], 100 / 6)
    shares = table.drop(columns=["condition", "query_frames"])
    np.testing.assert_allclose(shares.sum(axis=1), 100)


def test_a_miss_between_two_frames():
    database = databases.Database.of([unit_rows(np.random.default_rng(0), 20, 128)])
    trials = pd.DataFrame({"song": [0] * 4, "start": 3, "query_frames": 5})
    guesses = np.array([[3.0], [3.375], [4.0], [2.875]])
    missed = robustness.explain(
        trials,
        guesses,
        database,
        hits.Alike(database.sequences, lambda _, n: np.ones(4000 * (n + 1))),
        0.4,
    )
    assert list(missed.index) == [2, 3] and list(missed.guess) == [4, 3]
    assert list(missed.reason) == ["within 1 frame"] * 2
    np.testing.assert_allclose(missed.away, [0.6, 0.525])


@pytest.mark.parametrize(
    "guess, frame", [(20 - 0.875, 20), (20 - 0.5, 20), (-0.75, 0), (36.25, 36)]
)
def test_a_guess_before_the_first_frame_of_a_song_is_of_that_song(guess, frame):
    sounds = np.random.default_rng(0).standard_normal((2, 84000))
    database = databases.Database.of([unit_rows(np.random.default_rng(0), 20, 128) for _ in sounds])
    sequences = database.sequences

    trials = pd.DataFrame({"song": [1], "start": [10], "query_frames": [5]})
    missed = robustness.explain(
        trials,
        np.array([[guess]]),
        database,
        hits.Alike(sequences, hearing(sounds, sequences)),
        0.25,
    )
    assert missed.guess.item() == frame and missed.likeness.item() < 0.5
    assert missed.reason.item() == ("same clip elsewhere" if frame >= 20 else "another clip")


def test_no_miss_no_reason():
    database = databases.Database.of([unit_rows(np.random.default_rng(0), 20, 128)])
    trials = pd.DataFrame({"song": [0], "start": [3], "query_frames": [5]})
    missed = robustness.explain(trials, np.array([[3]]), database, None)
    assert missed.empty and robustness.reasons(missed, trials, "field").exact[0] == 100


def test_rates_split_by_song_agree_with_the_whole():
    trials = pd.DataFrame({"song": np.repeat(np.arange(6), 4), "start": 0, "query_frames": 5})
    rank = np.arange(24) % 3 == 0
    scored = trials.assign(exact_rank=rank, near_rank=1, recording=trials.song)
    split = robustness.rates_by(scored, "package", list("aabbcc"))
    exact = split[split.tolerance == "exact"]
    assert list(exact.condition) == ["a", "b", "c"] and list(split.columns) == robustness.COLUMNS
    whole = intervals.table([scored])
    assert np.isclose((exact.top1 * exact.n_queries).sum() / 24, whole.top1.iloc[0], atol=0.01)
    assert exact.top1.tolist() == [37.5, 37.5, 25]
    clean = split.assign(group="clean", condition="as recorded", top1=0)
    every = pd.concat([split, clean], ignore_index=True).assign(query_s=3.0)
    assert robustness.weaknesses(every) == ["package c: 25.0 % at 3 s"]


def test_a_miss_is_heard(home):
    """The second of two songs, an excerpt that begins at 1 s, for which the first one came back."""
    sounds = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 12 * 8000)).astype(np.float32)
    for name, sound in zip("ab", sounds):
        soundfile.write(home / f"{name}.flac", sound, 8000)
    found = [
        clips.Clip(name, name, ".", "", f"{name}.flac", start_s, seconds, 0, 0, "", "test")
        for name, start_s, seconds in (("a", 0.0, 12.0), ("b", 1.0, 8.0))
    ]
    songs = search.Sequences.of([np.zeros((23, 128)), np.zeros((15, 128))])
    database = databases.Database(songs, list("ab"), 0, list("ab"), found)
    miss = pd.Series({"truth": 26, "guess": 4, "song": 1, "query_frames": 5})
    nothing = {key: np.zeros((1, 1), np.float32) for key in ("rooms", "microphones", "speakers")}
    pool = type(
        "Pool", (), {**nothing, "noises": np.ones((1, 9), np.float16), "kinds": np.array(["x"])}
    )
    pool.rooms[:] = pool.microphones[:] = 1
    heard, titles = robustness.listen(miss, database, 0, pool)
    assert [len(sound) for sound in heard] == [3 * 8000] * 3 and titles[
        2
    ] == "came back: .\na, 2.0 s"
    np.testing.assert_allclose(heard[1], sounds[1][(2 + 3) * 4000 :][: 3 * 8000], atol=1e-4)
