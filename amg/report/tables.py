"""Tables as people read them, and the sentences made from them.

`retrieval.csv`, `ablations.csv` and `cost.csv` hold the figures; everything here is drawn from
them.
"""

import numpy as np
import pandas as pd

from amg import files, paths
from amg.sound.audio import seconds
from amg.check import InputError


def write(table, report, name):
    """Write a DataFrame to `reports/<report>/tables/<name>.csv`; returns the path."""
    path = paths.resolve(f"reports/{report}/tables/{name}.csv")
    with files.atomic(path) as temporary:
        table.to_csv(temporary, index=False)
    return path


def read(report, name):
    """Read what `write` wrote; InputError if it is not there."""
    path = paths.resolve(f"reports/{report}/tables/{name}.csv")
    if not path.exists():
        raise InputError(f"{paths.relative(path)} is missing; run the notebook that writes it first, "
                         f"with the parameter report={report!r}.")
    table = pd.read_csv(path, dtype={"refused": str})
    return table.fillna({"refused": ""}) if "refused" in table else table


def curve_label(row):
    """Legend entry of one row of retrieval.csv."""
    if row["method"].startswith("nafp"):
        return "NAFP, every frame indexed"
    name = {"mt": "AMG", "mlstm": "AMG (LSTM)", "mcnn": "AMG (CNN)"}[row["encoder"]]
    protocol = ", published protocol" if row["protocol"] == "published" else ""
    return f"{name} {row['duration_max']:.0f} s, {row['stage']}-stage{protocol}"


def recall_figure(protocol):
    """Name of the recall-vs-duration figure of a protocol; protocols never share one."""
    return "recall_vs_duration" + ("" if protocol == "contiguous" else f"_{protocol}")


def ablation_label(row):
    """Name of one ablated method: what was trained, with which loss."""
    return "mean pooling, no training" if row.encoder == "mean" else f"{row.encoder}, {row.loss} loss"


def hits(retrieval):
    """Top-1 / Top-10 as in the paper: a row per method and tolerance, a column per query length."""
    return _by_query_length(retrieval, [curve_label(row) for _, row in retrieval.iterrows()])


def ablations(rates):
    """The same for the rows of `ablations.csv`."""
    return _by_query_length(rates, [f"{ablation_label(row)}, {row.stage}-stage"
                                    for row in rates.itertuples()])


def _by_query_length(retrieval, labels):
    cells = retrieval.assign(
        hit=[f"{row.top1:.1f} / {row.top10:.1f}" for row in retrieval.itertuples()],
        who=labels,
        query=[f"{s:g} s" for s in retrieval.query_s])
    order = list(dict.fromkeys(cells["query"]))
    table = cells.pivot_table(index=["who", "tolerance"], columns="query", values="hit",
                              aggfunc="first", sort=False)
    return table[order].rename_axis(index=["Top-1 / Top-10 (%)", "hit"], columns=None)


def costs(cost):
    """cost.csv with readable units."""
    return pd.DataFrame({
        "method": cost.method,
        "duration_max (s)": ["" if np.isnan(d) else f"{d:.0f}" for d in cost.duration_max],
        "vectors": [f"{n:,}" for n in cost.n_vectors],
        "index (kB)": [f"{b / 1e3:,.0f}" for b in cost.index_bytes],
        "second stage (kB)": [f"{b / 1e3:,.0f}" for b in cost.refine_bytes],
        "embed (ms)": [f"{ms:.2f}" for ms in cost.embed_ms],
        "search (ms)": [f"{ms:.2f}" for ms in cost.search_ms],
    }).set_index("method")


def robustness(rates):
    """Top-1 in %, exact and near: a row per condition, a column per query length."""
    exact, near = (rates[rates.tolerance == tolerance].pivot_table(
        index=["group", "condition"], columns="query_s", values="top1", sort=False)
        for tolerance in ("exact", "near"))
    table = exact.map("{:.1f}".format) + " / " + near.map("{:.1f}".format)
    table.columns = [f"{query_s:g} s" for query_s in table.columns]
    order = pd.MultiIndex.from_frame(rates[["group", "condition"]].drop_duplicates())
    return table.loc[order].rename_axis(index=["exact / near (%)", "condition"])


def reasons(why):
    """`miss_reasons.csv` with readable units, and what the same audio makes of it."""
    shares = why.drop(columns=["condition", "query_frames"]).map("{:.1f} %".format)
    shares.insert(0, "queries", why.condition)
    shares.insert(1, "length", [f"{seconds(n):g} s" for n in why.query_frames])
    same = why["same audio elsewhere"]
    return shares.assign(**{
        "exact or same audio": (why.exact + same).map("{:.1f} %".format),
        "same audio, of the misses": [f"{100 * s / (100 - exact):.0f} %" if exact < 100 else ""
                                      for s, exact in zip(same, why.exact)]}).set_index(["queries", "length"])


def headline(tables, query_s=10.0):
    """Sentences that state the result: retrieval, cost, ablations; [] without the first two."""
    if "retrieval" not in tables or "cost" not in tables:
        return []
    retrieval, cost = tables["retrieval"], tables["cost"]
    rows = retrieval[(retrieval.query_s == query_s) & (retrieval.tolerance == "exact")]
    base = rows[rows.method.str.startswith("nafp")]
    if base.empty:
        return []
    found = [f"{curve_label(row)}: {row.top1:.1f} % [{row.top1_low:.1f}, {row.top1_high:.1f}]"
             for _, row in rows.iterrows()]
    single = cost[cost.method == "amg single-stage"]
    saved = [f"{row.duration_max:.0f} s: {100 * row.index_bytes / cost.index_bytes[0]:.1f} % of the "
             f"base system's index bytes, {100 * row.search_ms / cost.search_ms[0]:.1f} % of its "
             "search time" for row in single.itertuples()]
    sentences = [f"Queries of {query_s:g} s, {base.n_queries.iloc[0]} trials, exact-frame Top-1 "
                 "with 95 % intervals. " + "; ".join(found) + "."]
    if saved:
        sentences.append("Cost of the single stage by duration_max. " + "; ".join(saved) + ".")
    if "miss_reasons" in tables:
        why = tables["miss_reasons"].query("condition == 'field'")
        sentences.append("Of all queries, these miss the exact frame but return the same audio (a "
                         "loop, a reprise): " + ", ".join(
                             f"{share:.1f} % at {seconds(n):g} s" for n, share in
                             zip(why.query_frames, why["same audio elsewhere"])) + ".")
    if "ablations" in tables:
        rates = tables["ablations"]
        rates = rates[(rates.query_s == query_s) & (rates.tolerance == "segment")]
        shown = [f"{ablation_label(row)}: {row.top1:.1f} % [{row.top1_low:.1f}, {row.top1_high:.1f}]"
                 for row in rates.itertuples()]
        sentences.append("What training adds here, single-stage Top-1 at the same length, "
                         f"duration_max {tables['ablations'].duration_max[0]:.0f} s. "
                         + "; ".join(shown or ["not measured"]) + ".")
    return sentences


def size(tables):
    """What the size of the corpus lets one expect; '' if the clips are not listed."""
    if "clips" not in tables:
        return ""
    used = tables["clips"].query("refused == ''")
    n, hours = used.role.value_counts(), used.groupby("role").seconds.sum() / 3600
    sentence = f"{n['test']} test clips among {n['dummy']} distractors of {hours['dummy']:.1f} h."
    if "train" not in n:
        return sentence
    return (f"{n['train']} training songs, {sentence} The published encoder was trained on 100,000 "
            "songs and searched among 10,000: expect hit rates of the embedding to rise with "
            "training songs and to fall with distractors, and differences within the intervals to "
            "mean nothing.")


def markdown(table):
    """A table as the README shows it."""
    flat = table.reset_index()
    rows = [list(map(str, flat.columns)), ["---"] * flat.shape[1], *flat.astype(str).values.tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
