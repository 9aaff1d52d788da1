"""Charts of how the lift was chosen, and the shortlist."""

from amg.report import figures, tables
from amg.retrieval import search
from amg.sound.audio import seconds


def lifts(angle, kernels, table) -> figures.Figure:
    """Why the lift works: kernels, what each finds, and what bits and directions cost.

    angle: degrees (n,); kernels: name -> (n,), 1 at no angle; table: `lifts.csv`, whose first row
    is the lift that is kept.
    """
    figure, ((left, middle, right),) = figures.panels(1, 3, figsize=(12.5, 3.9))
    kept, lifted, mean = table.iloc[0], figures.METHODS["lift"], figures.METHODS["mean"]
    colours = figures.colours(kernels) | {kept.function: lifted, "p itself": mean}
    for name, kernel in kernels.items():
        width = 2.5 if name == kept.function else 1
        left.plot(angle, kernel, color=colours[name], lw=width, label=name)
    left.set(ylabel="correlation over directions", title="kernel of two frames")
    left.set_xlabel("angle between two frames (degrees)")
    left.legend(title="function of p", fontsize=7, title_fontsize=7)
    bits = table[(table.kind == "bits") & (table.dimensions == kept.dimensions)]
    reach = [bits.top1 - bits.top1_low, bits.top1_high - bits.top1]
    look = {"color": bits.function.map(colours), "ecolor": "#444444", "capsize": 3, "height": 0.6}
    figures.bars(middle, bits.function, bits.top1, xerr=reach, **look)
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
    right.legend(fontsize=8, loc="center right")
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
            label = tables.encoder_name(encoder) + tables.epochs(line.run.iloc[0])
            axis.errorbar(line.ms, line.top1, spread, label=label, **look)
            for length, mark in ((search.N_BEST, "s"), (search.SHORTLIST, "o")):
                at = line[line.shortlist == length]
                axis.plot(at.ms, at.top1, mark, color=look["color"], mfc="none", ms=10)
        figures.log_x(axis)
        axis.set_title(f"queries of {seconds(n_frames):g} s")
        axis.set_xlabel("embedding and search per query (ms)")
    axes[0].set_ylabel("two-stage exact Top-1 (%)")
    figures.legend(figure, axes[-1], "lower", ncols=4)
    return figure
