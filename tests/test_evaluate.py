"""Trials, tolerances and intervals."""

import numpy as np
import pandas as pd
import pytest

from amg.retrieval import base, evaluate, search
from amg.check import InputError
from conftest import unit_rows


def test_trial_starts_are_covered_by_every_segmentation():
    starts = evaluate.trial_starts(59, 3, 6, [9, 19, 59])
    assert starts[0] == 0 and starts[-1] == 53 and len(starts) == 6
    assert evaluate.trial_starts(59, 29, 6, [9]).max() == 30
    assert len(evaluate.trial_starts(59, 60, 6)) == 0


def test_no_trial_is_refused():
    with pytest.raises(InputError, match="no query of 60 frames"):
        evaluate.trials([unit_rows(np.random.default_rng(0), 59, 128)], [60], 3)


@pytest.mark.parametrize("guesses, before, after, expected", [
    ([7], 0, 0, (True, True)), ([8, 7], 0, 0, (False, True)), ([8], 1, 1, (True, True)),
    ([8], 0, 1, (True, True)), ([6], 0, 1, (False, False)), ([-1], 9, 9, (False, False)),
    ([1] * 10 + [7], 0, 0, (False, False))])
def test_hits(guesses, before, after, expected):
    first, ten = evaluate.hits(np.array([guesses]), np.array([7]), before, after)
    assert (first[0], ten[0]) == expected


def test_between_two_frames_the_nearer_one_is_exact():
    sequences = search.Sequences.of([unit_rows(np.random.default_rng(0), 20, 128)] * 2)
    trials = pd.DataFrame({"song": 1, "start": 4, "query_frames": 5}, index=range(5))
    guesses = np.array([[24], [25], [24.375], [25.5], [-1]])
    scored = evaluate.frame_hits(trials, guesses, sequences, 0, late_frames=0.4)
    assert scored.exact1.tolist() == [True, False, True, False, False]
    assert scored.near1.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("late", [0, 1, 2, 3])
def test_queries_between_two_frames_are_found_on_one_of_the_grids(late):
    """Sound that changes wholly every quarter of a hop: one grid alone can match."""
    songs = [unit_rows(np.random.default_rng(song), 4 * 20, 128) for song in range(3)]
    sequences = search.Sequences.of([song[::4] for song in songs])
    queries = [song[late : late + 4 * 18 + 1] for song in songs]  # 19 frames on the first grid
    on_first = [query[::4] for query in queries]
    trials = evaluate.trials(on_first, (1, 5), 4)
    found = base.answer(*base.find_on_grids(trials, queries, sequences, 4))
    whole = trials.query_frames.to_numpy() == 5
    truth = evaluate.first_rows(trials, sequences) + late / 4
    np.testing.assert_array_equal(found[whole, 0], truth[whole])
    one = base.find(trials, on_first, sequences)
    first = base.answer(*base.find_on_grids(trials, on_first, sequences, 1))
    np.testing.assert_array_equal(first, one)
    np.testing.assert_array_equal(found[~whole], one[~whole])  # a single frame has one grid only


def test_trials_at_given_starts():
    queries = [unit_rows(np.random.default_rng(0), 12, 128)] * 2
    trials = evaluate.trials_at(queries, {5: [0, 7], 9: [3]})
    assert trials.values.tolist() == [[0, 0, 5], [0, 7, 5], [1, 0, 5], [1, 7, 5], [0, 3, 9], [1, 3, 9]]
    with pytest.raises(InputError, match="0 to 8 are asked for with queries of 5 frames"):
        evaluate.trials_at(queries, {5: [0, 8]})


def test_segment_hit_never_crosses_a_song():
    rng = np.random.default_rng(0)
    sequences = search.Sequences.of([unit_rows(rng, 18, 128), unit_rows(rng, 18, 128)])
    segments = search.Segments.of(sequences, 9)
    trials = pd.DataFrame({"song": [0, 0], "start": [9, 0], "query_frames": [5, 5]})
    guesses = np.array([[2], [1]])  # the next song's first segment; the next segment
    scored = evaluate.segment_hits(trials, guesses, sequences, segments, 0)
    assert scored.segment1.tolist() == [False, True]


def test_hit_rates_count_and_name_everything():
    scored = pd.DataFrame({"song": [0, 0, 1, 1], "start": 0, "query_frames": 19,
                           "exact1": [1, 0, 0, 0], "exact10": [1, 1, 0, 0],
                           "near1": [1, 1, 1, 1], "near10": [1, 1, 1, 1]})
    rates = evaluate.hit_rates(scored, method="nafp", stage="sequence", protocol="contiguous")
    assert list(rates.columns) == evaluate.RETRIEVAL_COLUMNS
    exact, near = rates.iloc[0], rates.iloc[1]
    assert (exact.tolerance, exact.top1, exact.top10, exact.n_queries) == ("exact", 25, 50, 4)
    assert exact.query_s == 10 and (near.top1, near.top1_low, near.top1_high) == (100, 100, 100)
    assert exact.top1_low == 0 and exact.top1_high == 50  # two songs: 0 %, 25 % or 50 %


def test_bootstrap_agrees_with_the_normal_interval():
    rng = np.random.default_rng(0)
    hit, song = rng.random(2000) < 0.3, np.arange(2000)
    low, high = evaluate.bootstrap(hit, song)
    half = 196 * np.sqrt(hit.mean() * (1 - hit.mean()) / 2000)
    assert low == pytest.approx(100 * hit.mean() - half, abs=0.3)
    assert high == pytest.approx(100 * hit.mean() + half, abs=0.3)
