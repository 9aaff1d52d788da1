"""Tables as people read them, and the sentences made from them.

`retrieval.csv`, `ablations.csv`, `cost.csv` and `differences.csv` hold the figures; everything here
is drawn from them. Hit rates are percentages, intervals are at 95 % and by recording.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from amg import files, paths
from amg.retrieval import duplicates
from amg.sound.audio import seconds

TOLERANCES = {  # what counts as a hit, in the order of every table
    "exact": "at most 0.25 s from where the query begins",
    "near": "at most 0.5 s from it",
    "same_audio": "exact (single stage: segment), or a place whose undegraded sound is the same, a "
                  "loop or a reprise (correlation of 0.9 or more)",
    "segment": "the segment in which the query begins, or the next one of the same song",
    "song": "the right recording, anywhere in it"}
METHOD = "Transformer, AMG loss"  # called AMG where nothing else is
ENCODERS = {"mt": "Transformer", "mlstm": "LSTM", "mcnn": "CNN", "mean": "mean pooling",
            "lift": "one-bit lift", "lift1024": "one-bit lift of 1,024"}


def write(table, report, name, compressed=False) -> Path:
    """Write a DataFrame to `reports/<report>/tables/<name>.csv`, or `.csv.gz`; returns the path."""
    path = paths.resolve(f"reports/{report}/tables/{name}.csv{'.gz' if compressed else ''}")
    with files.atomic(path) as temporary:
        # the same table gives the same bytes, whenever it is written
        table.to_csv(temporary, index=False,
                     compression={"method": "gzip", "mtime": 0} if compressed else None)
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
    return _by_length(rates.assign(hit=rates.tolerance.str.replace("_", " "), cell=cells),
                      {"who": "Top-1 / Top-10 (%)", "hit": "hit"})


def ablations(rates) -> pd.DataFrame:
    """The same for the rows of `ablations.csv`, which are of one duration."""
    return hits(rates, lambda row: f"{ablation_label(row)}, {row['stage']}-stage")


def robustness(rates) -> pd.DataFrame:
    """Top-1 in % at three tolerances: a row per condition, a column per query length."""
    rates = rates[rates.tolerance.isin(["exact", "near", "song"])]
    return _by_length(rates.assign(cell=rates.top1.map("{:.1f}".format)),
                      {"group": "exact / near / song (%)", "condition": "condition"})


def _by_length(rates, rows):
    """The texts `cell`, a row per value of two columns, `rows`: column -> its name in the table."""
    table = rates.pivot_table(index=[*rows], columns="query_s", values="cell",
                              aggfunc=" / ".join).fillna("")
    table = table.loc[pd.MultiIndex.from_frame(rates[[*rows]].drop_duplicates())]
    table.columns = [f"{query_s:g} s" for query_s in table]
    return table.rename_axis(index=[*rows.values()])


def summary(retrieval, query_s=10.0) -> pd.DataFrame:
    """Top-1 with its interval at one query length: a row per method, a column per tolerance."""
    rows = _at(retrieval[retrieval.protocol == "contiguous"], query_s)
    rates = [f"{row.top1:.1f} [{row.top1_low:.1f}, {row.top1_high:.1f}]"
             for row in rows.itertuples()]
    table = rows.assign(who=rows.apply(curve_label, axis=1), rate=rates).pivot_table(
        index="who", columns="tolerance", values="rate", aggfunc="first", sort=False).fillna("")
    table = table[[name for name in TOLERANCES if name in table]]
    table.columns = table.columns.str.replace("_", " ")
    return table.rename_axis(index=f"Top-1 (%) at {rows.query_s.iloc[0]:g} s", columns=None)


def _at(rates, query_s):
    """The rows of the query length nearest to `query_s`."""
    return rates[rates.query_s == min(rates.query_s, key=lambda s: abs(s - query_s))]


def costs(cost) -> pd.DataFrame:
    """cost.csv with readable units: medians [quartiles], and shares of the first row's."""
    def time(part):
        return [f"{middle:.2f} [{low:.2f}, {high:.2f}]" for middle, low, high in
                zip(cost[f"{part}_ms"], cost[f"{part}_ms_q1"], cost[f"{part}_ms_q3"])]

    size, whole = cost.index_bytes + cost.refine_bytes, cost.embed_ms + cost.search_ms
    return pd.DataFrame({
        "method": cost.method,
        "duration_max (s)": ["" if np.isnan(d) else f"{d:.0f}" for d in cost.duration_max],
        "vectors": [f"{n:,}" for n in cost.n_vectors],
        "index (kB)": [f"{b / 1e3:,.0f}" for b in cost.index_bytes],
        "second stage (kB)": [f"{b / 1e3:,.0f}" for b in cost.refine_bytes],
        "bytes (%)": [f"{100 * b / size[0]:.1f}" for b in size],
        "embed (ms)": time("embed"), "search (ms)": time("search"),
        "time (%)": [f"{100 * t / whole[0]:.1f}" for t in whole],
        "exact Top-1 (%)": ["" if np.isnan(top1) else f"{top1:.1f}" for top1 in cost.top1],
    }).set_index("method")


def differences(table) -> list[str]:
    """`differences.csv` as sentences, in points: one for each pair of methods, stage and length."""
    said = []
    for (method, against, stage, tolerance, query_s), rows in table.groupby(
            ["method", "against", "stage", "tolerance", "query_s"], sort=False):
        points = [f"{'' if np.isnan(row.duration_max) else f'{row.duration_max:.0f} s '}"
                  f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"
                  + " (no difference shown)" * (row.low <= 0 <= row.high)
                  for row in rows.itertuples()]
        pair = f"{method} minus {against}".replace(METHOD, "AMG")
        said.append(f"{pair}, {stage}-stage, {tolerance.replace('_', ' ')} Top-1 "
                    f"at {query_s:g} s, points: {', '.join(points)}.")
    return said


def epochs(of_amg, histories) -> str:
    """How long the AMG encoder (epochs) and its variants (`ablation_training.csv`) were trained."""
    last = histories.groupby(["encoder", "loss_name"], sort=False).epoch.max()
    others = ", ".join(f"{ENCODERS.get(encoder, encoder)} with {loss} loss {n}"
                       for (encoder, loss), n in last.items())
    return (f"Epochs of training: AMG {of_amg}, {others}. What had fewer may not have learnt all that "
            "it can; the curves tell.")


def trained(found) -> str:
    """`epochs` of a report's ablations; '' without them."""
    if not {"ablations", "ablation_training"} <= set(found):
        return ""
    of_amg = found.get(f"training_{found['ablations'].duration_max.iloc[0]:.0f}s", ())
    return epochs(len(of_amg) or "(not listed)", found["ablation_training"])


def reasons(why) -> pd.DataFrame:
    """`miss_reasons.csv` with readable units, and what the same audio makes of it."""
    shares = why.drop(columns=["condition", "query_frames"]).map("{:.1f} %".format)
    shares.insert(0, "queries", why.condition)
    shares.insert(1, "length", [f"{seconds(n):g} s" for n in why.query_frames])
    same = why["same audio elsewhere"]
    return shares.assign(**{
        "exact or same audio": (why.exact + same).map("{:.1f} %".format),
        "same audio, of the misses": [f"{100 * s / (100 - exact):.0f} %" if exact < 100 else ""
                                      for s, exact in zip(same, why.exact)],
    }).set_index(["queries", "length"])


def headline(found, query_s=10.0) -> list[str]:
    """Sentences around the table `summary`: trials, cost, comparisons; [] without the first two."""
    if not {"retrieval", "cost"} <= set(found):
        return []
    rows = _at(found["retrieval"], query_s)
    compared = " ".join(compared_at(found, "differences", query_s))
    return [f"Queries of {rows.query_s.iloc[0]:g} s, {rows.n_queries.max()} trials, Top-1 with "
            f"95 % intervals by recording. {left_out(found)}", cost_sentence(found["cost"]),
            *([f"Differences by paired bootstrap over recordings. {compared}"] if compared else [])]


def compared_at(found, name, query_s=10.0) -> list[str]:
    """Sentences of the table `name` at one query length; [] without the table."""
    return differences(_at(found[name], query_s)) if len(found.get(name, ())) else []


def cost_sentence(cost) -> str:
    """Time and bytes of the whole way of each method, as shares of the base system's, row 0."""
    size, time = cost.index_bytes + cost.refine_bytes, cost.embed_ms + cost.search_ms
    shares = [f"{row.method}{'' if np.isnan(row.duration_max) else f' {row.duration_max:.0f} s'} "
              f"{100 * time[i] / time[0]:.1f} % and {100 * size[i] / size[0]:.1f} %"
              for i, row in enumerate(cost.itertuples()) if i]
    return (f"A query costs {cost.method[0]} {time[0]:.2f} ms (median, embedding and search) and "
            f"{size[0] / 1e6:.1f} MB (index and second stage)"
            + ". Shares of that time and of those bytes: " * bool(shares) + "; ".join(shares) + ".")


def left_out(found) -> str:
    """How many clips the hit rates do without, for they share sound with another role's."""
    if "recording" not in found.get("clips", ()):
        return ("What was left out is not known: the songs came from elsewhere, or from an older"
                " kit.")
    n = sum(duplicates.counts(found["clips"]).values())
    return f"{n or 'No'} clip{'' if n == 1 else 's'} left out for sharing sound with another role."


def size(found) -> str:
    """How large the corpus is, beside the published one; '' if the clips are not listed."""
    if "clips" not in found:
        return ""
    used = found["clips"].query("refused == ''")
    n, hours = used.role.value_counts(), used.groupby("role").seconds.sum() / 3600
    sentence = (f"{n.get('test', 0)} test clips among {n.get('dummy', 0)} distractors of "
                f"{hours.get('dummy', 0):.1f} h.")
    if "train" not in n:
        return sentence
    return (f"{n['train']} training songs, {sentence} The published encoder was trained on 100,000 "
            "songs and searched among 10,000, which was not measured here.")


def markdown(table) -> str:
    """A table as the README shows it."""
    flat = table.reset_index()
    rows = [[*map(str, flat.columns)], ["---"] * flat.shape[1], *flat.astype(str).values.tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
