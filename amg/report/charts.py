"""Charts of results: hit rates, differences and costs, drawn from the tables of a report."""

import itertools

import numpy as np

from amg.report import figures, tables
from amg.sound.audio import seconds

KINDS = [  # stages and hits in the plot of recall
    ("two", "exact"),
    ("single", "segment"),
    ("single", "song"),
    ("sequence", "exact"),
    ("sequence", "song"),
]
GREY = "#9a9a9a"


def recall_vs_duration(retrieval) -> figures.Figure:
    """The paper's plot: Top-1 against query length, a column per duration_max, a row per hit.

    Hits of different kinds never share an axis. The base system stands wherever it has such hits;
    alone, it has its panels in one row, and so has a single duration.
    """
    who = retrieval.apply(tables.ablation_label, axis=1)
    rates = retrieval.assign(who=who, duration=retrieval.duration_max.fillna(0))
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
    n_columns = min(4, n_columns)  # of the legend, which is no wider than the panels
    figure.legend(lines.values(), lines, loc="outside upper center", ncols=n_columns, fontsize=9)
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
    size = (0.6 + width * n_columns, 1.2 + height * n_rows)
    figure, grid = figures.panels(n_rows, n_columns, sharex=True, sharey=True, figsize=size)
    for i in range(len(panels), grid.size):  # a last row that is not full
        grid.flat[i].remove()
        grid.flat[i - n_columns].tick_params(labelbottom=True)
    lowest = min(rates.top1_low.min() for rates in panels.values())
    lengths = sorted({query_s for rates in panels.values() for query_s in rates.query_s})
    for axis, (title, rates) in zip(grid.flat, panels.items()):
        for who, colour in figures.colours(rates.who).items():
            line, label = rates[rates.who == who], who.replace(tables.METHOD, "AMG")
            axis.plot(line.query_s, line.top1, ".-", color=colour, label=label)
            figures.shade(axis, line.query_s, line.top1_low, line.top1_high, colour)
        axis.set(title=title, ylim=(10 * (lowest // 10), 101))
        figures.log_x(axis, lengths)
    figure.supxlabel("query length (s)")
    figure.supylabel("Top-1 hit rate (%)")
    return figure


def bars(table, axis_label) -> figures.Figure:
    """Top-1 of methods as horizontal bars with intervals; the column `label` names them."""
    figure, ((axis,),) = figures.panels(figsize=(7.0, 0.5 * len(table) + 1.2))
    colours = figures.colours(table.label).values()
    figures.bars(axis, table.label, table.top1, color=colours, **figures.whiskers(table))
    axis.set(xlabel=axis_label, xlim=(0, 100))
    return figure


def cost_bars(cost) -> figures.Figure:
    """Storage and time per query of each method, two panels; whiskers reach to the quartiles."""
    size = (9.5, 0.36 * len(cost) + 1.5)
    figure, ((left, right),) = figures.panels(1, 2, sharey=True, figsize=size)
    names = [f"{row.method}, {row.duration_max:.0f} s" for row in cost.itertuples()]
    names = [name.removesuffix(", nan s") for name in names]
    first = {"color": cost.method.map(figures.colour_of)}
    second = {**first, "alpha": 0.45}
    index, refine = cost.index_bytes / 1e6, cost.refine_bytes / 1e6
    left.barh(names, index, label="index", **first)
    figures.bars(left, names, refine, left=index, label="second stage", **second)
    quartiles = cost.search_ms - cost.search_ms_q1, cost.search_ms_q3 - cost.search_ms
    second |= {"xerr": quartiles, "capsize": 2}
    right.barh(names, cost.embed_ms, label="embed", **first)
    figures.bars(right, names, cost.search_ms, left=cost.embed_ms, label="search", **second)
    left.set_xlabel("storage (MB)")
    right.set_xlabel("median time per query (ms)")
    for axis in (left, right):
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
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
    left.set(xlabel="angle between two frames (degrees)", ylabel="kernel (1: the same frame)")
    left.set_title("what two frames have in common")
    bits = table[(table.kind == "bits") & (table.dimensions == kept.dimensions)]
    options = {"color": bits.function.map(colours), **figures.whiskers(bits)}
    figures.bars(middle, bits.function, bits.top1, **options)
    middle.set_xlabel("validation Top-1 (%)")
    middle.set_title(f"by function of p, {kept.dimensions:,} bits")
    of_kept = table[table.function == kept.function].sort_values("dimensions")
    for kind, style in (("bits", "o-"), ("values", "o--")):
        line = of_kept[of_kept.kind == kind]
        right.plot(line.dimensions, line.top1, style, color=lifted, ms=4, label=f"lift, {kind}")
    for name, colour in (("the kernel itself", "#555555"), ("mean pooling", mean)):
        top1 = table.top1[table.function == name].iloc[0]
        right.axhline(top1, color=colour, lw=1.2, ls=":", label=name)
    figures.log_x(right, of_kept.dimensions.unique())
    right.set(xlabel="directions", ylabel="validation Top-1 (%)")
    right.set_title(f"by number of directions, {kept.duration_max:g} s")
    right.tick_params(axis="x", rotation=45)
    right.legend(fontsize=8, loc="lower right")
    return figure


def shortlists(table) -> figures.Figure:
    """Exact Top-1 against time per query, a point per size of the shortlist, a panel per length."""
    lengths = table.query_frames.unique()
    size = (1 + 4.6 * len(lengths), 4.0)
    figure, (axes,) = figures.panels(1, len(lengths), figsize=size, sharey=True)
    time = table.assign(ms=table.embed_ms + table.search_ms)
    for axis, (length, rows) in zip(axes, time.groupby("query_frames")):
        for encoder, line in rows.groupby("encoder", sort=False):
            look = {"color": figures.colour_of(encoder), "elinewidth": 0.5}
            look |= {"fmt": "*-", "ms": 10} if encoder == "nafp" else {"fmt": ".-", "ms": 6}
            spread = line.top1 - line.top1_low, line.top1_high - line.top1
            label = tables.encoder_name(encoder, "AMG")
            axis.errorbar(line.ms, line.top1, spread, label=label, **look)
            for row in line.dropna(subset="shortlist").itertuples():
                point, beside = (row.ms, row.top1), {"ha": "center", "color": look["color"]}
                figures.write_beside(axis, f"{row.shortlist:.0f}", point, (0, 5), **beside)
        figures.log_x(axis)
        axis.xaxis.set_minor_formatter("{x:g}")
        axis.tick_params(axis="x", which="minor", labelsize=7)
        axis.set_title(f"queries of {seconds(length):g} s; shortlists at the points")
        axis.set_xlabel("embedding and search per query (ms)")
    axes[0].set_ylabel("two-stage exact Top-1 (%)")
    n_columns = 2 * len(lengths)
    labels = axes[-1].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=n_columns)
    return figure


def roc(points) -> figures.Figure:
    """Recall against false accepts: a row per stage of search, a column per query length, a colour
    per method; normalised scores are dashed, the base system stands beside both stages."""
    stages = [stage for stage in ("two", "single") if (points.stage == stage).any()]
    lengths = sorted(points.query_s.unique())
    n_rows, n_columns = len(stages), len(lengths)
    size = (1 + 3.3 * n_columns, 1 + 2.9 * n_rows)
    figure, axes = figures.panels(n_rows, n_columns, sharex=True, sharey=True, figsize=size)
    for axis, (stage, length) in zip(axes.flat, itertools.product(stages, lengths)):
        here = points[points.stage.isin([stage, "sequence"]) & (points.query_s == length)]
        for (encoder, score), line in here.groupby(["encoder", "score"], sort=False):
            look = {"color": figures.colour_of(encoder), "ls": "-" if score == "raw" else "--"}
            label = f"{tables.encoder_name(encoder, 'AMG')}, {score}"
            accepts = line.false_accepts.clip(lower=0.05)
            axis.step(accepts, line.recall, where="post", lw=1.4, label=label, **look)
        axis.axvline(1, color="#888888", lw=0.8, ls=":")
        figures.log_x(axis)
        axis.set(xlim=(0.05, 100), ylim=(0, 101), title=f"{stage}-stage, {length:g} s")
    figure.supxlabel("false accepts (% of unknown trials)")
    figure.supylabel("recall (% of known trials)")
    legend = {"loc": "outside upper center", "ncols": 1 + n_columns, "fontsize": 8}
    figure.legend(*axes[0, 0].get_legend_handles_labels(), **legend)
    return figure


def trace(followed, name) -> figures.Figure:
    """One query through both stages: segments by score, starts by score, frames by frames.

    followed: a `trace.Trace`; name: of the encoder.
    """
    figure, ((left, middle, right),) = figures.panels(1, 3, figsize=(12.5, 3.9))
    colour, score = figures.colour_of(name), followed.score
    rank = np.arange(1, len(score) + 1)
    left.plot(rank, score, color=GREY, lw=1.5)
    for at in np.flatnonzero(followed.right)[:1]:  # none of a query that begins in a tail
        point, text = (rank[at], score[at]), f"the right segment: rank {rank[at]:,}"
        left.plot(*point, "o", color=colour)
        figures.write_beside(left, text, point, (8, 2), 9, color=colour)
    left.axvline(followed.shortlist, color="#444444", lw=0.8, ls=":")
    figures.log_x(left)
    left.set_title("first stage: every segment")
    left.set_xlabel(f"segments, best first (dotted: the shortlist of {followed.shortlist})")
    left.set_ylabel("inner product with the query's vector")
    number = np.arange(1, len(followed.start) + 1)
    is_right = np.where(followed.start == followed.begin, colour, GREY)
    figures.bars(middle, number, followed.mean, color=is_right, height=0.6)
    middle.set(yticks=number, title="second stage: the ten best starts")
    middle.set_xlabel("mean inner product of its frames")
    middle.set_ylabel("answer (coloured: the right one)")
    length, reach = followed.products.shape
    extent = (-0.5 * followed.margin, 0.5 * (reach - followed.margin), 0.5 * length, 0)
    look = {"aspect": "auto", "cmap": "Greys", "vmin": 0, "vmax": 1}
    drawn = right.imshow(followed.products, extent=extent, **look)
    right.set(title="why: frames agree along a diagonal", ylabel="time in the query (s)")
    right.set_xlabel("time in the database, from the answer on (s)")
    right.grid(False)
    figure.colorbar(drawn, ax=right, label="inner product of two frames")
    return figure
