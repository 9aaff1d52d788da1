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
    "figure.figsize": (7.0, 4.0), "figure.dpi": 110, "figure.constrained_layout.use": True,
    "font.size": 10, "axes.titlesize": 11, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e4e4e4", "axes.axisbelow": True, "legend.frameon": False,
    "axes.prop_cycle": cycler(color=COLOURS), "svg.hashsalt": "amg",
}
DPI = 130
PACKAGES = ("amg", "torch", "numpy", "faiss-cpu", "papermill")


def begin():
    """Set the figure style and return the version stamp that each notebook prints."""
    plt.rcParams.update(STYLE)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"Python {platform.python_version()}, {versions}"


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
    figure, axes = plt.subplots(1, len(curves), figsize=(4.6 * len(curves), 3.2), squeeze=False)
    at = [row[x] for row in history]
    for axis, (keys, label) in zip(axes[0], curves):
        for key in keys:
            axis.plot(at, [row[key] for row in history], ".-", label=key.replace("_", " "))
        axis.set(xlabel=x, ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if len(keys) > 1:
            axis.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the curves
    plt.close(figure)  # shown by whoever asked for it, not a second time by the notebook
    return figure


def spectrograms(clips, titles):
    """Spectrograms of clips (float32, 8 kHz) above each other, 0 to 4 kHz, in dB below the peak."""
    figure, axes = plt.subplots(len(clips), 1, figsize=(7.5, 2.3 * len(clips)), sharex=True,
                                squeeze=False)
    for axis, clip, title in zip(axes[:, 0], clips, titles):
        figure.colorbar(_spectrogram(axis, clip, 0), ax=axis, label="dB below the peak")
        axis.set(title=title, ylabel="frequency (Hz)")
    axes[-1, 0].set_xlabel("time (s)")
    plt.close(figure)
    return figure


def _spectrogram(axis, clip, overlap):
    power, _, _, image = axis.specgram(clip + 1e-9, N_FFT, SAMPLE_RATE, noverlap=overlap,
                                       cmap="magma", interpolation="nearest")
    image.set_data(image.get_array() - 10 * np.log10(power.max()))
    image.set_clim(-80, 0)
    axis.grid(False)
    return image


def misses(examples):
    """Missed queries, a row each: what was asked, what should have come back, what did.

    examples: list of (title of the row, three clips (float32, 8 kHz), three titles).
    """
    figure, axes = plt.subplots(len(examples), 3, figsize=(11, 2.6 * len(examples)), sharex=True,
                                sharey=True, squeeze=False)
    for row, (reason, clips, titles) in zip(axes, examples):
        for axis, clip, title in zip(row, clips, titles):
            image = _spectrogram(axis, clip, N_FFT * 3 // 4)
            axis.set_title(title, fontsize=8)
        row[0].set_ylabel(f"{reason}\nfrequency (Hz)")
        figure.colorbar(image, ax=row[2], label="dB below the peak")
    figure.supxlabel("time (s)")
    plt.close(figure)
    return figure


def fingerprint_maps(fingerprints, titles):
    """Fingerprints as heat maps, a column per frame, and the frames' similarity to the first."""
    figure, axes = plt.subplots(len(fingerprints) + 1, 1, sharex=True,
                                figsize=(7.5, 2.0 * len(fingerprints) + 1.8))
    extent = (0, len(fingerprints[0]) / 2, 128, 0)
    for axis, array, title in zip(axes, fingerprints, titles):
        image = axis.imshow(array.T, aspect="auto", cmap="RdBu_r", vmin=-0.3, vmax=0.3,
                            extent=extent, interpolation="nearest")
        axis.set(title=title, ylabel="dimension")
        axis.grid(False)
    figure.colorbar(image, ax=list(axes), label="value (unit vectors)")
    for array, title, colour in zip(fingerprints[1:], titles[1:], COLOURS):
        similarity = np.sum(fingerprints[0] * array, axis=1)
        axes[-1].plot(np.arange(len(similarity)) / 2 + 0.25, similarity, ".-", color=colour)
    axes[-1].set(title="inner product with the original, frame by frame", ylim=(-0.1, 1.05),
                 xlabel="time (s)", ylabel="inner product")
    plt.close(figure)
    return figure


def crop_map(duration_max, n_frames, starts, lengths, margins):
    """Training crops of one song as bars over its frames, coloured by their margin."""
    figure, axis = plt.subplots(figsize=(7.5, 3.4))
    scale = plt.cm.ScalarMappable(plt.Normalize(MARGIN_MIN, MARGIN_MAX), "viridis")
    colours = scale.to_rgba(margins)
    axis.barh(np.arange(len(starts)), lengths / 2, left=starts / 2, color=colours, height=0.8)
    axis.set(xlim=(0, n_frames / 2), xlabel="time in the clip (s)", ylabel="crop",
             yticks=range(0, len(starts), 5),
             title=f"Centre of the original (0) and random crops, duration_max {duration_max} s")
    figure.colorbar(scale, ax=axis, label="margin (rad)")
    plt.close(figure)
    return figure


def recall_vs_duration(retrieval):
    """The paper's plot: Top-1 against query length, a line per method, 95 % intervals shaded.

    One panel per tolerance (but `near`, which hardly differs from `exact`), so that hits of
    different kinds never share an axis. A method has one colour, a stage one kind of line.
    """
    shown = [t for t in ("exact", "segment", "same_audio", "song") if t in set(retrieval.tolerance)]
    n_rows = -(-len(shown) // 2)
    figure, grid = plt.subplots(n_rows, 2, sharex=True, sharey=True, squeeze=False,
                                figsize=(8.6, 1.4 + 3.1 * n_rows))
    of = retrieval.assign(label=[tables.curve_label(row) for _, row in retrieval.iterrows()])
    names = dict.fromkeys(label.rsplit(", ", 1)[0] for label in of.label if "stage" in label)
    colours = dict(zip(names, (*COLOURS, *plt.cm.tab10.colors)))
    for axis, tolerance in zip(grid.flat, shown):
        for label, line in of[of.tolerance == tolerance].groupby("label", sort=False):
            colour = colours.get(label.rsplit(", ", 1)[0], "#222222")
            axis.plot(line.query_s, line.top1, "s--" if "single-stage" in label else "o-", ms=4,
                      color=colour, label=label)
            axis.fill_between(line.query_s, line.top1_low, line.top1_high, color=colour,
                              alpha=0.1, lw=0)
        axis.set(title=tolerance.replace("_", " "), ylim=(0, 101), ylabel="Top-1 hit rate (%)",
                 xlabel="query length (s)", xticks=sorted(of.query_s.unique()))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.tick_params(labelbottom=True, labelleft=True)
    for axis in grid.flat[len(shown):]:
        axis.remove()
    lines = {line.get_label(): line for axis in figure.axes for line in axis.lines}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=2, fontsize=9)
    plt.close(figure)
    return figure


def robustness(rates):
    """Exact Top-1 against query length, a panel per group of conditions, a line per condition."""
    groups = rates[rates.tolerance == "exact"].groupby("group", sort=False)
    n_rows = -(-groups.ngroups // 2)
    figure, axes = plt.subplots(n_rows, 2, figsize=(9.5, 3.4 * n_rows), sharex=True, sharey=True,
                                squeeze=False)
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
    plt.close(figure)
    return figure


def bars(table, label, value, low, high, axis_label):
    """Horizontal bars with intervals; `table` columns are named by the arguments."""
    figure, axis = plt.subplots(figsize=(7.0, 0.5 * len(table) + 1.2))
    error = [table[value] - table[low], table[high] - table[value]]
    axis.barh(table[label], table[value], xerr=error, color=COLOURS[0], ecolor="#444444",
              capsize=3, height=0.6)
    axis.set(xlabel=axis_label, xlim=(0, 100))
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    plt.close(figure)
    return figure


def cost_bars(cost):
    """Storage and time per query of each method, two panels; whiskers reach to the quartiles."""
    labels = [row.method + ("" if np.isnan(row.duration_max) else f", {row.duration_max:.0f} s")
              for row in cost.itertuples()]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 0.36 * len(cost) + 1.5), sharey=True)
    left.barh(labels, cost.index_bytes / 1e6, color=COLOURS[0], label="index")
    left.barh(labels, cost.refine_bytes / 1e6, left=cost.index_bytes / 1e6, color=COLOURS[4],
              label="second stage")
    left.set(xlabel="storage (MB)")
    right.barh(labels, cost.embed_ms, color=COLOURS[2], label="embed")
    quartiles = cost.search_ms - cost.search_ms_q1, cost.search_ms_q3 - cost.search_ms
    right.barh(labels, cost.search_ms, left=cost.embed_ms, color=COLOURS[0], xerr=quartiles, capsize=2)
    right.set(xlabel="median time per query (ms)")
    left.invert_yaxis()
    for axis in (left, right):
        axis.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=4)
    plt.close(figure)
    return figure
