"""A report beside the committed reference run of its profile, table by table.

Rows are those of the same labels (`KEYS`), wherever they stand; times and names of runs and files
are not compared. A table is *within the intervals* if for each figure with a 95 % interval the two
intervals overlap, if every other fraction differs by at most a tenth of the largest of its column
(`SHARE`), and if whole numbers and texts are equal. Rows and columns that the reference does not
have yet are new, and no difference.
"""

from pathlib import Path

import pandas as pd

from amg import files, paths
from amg.report import tables

# times, and names of runs and files (a file lies by its code)
IGNORED = r"_ms$|_ms_q[13]$|^minutes$|^build_s$|^times_real_time$|^waiting$|^run$|^file$"
SHARE = 0.1
# columns that name a row: as many of the first as it takes to tell a table's rows apart
KEYS = ["epoch", "step", "cell", "piece", "role", "system", "method", "against", "encoder", "loss"]
KEYS += ["stage", "protocol", "tolerance", "score", "group", "condition", "distractors", "index"]
KEYS += ["function", "kind", "duration_max", "query_frames", "query_s", "song", "clip", "start"]
KEYS += ["dimensions", "shortlist", "part", "n_songs", "seed", "n_vectors", "n"]


def compare(table, reference) -> str:
    """The verdict: identical, within the intervals, new, or differs (why). None: no such table."""
    if reference is None:
        return "new (the reference has no such table)"
    if table is None:
        return "differs (only the reference has it)"
    ours, theirs = _by_key(_compared(table), _compared(reference))
    rows = theirs.index.intersection(ours.index, sort=False)
    columns = [name for name in theirs if name in ours]
    more = [f"new column {name}" for name in ours if name not in theirs]
    more += _rows(ours.index.difference(rows, sort=False), "new")
    gone = [f"column {name} is missing" for name in theirs if name not in ours]
    gone += _rows(theirs.index.difference(rows, sort=False), "missing")
    ours, theirs = ours.loc[rows, columns], theirs.loc[rows, columns]
    gone += [
        _sentence(ours[name], theirs[name], beyond)
        for name in columns
        if (beyond := _beyond(ours, theirs, name)).any()
    ]
    verdict = "identical" if ours.equals(theirs) else "within the intervals"
    details = "; ".join(gone + more)
    return f"{'differs' if gone else verdict}{f' ({details})' if details else ''}"


def _compared(table):
    """A table without what is not compared; the interval of each `x` is `x_low` to `x_high`."""
    # `seconds` is a time in the log of a training, and the length of a clip elsewhere
    ignored = IGNORED + ("|^seconds$" if {"epoch", "step"} & set(table) else "")
    kept = table.loc[:, ~table.columns.str.contains(ignored)]
    return kept.rename(columns={"low": "difference_low", "high": "difference_high"})


def _by_key(*both):
    """The tables with their keys as index; rows that share one are numbered."""
    labels, names = [], [name for name in KEYS if all(name in table for table in both)]
    while names and any(table.duplicated(labels or None).any() or not labels for table in both):
        labels.append(names.pop(0))
    return [_indexed(table, labels) for table in both]


def _indexed(table, labels):
    """A table by its labels in one text, and a number where rows share them."""
    key = pd.Series("", table.index)
    for name in labels:
        column = table[name]
        text = column.map("{:g}".format) if column.dtype.kind in "if" else column.fillna("none")
        key = key + ", " + text.astype(str)
    number = key.groupby(key).cumcount()
    return table.set_axis((key + (" #" + (number + 1).astype(str)).where(number > 0, "")).str[2:])


def _rows(keys, what):
    """How many rows are new or missing, and the first of them; [] if none is."""
    if not len(keys):
        return []
    return [f"{len(keys)} row{'' if len(keys) == 1 else 's'} {what}, the first: {keys[0]}"]


def _beyond(ours, theirs, name):
    """Whether each row's two figures are further apart than the rule allows, bool (n,)."""
    if name.endswith(("_low", "_high")) or name in ("p", "p_holm") and "difference_low" in ours:
        return pd.Series(False, ours.index)  # judged with the rate or difference that it is of
    low, high = f"{name}_low", f"{name}_high"
    if low in ours:
        return (ours[low] > theirs[high]) | (theirs[low] > ours[high])
    one, other = ours[name], theirs[name]
    beyond = (one != other) & ~(one.isna() & other.isna())
    if {one.dtype.kind, other.dtype.kind} in ({"f"}, {"f", "i"}):
        beyond &= ~((one - other).abs() <= SHARE * other.abs().max())
    return beyond


def _sentence(one, other, beyond):
    """What differs most in a column, and where."""
    off = beyond.astype(float)
    if {one.dtype.kind, other.dtype.kind} <= {"f", "i"}:
        off = (one - other).abs().fillna(float("inf")).where(beyond, 0)
    at = off.idxmax()
    return (
        f"{one.name} differs in {beyond.sum()} of {len(one)} rows, most in {at}: "
        f"{one[at]}, reference {other[at]}"
    )


def reference(profile) -> Path:
    """Folder of a profile's reference run, in the checkout wherever the workspace is."""
    return paths.checkout() / "reports" / "reference" / profile


def read(base) -> tuple:
    """The manifest of a report's folder, None if there is none, and all its tables by name."""
    every = sorted((base / "tables").glob("*.csv"))
    return files.read_json(base / "manifest.json"), {at.stem: tables.read_file(at) for at in every}


def with_reference(profile, report) -> list:
    """A report's tables, name -> DataFrame, beside those of its profile's reference: whether it is
    reproduced, or what differs, in one sentence, and then table by table."""
    run, theirs = read(reference(profile))
    if run is None:
        return [f"There is no reference run of the profile {profile} to compare with."]
    names = sorted({*report, *theirs})
    verdicts = {name: compare(report.get(name), theirs.get(name)) for name in names}
    told = [f"{name} {verdict}" for name, verdict in verdicts.items()]
    differ = [text for text, verdict in zip(told, verdicts.values()) if verdict[:7] == "differs"]
    of = f"the committed reference run ({run['commit']}, {run['machine']['processor']})"
    n = len(theirs)
    if differ:
        which = "; ".join(differ)
        return [f"not reproduced: {len(differ)} of {n} tables differ from {of}: {which}.", *told]
    near = sum(verdict.startswith("within") for verdict in verdicts.values())
    within = f", {near} of them within the intervals" if near else ""
    return [f"reproduced: your {n} tables agree with {of}{within}.", *told]
