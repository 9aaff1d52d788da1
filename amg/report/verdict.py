"""The claims of the paper, and of the lift, judged by the tables of a report."""

import numpy as np
import pandas as pd

from amg.report import tables
from amg.report.sentences import points
from amg.retrieval import intervals, search
from amg.sound.audio import seconds

LIFT, MEAN = "one-bit lift, no training", "mean pooling, no training"  # in `differences.csv`
NAFP = tables.ENCODERS["nafp"]
CLAIMS = pd.DataFrame(
    [
        ("Nearly as accurate", tables.METHOD, NAFP, "two", -2),
        ("Training makes the vector", tables.METHOD, MEAN, "single", 0),
        ("The lift beats the encoder", LIFT, tables.METHOD, "single", 0),
        ("The lift beats mean pooling", LIFT, MEAN, "single", 0),
        ("The lift is nearly as accurate", LIFT, NAFP, "two", -2),
    ],
    columns=["claim", "method", "against", "stage", "least"],  # least: the points it may lose
)
WORDS = {"supported": "supported", "open": "not settled here", "not": "not supported"}


def _judged(report):
    """The rows of `differences.csv` that bear on a claim, claim by claim, each with its `word`.

    By its interval a difference is above `least` (supported), below it (not), or neither (open);
    too few are the recordings that would not make an interval.
    """
    rows = report.get("differences", ())
    if not len(rows):
        return pd.DataFrame()
    rows = CLAIMS.merge(rows, on=["method", "against", "stage"])
    few = rows.n_recordings < intervals.TOO_FEW
    above, below = rows.low > rows.least, rows.high < rows.least
    return rows.assign(word=np.select([few, above, below], ["too few", "supported", "not"], "open"))


def sentences(report, query_s=10.0) -> list[str]:
    """Claim by claim, at one query length and the duration nearest to it: supported, not supported,
    or not settled here, with the figure; [] for a report without the tables or methods for it."""
    rows, cost = _judged(report), report.get("cost")
    if rows.empty or cost is None:
        return []
    rows = tables.near(tables.at(rows, query_s), query_s)
    cost = tables.near(cost, query_s).set_index("method")
    if [*rows.claim] != [*CLAIMS.claim] or "amg two-stage" not in cost.index:
        return []
    accuracy, training, encoder, pooling, base = (row for _, row in rows.iterrows())
    size, time = tables.whole_cost(cost)
    index, whole = (
        100 * of["amg two-stage"] / cost.index_bytes["nafp"] for of in (cost.index_bytes, size)
    )
    flat, coded = (100 * time["amg two-stage"] / time[of] for of in ("nafp", "nafp ivf-pq"))
    return [
        f"*Nearly as accurate as fingerprints*: {_settled(accuracy)}. Two-stage exact Top-1 "
        f"at {accuracy.query_s:g} s differs from the base system's by {points(accuracy)} points; a "
        "loss of 2 points is allowed.",
        f"*Under a tenth of the storage*: {'' if index < 10 else 'not '}supported for the index "
        f"({index:.1f} % of the fingerprints' bytes), not for two-stage search, which reads the "
        f"fingerprints, too ({whole:.0f} %).",
        f"*Under a tenth of the search time*: {'' if coded < 10 else 'not '}supported against the "
        f"base system as its authors run it ({coded:.0f} % of its time, embedding included), "
        f"{'' if flat < 10 else 'not '}supported against an exhaustive one ({flat:.0f} %).",
        f"*Training makes the vector*: {_settled(training)}. Single-stage Top-1 is "
        f"{points(training)} points from that of plain mean pooling, on as much music as there is "
        "here; the published encoder had 100,000 songs.",
        f"*The one-bit lift, ours, is better*: {_settled(encoder)} against the trained encoder "
        f"({points(encoder)} points, single-stage) and {_settled(pooling)} against mean "
        f"pooling ({points(pooling)}); its two-stage search is {points(base)} points "
        "from the base system.",
    ]


def price(report, steps) -> list[str]:
    """What the claims take, beside them: shortlist, layers and epochs, bytes of an index of codes,
    and what fewer frames do without an encoder; [] for a report without the claims or the tables.

    steps: those of its manifest.
    """
    if "shortlists" not in report or not sentences(report):
        return []
    lists = report["shortlists"].assign(query_s=lambda table: seconds(table.query_frames))
    lists = tables.at(lists, 5.0)
    top1 = lists[lists.run.notna()].set_index("shortlist").top1  # of the trained encoder
    if not {search.SHORTLIST, search.N_BEST} <= {*top1.index}:
        return []
    cost = report["cost"].assign(ms=lambda table: table.embed_ms + table.search_ms)
    frames = cost[cost.method.str.startswith("nafp 1/")].iloc[0]
    every = int(frames.method.partition("/")[2])
    amg = cost[cost.method == "amg two-stage"]
    as_many = amg[amg.duration_max == seconds(every)].iloc[0]
    index = tables.near(amg, 10.0).index_bytes.iloc[0]
    codes = cost.set_index("method").index_bytes["nafp ivf-pq"]
    given = [step["parameters"] for step in steps if step["label"].startswith("03_train")]
    trained = {f"{of['layers']} layers and {of['epochs']} epochs" for of in given}
    sizes = " or ".join(sorted(trained))
    of_training = [f"The trained encoders have {sizes} (published: 10 and 50)."] if sizes else []
    return [
        f"Two-stage search looks at {search.SHORTLIST} segments: for {lists.query_s.iloc[0]:g} s "
        f"queries and the trained encoder, exact Top-1 is {top1[search.SHORTLIST]:.1f} %, with the "
        f"published {search.N_BEST} segments {top1[search.N_BEST]:.1f} %; the base system reaches "
        f"{lists.top1[lists.encoder == 'nafp'].iloc[0]:.1f} %.",
        *of_training,
        f"The index of AMG vectors takes {100 * index / codes:.0f} % of the bytes of the index of "
        "codes (IVF-PQ) with which its time is compared.",
        f"One frame in {every}, without any encoder, reaches {frames.top1:.1f} % exact Top-1 in "
        f"{frames.ms:.1f} ms a query; AMG vectors, as many, {as_many.top1:.1f} % in "
        f"{as_many.ms:.1f} ms.",
    ]


def _settled(row):
    """What a judged row says of its claim, in a sentence."""
    few = f"too few to judge ({row.n_recordings:.0f} recordings)"
    return WORDS.get(row.word, few)


def table(report) -> pd.DataFrame:
    """Every claim at every duration (rows) and query length (columns): supported, open, not, or too
    few (recordings to judge); empty without `differences.csv`."""
    rows = _judged(report)
    if rows.empty:
        return pd.DataFrame()
    rows = rows.assign(
        vector=rows.duration_max.map("{:.0f} s".format), at=rows.query_s.map("{:g} s".format)
    )
    wide = rows.pivot_table(
        index=["claim", "vector"], columns="at", values="word", aggfunc="first", sort=False
    )
    return wide.fillna("").rename_axis(columns=None)


def markdown(judged) -> str:
    """`counts`, and of the table the claims whose cells are not all alike, for the README."""
    if judged.empty:
        return ""
    kinds = judged.stack().groupby(level="claim").nunique()
    mixed = judged[judged.index.get_level_values("claim").map(kinds) > 1]
    told = " ".join(counts(judged))
    return told if mixed.empty else f"{told}\n\n{tables.markdown(mixed)}"


def counts(judged) -> list[str]:
    """How often each claim is supported, open or not, in a sentence each."""
    told = []
    for claim, rows in judged.groupby(level="claim", sort=False) if len(judged) else ():
        n = rows.stack().value_counts().drop("", errors="ignore")
        cells = [f"{n.get(word, 0)} {word}" for word in ("supported", "open", "not")]
        cells += [f"{n['too few']} too few to judge"] if "too few" in n else []
        told.append(f"{claim}: of {n.sum()} cells {', '.join(cells)}.")
    return told
