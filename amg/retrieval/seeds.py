"""Hit rates of several trainings that differ in their seed, and differences between such groups.

A bootstrap draws seeds and recordings together: recordings once for all groups, so that differences
are paired, and seeds for each group by itself. Of n seeds n - 1 are drawn, with replacement: as
many as n would make the variance of so few too small, by the factor (n - 1) / n. What has a single
seed is one training, or needs none, and its seed is not drawn.

hit: bool (n_seeds, n_trials); length and recording, (n_trials,), are those of the trials. Results
are percentages, (..., L + 1): a column per length, the shortest first, and their mean.
"""

from functools import lru_cache

import numpy as np

from amg.retrieval import intervals

N_DRAWS = 9_999


def counts(hit, length, recording) -> tuple[np.ndarray, np.ndarray]:
    """Hits and trials of each length and recording, float (n_seeds, L, R) and (L, R)."""
    of_length, row = np.unique(length, return_inverse=True)
    of_recording, column = np.unique(np.asarray(recording, str), return_inverse=True)
    trials = np.zeros((len(of_length), len(of_recording)))
    hits = np.zeros((len(hit), *trials.shape))
    np.add.at(trials, (row, column), 1)
    for of_seed, hit_by_seed in zip(hits, hit):
        np.add.at(of_seed, (row, column), hit_by_seed)
    return hits, trials


def rates(hit, length, recording) -> np.ndarray:
    """Hit rate of each seed, (n_seeds, L + 1)."""
    hits, trials = counts(hit, length, recording)
    return _with_mean(100 * hits.sum(axis=2) / trials.sum(axis=1))


def draws(hit, length, recording, group, n_draws) -> np.ndarray:
    """Mean hit rate of seeds and recordings as they are drawn, (n_draws, L + 1).

    group: number of the group of seeds, of which its draws of seeds follow.
    """
    hits, trials = counts(hit, length, recording)
    of_recording = _of_recordings(trials.shape[1], n_draws)
    n, n_drawn = len(hits), max(len(hits) - 1, 1)
    of_seed = np.random.default_rng([1, group]).multinomial(n_drawn, np.full(n, 1 / n), n_draws)
    share = of_seed / of_seed.sum(axis=1, keepdims=True)
    drawn = np.einsum("bs,slr,br->bl", share, hits, of_recording, optimize=True)
    return _with_mean(100 * drawn / (of_recording @ trials.T))


@lru_cache(maxsize=1)
def _of_recordings(n, n_draws):
    """How often each of n recordings is drawn, (n_draws, n): the same for all groups."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), n_draws)


def interval(hit, length, recording, group) -> np.ndarray:
    """95 % interval of the mean hit rate, (2, L + 1); where hits or misses are rare, as
    `intervals.interval` does it, of the mean over seeds."""
    bounds = np.percentile(draws(hit, length, recording, group, N_DRAWS), [2.5, 97.5], axis=0)
    hits, trials = counts(hit, length, recording)
    hits, trials = (np.vstack([of, of.sum(axis=0)]) for of in (hits.mean(axis=0), trials))
    for column, of_recording in enumerate(zip(hits, trials)):
        if rare := intervals.of_rare(*of_recording):
            bounds[:, column] = rare
    return bounds


def _with_mean(of_lengths):
    return np.concatenate([of_lengths, of_lengths.mean(axis=-1, keepdims=True)], axis=-1)


def difference(ours, theirs, n_recordings) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval (2, L + 1) and two-sided p (L + 1,) of a difference, by the `draws` of two
    groups; where they never differ, the bound of that many recordings. The smallest p is
    2 / (n_draws + 1)."""
    drawn = ours - theirs
    below, above = (1 + (drawn <= 0).sum(axis=0)), (1 + (drawn >= 0).sum(axis=0))
    p = np.minimum(1, 2 * np.minimum(below, above) / (len(drawn) + 1))
    bounds = np.percentile(drawn, [2.5, 97.5], axis=0)
    bound = intervals.none_of(n_recordings)
    return np.where(drawn.any(axis=0), bounds, [[-bound], [bound]]), p


def holm(p) -> np.ndarray:
    """p of several comparisons (n,), corrected for their number by Holm's method."""
    order = np.argsort(p)
    corrected = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    return np.minimum(1, corrected)[np.argsort(order)]
