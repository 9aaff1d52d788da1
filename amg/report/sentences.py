"""What the tables of a report say, in sentences and, for README, as Markdown: the takeaways of
notebooks, README and index."""

import numpy as np

from amg.embedding import encoders
from amg.report import tables
from amg.sound import duplicates, sheet_music
from amg.sound.audio import seconds


def rate(row, name="top1") -> str:
    """A rate of a row in percent, with its interval."""
    return f"{row[name]:.1f} % [{row[f'{name}_low']:.1f}, {row[f'{name}_high']:.1f}]"


def points(row) -> str:
    """A difference in points, with its interval."""
    return f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"


def asked(report) -> str:
    """How many trials the table `summary` is of, and how many clips it does without, for they share
    sound with another role's; "" without such a table."""
    if "retrieval" not in report:
        return ""
    rows = tables.at(report["retrieval"], 10.0)
    told = f"{rows.n_queries.max():,} trials of {rows.query_s.iloc[0]:g} s."
    if "recording" not in report.get("clips", ()):
        why = "the songs came from elsewhere, or from an older kit"
        return f"{told} What was left out is not known: {why}."
    n = sum(duplicates.counts(report["clips"]).values())
    clips = f"{n or 'No'} clip{'' if n == 1 else 's'}"
    return f"{told} {clips} left out for sharing sound with another role."


def size(report) -> str:
    """How large the corpus is, beside the published one; '' if the clips are not listed."""
    if "clips" not in report:
        return ""
    used = report["clips"].query("refused == ''")
    rendered = used.source.isin(sheet_music.COLLECTIONS)
    what, of = ("songs", "works") if rendered.all() else ("clips", "recordings")
    roles = [
        f"{len(clips):,} {name} {what} of {clips.recording.nunique():,} {of}"
        for name, role in (("training", "train"), ("test", "test"))
        if len(clips := used[used.role == role])
    ]
    copied = used.recording.str.contains(" x[01][.][0-9]+$")
    kinds = ["copies at other speeds", "renderings of sheet music"]
    kind = np.select([copied, rendered], kinds, "unaltered recordings")
    dummies = used.assign(kind=kind)[used.role == "dummy"].groupby("kind").seconds
    parts = [f"{len(of):,} {name} ({of.sum() / 3600:.1f} h)" for name, of in dummies]
    corpus = f"{', '.join(roles)}; distractors: {', '.join(parts) or 'none'}."
    if "train" in set(used.role):
        corpus += (
            " The published encoder was trained on 100,000 songs and searched among 10,000, which "
            "was not measured here."
        )
    return corpus


def unknown(answers) -> list[str]:
    """`unknown.csv` in a sentence for each method, stage and length, of the kind of score that the
    validation prefers, at the threshold that it gives."""
    return [
        f"{tables.unknown_label(row)}, {row.query_s:g} s, {row.score} score: "
        f"{rate(row, 'false_accepts')} false accepts, {rate(row, 'recall')} true ones "
        f"({row.n_trials} trials each, {row.n_recordings} recordings)."
        for _, row in tables.best_scores(answers).iterrows()
    ]


def scale(grown, whole) -> list[str]:
    """How far single-stage falls, and two-stage's share of the base system's time; grown:
    `scale.csv`, whole: `scale_two_stage.csv`."""
    sentences = []
    for encoder, rows in grown[grown["index"] == "flat"].groupby("encoder", sort=False):
        steps = [
            f"{row.top1:.1f} % of {row.n_vectors:,} (forecast for real music: {row.forecast:.1f} %)"
            for row in rows.itertuples()
        ]
        sentences.append(
            f"{tables.encoder_name(encoder)}, exhaustive, single-stage Top-1 at "
            f"{rows.query_s.iloc[0]:g} s: {', '.join(steps)} vectors."
        )
    _, time = tables.whole_cost(whole)
    return sentences + [
        f"{tables.cost_label(row)} among {row.n_frames:,} frames: exact Top-1 {rate(row)}, the "
        f"base system {whole.top1[0]:.1f} % exhaustively and {whole.top1[1]:.1f} % by codes; its "
        f"time is 1/{time[0] / time[i]:.1f} and 1/{time[1] / time[i]:.1f} of theirs."
        for i, row in whole.iloc[2:].iterrows()
    ]


def scale_asked(grown) -> str:
    """How many queries of what length, and vectors of what, a table such as `scale.csv` is of."""
    row = grown.iloc[0]
    of = f", vectors of {grown.duration_max.max():g} s"
    return f"{row.n_queries:,} queries of {seconds(row.query_frames):g} s{of}"


def scale_compared(report) -> list[str]:
    """What queries and which encoders `scale.csv` and `scale_two_stage.csv` compare."""
    grown, whole, told = report.get("scale"), report.get("scale_two_stage"), []
    if grown is not None:
        names = grown.encoder.unique()
        free = not any(map(encoders.needs_training, names))
        named = ", ".join(tables.encoder_name(name) for name in names)
        only = ": encoders that need no training; no trained one is among them" if free else ""
        told.append(f"Single-stage: {scale_asked(grown)}. Compared are {named}{only}.")
    if whole is not None:
        told.append(f"Two-stage: {scale_asked(whole)}, {whole.n_frames.max():,} frames.")
    return told


def confusable(table) -> list[str]:
    """Whether modelled distractors mislead as real ones do; table: `confusable.csv`."""
    sentences = []
    for encoder, rows in table.groupby("encoder", sort=False):
        real, modelled = (rows[rows.distractors == name].iloc[0] for name in ("real", "modelled"))
        sentences.append(
            f"{tables.encoder_name(encoder)}: among {modelled.n_distractors:,} modelled "
            f"distractors Top-1 is {modelled.top1:.1f} %, among as many real ones {real.top1:.1f} "
            f"%; the best wrong score has a median of {modelled.wrong_score_50:.2f} and "
            f"{real.wrong_score_50:.2f}."
        )
        if modelled.wrong_score_50 < real.wrong_score_50:
            sentences[-1] += (
                " Modelled ones mislead less: hit rates of larger databases are upper bounds."
            )
    return sentences


def forecast(table) -> list[str]:
    """Whether parts of the distractors foretell what all do; table: `forecast.csv`."""
    sentences = []
    for encoder, rows in table.groupby("encoder", sort=False):
        told = [f"1/{row.part} foretells {row.forecast:.1f} %" for row in rows.itertuples()]
        sentences.append(
            f"{tables.encoder_name(encoder)}: {', '.join(told)} of the hits among all distractors, "
            f"which are {rows.top1.iloc[0]:.1f} %."
        )
    return sentences


def markdown(table) -> str:
    """A table as the README shows it."""
    flat = table.reset_index()
    rows = [[*map(str, flat.columns)], ["---"] * flat.shape[1], *flat.astype(str).values.tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
