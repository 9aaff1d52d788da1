"""Charts of what grows: databases, with hit rate, time and bytes; training sets, with hit rate."""

import numpy as np

from amg.report import figures, sentences, tables

STYLES = {
    "flat": "o-",
    "8 bits a value": "s--",
    "HNSW": "^:",
    "IVF": "v-.",
    "IVF-PQ, 64 bytes": "v-.",
    "IVF-PQ, 16 bytes": "x-.",
}
TIME = "embedding and search per query (ms)"


def _lines(axis, table, y):
    """A line per encoder and index against the number of vectors."""
    for (encoder, index), line in table.groupby(["encoder", "index"], sort=False):
        look = {"color": figures.colour_of(encoder), "ms": 4, "lw": 1.2}
        label, style = f"{tables.encoder_name(encoder)}, {index}", STYLES.get(index, "o-")
        axis.plot(line.n_vectors, line[y], style, label=label, **look)
    axis.set(xscale="log", xlabel="vectors in the index")


def growth(table) -> figures.Figure:
    """Hit rate, and milliseconds per query on one core, against the number of vectors; the forecast
    for real music is drawn thick."""
    figure, ((left, middle, right),) = figures.panels(1, 3, figsize=(12.5, 4.6))
    _lines(left, table, "top1")
    _lines(middle, table, "listed")
    _lines(right, table.assign(ms=table.embed_ms + table.search_ms), "ms")
    left.set(ylabel="queries (%)", title="right segment first", ylim=(0, 101))
    middle.set(ylabel="queries (%)", title="right segment in the shortlist", ylim=(0, 101))
    right.set(yscale="log", ylabel=TIME, title="time, one core")
    right.yaxis.set_major_formatter("{x:g}")
    for encoder, line in table.dropna(subset="forecast").groupby("encoder", sort=False):
        look = {"color": figures.colour_of(encoder), "alpha": 0.35, "solid_capstyle": "round"}
        label = f"{tables.encoder_name(encoder)}, forecast for real music"
        left.plot(line.n_vectors, line.forecast, lw=4, label=label, **look)
    figures.legend(figure, left, "lower", ncols=4, fontsize=8)
    figure.suptitle(sentences.scale_asked(table), fontsize=10)
    return figure


def pareto(table) -> figures.Figure:
    """Hit rate against bytes, and against time, at the largest size; a line is the Pareto front."""
    largest = table[table.n_vectors == table.n_vectors.max()]
    largest = largest.assign(ms=largest.embed_ms + largest.search_ms)
    figure, (axes,) = figures.panels(1, 2, figsize=(11, 4.6), sharey=True)
    for axis, x, unit in zip(axes, ("bytes_per_vector", "ms"), ("bytes per vector", TIME)):
        for _, row in largest.iterrows():
            look = {"color": figures.colour_of(row.encoder), "ls": "", "ms": 7}
            mark = STYLES.get(row["index"], "o-")[0]
            label = f"{tables.encoder_name(row.encoder)}, {row['index']}"
            axis.plot(row[x], row.top1, mark, label=label, **look)
        front = largest.sort_values([x, "top1"], ascending=[True, False])
        front = front[front.top1 > np.append(-1, front.top1.cummax().iloc[:-1])]
        axis.plot(front[x], front.top1, "-", color="#bbbbbb", zorder=0, label="Pareto front")
        figures.log_x(axis)
        axis.set_xlabel(unit)
    size = f"{largest.n_vectors.iloc[0]:,} vectors"
    figure.suptitle(f"{size}; {sentences.scale_asked(table)}", fontsize=10)
    axes[0].set(ylabel="single-stage Top-1 (%)")
    figures.legend(figure, axes[0], "lower", ncols=4, fontsize=8)
    return figure
