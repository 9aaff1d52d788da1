"""Tables as people read them, drawn from the CSV files that hold the figures.

Hit rates are percentages, intervals are at 95 % and by recording.
"""

import lzma
from pathlib import Path

import numpy as np
import pandas as pd

from amg import files, paths
from amg.sound.audio import seconds

SMALLEST = {"method": "xz", "preset": 9 | lzma.PRESET_EXTREME}  # of tables of single trials
TOLERANCES = {  # what counts as a hit, in the order of every table
    "exact": "at most 0.25 s from where the query begins",
    "near": "at most 0.5 s from it",
    "same_audio": "exact (single stage: segment), or a place whose undegraded sound is the same, a "
    "loop or a reprise (correlation of 0.9 or more)",
    "segment": "the segment in which the query begins, or the next one of the same song",
    "song": "the right recording, anywhere in it",
}
METHOD = "Transformer, AMG loss"  # called AMG where nothing else is
ENCODERS = {
    "mt": "Transformer",
    "mlstm": "LSTM",
    "mcnn": "CNN",
    "mean": "mean pooling",
    "lift": "one-bit lift",
    "lift1024": "one-bit lift of 1,024",
}


def write(table, report, name, compressed=False) -> Path:
    """Write a DataFrame to `reports/<report>/tables/<name>.csv`, or `.csv.xz`; returns the path."""
    path = paths.resolve(f"reports/{report}/tables/{name}.csv{'.xz' if compressed else ''}")
    with files.atomic(path) as temporary:
        table.to_csv(temporary, index=False, compression=SMALLEST if compressed else None)
    return path


def read_file(path) -> pd.DataFrame:
    """Read what `write` wrote; a clip that was not refused has an empty text there."""
    table = pd.read_csv(path, dtype={"refused": str})
    return table.fillna({"refused": ""}) if "refused" in table else table


def ablation_label(row) -> str:
    """What answered: the base system, or any encoder and loss; an unfinished training is said.

    row: of `retrieval.csv` or `ablations.csv`, by the names of its columns.
    """
    if row["method"].startswith("nafp"):
        if "/" in row["method"]:
            return f"NAFP, one frame in {row['method'].partition('/')[2]}"
        return "NAFP, IVF-PQ" if "pq" in row["method"].lower() else "NAFP, every frame indexed"
    if row["loss"] == "none":
        return f"{ENCODERS.get(row['encoder'], row['encoder'])}, no training"
    unfinished = ", training not finished" if str(row.get("finished", True)) == "False" else ""
    loss = "AMG" if row["loss"] == "amg" else row["loss"]
    return f"{ENCODERS.get(row['encoder'], row['encoder'])}, {loss} loss{unfinished}"


def curve_label(row) -> str:
    """Legend entry of a row of retrieval.csv: what answered, seconds of a vector, stage."""
    who = ablation_label(row).replace(METHOD, "AMG")
    if row["method"].startswith("nafp"):
        return who
    protocol = " (published protocol)" if row["protocol"] == "published" else ""
    return f"{who}, {row['duration_max']:.0f} s, {row['stage']}-stage{protocol}"


def hits(rates, label=curve_label) -> pd.DataFrame:
    """Top-1 / Top-10 as in the paper: a row per method and tolerance, a column per query length."""
    rates = rates.assign(who=rates.apply(label, axis=1))
    by_tolerance = rates.tolerance.map([*TOLERANCES].index)
    rates = rates.iloc[np.lexsort([by_tolerance, pd.factorize(rates.who)[0]])]
    cells = [f"{row.top1:.1f} / {row.top10:.1f}" for row in rates.itertuples()]
    return _by_length(
        rates.assign(hit=rates.tolerance.str.replace("_", " "), cell=cells),
        {"who": "Top-1 / Top-10 (%)", "hit": "hit"},
    )


def ablations(rates) -> pd.DataFrame:
    """The same for the rows of `ablations.csv`, which are of one duration."""
    return hits(rates, lambda row: f"{ablation_label(row)}, {row['stage']}-stage")


def robustness(rates) -> pd.DataFrame:
    """Top-1 in % at three tolerances: a row per condition, a column per query length."""
    rates = rates[rates.tolerance.isin(["exact", "near", "song"])]
    return _by_length(
        rates.assign(cell=rates.top1.map("{:.1f}".format)),
        {"group": "exact / near / song (%)", "condition": "condition"},
    )


def _by_length(rates, rows):
    """The texts `cell`, a row per value of two columns, `rows`: column -> its name in the table."""
    table = rates.pivot_table(
        index=[*rows], columns="query_s", values="cell", aggfunc=" / ".join
    ).fillna("")
    table = table.loc[pd.MultiIndex.from_frame(rates[[*rows]].drop_duplicates())]
    table.columns = [f"{query_s:g} s" for query_s in table]
    return table.rename_axis(index=[*rows.values()])


def summary(retrieval, query_s=10.0) -> pd.DataFrame:
    """Top-1 with its interval at one query length, of the duration nearest to it: a row per method,
    a column per tolerance."""
    rows = near(at(retrieval[retrieval.protocol == "contiguous"], query_s), query_s)
    rates = [
        f"{row.top1:.1f} [{row.top1_low:.1f}, {row.top1_high:.1f}]" for row in rows.itertuples()
    ]
    table = (
        rows.assign(who=rows.apply(curve_label, axis=1), rate=rates)
        .pivot_table(index="who", columns="tolerance", values="rate", aggfunc="first", sort=False)
        .fillna("")
    )
    table = table[[name for name in TOLERANCES if name in table]]
    table.columns = table.columns.str.replace("_", " ")
    return table.rename_axis(index=f"Top-1 (%) at {rows.query_s.iloc[0]:g} s", columns=None)


def at(rates, query_s) -> pd.DataFrame:
    """The rows of the query length nearest to `query_s`."""
    return rates[rates.query_s == min(rates.query_s, key=lambda s: abs(s - query_s))]


def near(rows, seconds_) -> pd.DataFrame:
    """The rows of the duration_max nearest to some seconds, and those that have none."""
    durations = rows.duration_max.dropna()
    nearest = min(durations, key=lambda d: abs(d - seconds_), default=0)
    return rows[rows.duration_max.isna() | (rows.duration_max == nearest)]


def costs(cost) -> pd.DataFrame:
    """cost.csv with readable units: medians [quartiles], and shares of the first row's."""

    def time(part):
        return [
            f"{middle:.2f} [{low:.2f}, {high:.2f}]"
            for middle, low, high in zip(
                cost[f"{part}_ms"], cost[f"{part}_ms_q1"], cost[f"{part}_ms_q3"]
            )
        ]

    size, whole = cost.index_bytes + cost.refine_bytes, cost.embed_ms + cost.search_ms
    return pd.DataFrame(
        {
            "method": cost.method,
            "duration_max (s)": ["" if np.isnan(d) else f"{d:.0f}" for d in cost.duration_max],
            "vectors": [f"{n:,}" for n in cost.n_vectors],
            "index (kB)": [f"{b / 1e3:,.0f}" for b in cost.index_bytes],
            "second stage (kB)": [f"{b / 1e3:,.0f}" for b in cost.refine_bytes],
            "bytes (%)": [f"{100 * b / size[0]:.1f}" for b in size],
            "embed (ms)": time("embed"),
            "search (ms)": time("search"),
            "time (%)": [f"{100 * t / whole[0]:.1f}" for t in whole],
            "exact Top-1 (%)": ["" if np.isnan(top1) else f"{top1:.1f}" for top1 in cost.top1],
        }
    ).set_index("method")


def unknown(found) -> pd.DataFrame:
    """`unknown.csv`: at the threshold of the validation, and how far from what is wanted."""

    def rate(name):
        return [
            f"{middle:.1f} [{low:.1f}, {high:.1f}]"
            for middle, low, high in zip(found[name], found[f"{name}_low"], found[f"{name}_high"])
        ]

    return pd.DataFrame(
        {
            "query": [f"{query_s:g} s" for query_s in found.query_s],
            "method": found.apply(unknown_label, axis=1),
            "score": found.score,
            "recall (%)": rate("recall"),
            "false accepts (%)": rate("false_accepts"),
            "misidentified (%)": rate("misidentified"),
            "recall at 1 % false accepts (%)": found.recall_at_1.map("{:.1f}".format),
            **{
                f"false accepts at {recall} % recall (%)": [
                    "not reached" if np.isnan(far) else f"{far:.1f}"
                    for far in found[f"far_at_{recall}"]
                ]
                for recall in (90, 95)
            },
        }
    ).set_index(["query", "method", "score"])


def unknown_label(row) -> str:
    """What answered, and its stage; row: of `unknown.csv` or `roc.csv`."""
    if row["method"] == "nafp":
        return "NAFP, every frame indexed"
    who = {"mt": "AMG"}.get(row["encoder"], ENCODERS.get(row["encoder"], row["encoder"]))
    return f"{who}, {row['stage']}-stage"


def scale(grown) -> pd.DataFrame:
    """`scale.csv` with readable units."""
    return pd.DataFrame(
        {
            "encoder": grown.encoder.map(lambda name: ENCODERS.get(name, name)),
            "index": grown["index"],
            "vectors": grown.n_vectors.map("{:,}".format),
            "bytes per vector": grown.bytes_per_vector.map("{:,.0f}".format),
            "building (s)": grown.build_s.map("{:.1f}".format),
            "embed (ms)": grown.embed_ms.map("{:.2f}".format),
            "search (ms)": [
                f"{middle:.2f} [{low:.2f}, {high:.2f}]"
                for middle, low, high in zip(
                    grown.search_ms, grown.search_ms_q1, grown.search_ms_q3
                )
            ],
            "batched (ms)": grown.batched_ms.map("{:.2f}".format),
            **{
                f"{name} (%)": grown[column].map("{:.1f}".format)
                for name, column in (("Top-1", "top1"), ("Top-10", "top10"), ("listed", "listed"))
            },
            "Top-1, forecast (%)": grown.forecast.map("{:.1f}".format).replace("nan", ""),
        }
    ).set_index(["encoder", "index", "vectors"])


def reasons(why) -> pd.DataFrame:
    """`miss_reasons.csv` with readable units, and what the same audio makes of it."""
    shares = why.drop(columns=["condition", "query_frames"]).map("{:.1f} %".format)
    shares.insert(0, "queries", why.condition)
    shares.insert(1, "length", [f"{seconds(n):g} s" for n in why.query_frames])
    same = why["same audio elsewhere"]
    return shares.assign(
        **{
            "exact or same audio": (why.exact + same).map("{:.1f} %".format),
            "same audio, of the misses": [
                f"{100 * s / (100 - exact):.0f} %" if exact < 100 else ""
                for s, exact in zip(same, why.exact)
            ],
        }
    ).set_index(["queries", "length"])


def markdown(table) -> str:
    """A table as the README shows it."""
    flat = table.reset_index()
    rows = [[*map(str, flat.columns)], ["---"] * flat.shape[1], *flat.astype(str).values.tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
