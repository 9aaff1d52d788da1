"""Charts of results: hit rates, differences and costs, drawn from the tables of a report."""

import itertools

import numpy as np

from amg.report import figures, tables

GREY = "#9a9a9a"


def recall_vs_duration(retrieval) -> figures.Figure:
    """The paper's plot: Top-1 against query length of each method, two-stage and single-stage, at
    the duration_max nearest to 10 s, at the lengths that all of them answer."""
    main = ~retrieval.method.str.contains(" ") & (retrieval.encoder != "lift1024")
    return _top1_panels(_stages(tables.near(retrieval[main], 10.0)), 2, 6.2, 3.6, ends=True)


def durations(retrieval) -> figures.Figure:
    """Top-1 against query length, a panel per encoder and stage, a line per duration_max."""
    of_encoders = retrieval[(retrieval.method == "amg") & (retrieval.encoder != "lift1024")]
    panels = {}
    for title, rates in _stages(of_encoders).items():
        rates = rates.assign(who=rates.duration_max.map("duration_max {:.0f} s".format))
        for encoder, of_one in rates.groupby("encoder", sort=False):
            panels[f"{tables.encoder_name(encoder)}, {title}"] = of_one
    figure = _top1_panels(panels, of_encoders.encoder.nunique(), 3.2, 2.4, share="row")
    figures.legend(figure, figure.axes[0], "upper", ncols=4)
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
    """Panels, `title -> rates`: a line per `who`, 95 % intervals as whiskers, as a shade of the
    base system.

    share: whose Top-1 axis is the same. ends: none is, names stand at the ends of the lines, and
    those lengths are left out that not all of a panel's lines have.
    """
    n_rows, n_columns = -(-len(panels) // n_columns), min(n_columns, len(panels))
    look = {"figsize": (0.6 + width * n_columns, 0.8 + height * n_rows), "sharex": True}
    figure, grid = figures.panels(n_rows, n_columns, sharey=not ends and share, **look)
    lengths: set[float] = set()
    for i in range(len(panels), grid.size):  # a last row that is not full
        grid.flat[i].remove()
        grid.flat[i - n_columns].tick_params(labelbottom=True)
    for axis, (title, rates) in zip(grid.flat, panels.items()):
        if ends:
            n_lines = rates.groupby("query_s").who.transform("nunique")
            rates = rates[n_lines == rates.who.nunique()]
        lengths.update(rates.query_s)
        for i, (who, colour) in enumerate(figures.colours(rates.who).items()):
            line = rates[rates.who == who]
            axis.plot(line.query_s, line.top1, ".-", color=colour, label=who)
            spread = line.top1_low, line.top1_high
            if who == tables.ENCODERS["nafp"]:
                figures.shade(axis, line.query_s, *spread, colour)
            else:  # side by side
                at = line.query_s * 1.012 ** (i - rates.who.nunique() / 2)
                axis.vlines(at, *spread, color=colour, lw=0.8, alpha=0.6, clip_on=False)
        axis.set_title(title)
    for axis in figure.axes:
        figures.log_x(axis, lengths)
        axis.set_ylim(top=101)
        if ends:
            figures.name_ends(axis)
    figure.supxlabel("query length (s)")
    figure.supylabel("Top-1 hit rate (%)")
    return figure


def rivals(rates) -> figures.Figure:
    """Share of queries that are named rightly against their length, a panel per condition, a line
    per system; rates: `rivals.csv`."""
    named = {f"top1{end}": rates[f"named{end}"] for end in ("", "_low", "_high")}
    rates = rates.assign(who=rates.system, **named)
    panels = dict([*rates.groupby("condition", sort=False)])
    figure = _top1_panels(panels, 4, 2.9, 2.6)
    figure.supylabel("named rightly (%)")
    figures.legend(figure, figure.axes[0], "upper", ncols=rates.who.nunique(), fontsize=9)
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
            # all of a heap show
            look = {"color": figures.colour_of(row.method), "ms": 13 - i / 2, "mfc": "none"}
            axis.plot(at.iloc[i], row.song, mark, label=tables.cost_label(row), **look)
        figures.log_x(axis)
    axes[0].set(xlabel="storage (MB): index and second stage", ylabel="Top-1, song (%)")
    axes[1].set_xlabel("embedding and search per query (ms), median")
    axes[0].yaxis.set_major_formatter("{x:g}")
    figures.legend(figure, axes[0], "lower", ncols=4, fontsize=9)
    return figure


def roc(points) -> figures.Figure:
    """True against false accepts: a row per stage of search, a column per query length, a colour
    per method; relative scores are dashed, 1 % of false accepts is dotted, the base system stands
    beside both stages."""
    stages = [stage for stage in ("two", "single") if (points.stage == stage).any()]
    lengths = sorted(points.query_s.unique())
    n_rows, n_columns = len(stages), len(lengths)
    size = (1 + 3.3 * n_columns, 1 + 2.9 * n_rows)
    figure, axes = figures.panels(n_rows, n_columns, sharex=True, sharey=True, figsize=size)
    for axis, (stage, length) in zip(axes.flat, itertools.product(stages, lengths)):
        here = points[points.stage.isin([stage, "sequence"]) & (points.query_s == length)]
        for (encoder, score), line in here.groupby(["encoder", "score"], sort=False):
            look = {"color": figures.colour_of(encoder), "ls": "-" if score == "raw" else "--"}
            label = f"{tables.encoder_name(encoder)}, {score}"
            accepts = line.false_accepts.clip(lower=0.05)
            axis.step(accepts, line.recall, where="post", lw=1.4, label=label, **look)
        axis.axvline(1, color="#888888", lw=0.8, ls=":")
        figures.log_x(axis, (0.1, 1, 10, 100))
        axis.set(xlim=(0.05, 100), ylim=(0, 101), title=f"{stage}-stage, {length:g} s")
    figure.supxlabel("false accepts (% of trials whose song is not there)")
    figure.supylabel("true accepts (% of trials whose song is there)")
    figures.legend(figure, axes[0, 0], "upper", ncols=1 + n_columns, fontsize=8)
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
    figures.log_x(left, 10.0 ** np.arange(np.log10(len(score))))
    left.set_title(title)
    left.set_xlabel(f"segments, best first (dotted: the shortlist of {followed.shortlist})")
    left.set_ylabel("similarity to the query vector")
    number = np.arange(1, len(followed.start) + 1)
    is_right = np.where(followed.start == followed.begin, colour, GREY)
    figures.bars(middle, number, followed.mean, color=is_right, height=0.6)
    middle.set(yticks=number, title="second stage: the ten best starts")
    middle.set_xlabel("mean similarity of the frames")
    middle.set_ylabel("answer (coloured: the right one)")
    length, reach = followed.products.shape
    extent = (-0.5 * followed.margin, 0.5 * (reach - followed.margin), 0.5 * length, 0)
    look = {"aspect": "auto", "cmap": "Greys", "vmin": 0, "vmax": 1}
    drawn = right.imshow(followed.products, extent=extent, **look)
    right.set(title="why: frames agree along a diagonal", ylabel="time in the query (s)")
    right.set_xlabel("time in the database, from the answer on (s)")
    right.grid(False)
    figure.colorbar(drawn, ax=right, label="similarity of two frames (inner product)")
    return figure
