"""Intervals by recording, and differences between methods."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from amg.check import InputError
from amg.retrieval import intervals


def scored(rank, recording, query_frames=19, **labels):
    return pd.DataFrame(
        {
            "recording": recording,
            "query_frames": query_frames,
            "exact_rank": rank,
            "near_rank": 1,
            "song": 0,
            "start": 0,
            "answers": "",
            **labels,
        }
    )


def test_rates_count_and_name_everything():
    table = intervals.table(
        [
            scored(
                [1, 3, 0, 0],
                list("aabb"),
                method="nafp",
                stage="sequence",
                protocol="contiguous",
                run="",
                finished=True,
            )
        ]
    )
    assert list(table.columns) == intervals.COLUMNS and list(table.tolerance) == ["exact", "near"]
    exact, near = table.iloc[0], table.iloc[1]
    assert (exact.method, exact.top1, exact.top10, exact.n_queries) == ("nafp", 25, 50, 4)
    assert exact.query_s == 10 and near.top1 == 100 and np.isnan(exact.duration_max)
    assert near.top1_low == pytest.approx(34.24, abs=0.01)  # Wilson, two of two recordings


def test_a_rate_of_100_percent_is_not_certain():
    """100 of 100 trials of as many recordings: Wilson's interval; of ten recordings: a wider
    one."""
    assert intervals.interval(np.ones(100), np.arange(100)) == pytest.approx((96.30, 100), abs=0.01)
    assert intervals.interval(np.ones(100), np.arange(100) % 10) == pytest.approx(
        (72.25, 100), abs=0.01
    )
    assert intervals.interval(np.zeros(100), np.arange(100)) == pytest.approx((0, 3.70), abs=0.01)


def test_recordings_are_drawn_not_trials():
    """Six equal trials a recording: the interval is that of the recordings."""
    hit = np.random.default_rng(0).random(300) < 0.3
    low, high = intervals.interval(np.repeat(hit, 6), np.repeat(np.arange(300), 6))
    half = 196 * np.sqrt(hit.mean() * (1 - hit.mean()) / 300)
    assert (low, high) == pytest.approx((100 * hit.mean() - half, 100 * hit.mean() + half), abs=0.7)
    assert high - low > 2 * np.subtract(
        *intervals.interval(np.repeat(hit, 6), np.arange(1800))[::-1]
    )


def test_bootstrap_agrees_with_scipy():
    rng = np.random.default_rng(0)
    count = rng.integers(1, 9, 80)
    total = rng.binomial(count, rng.beta(2, 1, 80)).astype(float)
    theirs = scipy.stats.bootstrap(
        (total, count),
        lambda t, c, axis=-1: t.sum(axis) / c.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        rng=rng,
        n_resamples=9999,
    ).confidence_interval
    assert intervals.bootstrap(total, count) == pytest.approx(
        (100 * theirs.low, 100 * theirs.high), abs=0.6
    )


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.97, 0.99])
@pytest.mark.parametrize("n_recordings", [20, 100])
def test_intervals_cover_the_rate_of_clustered_trials(rate, n_recordings):
    """Six trials a recording, whose own rates differ (intraclass correlation 0.3): at least nine in
    ten intervals hold the true rate, and they are no wider than the recordings alone would be."""
    rng = np.random.default_rng(0)
    recording, held, width = np.repeat(np.arange(n_recordings), 6), 0, []
    for _ in range(200):
        own = rng.beta(rate * 7 / 3, (1 - rate) * 7 / 3, n_recordings)
        low, high = intervals.interval(rng.random(6 * n_recordings) < own[recording], recording)
        held += low <= 100 * rate <= high
        width.append(high - low)
    assert held >= 180
    alone = scipy.stats.binomtest(round(rate * n_recordings), n_recordings).proportion_ci(
        method="wilson"
    )
    assert np.mean(width) < 110 * (alone.high - alone.low)


def test_a_paired_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(0)
    recording = np.repeat(np.arange(100), 6)
    easy = rng.random(600) < 0.7
    better = easy | (rng.random(600) < 0.1)
    found = intervals.paired_difference(better, easy, recording)
    assert found.difference == pytest.approx(100 * (better.mean() - easy.mean()))
    assert 0 < found.low < found.difference < found.high < 10 and found.n_recordings == 100
    apart = [intervals.interval(hit, recording) for hit in (better, easy)]
    assert apart[0][0] < apart[1][1]  # those overlap
    mirrored = intervals.paired_difference(easy, better, recording)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    same = intervals.paired_difference(easy, easy, recording)
    bound = 100 * scipy.stats.binomtest(0, 100).proportion_ci(0.95, "exact").high  # none was seen
    assert same.difference == 0 and np.allclose((same.low, same.high), (-bound, bound))
    assert intervals.paired_difference([True] * 2, [True] * 2, ["a", "b"]).high > 80


def test_a_paired_difference_covers_the_true_one():
    rng = np.random.default_rng(1)
    recording, held = np.repeat(np.arange(80), 6), 0
    for _ in range(200):
        own = rng.beta(2, 1, 80)[
            recording
        ]  # both find it more often in some recordings than in others
        one, two = rng.random(480) < own, rng.random(480) < 0.8 * own
        found = intervals.paired_difference(one, two, recording)
        held += found.low <= 100 * 0.2 * 2 / 3 <= found.high
    assert held >= 180


def test_comparisons_pair_every_method_with_the_others():
    rng = np.random.default_rng(0)
    recording = np.repeat(np.arange(12), 4)
    length = np.tile([5, 5, 19, 19], 12)
    methods = {
        name: scored(rng.integers(0, 3, 48), recording, length, duration_max=10, stage="two")
        for name in "abc"
    }
    table = intervals.comparisons([(methods, {name: methods[name] for name in "bc"}, "exact")])
    assert list(zip(table.method, table.against)) == [
        pair for pair in [("a", "b"), ("a", "c"), ("b", "c"), ("c", "b")] for _ in range(2)
    ]
    row = table.iloc[1]
    ours, theirs = (methods[name][length == 19].exact_rank == 1 for name in "ab")
    assert row.query_s == 10 and row.stage == "two" and row.n_recordings == 12
    assert row.difference == pytest.approx(100 * (ours.mean() - theirs.mean()), abs=0.01)
    with pytest.raises(InputError, match="a and b were not asked the same trials"):
        intervals.comparisons([(methods, {"b": methods["b"].assign(start=1)}, "exact")])
    assert intervals.choose(methods.values(), stage="two", duration_max=10)[1] is methods["b"]
    assert intervals.choose(methods.values(), stage="single") == []


def test_every_trial_is_written_with_its_answers():
    one, two = (scored([1, 0], list("ab"), stage=stage) for stage in ("single", "two"))
    table = intervals.by_trial([one.drop(columns="near_rank"), two])
    assert len(table) == 4 and list(table.stage) == ["single", "single", "two", "two"]
    assert table.to_csv(index=False).splitlines()[1].endswith(",1,")  # near was not measured
