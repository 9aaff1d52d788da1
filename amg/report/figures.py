"""Figures, drawn from the tables and arrays they are given; no other module imports matplotlib.

`save` writes one to `reports/<report>/figures/` and returns it for display.
"""

import io
import itertools
import platform
from collections.abc import Callable
from importlib.metadata import version

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
from IPython.display import HTML, Image, display

from amg import files, paths
from amg.report import tables
from amg.sound.audio import N_FFT, SAMPLE_RATE
from amg.embedding.crops import MARGIN_MAX, MARGIN_MIN

COLOURS = ["#4c5b66", "#0f8b8d", "#b5479b", "#c79a00", "#7f4f24", "#7a9e00", "#e07a5f", "#6a5acd"]
METHODS = {  # each has one colour in all figures; others take those above, in order
    "NAFP, every frame indexed": "#111111", "nafp": "#111111",
    "NAFP, IVF-PQ": "#e58e26", "nafp ivf-pq": "#e58e26",
    tables.METHOD: "#1f63b0", "after training": "#1f63b0",
    "mean pooling, no training": "#d1394f", "mean pooling": "#d1394f", "mean": "#d1394f",
    "one-bit lift, no training": "#0a8754", "lift": "#0a8754",
    "one-bit lift of 1,024, no training": "#8cc63f", "lift1024": "#8cc63f", "amg": "#1f63b0",
    "Transformer, arcface loss": "#2e933c", "Transformer, infonce loss": "#8f5db7",
    "Transformer, triplet loss": "#a0522d", "LSTM, AMG loss": "#22a7c4", "CNN, AMG loss": "#e377c2"}
KINDS = (("two", "exact"), ("single", "segment"), ("single", "song"), ("sequence", "exact"),
         ("sequence", "song"))  # stages and hits in the plot of recall
STYLE = {
    "figure.dpi": 110, "figure.constrained_layout.use": True, "font.size": 10, "axes.titlesize": 10,
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#e4e4e4", "axes.axisbelow": True, "legend.frameon": False,
    "figure.labelsize": 10, "axes.prop_cycle": plt.cycler(color=COLOURS)}


def begin() -> str:
    """Set the figure style and return the version stamp that each notebook prints."""
    plt.rcParams.update(STYLE)
    names = ("amg", "torch", "numpy", "faiss-cpu", "papermill")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"Python {platform.python_version()}, {versions}"


def _axes(n_rows=1, n_columns=1, **options):
    """A figure and its axes (n_rows, n_columns), closed: whoever asks for it shows it, once."""
    figure, axes = plt.subplots(n_rows, n_columns, squeeze=False, **options)
    plt.close(figure)
    return figure, axes


def image(figure) -> Image:
    """A figure as a PNG for display in a notebook, of the size it has in the report."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=130)
    # 256 colours are enough for any figure here, and a third of the bytes
    PIL.Image.open(drawn).convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE).save(
        small, "png", optimize=True)
    return Image(small.getvalue(), width=int(100 * figure.get_figwidth()))


def save(figure, report, name) -> Image:
    """Write `figure` to `reports/<report>/figures/<name>.png`; returns it for display."""
    picture = image(figure)
    with files.atomic(paths.resolve(f"reports/{report}/figures/{name}.png")) as temporary:
        temporary.write_bytes(picture.data)
    return picture


def _colours(names):
    """A colour for each name, the methods' own where they have one."""
    others = itertools.cycle(COLOURS)
    return {name: METHODS.get(name) or next(others) for name in dict.fromkeys(names)}


def live_curves(x, curves) -> Callable:
    """A function of a history that redraws its `learning_curves` in place."""
    # shown at once, so that a progress bar that follows is not torn in two
    handle = display(HTML(""), display_id=True)
    return lambda history: handle.update(image(learning_curves(history, x, curves)))


def learning_curves(history, x, curves) -> plt.Figure:
    """A training history (table or list of dicts) against `x`; curves: (keys, label) per panel."""
    figure, axes = _axes(1, len(curves), figsize=(4.6 * len(curves), 3.2))
    table = pd.DataFrame(history)
    for axis, (keys, label) in zip(axes[0], curves):
        for key, colour in _colours(keys).items():
            axis.plot(table[x], table[key], ".-", color=colour, label=key.replace("_", " "))
        axis.set(xlabel=x, ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if len(keys) > 1:
            axis.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the curves
    return figure


def spectrograms(rows) -> plt.Figure:
    """Spectrograms from 0 to 4 kHz in dB below the peak: in each row its clips, side by side.

    rows: list of (title of the row, its clips (float32, 8 kHz), their titles).
    """
    n_rows, n = len(rows), len(rows[0][1])
    figure, axes = _axes(n_rows, n, figsize=(5.5 + 1.8 * n, 2.6 * n_rows), sharex=True, sharey=True)
    for row, (title, clips, titles) in zip(axes, rows):
        for axis, clip, of_clip in zip(row, clips, titles):
            power, _, _, drawn = axis.specgram(clip + 1e-9, N_FFT, SAMPLE_RATE, cmap="magma",
                                               noverlap=N_FFT * 3 // 4, interpolation="nearest")
            drawn.set_data(drawn.get_array() - 10 * np.log10(power.max()))
            drawn.set_clim(-80, 0)
            axis.set_title(of_clip, fontsize=8 if n > 1 else None)
            axis.grid(False)
        row[0].set_ylabel(f"{title}\nfrequency (Hz)".strip())
        figure.colorbar(drawn, ax=row[-1], label="dB below the peak")
    figure.supxlabel("time (s)")
    return figure


def fingerprint_maps(original, query) -> plt.Figure:
    """Two fingerprints (T, 128) as heat maps, a column per frame, and their frames' similarity."""
    figure, axes = _axes(3, 1, sharex=True, figsize=(7.5, 5.8))
    for axis, array, title in zip(axes.flat, (original, query), ("original", "query")):
        drawn = axis.imshow(array.T, aspect="auto", cmap="RdBu_r", vmin=-0.3, vmax=0.3,
                            extent=(0, len(array) / 2, array.shape[1], 0), interpolation="nearest")
        axis.set(title=title, ylabel="dimension")
        axis.grid(False)
    figure.colorbar(drawn, ax=axes, label="value (unit vectors)")
    similarity, last = np.sum(original * query, axis=1), axes[2, 0]
    last.plot(np.arange(len(similarity)) / 2 + 0.25, similarity, ".-")
    last.set(title="inner product with the original, frame by frame", ylim=(-0.1, 1.05),
             xlabel="time (s)", ylabel="inner product")
    return figure


def crop_map(duration_max, n_frames, starts, lengths, margins) -> plt.Figure:
    """Training crops of one song as bars over its frames, coloured by their margin."""
    figure, ((axis,),) = _axes(figsize=(7.5, 3.4))
    scale = plt.cm.ScalarMappable(plt.Normalize(MARGIN_MIN, MARGIN_MAX), "viridis")
    axis.barh(np.arange(len(starts)), lengths / 2, left=starts / 2, color=scale.to_rgba(margins))
    axis.set(xlim=(0, n_frames / 2), xlabel="time in the clip (s)", ylabel="crop",
             yticks=range(0, len(starts), 5),
             title=f"Centre of the original (0) and random crops, duration_max {duration_max} s")
    figure.colorbar(scale, ax=axis, label="margin (rad)")
    return figure


def cosine_against_overlap(found) -> plt.Figure:
    """How near crops lie to their original by how much they share: medians, quartiles shaded.

    found: name of an encoder -> DataFrame of `overlap` (0 to 1), `cosine`, and `others`, the mean
    cosine with other songs, which is dotted.
    """
    figure, ((axis,),) = _axes(figsize=(7.0, 3.8))
    for name, colour in _colours(found).items():
        table = found[name]
        tenths = table.groupby(np.ceil(10 * table.overlap) / 10 - 0.05)
        low, middle, high = (tenths.cosine.quantile(q) for q in (0.25, 0.5, 0.75))
        axis.plot(middle.index, middle, "o-", ms=4, color=colour, label=name)
        axis.fill_between(middle.index, low, high, color=colour, alpha=0.15, lw=0)
        axis.plot(middle.index, tenths.others.median(), ":", color=colour)
    axis.set(xlim=(0, 1), xlabel="overlap with the original's centre (share of it)",
             ylabel="cosine with the original's centre")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def recall_vs_duration(retrieval) -> plt.Figure:
    """The paper's plot: Top-1 against query length, a column per duration_max, a row per hit.

    Hits of different kinds never share an axis. The base system stands wherever it has such hits;
    alone, it has its panels in one row, and so has a single duration.
    """
    rates = retrieval.assign(who=retrieval.apply(tables.ablation_label, axis=1),
                             duration=retrieval.duration_max.fillna(0))
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


def robustness(rates) -> plt.Figure:
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
    figure, grid = _axes(n_rows, n_columns, sharex=True, sharey=True,
                         figsize=(0.6 + width * n_columns, 1.2 + height * n_rows))
    lowest = min(rates.top1_low.min() for rates in panels.values())
    lengths = sorted({query_s for rates in panels.values() for query_s in rates.query_s})
    for axis, (title, rates) in zip(grid.flat, panels.items()):
        for who, colour in _colours(rates.who).items():
            line = rates[rates.who == who]
            axis.plot(line.query_s, line.top1, ".-", color=colour,
                      label=who.replace(tables.METHOD, "AMG"))
            axis.fill_between(line.query_s, line.top1_low, line.top1_high, color=colour,
                              alpha=0.15, lw=0)
        axis.set(title=title, ylim=(10 * (lowest // 10), 101), xscale="log", xticks=lengths)
        axis.minorticks_off()
        axis.xaxis.set_major_formatter("{x:g}")
    figure.supxlabel("query length (s)")
    figure.supylabel("Top-1 hit rate (%)")
    return figure


def bars(table, axis_label) -> plt.Figure:
    """Top-1 of methods as horizontal bars with intervals; the column `label` names them."""
    figure, ((axis,),) = _axes(figsize=(7.0, 0.5 * len(table) + 1.2))
    axis.barh(table.label, table.top1, color=_colours(table.label).values(), height=0.6, capsize=3,
              xerr=[table.top1 - table.top1_low, table.top1_high - table.top1], ecolor="#444444")
    axis.set(xlabel=axis_label, xlim=(0, 100), ylim=(len(table) - 0.4, -0.6))  # the first on top
    axis.grid(axis="y", visible=False)
    return figure


def cost_bars(cost) -> plt.Figure:
    """Storage and time per query of each method, two panels; whiskers reach to the quartiles."""
    labels = cost.method + [f", {d:.0f} s" * (d > 0) for d in cost.duration_max.fillna(0)]
    colours = [METHODS.get(method) or METHODS.get(method.split()[0], METHODS[tables.METHOD])
               for method in cost.method]
    figure, ((left, right),) = _axes(1, 2, figsize=(9.5, 0.36 * len(cost) + 1.5), sharey=True)
    quartiles = cost.search_ms - cost.search_ms_q1, cost.search_ms_q3 - cost.search_ms
    left.barh(labels, cost.index_bytes / 1e6, label="index", color=colours)
    left.barh(labels, cost.refine_bytes / 1e6, left=cost.index_bytes / 1e6, label="second stage",
              color=colours, alpha=0.45)
    right.barh(labels, cost.embed_ms, label="embed", color=colours)
    right.barh(labels, cost.search_ms, left=cost.embed_ms, label="search", color=colours,
               alpha=0.45, xerr=quartiles, capsize=2)
    for axis, label in ((left, "storage (MB)"), (right, "median time per query (ms)")):
        axis.set(xlabel=label)
        axis.grid(axis="y", visible=False)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    left.invert_yaxis()
    return figure
