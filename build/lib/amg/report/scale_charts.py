"""Charts of what grows: databases, with hit rate, time and bytes; training sets, with hit rate."""

import numpy as np

from amg.report import figures, tables

STYLES = {
    "flat": "o-",
    "8 bits a value": "s--",
    "HNSW": "^:",
    "IVF": "v-.",
    "IVF-PQ, 64 bytes": "v-.",
    "IVF-PQ, 16 bytes": "x-.",
}


def _name(encoder):
    return {"mt": "AMG"}.get(encoder, tables.ENCODERS.get(encoder, encoder))


def _lines(axis, table, y):
    """A line per encoder and index against the number of vectors."""
    for (encoder, index), line in table.groupby(["encoder", "index"], sort=False):
        colour = figures.METHODS.get(encoder, figures.METHODS[tables.METHOD])
        axis.plot(
            line.n_vectors,
            line[y],
            STYLES.get(index, "o-"),
            color=colour,
            ms=4,
            lw=1.2,
            label=f"{_name(encoder)}, {index}",
        )
    axis.set(xscale="log", xlabel="vectors in the index")


def growth(table) -> figures.Figure:
    """Hit rate, and milliseconds per query on one core, against the number of vectors; the forecast
    for real music is drawn thick."""
    figure, ((left, middle, right),) = figures.panels(1, 3, figsize=(12.5, 4.6))
    for axis, y, title in (
        (left, "top1", "right segment first"),
        (middle, "listed", "right segment in the shortlist"),
    ):
        _lines(axis, table, y)
        axis.set(ylabel="queries (%)", title=title, ylim=(0, 101))
    for encoder, line in table.dropna(subset="forecast").groupby("encoder", sort=False):
        left.plot(
            line.n_vectors,
            line.forecast,
            "-",
            lw=4,
            alpha=0.35,
            solid_capstyle="round",
            color=figures.METHODS.get(encoder, figures.METHODS[tables.METHOD]),
            label=f"{_name(encoder)}, forecast for real music",
        )
    _lines(right, table.assign(ms=table.embed_ms + table.search_ms), "ms")
    right.set(yscale="log", ylabel="embedding and search per query (ms)", title="time, one core")
    right.yaxis.set_major_formatter("{x:g}")
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
    )
    return figure


def pareto(table) -> figures.Figure:
    """Hit rate against bytes, and against time, at the largest size: what nothing beats in both is
    joined by a line."""
    largest = table[table.n_vectors == table.n_vectors.max()]
    largest = largest.assign(ms=largest.embed_ms + largest.search_ms, kind=largest["index"])
    figure, (axes,) = figures.panels(1, 2, figsize=(11, 4.6), sharey=True)
    for axis, (x, label) in zip(
        axes,
        (("bytes_per_vector", "bytes per vector"), ("ms", "embedding and search per query (ms)")),
    ):
        for row in largest.itertuples():
            colour = figures.METHODS.get(row.encoder, figures.METHODS[tables.METHOD])
            axis.plot(getattr(row, x), row.top1, STYLES.get(row.kind, "o-")[0], color=colour)
            axis.annotate(
                f"{_name(row.encoder)}, {row.kind}",
                (getattr(row, x), row.top1),
                (5, 3),
                textcoords="offset points",
                fontsize=7,
                color=colour,
            )
        front = largest.sort_values([x, "top1"], ascending=[True, False])
        front = front[front.top1 > np.append(-1, front.top1.cummax().iloc[:-1])]
        axis.plot(front[x], front.top1, "-", color="#bbbbbb", lw=1, zorder=0)
        axis.set(xscale="log", xlabel=label)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.margins(x=0.25)
    axes[0].set(
        ylabel="single-stage Top-1 (%)",
        title=f"{largest.n_vectors.iloc[0]:,} vectors; the line joins what nothing beats",
    )
    return figure


def learning_curve(curve) -> figures.Figure:
    """Single-stage Top-1 against training songs, a panel per query length: a dot per training, a
    line through their means; what needs no training lies flat."""
    lengths = sorted(curve.query_s.unique())
    figure, (axes,) = figures.panels(
        1, len(lengths), figsize=(0.8 + 2.9 * len(lengths), 3.6), sharex=True, sharey=True
    )
    trained, free = curve[curve.n_songs > 0], curve[curve.n_songs == 0]
    for axis, length in zip(axes, lengths):
        of, colour = trained[trained.query_s == length], figures.METHODS[tables.METHOD]
        axis.errorbar(
            of.n_songs,
            of.top1,
            (of.top1 - of.top1_low, of.top1_high - of.top1),
            fmt=".",
            color=colour,
            elinewidth=0.5,
        )
        axis.plot(
            *of.groupby("n_songs").top1.mean().reset_index().to_numpy().T,
            color=colour,
            label="AMG, trained",
        )
        for row in free[free.query_s == length].itertuples():
            axis.axhline(row.top1, color=figures.METHODS[row.encoder], label=_name(row.encoder))
            axis.axhspan(
                row.top1_low, row.top1_high, color=figures.METHODS[row.encoder], alpha=0.12, lw=0
            )
        axis.set(
            xscale="log",
            title=f"queries of {length:g} s",
            ylim=(0, 101),
            xticks=trained.n_songs.unique(),
        )
        axis.minorticks_off()
        axis.xaxis.set_major_formatter("{x:,.0f}")
    axes[0].set_ylabel("single-stage Top-1 (%)")
    figure.supxlabel("songs to learn from, equal updates")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
