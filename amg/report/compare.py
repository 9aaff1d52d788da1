"""A report beside the committed reference run of its profile, table by table.

Rows are matched by what they are about (`KEYS`). Times, memory and names of runs are not compared.
A table is *within the intervals* if for each rate with an interval the two 95 % intervals overlap,
if every other figure differs by at most a tenth of the largest of its column (`SHARE`), and if
whole numbers and texts are equal.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.api.types import is_bool_dtype, is_float_dtype, is_numeric_dtype

from amg import files, paths
from amg.report import tables

KEYS = ("group", "condition", "role", "recording", "piece", "track", "file", "start_s", "folder",
        "method", "against", "encoder", "loss_name", "duration_max", "stage", "protocol",
        "tolerance", "query_frames", "query_s", "song", "start", "epoch", "step")
IGNORED = r"_ms$|_ms_q[13]$|^seconds$|^waiting$|^run$|wall|memory"
SHARE = 0.1


@dataclass(frozen=True)
class Verdict:
    """What came of one table."""

    word: str  # identical, within the intervals, differs
    why: str = ""


def compare(table, reference) -> Verdict:
    """Verdict on a table beside the reference's; either is None where there is none."""
    if table is None or reference is None:
        return Verdict("differs", f"only {'the reference' if table is None else 'this run'} has it")
    ours, theirs = _keyed(table), _keyed(reference)
    odd = sorted(set(ours.columns) ^ set(theirs.columns))
    if odd:
        return Verdict("differs", f"columns of one alone: {', '.join(odd)}")
    more, fewer = ours.index.difference(theirs.index), theirs.index.difference(ours.index)
    both = ours.index.intersection(theirs.index)
    found = [_column(ours.loc[both], theirs.loc[both], name) for name in ours.columns]
    said = [f"{len(rows)} rows {how}" for rows, how in ((more, "more"), (fewer, "fewer"))
            if len(rows)] + [column for column in found if isinstance(column, str)]
    if said:
        return Verdict("differs", "; ".join(said))
    return Verdict("identical" if all(found) else "within the intervals")


def _keyed(table):
    """The compared columns of a table, by its keys; rows of equal keys are counted through."""
    keys = [key for key in KEYS if key in table]
    # 10 and 10.0, and an empty key, read alike whatever else is in the column
    index = table[keys].map(lambda key: f"{key:g}" if isinstance(key, float) else str(key))
    index["row"] = index.groupby(keys).cumcount() if keys else range(len(table))
    # `seconds` is a time in the log of a training, and the length of a clip elsewhere
    ignored = IGNORED if {"epoch", "step"} & set(keys) else IGNORED.replace("^seconds$|", "")
    kept = [name for name in table.loc[:, ~table.columns.str.contains(ignored)] if name not in keys]
    return table[kept].set_index(pd.MultiIndex.from_frame(index))


def _column(ours, theirs, name):
    """True: equal; False: within the intervals; a sentence: what differs most, and where."""
    one, other = ours[name], theirs[name]
    if is_numeric_dtype(one) and is_numeric_dtype(other) and not is_bool_dtype(one):
        different = (one != other) & ~(one.isna() & other.isna())
        off = (one - other).abs().fillna(float("inf")).where(_outside(ours, theirs, name), 0)
    else:
        different = one.astype(str).fillna("") != other.astype(str).fillna("")
        off = different.astype(float)
    off = off[different]
    if off.empty or off.max() == 0:
        return off.empty
    at = off.idxmax()
    where = ", ".join(part for part in at[:-1] if part != "nan") or f"row {at[-1] + 1}"
    return (f"{name} differs in {(off > 0).sum()} of {len(one)} rows, most at {where}: "
            f"{one[at]}, reference {other[at]}")


def _outside(ours, theirs, name):
    """Whether each row's two figures are further apart than the rule allows, bool (n,)."""
    bounds = {column: _bounds(column) for column in ours if set(_bounds(column)) <= set(ours)}
    if name in bounds:
        low, high = bounds[name]
        return (ours[low] > theirs[high]) | (theirs[low] > ours[high])
    if name in sum(bounds.values(), ()):
        return pd.Series(False, ours.index)  # judged with the rate that it bounds
    one, other = ours[name], theirs[name]
    if is_float_dtype(one) or is_float_dtype(other):
        return ~((one - other).abs() <= SHARE * other.abs().max())
    return one != other


def _bounds(column):
    """Names that the ends of a column's interval would have."""
    return ("low", "high") if column == "difference" else (f"{column}_low", f"{column}_high")


def reference(profile) -> Path:
    """Folder of a profile's reference run, in the checkout wherever the workspace is."""
    return paths.checkout() / "reports" / "reference" / profile


def read(base) -> dict:
    """All tables of a report's folder, by name."""
    return {path.stem: tables.read_file(path) for path in sorted((base / "tables").glob("*.csv"))}


def with_reference(profile, written) -> list:
    """The tables that a profile's steps wrote beside those of its reference, as sentences."""
    run = files.read_json(reference(profile) / "manifest.json")
    if run is None:
        return [f"There is no reference run of the profile {profile} to compare with."]
    names = {Path(name).stem for name in written if name.endswith(".csv") and "/tables/" in name}
    ours, theirs = read(paths.resolve(f"reports/{profile}")), read(reference(profile))
    verdicts = {name: compare(ours.get(name) if name in names else None, theirs.get(name))
                for name in sorted({*names, *theirs})}
    words = sorted(verdict.word for verdict in verdicts.values())
    counts = ", ".join(f"{words.count(word)} {word.replace('differs', 'differ')}"
                       for word in dict.fromkeys(words))
    return [f"Compared with the reference run of commit {run['commit']} on "
            f"{run['machine']['processor']}, {run['machine']['cores']} cores, {len(words)} tables: "
            f"{counts}.",
            *(f"{name}: {verdict.word}{verdict.why and f' ({verdict.why})'}"
              for name, verdict in verdicts.items())]
