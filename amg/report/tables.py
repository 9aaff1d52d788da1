"""Tables as people read them, drawn from the CSV files that hold the figures.

Hit rates are percentages, intervals are at 95 % and by recording.
"""

import lzma
import re
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from amg import files, paths
from amg.retrieval import intervals
from amg.sound.audio import seconds

SMALLEST = {"method": "xz", "preset": 9 | lzma.PRESET_EXTREME}  # of tables of single trials
TOLERANCES = ("exact", "near", "same_audio", "segment", "song")  # in the order of every table
METHOD = "Transformer, AMG loss"  # called AMG where nothing else is
ENCODERS = {
    "nafp": "NAFP (every fingerprint indexed)",
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


def encoder_name(encoder) -> str:
    """An encoder's name for people, its own if it has no other."""
    return "AMG" if encoder == "mt" else ENCODERS.get(encoder, encoder)


def ablation_label(row) -> str:
    """What answered: the base system, or any encoder and loss; an unfinished training is said.

    row: of `retrieval.csv`, by the names of its columns.
    """
    of, _, code = row["method"].partition(" ")
    if of == "nafp":
        code = code.replace("1/", "one frame in ").replace("ivf-pq", "IVF-PQ")
        return f"NAFP, {code}" if code else ENCODERS["nafp"]
    name = ENCODERS.get(row["encoder"], row["encoder"]) + (f", {code}" if code else "")
    if row["loss"] == "none":
        return f"{name}, no training"
    unfinished = ", training not finished" if str(row.get("finished", True)) == "False" else ""
    return f"{name}, {'AMG' if row['loss'] == 'amg' else row['loss']} loss{unfinished}"


def epochs(run) -> str:
    """`, 16 epochs` of the name of a run that was not trained as long as published, else ``."""
    n_epochs = re.search("-epochs([0-9]+)", str(run))
    return f", {n_epochs[1]} epochs" if n_epochs else ""


def short_label(row) -> str:
    """The same where there is no other encoder of its kind, with epochs: `AMG, 16 epochs`."""
    name = ablation_label(row).replace(METHOD, "AMG")
    return name.removesuffix(", no training") + epochs(row["run"])


def curve_label(row) -> str:
    """What answered, seconds of a vector, stage; row: of `retrieval.csv`."""
    if row["method"].startswith("nafp"):
        return ablation_label(row)
    protocol = " (published protocol)" if row["protocol"] == "published" else ""
    return f"{short_label(row)}, {row['duration_max']:.0f} s, {row['stage']}-stage{protocol}"


def unknown_label(row) -> str:
    """What answered, and its stage; row: of `unknown.csv` or `roc.csv`."""
    if row["method"] == "nafp":
        return ENCODERS["nafp"]
    return f"{encoder_name(row['encoder'])}, {row['stage']}-stage"


def hits(rates) -> pd.DataFrame:
    """Top-1 / Top-10 as in the paper: a row per method and tolerance, a column per query length."""
    rates = rates.assign(who=rates.apply(curve_label, axis=1))
    by_tolerance = rates.tolerance.map(TOLERANCES.index)
    rates = rates.iloc[np.lexsort([by_tolerance, pd.factorize(rates.who)[0]])]
    hit = rates.tolerance.str.replace("_", " ")
    cells = [*map("{:.1f} / {:.1f}".format, rates.top1, rates.top10)]
    return _by_length(rates.assign(hit=hit), cells, {"who": "Top-1 / Top-10 (%)", "hit": "hit"})


def robustness(rates) -> pd.DataFrame:
    """Top-1 in % at three tolerances: a row per condition, a column per query length."""
    rates = rates[rates.tolerance.isin(["exact", "near", "song"])]
    rows = {"group": "exact / near / song (%)", "condition": "condition"}
    return _by_length(rates, rates.top1.map("{:.1f}".format), rows)


def _by_length(rates, cells, rows):
    """The texts `cells`, a row per value of two columns, `rows`: column -> its heading."""
    table = rates.assign(cell=cells).pivot_table(
        index=[*rows], columns="query_s", values="cell", aggfunc=" / ".join
    )
    table = table.fillna("").loc[pd.MultiIndex.from_frame(rates[[*rows]].drop_duplicates())]
    table.columns = [f"{query_s:g} s" for query_s in table]
    return table.rename_axis(index=[*rows.values()])


def summary(retrieval) -> pd.DataFrame:
    """Top-1 with its interval at 10 s and the duration nearest to it: a row per method, exact and
    song."""
    rows = near(at(retrieval[retrieval.protocol == "contiguous"], 10.0), 10.0)
    rows = rows[rows.tolerance.isin(["exact", "song"])]
    rate = [*map("{:.1f} [{:.1f}, {:.1f}]".format, rows.top1, rows.top1_low, rows.top1_high)]
    rows = rows.assign(who=rows.apply(curve_label, axis=1), kind=rows.tolerance + " (%)", rate=rate)
    table = rows.pivot_table("rate", "who", "kind", "first", sort=False)
    heading = f"Top-1 at {rows.query_s.iloc[0]:g} s [95 % interval]"
    return table.fillna("").rename_axis(index=heading, columns=None)


def at(rates, query_s) -> pd.DataFrame:
    """The rows of the query length nearest to `query_s`."""
    return rates[rates.query_s == min(rates.query_s, key=lambda s: abs(s - query_s))]


def near(rows, length_s) -> pd.DataFrame:
    """The rows of the duration_max nearest to some seconds, and those that have none."""
    durations = rows.duration_max.dropna()
    nearest = min(durations, key=lambda d: abs(d - length_s), default=0)
    return rows[rows.duration_max.isna() | (rows.duration_max == nearest)]


def differences(table, query_s=10.0) -> pd.DataFrame:
    """`differences.csv` at one query length and the duration nearest to it, and what the intervals
    and the recordings let them say."""
    rows = near(at(table, query_s), query_s)
    none, few = (rows.low <= 0) & (rows.high >= 0), rows.n_recordings < intervals.TOO_FEW
    said = np.select([few, none], ["too few recordings", "no difference shown"], "")
    return readable(rows.assign(said=said), "differences", ["method", "against"])


def whole_cost(cost) -> tuple[pd.Series, pd.Series]:
    """Bytes of both stages, and ms of embedding and search, of each row of `cost.csv`."""
    return cost.index_bytes + cost.refine_bytes, cost.embed_ms + cost.search_ms


def costs(cost) -> pd.DataFrame:
    """cost.csv with readable units: medians [quartiles], and shares of the first row's."""
    size, time = whole_cost(cost)
    shares = {"bytes_share": 100 * size / size[0], "time_share": 100 * time / time[0]}
    mb = {"index_mb": cost.index_bytes / 1e6, "refine_mb": cost.refine_bytes / 1e6}
    label = cost.apply(cost_label, axis=1)
    return readable(cost.assign(label=label, **mb, **shares), "costs", ["method"])


def cost_label(row) -> str:
    """What answered, and its stage; row: of `cost.csv`."""
    if row.method.startswith("nafp"):
        return ablation_label({"method": row.method})
    name, *stage = row.method.split()
    name = encoder_name("mt" if name == "amg" else name)
    return f"{name}{epochs(getattr(row, 'run', ''))}, {', '.join(stage)}"


def with_song_rate(cost, retrieval) -> pd.DataFrame:
    """`cost.csv` with `song`, the Top-1 that `retrieval.csv` has of it at 10 s, at the duration
    nearest to it."""
    rates = near(at(retrieval[retrieval.tolerance == "song"], 10.0), 10.0)
    rates = rates[rates.protocol == "contiguous"].rename(columns={"top1": "song"})
    who = rates.encoder.mask(rates.run.notna() & (rates.run != ""), "amg")
    who += " " + rates.stage + "-stage" + rates.method.str.removeprefix("amg")
    who = who.mask(rates.encoder == "nafp", rates.method)
    duration = rates.duration_max.mask(rates.encoder == "nafp")  # as in `cost.csv`
    rates = rates.assign(method=who, duration_max=duration)[["method", "duration_max", "song"]]
    return cost.merge(rates, how="left", on=["method", "duration_max"])


def best_scores(answers) -> pd.DataFrame:
    """The rows of `unknown.csv` of the kind of score that the validation prefers."""
    of_one = ["query_frames", "encoder", "stage"]
    best = answers.sort_values("valid_recall_at_1", kind="stable").groupby(of_one, sort=False)
    return best.tail(1).sort_index()


def unknown_summary(answers) -> pd.DataFrame:
    """`unknown` at 10 s, for the score that the validation prefers."""
    rows = at(best_scores(answers), 10.0)
    heading = f"queries of {rows.query_s.iloc[0]:g} s [95 % interval]"
    return unknown(rows).droplevel("query").iloc[:, :2].rename_axis([heading, "score"])


def unknown(answers) -> pd.DataFrame:
    """`unknown.csv`: at the threshold of the validation, and how far from what is wanted."""
    answers = answers.assign(label=answers.apply(unknown_label, axis=1))
    return readable(answers, "unknown", ["query", "method", "score"], "not reached")


def scale(grown) -> pd.DataFrame:
    """`scale.csv` with readable units."""
    grown = grown.assign(encoder=grown.encoder.map(encoder_name))
    return readable(grown, "scale", ["encoder", "index", "vectors"])


def readable(table, name, index, none="") -> pd.DataFrame:
    """A table by its headings in `headings.yaml`; `none` stands for what was not measured."""
    headings = yaml.safe_load(Path(__file__).with_name("headings.yaml").read_text())[name]
    amounts = table.filter(regex="_(ms|mb|q[13])$|^build_s$").map(_short)
    rows = table.assign(**amounts).to_dict("records")
    texts = {heading: [form.format(**row) for row in rows] for heading, form in headings.items()}
    return pd.DataFrame(texts).replace("nan", none).set_index(index)


def _short(amount):
    """A time or a size in three figures, none of what takes nothing."""
    if amount < 0.01:
        return "<0.01" if amount else ""
    return f"{amount:,.0f}" if amount >= 99.95 else f"{amount:#.3g}"


def rivals(rates) -> pd.DataFrame:
    """`rivals.csv`: what each system names, and names falsely where that was asked."""
    told = rates.apply("{0.named:.1f} [{0.named_low:.1f}, {0.named_high:.1f}]".format, axis=1)
    told += rates.false.map(", {:.1f} falsely".format).where(rates.false.notna(), "")
    rows = rates.assign(told=told, query=rates.query_s.map("{:g} s".format))
    return rows.pivot_table("told", ["condition", "query"], "system", "first", sort=False)


def reasons(why) -> pd.DataFrame:
    """`miss_reasons.csv` with readable units, and what the same audio makes of it."""
    shares = why.drop(columns=["condition", "query_frames"]).map("{:.1f} %".format)
    shares.insert(0, "queries", why.condition)
    shares.insert(1, "length", why.query_frames.map(lambda n: f"{seconds(n):g} s"))
    same, missed = why["same audio elsewhere"], 100 - why.exact
    shares["exact or same audio"] = (why.exact + same).map("{:.1f} %".format)
    of_missed = (100 * same / missed).map("{:.0f} %".format)
    shares["same audio, of the misses"] = of_missed.where(missed > 0, "")
    return shares.set_index(["queries", "length"])
