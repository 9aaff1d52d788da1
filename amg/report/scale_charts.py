"""Charts of growing databases: hit rate, time and bytes by number of vectors, and what is best."""

import numpy as np

from amg.report import figures, tables

STYLES = {"flat": "o-", "8 bits a value": "s--", "HNSW": "^:", "IVF": "v-.",
          "IVF-PQ, 64 bytes": "v-.", "IVF-PQ, 16 bytes": "x-."}


def _name(encoder):
    return {"mt": "AMG"}.get(encoder, tables.ENCODERS.get(encoder, encoder))


def _lines(axis, table, y):
    """A line per encoder and index against the number of vectors."""
    for (encoder, index), line in table.groupby(["encoder", "index"], sort=False):
        colour = figures.METHODS.get(encoder, figures.METHODS[tables.METHOD])
        axis.plot(line.n_vectors, line[y], STYLES.get(index, "o-"), color=colour, ms=4, lw=1.2,
                  label=f"{_name(encoder)}, {index}")
    axis.set(xscale="log", xlabel="vectors in the index")


def growth(table) -> figures.Figure:
    """Hit rate, and milliseconds per query on one core, against the number of vectors."""
    figure, ((left, middle, right),) = figures.panels(1, 3, figsize=(12.5, 4.6))
    for axis, y, title in ((left, "top1", "right segment first"),
                           (middle, "top200", "right segment among the first 200")):
        _lines(axis, table, y)
        axis.set(ylabel="queries (%)", title=title, ylim=(0, 101))
    _lines(right, table.assign(ms=table.embed_ms + table.search_ms), "ms")
    right.set(yscale="log", ylabel="embedding and search per query (ms)", title="time, one core")
    right.yaxis.set_major_formatter("{x:g}")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def pareto(table) -> figures.Figure:
    """Hit rate against bytes, and against time, at the largest size: what nothing beats in both is
    joined by a line."""
    largest = table[table.n_vectors == table.n_vectors.max()]
    largest = largest.assign(ms=largest.embed_ms + largest.search_ms, kind=largest["index"])
    figure, (axes,) = figures.panels(1, 2, figsize=(11, 4.6), sharey=True)
    for axis, (x, label) in zip(axes, (("bytes_per_vector", "bytes per vector"),
                                       ("ms", "embedding and search per query (ms)"))):
        for row in largest.itertuples():
            colour = figures.METHODS.get(row.encoder, figures.METHODS[tables.METHOD])
            axis.plot(getattr(row, x), row.top1, STYLES.get(row.kind, "o-")[0], color=colour)
            axis.annotate(f"{_name(row.encoder)}, {row.kind}", (getattr(row, x), row.top1),
                          (5, 3), textcoords="offset points", fontsize=7, color=colour)
        front = largest.sort_values([x, "top1"], ascending=[True, False])
        front = front[front.top1 > np.append(-1, front.top1.cummax().iloc[:-1])]
        axis.plot(front[x], front.top1, "-", color="#bbbbbb", lw=1, zorder=0)
        axis.set(xscale="log", xlabel=label)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.margins(x=0.25)
    axes[0].set(ylabel="single-stage Top-1 (%)",
                title=f"{largest.n_vectors.iloc[0]:,} vectors; the line joins what nothing beats")
    return figure
