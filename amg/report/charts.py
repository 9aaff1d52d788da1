"""Charts of results: hit rates, differences and costs, drawn from the tables of a report."""

import itertools

import numpy as np

from amg.report import figures, tables
from amg.retrieval import search
from amg.sound.audio import seconds

GREY = "#9a9a9a"


def recall_vs_duration(retrieval) -> figures.Figure:
    """The paper's plot: Top-1 against query length of each method, two-stage and single-stage, at
    the duration_max nearest to 10 s, at the lengths that all of them answer."""
    main = ~retrieval.method.str.startswith("nafp ") & (retrieval.encoder != "lift1024")
    return _top1_panels(_stages(tables.near(retrieval[main], 10.0)), 2, 4.8, 3.6, ends=True)


def durations(retrieval) -> figures.Figure:
    """Top-1 against query length, a panel per encoder and stage, a line per duration_max."""
    of_encoders = retrieval[~retrieval.encoder.isin(["nafp", "lift1024"])]
    panels = {
        f"{tables.encoder_name(encoder, 'AMG')}, {title}": rates.assign(
            who=rates.duration_max.map("duration_max {:.0f} s".format)
        )
        for title, of_all in _stages(of_encoders).items()
        for encoder, rates in of_all.groupby("encoder", sort=False)
    }
    figure = _top1_panels(panels, of_encoders.encoder.nunique(), 3.2, 2.4, share="row")
    labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside upper center", ncols=4)
    return figure


def decimation(retrieval) -> figures.Figure:
    """Exact Top-1 of the base system against query length: all, as codes, one frame in so many."""
    base = retrieval[retrieval.method.str.startswith("nafp") & (retrieval.tolerance == "exact")]
    panels = {"base system, exact": base.assign(who=base.apply(tables.ablation_label, axis=1))}
    return _top1_panels(panels, 1, 6.4, 3.6, ends=True)


def _stages(rates):
    """Of each stage the kind of hit that all its methods have, by the first protocol: title ->
    rates, with `who`."""
    rates = rates[rates.protocol == rates.protocol.iloc[0]]
    rates, panels = rates.assign(who=rates.apply(tables.short_label, axis=1)), {}
    for stage, kinds in (("two", ("exact",)), ("single", ("song", "segment"))):
        here = rates[rates.stage.isin([stage, "sequence"]) & rates.tolerance.isin(kinds)]
        if len(here):
            kind = min(here.tolerance, key=kinds.index)
            panels[f"{stage}-stage, {kind}"] = here[here.tolerance == kind]
    return panels


def robustness(rates) -> figures.Figure:
    """Exact Top-1 against query length, a panel per group of conditions, a line per condition."""
    exact = rates[rates.tolerance == "exact"].rename(columns={"condition": "who"})
    panels = {f"{group}, exact": of for group, of in exact.groupby("group", sort=False)}
    figure = _top1_panels(panels, 2, 4.4, 3.0)
    for axis in figure.axes:
        axis.legend(fontsize=8, loc="lower right")
    return figure


def _top1_panels(panels, n_columns, width, height, share=True, ends=False):
    """Panels, `title -> rates`: a line per `who`, 95 % intervals shaded.

    share: whose Top-1 axis is the same. ends: none is, names stand at the ends of the lines, and
    those lengths are left out that not all of a panel's lines have.
    """
    n_rows, n_columns = -(-len(panels) // n_columns), min(n_columns, len(panels))
    look = {"figsize": (0.6 + width * n_columns, 0.8 + height * n_rows), "sharex": True}
    figure, grid = figures.panels(n_rows, n_columns, sharey=not ends and share, **look)
    for i in range(len(panels), grid.size):  # a last row that is not full
        grid.flat[i].remove()
        grid.flat[i - n_columns].tick_params(labelbottom=True)
    for axis, (title, rates) in zip(grid.flat, panels.items()):
        if ends:
            n_lines = rates.groupby("query_s").who.transform("nunique")
            rates = rates[n_lines == rates.who.nunique()]
        for who, colour in figures.colours(rates.who).items():
            line = rates[rates.who == who]
            axis.plot(line.query_s, line.top1, ".-", color=colour, label=who)
            figures.shade(axis, line.query_s, line.top1_low, line.top1_high, colour)
        axis.set_title(title)
        figures.log_x(axis, rates.query_s.unique())
    for axis in figure.axes:
        axis.set_ylim(top=101)
        if ends:
            figures.name_ends(axis)
    figure.supxlabel("query length (s)")
    figure.supylabel("Top-1 hit rate (%)")
    return figure


def ablations(rates) -> figures.Figure:
    """Single-stage Top-1 of encoders and losses at the longest query, with intervals; labels say
    epochs. rates: rows of `ablations.csv`."""
    longest = rates.query_frames == rates.query_frames.max()
    shown = rates[longest & (rates.tolerance == "segment")]
    names = shown.apply(tables.ablation_label, axis=1) + shown.run.map(tables.epochs)
    figure, ((axis,),) = figures.panels(figsize=(7.6, 0.45 * len(shown) + 1.1))
    look = {"color": figures.colours(names).values(), **figures.whiskers(shown)}
    figures.bars(axis, names, shown.top1, **look)
    title = "queries of {0.query_s:g} s, duration_max {0.duration_max:g} s".format(shown.iloc[0])
    axis.set(xlim=(0, 100), xlabel="single-stage Top-1, segment (%)", title=title)
    return figure


def cost(cost, retrieval) -> figures.Figure:
    """Top-1 (song, which every method can have) against bytes, and against time, of the duration
    nearest to 10 s: a colour per method, a shape per stage.

    cost, retrieval: rows of `cost.csv` and `retrieval.csv`.
    """
    rows = tables.with_song_rate(cost, retrieval).dropna(subset="song")
    size, time = tables.whole_cost(rows)
    figure, (axes,) = figures.panels(1, 2, figsize=(10.5, 4.4), sharey=True)
    for axis, at in zip(axes, (size / 1e6, time)):
        for i, row in enumerate(rows.itertuples()):
            mark = "*" if row.method == "nafp" else "^" if "single" in row.method else "o"
            look = {"color": figures.colour_of(row.method), "ms": 14 - i / 2}  # all of a heap show
            axis.plot(at.iloc[i], row.song, mark, label=tables.cost_label(row), **look)
        figures.log_x(axis)
    axes[0].set(xlabel="storage (MB): index and second stage", ylabel="Top-1, song (%)")
    axes[1].set_xlabel("embedding and search per query (ms), median")
    axes[0].yaxis.set_major_formatter("{x:g}")
    labels = axes[0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=4, fontsize=9)
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
    left.set(ylabel="kernel (1: the same frame)", title="what two frames have in common")
    left.set_xlabel("angle between two frames (degrees)")
    bits = table[(table.kind == "bits") & (table.dimensions == kept.dimensions)]
    options = {"color": bits.function.map(colours), **figures.whiskers(bits)}
    figures.bars(middle, bits.function, bits.top1, **options)
    title = f"by function of p, {kept.dimensions:,} bits"
    middle.set(xlabel="validation Top-1 (%)", title=title)
    of_kept = table[table.function == kept.function].sort_values("dimensions")
    for kind, style in (("bits", "o-"), ("values", "o--")):
        line = of_kept[of_kept.kind == kind]
        right.plot(line.dimensions, line.top1, style, color=lifted, ms=4, label=f"lift, {kind}")
    for name, colour in (("the kernel itself", "#555555"), ("mean pooling", mean)):
        top1 = table.top1[table.function == name].iloc[0]
        right.axhline(top1, color=colour, lw=1.2, ls=":", label=name)
    figures.log_x(right, of_kept.dimensions.unique())
    title = f"by number of directions, {kept.duration_max:g} s"
    right.set(xlabel="directions", ylabel="validation Top-1 (%)", title=title)
    right.tick_params(axis="x", rotation=45)
    right.legend(fontsize=8, loc="lower right")
    return figure


def shortlists(table) -> figures.Figure:
    """Exact Top-1 against time per query, a point per length of the shortlist, a panel per length
    of query; squares are the published shortlist, rings the default."""
    n = table.query_frames.nunique()
    figure, (axes,) = figures.panels(1, n, figsize=(1 + 4.6 * n, 4.0), sharey=True)
    table = table.assign(ms=table.embed_ms + table.search_ms)
    for axis, (n_frames, rows) in zip(axes, table.groupby("query_frames")):
        for encoder, line in rows.groupby("encoder", sort=False):
            look = {"color": figures.colour_of(encoder), "elinewidth": 0.5}
            look |= {"fmt": "*-", "ms": 10} if encoder == "nafp" else {"fmt": ".-", "ms": 6}
            spread = line.top1 - line.top1_low, line.top1_high - line.top1
            label = tables.encoder_name(encoder, "AMG")
            axis.errorbar(line.ms, line.top1, spread, label=label, **look)
            for length, mark in ((search.N_BEST, "s"), (search.SHORTLIST, "o")):
                at = line[line.shortlist == length]
                axis.plot(at.ms, at.top1, mark, color=look["color"], mfc="none", ms=10)
        figures.log_x(axis)
        axis.set_title(f"queries of {seconds(n_frames):g} s")
        axis.set_xlabel("embedding and search per query (ms)")
    axes[0].set_ylabel("two-stage exact Top-1 (%)")
    labels = axes[-1].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=4)
    return figure


def roc(points) -> figures.Figure:
    """True against false accepts: a row per stage of search, a column per query length, a colour
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
        figures.log_x(axis, (0.1, 1, 10, 100))
        axis.set(xlim=(0.05, 100), ylim=(0, 101), title=f"{stage}-stage, {length:g} s")
    figure.supxlabel("false accepts (% of trials whose song is not there)")
    figure.supylabel("true accepts (% of trials whose song is there)")
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
    title = "first stage: every segment"
    for at in np.flatnonzero(followed.right)[:1]:  # none of a query that begins in a tail
        left.plot(rank[at], score[at], "o", color=colour)
        title = f"first stage: the right segment has rank {rank[at]:,}"
    left.axvline(followed.shortlist, color="#444444", lw=0.8, ls=":")
    figures.log_x(left)
    left.set_title(title)
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
