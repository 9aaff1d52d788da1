"""A report beside the committed reference run of its profile, table by table.

Rows are compared in their order; times and names of runs and files are not. A table is *within the
intervals* if for each figure with a 95 % interval the two intervals overlap, if every other
fraction differs by at most a tenth of the largest of its column (`SHARE`), and if whole numbers
and texts are equal.
"""

from pathlib import Path

import pandas as pd

from amg import files, paths
from amg.report import tables

IGNORED = r"_ms$|_ms_q[13]$|^build_s$|^waiting$|^run$|^file$"  # a file lies by its code
SHARE = 0.1


def compare(table, reference) -> str:
    """The verdict: identical, within the intervals, or differs (why). None: there is no table."""
    if table is None or reference is None:
        return f"differs (only {'the reference' if table is None else 'this run'} has it)"
    ours, theirs = _compared(table), _compared(reference)
    odd = sorted(set(ours) ^ set(theirs))
    if odd:
        return f"differs (columns of one alone: {', '.join(odd)})"
    if len(ours) != len(theirs):
        return f"differs ({len(ours)} rows, reference {len(theirs)})"
    if ours[[*theirs]].equals(theirs):
        return "identical"
    said = [
        _sentence(ours[name], theirs[name], beyond)
        for name in ours
        if (beyond := _beyond(ours, theirs, name)).any()
    ]
    return f"differs ({'; '.join(said)})" if said else "within the intervals"


def _compared(table):
    """A table without what is not compared; the interval of each `x` is `x_low` to `x_high`."""
    # `seconds` is a time in the log of a training, and the length of a clip elsewhere
    ignored = IGNORED + "|^seconds$" * bool({"epoch", "step"} & set(table))
    kept = table.loc[:, ~table.columns.str.contains(ignored)].reset_index(drop=True)
    return kept.rename(columns={"low": "difference_low", "high": "difference_high"})


def _beyond(ours, theirs, name):
    """Whether each row's two figures are further apart than the rule allows, bool (n,)."""
    if name.endswith(("_low", "_high")):
        return pd.Series(False, ours.index)  # judged with the rate that it bounds
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
        f"{one.name} differs in {beyond.sum()} of {len(one)} rows, most in row {at + 1}: "
        f"{one[at]}, reference {other[at]}"
    )


def reference(profile) -> Path:
    """Folder of a profile's reference run, in the checkout wherever the workspace is."""
    return paths.checkout() / "reports" / "reference" / profile


def read(base) -> dict:
    """All tables of a report's folder, by name."""
    return {path.stem: tables.read_file(path) for path in sorted((base / "tables").glob("*.csv"))}


def with_reference(profile, found) -> list:
    """A report's tables, name -> DataFrame, beside those of its profile's reference: sentences."""
    run, theirs = files.read_json(reference(profile) / "manifest.json"), read(reference(profile))
    if run is None:
        return [f"There is no reference run of the profile {profile} to compare with."]
    verdicts = {
        name: compare(found.get(name), theirs.get(name)) for name in sorted({*found, *theirs})
    }
    words = sorted(verdict.partition(" (")[0] for verdict in verdicts.values())
    counts = ", ".join(
        f"{words.count(word)} {word.replace('differs', 'differ')}" for word in dict.fromkeys(words)
    )
    return [
        f"Compared with the reference run of commit {run['commit']} on "
        f"{run['machine']['processor']}, {run['machine']['cores']} cores, {len(words)} tables: "
        f"{counts}.",
        *(f"{name}: {verdict}" for name, verdict in verdicts.items()),
    ]
