"""What the tables of a report say, in sentences: the takeaways of notebooks, README and index."""

import numpy as np

from amg.report import tables
from amg.retrieval import intervals
from amg.sound import duplicates, sheet_music


def differences(table) -> list[str]:
    """`differences.csv` as sentences, in points: one for each pair of methods, stage and length."""
    said = []
    for (method, against, stage, tolerance, query_s), rows in table.groupby(
        ["method", "against", "stage", "tolerance", "query_s"], sort=False
    ):
        points = [
            f"{'' if np.isnan(row.duration_max) else f'{row.duration_max:.0f} s '}"
            f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]" + _shown(row)
            for row in rows.itertuples()
        ]
        pair = f"{method} minus {against}".replace(tables.METHOD, "AMG")
        said.append(
            f"{pair}, {stage}-stage, {tolerance.replace('_', ' ')} Top-1 "
            f"at {query_s:g} s, points: {', '.join(points)}."
        )
    return said


def _shown(row):
    """What its interval and its recordings let a difference say, beside the figure."""
    if row.n_recordings < intervals.TOO_FEW:
        return " (too few recordings to judge)"
    return " (no difference shown)" * (row.low <= 0 <= row.high)


def epochs(of_amg, histories) -> str:
    """How long the AMG encoder (epochs) and its variants (`ablation_training.csv`) were trained."""
    if not len(histories):
        return f"Epochs of training: {of_amg}."
    last = histories.groupby(["encoder", "loss_name"], sort=False).epoch.max()
    others = ", ".join(
        f"{tables.ENCODERS.get(encoder, encoder)} with {loss} loss {n}"
        for (encoder, loss), n in last.items()
    )
    return (
        f"Epochs of training: AMG {of_amg}, {others}. What had fewer may not have learnt all "
        "that it can; the curves tell."
    )


def trained(found) -> str:
    """`epochs` of a report's ablations; '' without them."""
    if not {"ablations", "ablation_training"} <= set(found):
        return ""
    of_amg = found.get(f"training_{found['ablations'].duration_max.iloc[0]:.0f}s", ())
    return epochs(len(of_amg) or "(not listed)", found["ablation_training"])


def headline(found, query_s=10.0) -> list[str]:
    """Sentences around the table `summary`: trials and cost; [] without them."""
    if not {"retrieval", "cost"} <= set(found):
        return []
    rows = tables.at(found["retrieval"], query_s)
    return [
        f"Queries of {rows.query_s.iloc[0]:g} s, {rows.n_queries.max()} trials, Top-1 with "
        f"95 % intervals by recording. {left_out(found)}",
        cost_sentence(tables.near(found["cost"], query_s)),
    ]


def compared_at(found, name, query_s=10.0) -> list[str]:
    """Sentences of the table `name` at one query length; [] without the table."""
    if not len(found.get(name, ())):
        return []
    return differences(tables.near(tables.at(found[name], query_s), query_s))


def cost_sentence(cost) -> str:
    """Time and bytes of the whole way of each method, as shares of the base system's, row 0."""
    cost = cost.reset_index(drop=True)
    size, time = cost.index_bytes + cost.refine_bytes, cost.embed_ms + cost.search_ms
    shares = [
        f"{row.method}{'' if np.isnan(row.duration_max) else f' {row.duration_max:.0f} s'} "
        f"{100 * time[i] / time[0]:.1f} % and {100 * size[i] / size[0]:.1f} %"
        for i, row in enumerate(cost.itertuples())
        if i
    ]
    return (
        f"A query costs {cost.method[0]} {time[0]:.2f} ms (median, embedding and search) and "
        f"{size[0] / 1e6:.1f} MB (index and second stage)"
        + ". Shares of that time and of those bytes: " * bool(shares)
        + "; ".join(shares)
        + "."
    )


def left_out(found) -> str:
    """How many clips the hit rates do without, for they share sound with another role's."""
    if "recording" not in found.get("clips", ()):
        return (
            "What was left out is not known: the songs came from elsewhere, or from an older kit."
        )
    n = sum(duplicates.counts(found["clips"]).values())
    return f"{n or 'No'} clip{'' if n == 1 else 's'} left out for sharing sound with another role."


def size(found) -> str:
    """How large the corpus is, beside the published one; '' if the clips are not listed."""
    if "clips" not in found:
        return ""
    used = found["clips"].query("refused == ''")
    rendered = used.source.isin(sheet_music.COLLECTIONS)
    what, of = ("songs", "works") if rendered.all() else ("clips", "recordings")
    roles = [
        f"{len(clips):,} {name} {what} of {clips.recording.nunique():,} {of}"
        for name, role in (("training", "train"), ("test", "test"))
        if len(clips := used[used.role == role])
    ]
    copied = used.recording.str.contains(" x[01][.][0-9]+$")
    kind = np.select(
        [copied, rendered],
        ["copies at other speeds", "renderings of sheet music"],
        "unaltered recordings",
    )
    dummies = used.assign(kind=kind)[used.role == "dummy"].groupby("kind").seconds.agg([len, sum])
    parts = [
        f"{row['len']:,.0f} {name} ({row['sum'] / 3600:.1f} h)" for name, row in dummies.iterrows()
    ]
    published = (
        " The published encoder was trained on 100,000 songs and searched among 10,000, which was "
        "not measured here."
    )
    return f"{', '.join(roles)}; distractors: {', '.join(parts) or 'none'}." + published * (
        "train" in set(used.role)
    )


def unknown(found) -> list[str]:
    """`unknown.csv` in a sentence for each method, stage and length, of the kind of score that the
    validation prefers."""
    said = []
    best = (
        found.sort_values("valid_recall_at_1", kind="stable")
        .groupby(["query_frames", "encoder", "stage"], sort=False)
        .tail(1)
        .sort_index()
    )
    for _, row in best.iterrows():
        reached = [
            f"at {recall} % recall, {row[f'far_at_{recall}']:.1f} % false accepts"
            for recall in (90, 95)
            if not np.isnan(row[f"far_at_{recall}"])
        ]
        rates = [
            f"{row[name]:.1f} % {name.replace('_', ' ')} "
            f"[{row[f'{name}_low']:.1f}, {row[f'{name}_high']:.1f}]"
            for name in ("false_accepts", "recall")
        ]
        said.append(
            f"{tables.unknown_label(row)}, {row.query_s:g} s, {row.score} score: at 1 % false "
            f"accepts {row.recall_at_1:.1f} % recall; "
            f"{'; '.join(reached) or '90 % recall is not reached'}. With the threshold of the "
            f"validation: {', '.join(rates)} ({row.n_trials} trials each, {row.n_recordings} "
            "recordings)."
        )
    return said


def scale(grown, laptop, whole, laptop_bytes) -> list[str]:
    """How far single-stage falls, what fits into `laptop_bytes`, and two-stage's share of the base
    system's time; grown: `scale.csv`, laptop: `scale.laptop` of it, whole:
    `scale_two_stage.csv`."""
    said = []
    for encoder, rows in grown[grown["index"] == "flat"].groupby("encoder", sort=False):
        steps = ", ".join(
            f"{row.top1:.1f} % of {row.n_vectors:,} (forecast for real music: {row.forecast:.1f} %)"
            for row in rows.itertuples()
        )
        said.append(
            f"{tables.ENCODERS.get(encoder, encoder)}, exhaustive, single-stage Top-1 at "
            f"{rows.query_s.iloc[0]:g} s: {steps} vectors."
        )
    said += [
        f"In {laptop_bytes / 1e9:.0f} GB of a laptop's 16 fit {row.hours:,.0f} hours of music "
        f"by {row.method}; measured at {row.n:,} {row.unit}: {row.stage} Top-1 {row.top1:.1f} "
        f"% (among modelled ones), {row.query_ms:.1f} ms a query."
        for row in laptop.itertuples()
    ]
    time = whole.embed_ms + whole.search_ms
    for i in range(2, len(whole)):
        row = whole.iloc[i]
        said.append(
            f"{row.method} among {row.n_frames:,} frames: exact Top-1 {row.top1:.1f} % "
            f"[{row.top1_low:.1f}, {row.top1_high:.1f}], the base system "
            f"{whole.top1[0]:.1f} % exhaustively and {whole.top1[1]:.1f} % by codes; its "
            f"time is 1/{time[0] / time[i]:.1f} and 1/{time[1] / time[i]:.1f} of theirs."
        )
    return said


def confusable(table) -> list[str]:
    """Whether modelled distractors mislead as real ones do; table: `confusable.csv`."""
    said = []
    for encoder, rows in table.groupby("encoder", sort=False):
        real, modelled = (rows[rows.distractors == name].iloc[0] for name in ("real", "modelled"))
        easier = bool(modelled.wrong_score_50 < real.wrong_score_50)
        said.append(
            f"{tables.ENCODERS.get(encoder, encoder)}: among {modelled.n_distractors:,} modelled "
            f"distractors Top-1 is {modelled.top1:.1f} %, among as many real ones {real.top1:.1f} "
            f"%; "
            f"the best wrong score has a median of {modelled.wrong_score_50:.2f} and "
            f"{real.wrong_score_50:.2f}."
            + " Modelled ones mislead less: hit rates of larger databases are upper bounds."
            * easier
        )
    return said


def growth(curve) -> list[str]:
    """How training grows with songs, and whether it overtakes mean pooling; curve:
    `learning_curve.csv`, or () if there is none."""
    said = []
    for query_s, rows in curve.groupby("query_s") if len(curve) else ():
        trained, mean = rows[rows.n_songs > 0], rows[rows.encoder == "mean"].iloc[0]
        steps = []
        for n, of in trained.groupby("n_songs"):
            spread = f" ({of.top1.min():.1f} to {of.top1.max():.1f})" if len(of) > 1 else ""
            steps.append(f"{of.top1.mean():.1f} %{spread} from {n:,} songs")
        free = rows[(rows.n_songs == 0) & (rows.encoder != "mean")]
        beside = "".join(
            f", {tables.ENCODERS[row.encoder]} {row.top1:.1f} %" for row in free.itertuples()
        )
        above = [n for n, of in trained.groupby("n_songs") if (of.minus_low_mean > 0).all()]
        verdict = (
            f"By the paired intervals of all its trainings, training is above mean pooling at "
            f"{min(above):,} songs."
            if above
            else "No number of songs up to "
            f"{trained.n_songs.max():,} is above mean pooling by the paired intervals of all "
            "its trainings."
        )
        said.append(
            f"Queries of {query_s:g} s, single-stage Top-1: {', '.join(steps)}; mean pooling "
            f"{mean.top1:.1f} % [{mean.top1_low:.1f}, {mean.top1_high:.1f}]{beside}. {verdict}"
        )
    return said + _as_many_updates(curve)


def _as_many_updates(curve):
    """How the points of a learning curve differ beside their songs; [] if no run says so."""
    if "run" not in curve:
        return []
    epochs_ = curve.run.str.extract("-epochs([0-9]+)-")[0].dropna().astype(int)
    if not len(epochs_):
        return []
    return [
        "All trainings make about as many updates, so that their epochs differ, from "
        f"{epochs_.max()} of the fewest songs to {epochs_.min()} of the most. Each interval, drawn "
        "by recording, is of one training: trainings from other seeds are not pooled in it."
    ]


def forecast(table) -> list[str]:
    """Whether parts of the distractors foretell what all do; table: `forecast.csv`."""
    said = []
    for encoder, rows in table.groupby("encoder", sort=False):
        told = ", ".join(
            f"1/{row.part} foretells {row.forecast:.1f} %" for row in rows.itertuples()
        )
        said.append(
            f"{tables.ENCODERS.get(encoder, encoder)}: {told} of the hits among all distractors, "
            f"which are {rows.top1.iloc[0]:.1f} %."
        )
    return said
