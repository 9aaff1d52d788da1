"""The claims of the paper, and of the lift, judged by the tables of a report."""

import pandas as pd

from amg.report import tables
from amg.retrieval import intervals

LIFT, MEAN, NAFP = (
    "one-bit lift, no training",
    "mean pooling, no training",
    "NAFP, every frame indexed",
)
WORDS = {"supported": "supported", "open": "not settled here", "not": "not supported"}
CLAIMS = {  # -> method, against, stage, and the points that it may lose
    "Nearly as accurate": (tables.METHOD, NAFP, "two", -2),
    "Training makes the vector": (tables.METHOD, MEAN, "single", 0),
    "The lift beats the encoder": (LIFT, tables.METHOD, "single", 0),
    "The lift beats mean pooling": (LIFT, MEAN, "single", 0),
    "The lift is nearly as accurate": (LIFT, NAFP, "two", -2),
}


def sentences(found, query_s=10.0) -> list[str]:
    """Claim by claim, at one query length and the duration nearest to it: supported, not supported,
    or not settled here, with the figure; [] for a report without the tables or methods for it."""
    if "cost" not in found or not len(found.get("differences", ())):
        return []
    rows = tables.near(tables.at(found["differences"], query_s), query_s)
    rows = rows.set_index(["method", "against", "stage"])
    cost = tables.near(found["cost"], query_s).set_index("method")
    asked = [claim[:3] for claim in CLAIMS.values()]
    if not set(asked) <= {*rows.index} or "amg two-stage" not in cost.index:
        return []
    accuracy, training, *of_lift = (rows.loc[key] for key in asked)
    size, time = cost.index_bytes + cost.refine_bytes, cost.embed_ms + cost.search_ms
    index, whole = (
        100 * of["amg two-stage"] / cost.index_bytes["nafp"] for of in (cost.index_bytes, size)
    )
    flat, coded = (100 * time["amg two-stage"] / time[of] for of in ("nafp", "nafp ivf-pq"))
    at = f"at {rows.query_s.iloc[0]:g} s"
    return [
        f"*Nearly as accurate as fingerprints*: {_settled(accuracy, -2)}. Two-stage exact Top-1 "
        f"{at} is {_points(accuracy)} points from the base system's; 2 points are allowed.",
        f"*Under a tenth of the storage*: {'' if index < 10 else 'not '}supported for the index "
        f"({index:.1f} % of the fingerprints' bytes), not for two-stage search, which reads the "
        f"fingerprints, too ({whole:.0f} %).",
        f"*Under a tenth of the search time*: {'' if coded < 10 else 'not '}supported against the "
        f"base system as its authors run it ({coded:.0f} % of its time, embedding included), "
        f"{'' if flat < 10 else 'not '}supported against an exhaustive one ({flat:.0f} %).",
        f"*Training makes the vector*: {_settled(training)}. Single-stage Top-1 is "
        f"{_points(training)} points from that of plain mean pooling, on as much music as there is "
        "here; the published encoder had 100,000 songs.",
        f"*The one-bit lift, ours, is better*: {_settled(of_lift[0])} against the trained encoder "
        f"({_points(of_lift[0])} points, single-stage) and {_settled(of_lift[1])} against mean "
        f"pooling ({_points(of_lift[1])}); its two-stage search is {_points(of_lift[2])} points "
        "from the base system.",
    ]


def _settled(row, least=0):
    """What its interval and its recordings let a difference say of a claim, in a sentence."""
    few = f"too few to judge ({row.n_recordings:.0f} recordings)"
    return WORDS.get(_word(row, least), few)


def _points(row):
    return f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"


def table(found) -> pd.DataFrame:
    """Every claim at every duration (rows) and query length (columns): supported, open, not, or too
    few (recordings to judge); empty without `differences.csv`."""
    cells = [
        {"claim": claim, "vector": f"{row.duration_max:.0f} s", "at": f"{row.query_s:g} s"}
        | {"cell": _word(row, least)}
        for claim, (method, against, stage, least) in CLAIMS.items()
        for row in _of(found, method, against, stage)
    ]
    if not cells:
        return pd.DataFrame()
    long = pd.DataFrame(cells)
    wide = long.pivot_table(
        index=["claim", "vector"], columns="at", values="cell", aggfunc="first", sort=False
    )
    return wide.fillna("").rename_axis(columns=None)


def html(table_) -> dict:
    """`counts` and the table for the page of a report, by their names in its template."""
    shown = "" if table_.empty else table_.to_html(border=0, classes="numbers")
    return {"counts": counts(table_), "judged": shown}


def markdown(table_) -> str:
    """`counts`, and of the table the claims whose cells are not all alike, for the README."""
    if table_.empty:
        return ""
    kinds = table_.stack().groupby(level="claim").nunique()
    mixed = table_[table_.index.get_level_values("claim").map(kinds) > 1]
    said = " ".join(counts(table_))
    return said if mixed.empty else f"{said}\n\n{tables.markdown(mixed)}"


def counts(table_) -> list[str]:
    """How often each claim is supported, open or not, in a sentence each."""
    said = []
    for claim, rows in table_.groupby(level="claim", sort=False) if len(table_) else ():
        cells = rows.stack()
        n = cells[cells != ""].value_counts()
        told = ", ".join(f"{n.get(word, 0)} {word}" for word in ("supported", "open", "not"))
        few = f", {n['too few']} too few to judge" if "too few" in n else ""
        said.append(f"{claim}: of {n.sum()} cells {told}{few}.")
    return said


def _of(found, method, against, stage):
    rows = found.get("differences", ())
    if not len(rows):
        return ()
    chosen = (rows.method == method) & (rows.against == against) & (rows.stage == stage)
    return rows[chosen].itertuples()


def _word(row, least):
    """Whether a difference is above `least`, by its interval, if there are recordings enough."""
    if row.n_recordings < intervals.TOO_FEW:
        return "too few"
    return "supported" if row.low > least else "not" if row.high < least else "open"
