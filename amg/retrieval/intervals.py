"""Hit rates with 95 % intervals, and differences between methods.

Trials of one recording are no independent evidence: recordings are resampled, not trials. Where the
rate is so near 0 or 100 % that fewer than FEW recordings hold a miss (or a hit), no resampling
shows what is rare. There the interval is Wilson's, with as many trials as there are recordings: the
design effect is taken at its maximum, where all trials of one recording count as one. So 100 of 100
is not "[100, 100]".
"""

import itertools
from collections import namedtuple

import numpy as np
import pandas as pd

from amg.check import InputError
from amg.retrieval import hits
from amg.retrieval.trials import COLUMNS as TRIAL
from amg.sound.audio import seconds

LABELS = ["method", "encoder", "loss", "duration_max", "stage", "protocol"]  # name a method
RATES = ["query_frames", "query_s", "n_queries", "top1", "top10", "top1_low", "top1_high"]
COLUMNS = [*LABELS, "tolerance", *RATES, "run", "finished"]
FEW = 10
TOO_FEW = 30  # recordings, below which a difference is not judged
N_DRAWS = 2000

Difference = namedtuple("Difference", "difference low high n_recordings")  # the first three in %
PAIR = ["method", "against", "duration_max", "stage", "tolerance", "query_frames", "query_s"]


def table(scored) -> pd.DataFrame:
    """Rows of `retrieval.csv`, one per method, tolerance and query length, in percent.

    scored: list of DataFrames, the trials of a method each, with `recording`, `query_frames`,
    `<tolerance>_rank` for each tolerance that is measured, and labels.
    """
    rows = []
    for trials in scored:
        labels = {name: trials[name].iloc[0] for name in COLUMNS if name in trials}
        measured = [name for name in hits.TOLERANCES if f"{name}_rank" in trials]
        by_length = trials.groupby("query_frames")
        for tolerance, (length, group) in itertools.product(measured, by_length):
            rank = group[f"{tolerance}_rank"]
            row = {**labels, "tolerance": tolerance, "query_frames": length}
            row |= {"query_s": seconds(length), "top10": 100 * (rank > 0).mean()}
            rows.append(row | rate(rank == 1, group.recording))
    return pd.DataFrame(rows).reindex(columns=COLUMNS).astype({"duration_max": float}).round(2)


def rate(hit, recording) -> dict:
    """Top-1 with its interval, in percent, and of how many queries; arguments of `interval`."""
    low, high = interval(hit, recording)
    return {"n_queries": len(hit), "top1": 100 * hit.mean(), "top1_low": low, "top1_high": high}


def interval(hit, recording) -> tuple[float, float]:
    """95 % interval of a hit rate, in percent; hit bool (n,), recording (n,)."""
    of_recording = _per_recording(hit, recording)
    return of_rare(*of_recording) or bootstrap(*of_recording)


def of_rare(n_hits, n_trials) -> tuple[float, float] | None:
    """Wilson's interval, in percent, if hits or misses are too rare to draw recordings, else None;
    both arguments (n_recordings,)."""
    if min((n_hits > 0).sum(), (n_hits < n_trials).sum()) >= FEW:
        return None
    import scipy.stats  # here, since it takes as long as all else and large tests need none

    k, n = round(len(n_hits) * n_hits.sum() / n_trials.sum()), len(n_hits)
    wilson = scipy.stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    return 100 * wilson.low, 100 * wilson.high


def paired_difference(hit_a, hit_b, recording) -> Difference:
    """Hit rate of `hit_a` minus that of `hit_b`, bool (n,) of the same trials; recording (n,)."""
    differ = np.asarray(hit_a, float) - np.asarray(hit_b, float)
    gained, count = _per_recording(differ, recording)
    bound = none_of(len(gained))
    low, high = bootstrap(gained, count) if differ.any() else (-bound, bound)
    return Difference(100 * gained.sum() / count.sum(), low, high, len(gained))


def none_of(n) -> float:
    """Exact 95 % bound, in percent, of what none of n recordings shows: no draw could tell."""
    return 100 * (1 - 0.025 ** (1 / n))  # Clopper and Pearson's upper bound


def bootstrap(total, count) -> tuple[float, float]:
    """95 % percentile interval of sum(total) / sum(count) in percent, both (n_recordings,)."""
    n = len(total)  # recordings, and draws of them: how often each is drawn is multinomial
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), N_DRAWS)
    low, high = np.percentile((drawn @ total) / (drawn @ count), [2.5, 97.5])
    return 100 * float(low), 100 * float(high)


def _per_recording(value, recording):
    """Sum of the values, and number of trials, of each recording: two arrays (n_recordings,)."""
    code = np.unique(np.asarray(recording, dtype=str), return_inverse=True)[1]
    return np.bincount(code, np.asarray(value, float)), np.bincount(code)


def choose(scored, **labels) -> list[pd.DataFrame]:
    """Those of some methods' scored trials, a list, that have these labels."""
    return [
        trials
        for trials in scored
        if all(name in trials and trials[name].iloc[0] == value for name, value in labels.items())
    ]


def comparisons(parts) -> pd.DataFrame:
    """Rows of `differences.csv`: Top-1 of methods minus that of others, by query length, in points.

    parts: list of (methods, others, tolerance), both name -> scored trials, of the same trials.
    """
    rows = []
    for methods, others, tolerance in parts:
        for (name, ours), (other, theirs) in itertools.product(methods.items(), others.items()):
            if name == other:
                continue
            if not np.array_equal(ours[TRIAL], theirs[TRIAL]):
                raise InputError(f"{name} and {other} were not asked the same trials.")
            hit_a, hit_b = (of[f"{tolerance}_rank"].to_numpy() == 1 for of in (ours, theirs))
            pair = name, other, ours.duration_max.iloc[0], ours.stage.iloc[0], tolerance
            for length, at in ours.groupby("query_frames").indices.items():
                gained = paired_difference(hit_a[at], hit_b[at], ours.recording.iloc[at])
                rows.append((*pair, length, seconds(length), *gained))
    return pd.DataFrame(rows, columns=[*PAIR, *Difference._fields]).round(2)


def by_trial(scored) -> pd.DataFrame:
    """`trials.csv`: each method's answers to every trial, and the ranks of the first right ones."""
    table = pd.concat(scored, ignore_index=True)
    ranks = [f"{name}_rank" for name in hits.TOLERANCES if f"{name}_rank" in table]
    columns = [*LABELS, "run", "finished", *TRIAL, "answers", *ranks]
    return table.reindex(columns=columns).astype(dict.fromkeys(ranks, "Int8"))
