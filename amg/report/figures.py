"""Figures of sound, fingerprints and training, drawn from the arrays they are given, and the style
of all figures; no other module imports matplotlib. `charts` draws the results.

`save` writes one to `reports/<report>/figures/` and returns it for display.
"""

import io
import itertools
import platform
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import yaml
from IPython import get_ipython
from IPython.display import HTML, Image, display
from matplotlib import font_manager
from matplotlib.figure import Figure

from amg import files, paths
from amg.check import Interrupted
from amg.embedding.crops import MARGIN_MAX, MARGIN_MIN
from amg.sound.audio import N_FFT, SAMPLE_RATE

STYLE = matplotlib.rc_params_from_file(
    Path(__file__).with_name("amg.mplstyle"), use_default_template=False
)
SCRIPTS = ["Noto Sans CJK JP", "Noto Sans Devanagari", "Noto Sans Thai"]  # of titles, beside Latin,
SCRIPTS += ["Hiragino Sans", "Arial Unicode MS"]  # Greek, Cyrillic and Arabic: those that there are
COLOURS = STYLE["axes.prop_cycle"].by_key()["color"]  # of what is no method, in order
BY_COLOUR = yaml.safe_load(Path(__file__).with_name("colours.yaml").read_text())
METHODS = {name: colour for colour, names in BY_COLOUR.items() for name in names}


def begin() -> str:
    """Set the figure style, let an interrupt end a cell in one sentence, and return the version
    stamp that each notebook prints."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    plt.rcParams.update(STYLE)
    plt.rcParams["font.family"] = ["DejaVu Sans", *(name for name in SCRIPTS if name in installed)]
    if shell := get_ipython():
        shell.set_custom_exc((KeyboardInterrupt,), _interrupted)
    names = ("amg", "torch", "numpy", "faiss-cpu", "papermill")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"Python {platform.python_version()}, {versions}"


def _interrupted(shell, kind, error, traceback, tb_offset=None):
    shell.showtraceback((Interrupted, Interrupted(*error.args), traceback))


def panels(n_rows=1, n_columns=1, **options):
    """A figure and its axes (n_rows, n_columns), closed: whoever asks for it shows it, once."""
    figure, axes = plt.subplots(n_rows, n_columns, squeeze=False, **options)
    plt.close(figure)
    return figure, axes


def image(figure) -> Image:
    """A figure as a PNG for display in a notebook, of the size it has in the report."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=130)
    # 256 colours are enough for any figure here, and a third of the bytes
    picture = PIL.Image.open(drawn).convert("RGB")
    picture.quantize(256, dither=PIL.Image.Dither.NONE).save(small, "png", optimize=True)
    return Image(small.getvalue(), width=int(100 * figure.get_figwidth()))


def write(figure, path) -> Image:
    """Write `figure` to a PNG; returns it for display."""
    picture = image(figure)
    with files.atomic(path) as temporary:
        temporary.write_bytes(picture.data)
    return picture


def save(figure, report, name) -> Image:
    """The same to `reports/<report>/figures/<name>.png`."""
    return write(figure, paths.resolve(f"reports/{report}/figures/{name}.png"))


def colour_of(method) -> str:
    """The colour of a method or encoder, by the first word of a longer name; AMG's if it has
    none."""
    return METHODS.get(method) or METHODS.get(method.split()[0], METHODS["amg"])


def colours(names) -> dict:
    """A colour for each name, the methods' own where they have one."""
    others, names = itertools.cycle(COLOURS), dict.fromkeys(names)
    known = {name: METHODS.get(re.sub(", [0-9]+ epochs$", "", name)) for name in names}
    return {name: colour or next(others) for name, colour in known.items()}


def log_x(axis, ticks=None):
    """Give an axis a logarithmic x of plain numbers, with ticks of its own, fewer where they would
    be crowded, or at 1, 2 and 5 times the powers of ten."""
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:,.10g}")
    if ticks is None:
        axis.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    else:
        kept = []
        for tick in sorted(ticks, reverse=True):
            kept += [tick] if not kept or kept[-1] > 1.15 * tick else []
        axis.set_xticks(kept)
    axis.minorticks_off()


def bars(axis, names, widths, **options):
    """Horizontal bars, the first on top."""
    axis.barh(names, widths, **options)
    axis.yaxis.set_inverted(True)
    axis.grid(axis="y", visible=False)


def shade(axis, x, low, high, colour):
    """Shade between two lines."""
    axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def legend(figure, axis, where, **look):
    """Give a figure the legend of one of its axes, outside of all: `upper` or `lower` center."""
    figure.legend(*axis.get_legend_handles_labels(), loc=f"outside {where} center", **look)


def name_ends(axis):
    """Write the labels of an axis' lines at their ends, moved apart where they would overlap."""
    lines = sorted(axis.lines, key=lambda line: line.get_ydata()[-1])
    axis.set_xlim(right=max(line.get_xdata()[-1] for line in lines))
    axis.figure.draw_without_rendering()  # which lays out the axes
    (low, high), inches = axis.get_ylim(), axis.get_window_extent().height / axis.figure.dpi
    size = 9  # points
    apart = 1.3 * size / 72 / inches * (high - low) * np.arange(len(lines))
    at = np.maximum.accumulate([line.get_ydata()[-1] for line in lines] - apart) + apart
    at = np.minimum(at, high - apart[::-1])
    within = dict.fromkeys(("xycoords", "textcoords"), axis.get_yaxis_transform())
    for line, y in zip(lines, at):
        look = {"color": line.get_color(), "fontsize": size, "va": "center", **within}
        arrow = {"arrowstyle": "-", "color": line.get_color(), "lw": 0.6, "relpos": (0, 0.5)}
        arrow |= {"shrinkA": 0, "shrinkB": 0}
        axis.annotate(
            line.get_label(), (1, line.get_ydata()[-1]), (1.04, y), arrowprops=arrow, **look
        )


def live_curves(x, curves) -> Callable:
    """A function of a history that redraws its `learning_curves` in place."""
    # shown at once, so that a progress bar that follows is not torn in two
    handle = display(HTML(""), display_id=True)
    return lambda history: handle.update(image(learning_curves(history, x, curves)))


def learning_curves(history, x, curves) -> Figure:
    """A training history (table or list of dicts) against `x`; curves: (keys, label) per panel."""
    figure, axes = panels(1, len(curves), figsize=(4.6 * len(curves), 3.2))
    table = pd.DataFrame(history)
    for axis, (keys, label) in zip(axes[0], curves):
        for key, colour in colours(keys).items():
            axis.plot(table[x], table[key], ".-", color=colour, label=key.replace("_", " "))
        axis.set(xlabel=x, ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if len(keys) > 1:
            axis.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the curves
    return figure


def spectrograms(rows) -> Figure:
    """Spectrograms from 0 to 4 kHz in dB relative to the peak: in each row its clips, side by side.

    rows: list of (title of the row, its clips (float32, 8 kHz), their titles).
    """
    n_rows, n = len(rows), len(rows[0][1])
    size = (5.5 + 1.8 * n, 2.6 * n_rows)
    figure, axes = panels(n_rows, n, figsize=size, sharex=True, sharey=True)
    look = {"cmap": "magma", "noverlap": N_FFT * 3 // 4, "interpolation": "nearest"}
    for row, (title, clips, titles) in zip(axes, rows):
        for axis, clip, of_clip in zip(row, clips, titles):
            power, _, _, drawn = axis.specgram(clip + 1e-9, N_FFT, SAMPLE_RATE, **look)
            drawn.set_data(drawn.get_array() - 10 * np.log10(power.max()))
            drawn.set_clim(-80, 0)
            axis.set_title(of_clip, fontsize=8 if n > 1 else None)
            axis.grid(False)
        row[0].set_ylabel(f"{title}\nfrequency (Hz)".strip())
        figure.colorbar(drawn, ax=row[-1], label="dB relative to peak")
    figure.supxlabel("time (s)")
    return figure


def fingerprint_maps(original, query) -> Figure:
    """Two fingerprints (T, 128) as heat maps, a column per frame, and their frames' similarity."""
    figure, axes = panels(3, 1, sharex=True, figsize=(7.5, 5.8))
    look = {"cmap": "RdBu_r", "vmin": -0.3, "vmax": 0.3, "interpolation": "nearest"}
    for axis, array, title in zip(axes.flat, (original, query), ("original", "query")):
        extent = (0, len(array) / 2, array.shape[1], 0)
        drawn = axis.imshow(array.T, aspect="auto", extent=extent, **look)
        axis.set(title=title, ylabel="dimension")
        axis.grid(False)
    figure.colorbar(drawn, ax=axes, label="value (unit vectors)")
    similarity, last = np.sum(original * query, axis=1), axes[2, 0]
    last.plot(np.arange(len(similarity)) / 2 + 0.25, similarity, ".-")
    last.set(title="inner product with the original, frame by frame", ylim=(-0.1, 1.05))
    last.set(xlabel="time (s)", ylabel="inner product")
    return figure


def crop_map(duration_max, n_frames, starts, lengths, margins) -> Figure:
    """Training crops of one song as bars over its frames, coloured by their margin."""
    figure, ((axis,),) = panels(figsize=(7.5, 3.4))
    scale = plt.cm.ScalarMappable(plt.Normalize(MARGIN_MIN, MARGIN_MAX), "viridis")
    axis.barh(np.arange(len(starts)), lengths / 2, left=starts / 2, color=scale.to_rgba(margins))
    axis.set(xlim=(0, n_frames / 2), yticks=range(0, len(starts), 5))
    axis.set(xlabel="time in the clip (s)", ylabel="crop")
    axis.set_title(f"Centre of the original (0) and random crops, duration_max {duration_max} s")
    figure.colorbar(scale, ax=axis, label="margin (rad)")
    return figure


def cosine_against_overlap(overlaps) -> Figure:
    """How near crops lie to their original by how much they share: medians, quartiles shaded.

    overlaps: name of an encoder -> DataFrame of `overlap` (0 to 1), `cosine`, and `others`, the
    mean cosine with other songs, which is dotted.
    """
    figure, ((axis,),) = panels(figsize=(7.0, 3.8))
    for name, colour in colours(overlaps).items():
        table = overlaps[name]
        tenths = table.groupby(np.ceil(10 * table.overlap) / 10 - 0.05)
        low, middle, high = (tenths.cosine.quantile(q) for q in (0.25, 0.5, 0.75))
        axis.plot(middle.index, middle, "o-", ms=4, color=colour, label=name)
        shade(axis, middle.index, low, high, colour)
        axis.plot(middle.index, tenths.others.median(), ":", color=colour)
    axis.set(xlim=(0, 1), xlabel="overlap with the original's centre (share of it)")
    axis.set_ylabel("cosine with the original's centre")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
