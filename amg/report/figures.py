"""Figures: the only module that imports matplotlib.

Every figure is drawn from a table or array that the caller passes in and comes back closed;
`save` writes it to `reports/<report>/figures/` and returns it for display.
"""

import io
import platform
from importlib.metadata import version

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
from cycler import cycler
from IPython.display import HTML, Image, display

from amg import files, paths
from amg.report import tables
from amg.sound.audio import N_FFT, SAMPLE_RATE
from amg.embedding.crops import MARGIN_MAX, MARGIN_MIN

COLOURS = ["#20639b", "#d1495b", "#2e933c", "#8f5db7", "#e09f3e", "#5c6b73"]
STYLE = {
    "figure.dpi": 110, "figure.constrained_layout.use": True, "font.size": 10, "axes.titlesize": 11,
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#e4e4e4", "axes.axisbelow": True, "legend.frameon": False,
    "axes.prop_cycle": cycler(color=COLOURS)}
DPI = 130
PACKAGES = ("amg", "torch", "numpy", "faiss-cpu", "papermill")


def begin():
    """Set the figure style and return the version stamp that each notebook prints."""
    plt.rcParams.update(STYLE)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"Python {platform.python_version()}, {versions}"


def _axes(n_rows=1, n_columns=1, **options):
    """A figure and its axes (n_rows, n_columns), closed: whoever asks for it shows it, once."""
    figure, axes = plt.subplots(n_rows, n_columns, squeeze=False, **options)
    plt.close(figure)
    return figure, axes


def image(figure):
    """A figure as a PNG for display in a notebook, of the size it has in the report."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    # 256 colours are enough for any figure here, and a third of the bytes
    PIL.Image.open(drawn).convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE).save(
        small, "png", optimize=True)
    return Image(small.getvalue(), width=int(100 * figure.get_figwidth()))


def save(figure, report, name):
    """Write `figure` to `reports/<report>/figures/<name>.png`; returns it for display."""
    picture = image(figure)
    with files.atomic(paths.resolve(f"reports/{report}/figures/{name}.png")) as temporary:
        temporary.write_bytes(picture.data)
    return picture


class LiveCurves:
    """Learning curves that redraw in place while training goes on.

    Call it with the history (list of dicts); `curves` lists (key, axis label) per panel.
    """

    def __init__(self, x, curves):
        self.x, self.curves = x, curves
        # shown at once, so that a progress bar that follows is not torn in two
        self.handle = display(HTML(""), display_id=True)

    def __call__(self, history):
        self.handle.update(image(self.figure(history)))

    def figure(self, history):
        """The curves of a history, as last shown."""
        return learning_curves(history, self.x, self.curves)


def learning_curves(history, x, curves):
    """One panel per (keys, axis label): the figures of a training history against `x`."""
    figure, axes = _axes(1, len(curves), figsize=(4.6 * len(curves), 3.2))
    at = [row[x] for row in history]
    for axis, (keys, label) in zip(axes[0], curves):
        for key in keys:
            axis.plot(at, [row[key] for row in history], ".-", label=key.replace("_", " "))
        axis.set(xlabel=x, ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if len(keys) > 1:
            axis.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the curves
    return figure


def spectrograms(clips, titles):
    """Spectrograms of clips (float32, 8 kHz) above each other, 0 to 4 kHz, in dB below the peak."""
    return misses([("", [clip], [title]) for clip, title in zip(clips, titles)])


def misses(examples):
    """Spectrograms of missed queries, a row each: what was asked, what was right, what came back.

    examples: list of (title of the row, its clips (float32, 8 kHz), their titles).
    """
    n_rows, n = len(examples), len(examples[0][1])
    figure, axes = _axes(n_rows, n, figsize=(5.5 + 1.8 * n, 2.6 * n_rows), sharex=True, sharey=True)
    for row, (reason, clips, titles) in zip(axes, examples):
        for axis, clip, title in zip(row, clips, titles):
            power, _, _, image = axis.specgram(clip + 1e-9, N_FFT, SAMPLE_RATE, cmap="magma",
                                               noverlap=N_FFT * 3 // 4, interpolation="nearest")
            image.set_data(image.get_array() - 10 * np.log10(power.max()))
            image.set_clim(-80, 0)
            axis.set_title(title, fontsize=8 if n > 1 else 10)
            axis.grid(False)
        row[0].set_ylabel(f"{reason}\nfrequency (Hz)".strip())
        figure.colorbar(image, ax=row[-1], label="dB below the peak")
    figure.supxlabel("time (s)", fontsize=10)
    return figure


def fingerprint_maps(fingerprints, titles):
    """Fingerprints as heat maps, a column per frame, and the frames' similarity to the first."""
    n = len(fingerprints)
    figure, axes = _axes(n + 1, 1, sharex=True, figsize=(7.5, 2.0 * n + 1.8))
    for axis, array, title in zip(axes.flat, fingerprints, titles):
        image = axis.imshow(array.T, aspect="auto", cmap="RdBu_r", vmin=-0.3, vmax=0.3,
                            extent=(0, len(array) / 2, array.shape[1], 0), interpolation="nearest")
        axis.set(title=title, ylabel="dimension")
        axis.grid(False)
    figure.colorbar(image, ax=axes, label="value (unit vectors)")
    for array, title, colour in zip(fingerprints[1:], titles[1:], COLOURS):
        similarity = np.sum(fingerprints[0] * array, axis=1)
        axes[n, 0].plot(np.arange(len(similarity)) / 2 + 0.25, similarity, ".-", color=colour)
    axes[n, 0].set(title="inner product with the original, frame by frame", ylim=(-0.1, 1.05),
                 xlabel="time (s)", ylabel="inner product")
    return figure


def crop_map(duration_max, n_frames, starts, lengths, margins):
    """Training crops of one song as bars over its frames, coloured by their margin."""
    figure, ((axis,),) = _axes(figsize=(7.5, 3.4))
    scale = plt.cm.ScalarMappable(plt.Normalize(MARGIN_MIN, MARGIN_MAX), "viridis")
    colours = scale.to_rgba(margins)
    axis.barh(np.arange(len(starts)), lengths / 2, left=starts / 2, color=colours, height=0.8)
    axis.set(xlim=(0, n_frames / 2), xlabel="time in the clip (s)", ylabel="crop",
             yticks=range(0, len(starts), 5),
             title=f"Centre of the original (0) and random crops, duration_max {duration_max} s")
    figure.colorbar(scale, ax=axis, label="margin (rad)")
    return figure


def cosine_against_overlap(found):
    """How near crops lie to their original by how much they share: medians, quartiles shaded.

    found: {name of an encoder: DataFrame of `overlap` (0 to 1), `cosine`, and `others`, the mean
    cosine with other songs, which is dotted}.
    """
    figure, ((axis,),) = _axes(figsize=(7.0, 3.8))
    for (name, table), colour in zip(found.items(), COLOURS):
        tenths = table.groupby(np.ceil(10 * table.overlap) / 10 - 0.05)
        low, middle, high = (tenths.cosine.quantile(q) for q in (0.25, 0.5, 0.75))
        axis.plot(middle.index, middle, "o-", ms=4, color=colour, label=name)
        axis.fill_between(middle.index, low, high, color=colour, alpha=0.15, lw=0)
        axis.plot(middle.index, tenths.others.median(), ":", color=colour)
    axis.set(xlim=(0, 1), xlabel="overlap with the original's centre (share of it)",
             ylabel="cosine with the original's centre")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def recall_vs_duration(retrieval):
    """The paper's plot: Top-1 against query length, a line per method, 95 % intervals shaded.

    One panel per tolerance (but `near`, which hardly differs from `exact`), so that hits of
    different kinds never share an axis. A method has one colour, a stage one kind of line.
    """
    shown = [t for t in ("exact", "segment", "same_audio", "song") if t in set(retrieval.tolerance)]
    n_rows = -(-len(shown) // 2)
    figure, grid = _axes(n_rows, 2, sharex=True, sharey=True, figsize=(8.6, 1.4 + 3.1 * n_rows))
    of = retrieval.assign(label=[tables.curve_label(row) for _, row in retrieval.iterrows()])
    names = dict.fromkeys(label.rsplit(", ", 1)[0] for label in of.label if "-stage" in label)
    colours = {"NAFP, every frame indexed": "#222222", "NAFP, IVF-PQ": "#999999",
               **dict(zip(names, (*COLOURS, *plt.cm.tab10.colors)))}
    for axis, tolerance in zip(grid.flat, shown):
        for label, line in of[of.tolerance == tolerance].groupby("label", sort=False):
            colour = colours.get(label) or colours[label.rsplit(", ", 1)[0]]
            axis.plot(line.query_s, line.top1, "s--" if "single-stage" in label else "o-", ms=4,
                      color=colour, label=label)
            axis.fill_between(line.query_s, line.top1_low, line.top1_high, color=colour, alpha=0.1)
        axis.set(title=tolerance.replace("_", " "), ylim=(0, 101), ylabel="Top-1 hit rate (%)",
                 xlabel="query length (s)", xticks=sorted(of.query_s.unique()))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.tick_params(labelbottom=True, labelleft=True)
    for axis in grid.flat[len(shown):]:
        axis.remove()
    lines = {line.get_label(): line for axis in figure.axes for line in axis.lines}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=2, fontsize=9)
    return figure


def robustness(rates):
    """Exact Top-1 against query length, a panel per group of conditions, a line per condition."""
    groups = rates[rates.tolerance == "exact"].groupby("group", sort=False)
    n_rows = -(-groups.ngroups // 2)
    figure, axes = _axes(n_rows, 2, figsize=(9.5, 3.4 * n_rows), sharex=True, sharey=True)
    for axis, (group, table) in zip(axes.flat, groups):
        for number, (condition, line) in enumerate(table.groupby("condition", sort=False)):
            axis.plot(line.query_s, line.top1, "o-" if number < len(COLOURS) else "s--", ms=4,
                      label=condition)
        axis.set(title=group, ylim=(0, 101), xticks=sorted(table.query_s.unique()))
        axis.tick_params(labelbottom=True)
        axis.legend(fontsize=8, loc="lower right")
    for axis in axes.flat[groups.ngroups :]:
        axis.remove()
    figure.supylabel("exact Top-1 (%)")
    figure.supxlabel("query length (s)")
    return figure


def bars(table, label, value, low, high, axis_label):
    """Horizontal bars with intervals; `table` columns are named by the arguments."""
    figure, ((axis,),) = _axes(figsize=(7.0, 0.5 * len(table) + 1.2))
    error = [table[value] - table[low], table[high] - table[value]]
    axis.barh(table[label], table[value], xerr=error, color=COLOURS[0], ecolor="#444444",
              capsize=3, height=0.6)
    axis.set(xlabel=axis_label, xlim=(0, 100))
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    return figure


def cost_bars(cost):
    """Storage and time per query of each method, two panels; whiskers reach to the quartiles."""
    labels = cost.method + [f", {d:.0f} s" * (d > 0) for d in cost.duration_max.fillna(0)]
    figure, ((left, right),) = _axes(1, 2, figsize=(9.5, 0.36 * len(cost) + 1.5), sharey=True)
    quartiles = cost.search_ms - cost.search_ms_q1, cost.search_ms_q3 - cost.search_ms
    for axis, text, (first, before), (last, after), whiskers in (
            (left, "storage (MB)", ("index", cost.index_bytes / 1e6),
             ("second stage", cost.refine_bytes / 1e6), None),
            (right, "median time per query (ms)", ("embed", cost.embed_ms),
             ("search", cost.search_ms), quartiles)):
        axis.barh(labels, before, label=first)
        axis.barh(labels, after, left=before, label=last, xerr=whiskers, capsize=2)
        axis.set(xlabel=text)
        axis.grid(axis="y", visible=False)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    left.invert_yaxis()
    return figure
