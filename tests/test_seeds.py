"""Statistics over seeds and recordings, against plain loops."""

import numpy as np
import pytest

from amg.retrieval import intervals, seeds


def trials(n_seeds=3, n_recordings=14, seed=0):
    """Hits (n_seeds, n), lengths and recordings (n,): 1 to 4 trials of two lengths each."""
    rng = np.random.default_rng(seed)
    length, recording = [], []
    for name in range(n_recordings):
        for of_length in (9, 3):
            n = rng.integers(1, 5)
            length += n * [of_length]
            recording += n * [f"r{name}"]
    return rng.random((n_seeds, len(length))) < 0.5, np.array(length), np.array(recording)


def plain_rates(hit, length, recording, of_recording, of_seed):
    """Percent at each length and their mean, of recordings and seeds that come so many times."""
    names, rates = sorted(set(recording)), []
    for of_length in sorted(set(length)):
        of_seeds = []
        for row, times in zip(hit, of_seed):
            hits = tried = 0
            for i in range(len(length)):
                if length[i] == of_length:
                    weight = of_recording[names.index(recording[i])]
                    hits += weight * row[i]
                    tried += weight
            of_seeds += times * [hits / tried]
        rates.append(100 * np.mean(of_seeds))
    return [*rates, np.mean(rates)]


@pytest.mark.parametrize("n_seeds", [1, 2, 3])
def test_rates_and_draws_are_those_of_a_plain_loop(n_seeds, monkeypatch):
    monkeypatch.setattr(seeds, "N_DRAWS", 20)
    of = hit, length, recording = trials(n_seeds)
    once = np.ones(14, int)
    for row, rates in zip(hit, seeds.rates(*of)):
        assert rates == pytest.approx(plain_rates(row[None], length, recording, once, [1]))
    of_recording = np.random.default_rng(0).multinomial(14, np.full(14, 1 / 14), 20)
    n_drawn = max(n_seeds - 1, 1)
    of_seed = np.random.default_rng([1, 5]).multinomial(n_drawn, np.full(n_seeds, 1 / n_seeds), 20)
    plain = [plain_rates(*of, *drawn) for drawn in zip(of_recording, of_seed)]
    drawn = seeds.draws(*of, group=5, n_draws=20)
    assert drawn == pytest.approx(np.array(plain))
    low, high = seeds.interval(*of, group=5)
    assert low == pytest.approx(np.percentile(plain, 2.5, axis=0))
    assert high == pytest.approx(np.percentile(plain, 97.5, axis=0))


def test_recordings_are_drawn_once_for_all_and_seeds_for_each():
    of = trials(1)
    assert np.array_equal(
        seeds.draws(*of, group=0, n_draws=99), seeds.draws(*of, group=1, n_draws=99)
    )
    of = trials(3)
    assert not np.allclose(
        seeds.draws(*of, group=0, n_draws=99), seeds.draws(*of, group=1, n_draws=99)
    )


def test_the_variance_of_few_seeds_is_not_underestimated():
    """Of n - 1 of n equally likely seeds, the variance is that of a mean of n, unbiased."""
    level = np.array([10, 20, 60])
    n = 3000  # trials, each of a recording of its own: next to no variance of theirs
    hit = np.arange(n) % 100 < level[:, None]
    drawn = seeds.draws(hit, np.full(n, 9), np.arange(n), group=0, n_draws=seeds.N_DRAWS)[:, 0]
    assert drawn.std() == pytest.approx(level.std(ddof=1) / 3**0.5, rel=0.03)


def test_rare_misses_have_the_interval_of_other_rates():
    _, length, recording = trials()
    hit = np.ones((3, len(length)), bool)
    low, high = seeds.interval(hit, length, recording, group=0)
    assert (low[0], high[0]) == intervals.interval(hit[0, length == 3], recording[length == 3])
    assert (low[2], high[2]) == intervals.interval(hit[0], recording)


def test_p_is_the_share_of_draws_on_the_other_side():
    ours = np.array([[1.0, 5, 0], [2, 5, 0], [-1, 5, 0], [4, 5, 0]])
    (low, high), p = seeds.difference(ours, np.zeros((4, 3)), 36)
    assert p == pytest.approx([min(1, 2 * 2 / 5), 2 / 5, 1])
    assert low[:2] == pytest.approx(np.percentile(ours, 2.5, axis=0)[:2])
    assert high[:2] == pytest.approx(np.percentile(ours, 97.5, axis=0)[:2])
    # of what never differs no draw tells: 1 - 0.025 ** (1 / 36), as `intervals` has it
    assert (low[2], high[2]) == pytest.approx((-9.739, 9.739), abs=0.001)
    equal = intervals.paired_difference(np.ones(36), np.ones(36), np.arange(36))
    assert high[2] == equal.high


def plain_holm(p):
    """Step by step: the smallest counts for all, the next for all but one, and none falls."""
    corrected, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = largest
    return corrected


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_holm_is_that_of_a_plain_loop(n):
    rng = np.random.default_rng(n)
    for _ in range(20):
        p = rng.random(n).round(1) ** 4
        assert seeds.holm(p) == pytest.approx(plain_holm(p))
    assert seeds.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
