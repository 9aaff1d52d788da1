"""What the cells of a sweep say: tables, their readable forms, and what they support.

Rates are of two stages and hits: single-stage segment and two-stage exact Top-1, at each query
length and as the mean of all lengths, whose `query_frames` is empty.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from amg.check import InputError
from amg.report import sentences, tables
from amg.retrieval import intervals, seeds
from amg.sound.audio import seconds

STAGES = {"single": "segment", "two": "exact"}
TRIAL = ["song", "start", "query_frames"]
LABELS = ["cell", "stage", "tolerance", "query_frames", "query_s", "n_seeds"]
ALPHA = 0.05  # of all comparisons of a table together
ENOUGH = 3  # seeds
AMOUNTS = ["epochs", "updates", "crops", "bytes"]


@dataclass(frozen=True)
class Variant:
    """A variant of a sweep, and what is there of its cells."""

    name: str
    number: int
    own: str  # what is its own, for people
    done: list  # of the results of finished cells, one per seed
    failed: str  # why there are no others
    recording: np.ndarray  # of each trial, (n,)

    @property
    def length(self) -> np.ndarray:
        """Frames of each trial, (n,)."""
        return self.done[0].trials.query_frames.to_numpy()

    def trials(self, stage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hits (n_seeds, n), lengths and recordings (n,), as `seeds` takes them."""
        hit = np.array([result.trials[stage].to_numpy(bool) for result in self.done])
        return hit, self.length, self.recording


def variants(results, recordings) -> list[Variant]:
    """The variants of some `sweep_runs.Result`, in their order; recordings: of each test song."""
    by_name, first, made = {}, None, []
    for result in results:
        by_name.setdefault(result.cell.name, []).append(result)
        if result.trials is not None:
            first = result.trials if first is None else first
            if not first[TRIAL].equals(result.trials[TRIAL]):
                raise InputError(f"{result.cell.label} was not asked the trials of the others.")
    recording = np.array([]) if first is None else np.array(recordings)[first.song]
    for number, (name, of_name) in enumerate(by_name.items()):
        own = ", ".join(f"{key}: {value}" for key, value in of_name[0].cell.own.items())
        done = [result for result in of_name if result.trials is not None]
        failed = "; ".join(dict.fromkeys(result.failed for result in of_name if result.failed))
        made.append(Variant(name, number, own, done, failed, recording))
    return made


def _rows(variant, stage, columns):
    """A row per length, and one of their mean, of columns (L + 1,)."""
    lengths = [*np.unique(variant.length).tolist(), np.nan]
    return pd.DataFrame(columns).assign(
        cell=variant.name,
        stage=stage,
        tolerance=STAGES[stage],
        query_frames=lengths,
        query_s=[seconds(n) for n in lengths],
        n_seeds=len(variant.done),
    )


def _asked(variants) -> Iterator[tuple[Variant, str]]:
    """Each variant that has results, with each stage."""
    return itertools.product((variant for variant in variants if variant.done), STAGES)


def _joined(parts, columns):
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def rates(variants: list[Variant]) -> pd.DataFrame:
    """`sweep_rates.csv`: mean Top-1 (%) over seeds with its interval, and their spread."""
    parts = []
    for variant, stage in _asked(variants):
        of = variant.trials(stage)
        of_seeds = seeds.rates(*of)
        low, high = seeds.interval(*of, variant.number)
        spread = of_seeds.std(axis=0, ddof=1) if len(of_seeds) > 1 else np.nan
        columns = {"top1": of_seeds.mean(axis=0), "top1_low": low, "top1_high": high}
        columns |= {"sd": spread, "least": of_seeds.min(axis=0), "most": of_seeds.max(axis=0)}
        parts.append(_rows(variant, stage, columns))
    measured = ["top1", "top1_low", "top1_high", "sd", "least", "most"]
    return _joined(parts, [*LABELS, *measured]).round(4)


def of_seeds(variants: list[Variant]) -> pd.DataFrame:
    """`sweep_seeds.csv`: Top-1 (%) of each seed."""
    parts = [
        _rows(variant, stage, {"top1": top1}).assign(seed=result.cell.seed)
        for variant, stage in _asked(variants)
        for result, top1 in zip(variant.done, seeds.rates(*variant.trials(stage)))
    ]
    return _joined(parts, [*LABELS, "seed", "top1"]).round(4)


def differences(variants: list[Variant]) -> pd.DataFrame:
    """`sweep_differences.csv`: Top-1 of each variant minus that of the first, in points, and p,
    also corrected for all comparisons of the table by Holm's method; empty without the first."""
    first, *others = variants
    n_compared = len(others) * len(STAGES) * (len(np.unique(first.length)) + 1 if first.done else 0)
    n_draws = max(seeds.N_DRAWS, 100 * n_compared)  # else no p could be small enough for so many

    def drawn(one, stage):
        return seeds.draws(*one.trials(stage), one.number, n_draws)

    of_first = {stage: drawn(first, stage) for stage in STAGES if first.done}
    parts = []
    for variant, stage in _asked(others if first.done else ()):
        n_recordings = len(np.unique(variant.recording))
        (low, high), p = seeds.difference(drawn(variant, stage), of_first[stage], n_recordings)
        ours, theirs = (seeds.rates(*one.trials(stage)).mean(axis=0) for one in (variant, first))
        gained = {"difference": ours - theirs, "low": low, "high": high, "p": p}
        few = [len(one.done) for one in (variant, first) if one.done[0].cell.config]
        named = {"against": first.name, "n_seeds": min(few, default=0), "p_holm": np.nan}
        parts.append(_rows(variant, stage, gained).assign(**named, n_recordings=n_recordings))
    measured = ["difference", "low", "high", "p", "p_holm", "n_recordings"]
    every = _joined(parts, ["against", *LABELS, *measured])
    return every.assign(p_holm=seeds.holm(every.p)).round(4)


def training(variants: list[Variant]) -> pd.DataFrame:
    """`sweep_training.csv`: the epochs of each training."""
    parts = [
        result.history.assign(cell=variant.name, seed=result.cell.seed)
        for variant in variants
        for result in variant.done
        if result.history is not None
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["cell", "seed"])


def overview(variants, rates, described) -> pd.DataFrame:
    """`sweep.csv`: a row per variant; described: of each, as `sweep_runs.described`, {} if nothing
    is there. Rates are means over seeds and lengths; minutes, epochs, updates, crops and
    validation Top-1, of the best epoch, means over trainings."""
    means, rows = rates[rates.query_frames.isna()].set_index(["stage", "cell"]), []
    ends = {"top1": "", "top1_low": "_low", "top1_high": "_high", "sd": "_sd"}
    for variant, of in zip(variants, described):
        row = {"cell": variant.name, "own": variant.own, "n_seeds": len(variant.done)}
        for stage, name in (("single", "top1"), ("two", "exact")):
            for part, end in ends.items():
                row[name + end] = means[part].get((stage, variant.name), np.nan)
        histories = [one.history for one in variant.done if one.history is not None]
        epochs = np.mean([len(history) for history in histories]) if histories else np.nan
        best = [history.top1.max() for history in histories if "top1" in history]
        row |= {"valid_top1": np.mean(best) if best else of.get("valid_top1", np.nan)}
        row |= {name: of.get(name, np.nan) for name in ("parameters", "gflops", "bytes")}
        row["epochs"] = epochs
        row |= {name: epochs * of.get(name, np.nan) for name in ("updates", "crops")}
        taken = [history.seconds.sum() / 60 for history in histories]
        row |= {"minutes": np.mean(taken) if taken else np.nan, "failed": variant.failed}
        rows.append(row)
    return pd.DataFrame(rows).round(4)


def readable(overview) -> pd.DataFrame:
    """`sweep.csv` as people read it, without columns that are empty, and the AMOUNTS that are the
    same in all rows."""
    told = overview.assign(failed=overview.failed.astype(object).fillna(""))
    shown = tables.readable(told, "sweep", ["cell"]).replace(r"^[+-]?nan\b.*", "", regex=True)
    same = [name for name in AMOUNTS if shown[name].nunique() == 1]
    return shown.drop(columns={*same, *shown.columns[(shown == "").all()]})


def readable_differences(table) -> pd.DataFrame:
    """`sweep_differences.csv` as people read it, with what each row lets one say."""
    query = table.query_s.map("{:g} s".format).mask(table.query_frames.isna(), "mean")
    rows = table.assign(query=query, said=[said(row) for row in table.itertuples()])
    return tables.readable(rows, "sweep_differences", ["cell", "stage, hit", "query"])


def said(row) -> str:
    """What a row of `sweep_differences.csv` lets one say, but for the difference itself."""
    if row.n_recordings < intervals.TOO_FEW:
        return "too few recordings"
    if row.low <= 0 <= row.high:
        return "no difference shown"
    if row.p_holm >= ALPHA:
        return "not settled: not beyond chance once corrected"
    if 0 < row.n_seeds < ENOUGH:
        return "one training alone" if row.n_seeds == 1 else "two trainings alone"
    return "more" if row.difference > 0 else "less"


def supports(overview, differences) -> list[str]:
    """What the figures of a sweep support, and what not, in sentences, by single-stage Top-1 as the
    mean of all lengths."""
    first, told = overview.cell.iloc[0], []
    rows = differences[(differences.stage == "single") & differences.query_frames.isna()]
    of_cell = {row.cell: row for row in rows.itertuples()}
    for row in overview.itertuples():
        if row.n_seeds == 0:
            told.append(f"{row.cell}: nothing is known; {row.failed}")
        elif row.cell in of_cell:
            one = of_cell[row.cell]
            told.append(
                f"{row.cell} against {first}: {sentences.points(one)} points of single-stage "
                f"Top-1, mean of all lengths (p {one.p_holm:.2g} once corrected): {said(one)}."
            )
            if row.failed and isinstance(row.failed, str):
                told[-1] += f" Of its seeds, {row.n_seeds} count; others: {row.failed}"
    if not of_cell:
        told.append(f"Nothing is compared as long as {first} and another cell are not there.")
    shown = [one for one in of_cell.values() if said(one) in ("more", "less")]
    updates = sorted({*overview.updates.dropna().round()})
    span = " to ".join(f"{n:,.0f}" for n in dict.fromkeys(updates[:1] + updates[-1:])) or "no"
    told.append(
        f"{len(shown)} of {len(of_cell)} differences of that kind are beyond chance. All hold for "
        f"{span} updates, the songs of this training set and these trials; what longer training or "
        "more songs would do, these figures do not tell."
    )
    return told
