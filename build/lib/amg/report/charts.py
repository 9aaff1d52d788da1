"""Charts of results: hit rates, differences and costs, drawn from the tables of a report."""

import itertools

import numpy as np

from amg.report import figures, tables
from amg.sound.audio import seconds

KINDS = (
    ("two", "exact"),
    ("single", "segment"),
    ("single", "song"),
    ("sequence", "exact"),
    ("sequence", "song"),
)  # stages and hits in the plot of recall
NAMES = {"nafp": "NAFP, every frame indexed", "mean": "mean pooling", "lift": "one-bit lift"}


def recall_vs_duration(retrieval) -> figures.Figure:
    """The paper's plot: Top-1 against query length, a column per duration_max, a row per hit.

    Hits of different kinds never share an axis. The base system stands wherever it has such hits;
    alone, it has its panels in one row, and so has a single duration.
    """
    rates = retrieval.assign(
        who=retrieval.apply(tables.ablation_label, axis=1),
        duration=retrieval.duration_max.fillna(0),
    )
    own = rates[rates.duration > 0] if rates.duration.any() else rates
    kinds = [kind for kind in KINDS if kind in set(zip(own.stage, own.tolerance))]
    durations, panels = sorted(own.duration.unique()), {}
    for (stage, tolerance), duration in itertools.product(kinds, durations):
        title = f"{duration:g} s, {stage}-stage, {tolerance}" if duration else tolerance
        here = (rates.stage == stage) & (rates.duration == duration) | (rates.duration == 0)
        panels[title] = rates[here & (rates.tolerance == tolerance)]
    n_columns = len(durations) if len(durations) > 1 else len(kinds)
    figure = _top1_panels(panels, n_columns, 2.7, 2.2)
    lines = {line.get_label(): line for axis in figure.axes for line in axis.lines}
    figure.legend(lines.values(), lines, loc="outside upper center", ncols=4, fontsize=9)
    return figure


def robustness(rates) -> figures.Figure:
    """Exact Top-1 against query length, a panel per group of conditions, a line per condition."""
    exact = rates[rates.tolerance == "exact"].rename(columns={"condition": "who"})
    panels = {f"{group}, exact": of for group, of in exact.groupby("group", sort=False)}
    figure = _top1_panels(panels, 2, 4.4, 3.0)
    for axis in figure.axes:
        axis.legend(fontsize=8, loc="lower right")
    return figure


def _top1_panels(panels, n_columns, width, height):
    """Panels that share their axes, `title -> rates`: a line per `who`, 95 % intervals shaded."""
    n_rows = -(-len(panels) // n_columns)
    figure, grid = figures.panels(
        n_rows,
        n_columns,
        sharex=True,
        sharey=True,
        figsize=(0.6 + width * n_columns, 1.2 + height * n_rows),
    )
    for i in range(len(panels), grid.size):  # a last row that is not full
        grid.flat[i].remove()
        grid.flat[i - n_columns].tick_params(labelbottom=True)
    lowest = min(rates.top1_low.min() for rates in panels.values())
    lengths = sorted({query_s for rates in panels.values() for query_s in rates.query_s})
    for axis, (title, rates) in zip(grid.flat, panels.items()):
        for who, colour in figures.colours(rates.who).items():
            line = rates[rates.who == who]
            axis.plot(
                line.query_s, line.top1, ".-", color=colour, label=who.replace(tables.METHOD, "AMG")
            )
            axis.fill_between(
                line.query_s, line.top1_low, line.top1_high, color=colour, alpha=0.15, lw=0
            )
        axis.set(title=title, ylim=(10 * (lowest // 10), 101), xscale="log", xticks=lengths)
        axis.minorticks_off()
        axis.xaxis.set_major_formatter("{x:g}")
    figure.supxlabel("query length (s)")
    figure.supylabel("Top-1 hit rate (%)")
    return figure


def bars(table, axis_label) -> figures.Figure:
    """Top-1 of methods as horizontal bars with intervals; the column `label` names them."""
    figure, ((axis,),) = figures.panels(figsize=(7.0, 0.5 * len(table) + 1.2))
    axis.barh(
        table.label,
        table.top1,
        color=figures.colours(table.label).values(),
        height=0.6,
        xerr=[table.top1 - table.top1_low, table.top1_high - table.top1],
        ecolor="#444444",
        capsize=3,
    )
    axis.set(xlabel=axis_label, xlim=(0, 100), ylim=(len(table) - 0.4, -0.6))  # the first on top
    axis.grid(axis="y", visible=False)
    return figure


def cost_bars(cost) -> figures.Figure:
    """Storage and time per query of each method, two panels; whiskers reach to the quartiles."""
    labels = cost.method + [f", {d:.0f} s" * (d > 0) for d in cost.duration_max.fillna(0)]
    ours = figures.METHODS[tables.METHOD]
    colours = [
        figures.METHODS.get(method) or figures.METHODS.get(method.split()[0], ours)
        for method in cost.method
    ]
    figure, ((left, right),) = figures.panels(
        1, 2, sharey=True, figsize=(9.5, 0.36 * len(cost) + 1.5)
    )
    quartiles = cost.search_ms - cost.search_ms_q1, cost.search_ms_q3 - cost.search_ms
    left.barh(labels, cost.index_bytes / 1e6, label="index", color=colours)
    left.barh(
        labels,
        cost.refine_bytes / 1e6,
        left=cost.index_bytes / 1e6,
        label="second stage",
        color=colours,
        alpha=0.45,
    )
    right.barh(labels, cost.embed_ms, label="embed", color=colours)
    right.barh(
        labels,
        cost.search_ms,
        left=cost.embed_ms,
        label="search",
        color=colours,
        alpha=0.45,
        xerr=quartiles,
        capsize=2,
    )
    for axis, label in ((left, "storage (MB)"), (right, "median time per query (ms)")):
        axis.set(xlabel=label)
        axis.grid(axis="y", visible=False)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    left.invert_yaxis()
    return figure


def lifts(angle, kernels, table) -> figures.Figure:
    """Why the lift works: kernels, what each finds, and what bits and directions cost.

    angle: degrees (n,); kernels: name -> (n,), 1 at no angle; table: `lifts.csv`, whose first row
    is the lift that is kept.
    """
    figure, ((left, middle, right),) = figures.panels(1, 3, figsize=(12.5, 3.9))
    kept, lifted, mean = table.iloc[0], figures.METHODS["lift"], figures.METHODS["mean"]
    colours = figures.colours(kernels) | {kept.function: lifted, "p itself": mean}
    for name in kernels:
        left.plot(angle, kernels[name], color=colours[name], lw=2.5 if name == kept.function else 1)
    left.set(
        xlabel="angle between two frames (degrees)",
        ylabel="kernel (1: the same frame)",
        title="what two frames have in common",
    )
    bits = table[(table.kind == "bits") & (table.dimensions == kept.dimensions)]
    middle.barh(
        bits.function,
        bits.top1,
        color=[colours[name] for name in bits.function],
        height=0.6,
        xerr=[bits.top1 - bits.top1_low, bits.top1_high - bits.top1],
        ecolor="#444444",
    )
    middle.set(xlabel="validation Top-1 (%)", title=f"by function of p, {kept.dimensions:,} bits")
    middle.invert_yaxis()
    middle.grid(axis="y", visible=False)
    for kind, style in (("bits", "o-"), ("values", "o--")):
        line = table[(table.function == kept.function) & (table.kind == kind)]
        line = line.sort_values("dimensions")
        right.plot(line.dimensions, line.top1, style, color=lifted, ms=4, label=f"lift, {kind}")
    for name, colour in (("the kernel itself", "#555555"), ("mean pooling", colours["p itself"])):
        top1 = table.top1[table.function == name].iloc[0]
        right.axhline(top1, color=colour, lw=1.2, ls=":", label=name)
    right.set(
        xscale="log",
        xlabel="directions",
        ylabel="validation Top-1 (%)",
        title=f"by number of directions, {kept.duration_max:g} s",
    )
    right.set_xticks(sorted(table.dimensions[table.function == kept.function].unique()))
    right.minorticks_off()
    right.xaxis.set_major_formatter("{x:,.0f}")
    right.tick_params(axis="x", rotation=45)
    right.legend(fontsize=8, loc="lower right")
    return figure


def shortlists(table) -> figures.Figure:
    """Exact Top-1 against time per query, a point per size of the shortlist, a panel per length."""
    lengths = table.query_frames.unique()
    figure, (axes,) = figures.panels(
        1, len(lengths), figsize=(1 + 4.6 * len(lengths), 4.0), sharey=True
    )
    time = table.assign(ms=table.embed_ms + table.search_ms)
    for axis, (length, rows) in zip(axes, time.groupby("query_frames")):
        for encoder, line in rows.groupby("encoder", sort=False):
            colour = figures.METHODS.get(encoder, figures.METHODS[tables.METHOD])
            spread = line.top1 - line.top1_low, line.top1_high - line.top1
            mark, size = ("*-", 10) if encoder == "nafp" else (".-", 6)
            axis.errorbar(
                line.ms,
                line.top1,
                spread,
                fmt=mark,
                ms=size,
                color=colour,
                elinewidth=0.5,
                label=NAMES.get(encoder, "AMG"),
            )
            for row in line.dropna(subset="shortlist").itertuples():
                axis.annotate(
                    f"{row.shortlist:.0f}",
                    (row.ms, row.top1),
                    (0, 5),
                    fontsize=7,
                    textcoords="offset points",
                    ha="center",
                    color=colour,
                )
        axis.set(
            xscale="log",
            title=f"queries of {seconds(length):g} s; shortlists at the points",
            xlabel="embedding and search per query (ms)",
        )
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("{x:g}")
        axis.tick_params(axis="x", which="minor", labelsize=7)
    axes[0].set_ylabel("two-stage exact Top-1 (%)")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def roc(points) -> figures.Figure:
    """Recall against false accepts: a row per stage of search, a column per query length, a colour
    per method; normalised scores are dashed, the base system stands beside both stages."""
    stages = [stage for stage in ("two", "single") if (points.stage == stage).any()]
    lengths = sorted(points.query_s.unique())
    figure, axes = figures.panels(
        len(stages),
        len(lengths),
        sharex=True,
        sharey=True,
        figsize=(1 + 3.3 * len(lengths), 1 + 2.9 * len(stages)),
    )
    for (row, stage), (column, length) in itertools.product(enumerate(stages), enumerate(lengths)):
        here = points[points.stage.isin([stage, "sequence"]) & (points.query_s == length)]
        for (encoder, score), line in here.groupby(["encoder", "score"], sort=False):
            axes[row, column].plot(
                line.false_accepts.clip(lower=0.05),
                line.recall,
                "-" if score == "raw" else "--",
                color=figures.METHODS.get(encoder, figures.METHODS[tables.METHOD]),
                lw=1.4,
                drawstyle="steps-post",
                label=f"{NAMES.get(encoder, 'AMG')}, {score}",
            )
        axes[row, column].axvline(1, color="#888888", lw=0.8, ls=":")
        axes[row, column].set(
            xscale="log", xlim=(0.05, 100), ylim=(0, 101), title=f"{stage}-stage, {length:g} s"
        )
        axes[row, column].xaxis.set_major_formatter("{x:g}")
    figure.supxlabel("false accepts (% of unknown trials)")
    figure.supylabel("recall (% of known trials)")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=1 + len(lengths),
        fontsize=8,
    )
    return figure


def trace(found, name) -> figures.Figure:
    """One query through both stages: segments by score, starts by score, frames by frames.

    found: a `trace.Trace`; name: of the encoder.
    """
    figure, (axes,) = figures.panels(1, 3, figsize=(12.5, 3.9))
    left, middle, right = axes
    colour, other = figures.METHODS.get(name, figures.METHODS[tables.METHOD]), "#9a9a9a"
    rank = np.arange(1, len(found.score) + 1)
    left.plot(rank, found.score, color=other, lw=1.5)
    for at in np.flatnonzero(found.right)[:1]:  # none of a query that begins in a tail
        left.plot(rank[at], found.score[at], "o", color=colour)
        left.annotate(
            f"the right segment: rank {rank[at]:,}",
            (rank[at], found.score[at]),
            (8, 2),
            textcoords="offset points",
            color=colour,
            fontsize=9,
        )
    left.axvline(found.shortlist, color="#444444", lw=0.8, ls=":")
    left.set(
        xscale="log",
        xlabel=f"segments, best first (dotted: the shortlist of {found.shortlist})",
        ylabel="inner product with the query's vector",
        title="first stage: every segment",
    )
    left.xaxis.set_major_formatter("{x:,.0f}")
    is_right = found.start == found.begin
    number = np.arange(1, len(found.start) + 1)
    middle.barh(number, found.mean, color=np.where(is_right, colour, other), height=0.6)
    middle.set(
        yticks=number,
        ylim=(len(number) + 0.6, 0.4),
        xlabel="mean inner product of its frames",
        ylabel="answer (coloured: the right one)",
        title="second stage: the ten best starts",
    )
    middle.grid(axis="y", visible=False)
    length, reach = found.products.shape
    drawn = right.imshow(
        found.products,
        aspect="auto",
        cmap="Greys",
        vmin=0,
        vmax=1,
        extent=(-0.5 * found.margin, 0.5 * (reach - found.margin), 0.5 * length, 0),
    )
    right.set(
        xlabel="time in the database, from the answer on (s)",
        ylabel="time in the query (s)",
        title="why: frames agree along a diagonal",
    )
    right.grid(False)
    figure.colorbar(drawn, ax=right, label="inner product of two frames")
    return figure
