"""Answers to the registered questions, by the rules of docs/registered.md, from tables of sweeps.

The endpoint is the single-stage Top-1 (segment), the mean of all query lengths. A report is a dict
of a sweep's tables by name.
"""

import pandas as pd

from amg.report import sentences, sweep_tables
from amg.report.sweep_tables import ALPHA, ENOUGH

COLLAPSED = 0.9  # mean cosine between different songs, at the last epoch
LETTER, RAW, MEAN = "to the letter", "fingerprints before whitening", "mean pooling"
ALSO = "before whitening, "  # and a change
CHANGES = ["warm-up", "rate 0.0003", "rate 0.0001", "unequal layers"]
CHANGES += ["norm first, unequal layers", "classes of recordings"]  # the smallest first
PAPER = 50 * 10 * 100_000 // 640  # updates: epochs, versions, songs, in batches
GROWING, FIXED, NONE = "growing from 0.2 to 0.4", "fixed", "none"
LIFT, GAIN = "one-bit lift", 3  # points that learnt bits are to gain
YES, NO, OPEN = "Yes", "No", "Not settled"


def told(name, report) -> list[str]:
    """What a sweep's tables answer, and what they support; [] for a report of none."""
    if "sweep" not in report:
        return []
    supported = sweep_tables.supports(report["sweep"], report["sweep_differences"])
    return of(name.rpartition("/")[2], report) + supported


def of(name, report) -> list[str]:
    """What a sweep's tables answer, in sentences; [] if no rule was registered for its name."""
    if name not in RULES:
        return []
    few = report["sweep"].query(f"n_seeds == 0 or (n_seeds < {ENOUGH} and epochs.notna())").cell
    if len(few):
        return [f"Not answered yet: fewer than {ENOUGH} trainings are there of {', '.join(few)}."]
    return RULES[name](report)


def endpoints(report) -> pd.DataFrame:
    """By cell: the row of `sweep.csv`, and of `sweep_differences.csv` that is of the endpoint."""
    rows = report["sweep_differences"]
    rows = rows[(rows.stage == "single") & rows.query_frames.isna()].set_index("cell")
    columns = ["difference", "low", "high", "p_holm", "n_recordings", "n_seeds"]
    own = report["sweep"].set_index("cell").drop(columns="n_seeds")
    return own.join(rows[columns])


def settled(low, high, enough) -> str:
    """Yes if an interval lies above 0, no if below `enough`."""
    return YES if low > 0 else NO if high < enough else OPEN


def ends(report) -> pd.DataFrame:
    """The last epoch of each training, and whether it `trains`: has not collapsed, and has half of
    mean pooling's validation Top-1."""
    last = report["sweep_training"].groupby(["cell", "seed"], sort=False).tail(1)
    least = report["sweep"].set_index("cell").valid_top1[MEAN] / 2
    return last.assign(trains=(last.alike <= COLLAPSED) & (last.top1 >= least))


def recipe(report) -> list[str]:
    """Does the published recipe train, and what makes it?"""
    last, rows = ends(report), endpoints(report)
    letter, trains = last[last.cell == LETTER], last.groupby("cell").trains
    share = trains.agg(lambda of_cell: f"{of_cell.sum()} of {len(of_cell)}")
    said = [
        f"{YES if letter.trains.sum() >= 2 else NO}: to the letter {share[LETTER]} trainings do; "
        f"after {rows.updates[LETTER]:,.0f} updates (the paper's 50 million crops would be "
        f"{PAPER:,}) validation Top-1 is {each(letter.top1, 1)} % (mean pooling: "
        f"{rows.valid_top1[MEAN]:.1f}), and the mean cosine between different songs "
        f"{each(letter.alike, 2)}.",
        f"The single-stage Top-1 of its vectors is {rows.top1[LETTER]:.1f} %, mean pooling's "
        f"{rows.top1[MEAN]:.1f}.",
    ]
    if RAW in share:
        raw, also = last[last.cell == RAW], [cell for cell in rows.index if cell.startswith(ALSO)]
        said.append(
            f"On fingerprints as they were before whitening, {share[RAW]} trainings do: validation "
            f"Top-1 {each(raw.top1, 1)} %, mean cosine {each(raw.alike, 2)}."
        )
        said[-1] += f" With one change: {_listed(share[also])}." if also else ""
    changes = [cell for cell in CHANGES if cell in share]
    whole = [cell for cell in changes if trains.all()[cell]]
    if changes:
        said.append(
            f"With one change each, so many do: {_listed(share[changes])}. The smallest "
            f"change with which all do: {whole[0] if whole else 'none'}."
        )
    return said


def _listed(shares):
    return ", ".join(f"{cell.removeprefix(ALSO)} ({share})" for cell, share in shares.items())


def each(values, digits) -> str:
    """Figures, one after the other."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


def training(report) -> list[str]:
    """Does training make the vector? Cells are named by recipe and level of data, the least level
    first."""
    rows = endpoints(report).drop(index=[MEAN, LIFT])
    epochs = report["sweep_training"].groupby(["cell", "seed"]).size()
    level = rows.index.str.partition(", ").get_level_values(2)
    said = []
    for name in dict.fromkeys(level[::-1]):
        best = rows[level == name].sort_values("valid_top1").iloc[-1]
        word = settled(best.low, best.high, 2)
        if said and word == YES and best.p_holm >= ALPHA:  # no question of its own: corrected
            word = OPEN
        said.append(
            f"{word if not said else f'With less, {name}: {word.lower()}'}: "
            f"{best.name} (the best there on validation songs, {best.valid_top1:.1f} %; its "
            f"trainings ended after {each(epochs[best.name], 0)} epochs), is "
            f"{sentences.points(best)} points from mean pooling."
        )
    return said


def margins(report) -> list[str]:
    """Do margins that grow with the overlap teach more than the fixed one that is best on
    validation songs?"""
    rows = endpoints(report)
    best = rows[rows.index.str.startswith(FIXED)].sort_values("valid_top1").iloc[-1]
    gain = pd.Series(
        {"difference": 0 - best.difference, "low": 0 - best.high, "high": 0 - best.low}
    )
    return [
        f"{settled(gain.low, gain.high, 1)}: {GROWING} is {sentences.points(gain)} points from "
        f"{best.name}, the best fixed margin on validation songs.",
        f"No margin at all is {sentences.points(rows.loc[NONE])} points from growing ones.",
    ]


def bits(report) -> list[str]:
    """Are learnt bits better than drawn ones, by so much that they are kept?"""
    rows = endpoints(report)
    learnt = rows[rows.index.str.startswith("learnt")].sort_values("valid_top1").iloc[-1]
    better = f"Better, but by less than {GAIN} points" if learnt.low > 0 else NO
    kept = learnt.difference >= GAIN and learnt.low > 0
    return [
        f"{YES if kept else better}: {learnt.name} (the better on validation songs) is "
        f"{sentences.points(learnt)} points from drawn bits, of as many bytes, after "
        f"{learnt.crops:,.0f} crops of training; {GAIN} or more, beyond chance, was the least."
    ]


RULES = {
    "published_recipe": recipe,
    "published_recipe_most": recipe,
    "published_recipe_demo": recipe,
    "training": training,
    "margins_best": margins,
    "learnt_bits_512": bits,
    "learnt_bits_128": bits,
}
