"""Figures of sound, fingerprints and training, drawn from the arrays they are given, and the style
of all figures; no other module imports matplotlib. `charts` draws the results.

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
from matplotlib.figure import Figure

from amg import files, paths
from amg.embedding.crops import MARGIN_MAX, MARGIN_MIN
from amg.report import tables
from amg.sound.audio import N_FFT, SAMPLE_RATE

COLOURS = ["#4c5b66", "#0f8b8d", "#b5479b", "#c79a00", "#7f4f24", "#7a9e00", "#e07a5f", "#6a5acd"]
METHODS = {  # each has one colour in all figures; others take those above, in order
    "NAFP, every frame indexed": "#111111",
    "nafp": "#111111",
    "NAFP, IVF-PQ": "#e58e26",
    "nafp ivf-pq": "#e58e26",
    **{f"NAFP, one frame in {n}": "#9a9a9a" for n in (9, 19, 29, 59)},
    **{f"nafp 1/{n}": "#9a9a9a" for n in (9, 19, 29, 59)},
    tables.METHOD: "#1f63b0",
    "after training": "#1f63b0",
    "mean pooling, no training": "#d1394f",
    "mean pooling": "#d1394f",
    "mean": "#d1394f",
    "one-bit lift, no training": "#0a8754",
    "lift": "#0a8754",
    "one-bit lift of 1,024, no training": "#8cc63f",
    "lift1024": "#8cc63f",
    "amg": "#1f63b0",
    "Transformer, arcface loss": "#2e933c",
    "Transformer, infonce loss": "#8f5db7",
    "Transformer, triplet loss": "#a0522d",
    "LSTM, AMG loss": "#22a7c4",
    "CNN, AMG loss": "#e377c2",
}
STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.labelsize": 10,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
}


def begin() -> str:
    """Set the figure style and return the version stamp that each notebook prints."""
    plt.rcParams.update(STYLE)
    names = ("amg", "torch", "numpy", "faiss-cpu", "papermill")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"Python {platform.python_version()}, {versions}"


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
    PIL.Image.open(drawn).convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE).save(
        small, "png", optimize=True
    )
    return Image(small.getvalue(), width=int(100 * figure.get_figwidth()))


def save(figure, report, name) -> Image:
    """Write `figure` to `reports/<report>/figures/<name>.png`; returns it for display."""
    picture = image(figure)
    with files.atomic(paths.resolve(f"reports/{report}/figures/{name}.png")) as temporary:
        temporary.write_bytes(picture.data)
    return picture


def colours(names):
    """A colour for each name, the methods' own where they have one."""
    others = itertools.cycle(COLOURS)
    return {name: METHODS.get(name) or next(others) for name in dict.fromkeys(names)}


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
    """Spectrograms from 0 to 4 kHz in dB below the peak: in each row its clips, side by side.

    rows: list of (title of the row, its clips (float32, 8 kHz), their titles).
    """
    n_rows, n = len(rows), len(rows[0][1])
    figure, axes = panels(
        n_rows, n, figsize=(5.5 + 1.8 * n, 2.6 * n_rows), sharex=True, sharey=True
    )
    for row, (title, clips, titles) in zip(axes, rows):
        for axis, clip, of_clip in zip(row, clips, titles):
            power, _, _, drawn = axis.specgram(
                clip + 1e-9,
                N_FFT,
                SAMPLE_RATE,
                cmap="magma",
                noverlap=N_FFT * 3 // 4,
                interpolation="nearest",
            )
            drawn.set_data(drawn.get_array() - 10 * np.log10(power.max()))
            drawn.set_clim(-80, 0)
            axis.set_title(of_clip, fontsize=8 if n > 1 else None)
            axis.grid(False)
        row[0].set_ylabel(f"{title}\nfrequency (Hz)".strip())
        figure.colorbar(drawn, ax=row[-1], label="dB below the peak")
    figure.supxlabel("time (s)")
    return figure


def fingerprint_maps(original, query) -> Figure:
    """Two fingerprints (T, 128) as heat maps, a column per frame, and their frames' similarity."""
    figure, axes = panels(3, 1, sharex=True, figsize=(7.5, 5.8))
    for axis, array, title in zip(axes.flat, (original, query), ("original", "query")):
        drawn = axis.imshow(
            array.T,
            aspect="auto",
            cmap="RdBu_r",
            vmin=-0.3,
            vmax=0.3,
            extent=(0, len(array) / 2, array.shape[1], 0),
            interpolation="nearest",
        )
        axis.set(title=title, ylabel="dimension")
        axis.grid(False)
    figure.colorbar(drawn, ax=axes, label="value (unit vectors)")
    similarity, last = np.sum(original * query, axis=1), axes[2, 0]
    last.plot(np.arange(len(similarity)) / 2 + 0.25, similarity, ".-")
    last.set(
        title="inner product with the original, frame by frame",
        ylim=(-0.1, 1.05),
        xlabel="time (s)",
        ylabel="inner product",
    )
    return figure


def crop_map(duration_max, n_frames, starts, lengths, margins) -> Figure:
    """Training crops of one song as bars over its frames, coloured by their margin."""
    figure, ((axis,),) = panels(figsize=(7.5, 3.4))
    scale = plt.cm.ScalarMappable(plt.Normalize(MARGIN_MIN, MARGIN_MAX), "viridis")
    axis.barh(np.arange(len(starts)), lengths / 2, left=starts / 2, color=scale.to_rgba(margins))
    axis.set(
        xlim=(0, n_frames / 2),
        xlabel="time in the clip (s)",
        ylabel="crop",
        yticks=range(0, len(starts), 5),
        title=f"Centre of the original (0) and random crops, duration_max {duration_max} s",
    )
    figure.colorbar(scale, ax=axis, label="margin (rad)")
    return figure


def cosine_against_overlap(found) -> Figure:
    """How near crops lie to their original by how much they share: medians, quartiles shaded.

    found: name of an encoder -> DataFrame of `overlap` (0 to 1), `cosine`, and `others`, the mean
    cosine with other songs, which is dotted.
    """
    figure, ((axis,),) = panels(figsize=(7.0, 3.8))
    for name, colour in colours(found).items():
        table = found[name]
        tenths = table.groupby(np.ceil(10 * table.overlap) / 10 - 0.05)
        low, middle, high = (tenths.cosine.quantile(q) for q in (0.25, 0.5, 0.75))
        axis.plot(middle.index, middle, "o-", ms=4, color=colour, label=name)
        axis.fill_between(middle.index, low, high, color=colour, alpha=0.15, lw=0)
        axis.plot(middle.index, tenths.others.median(), ":", color=colour)
    axis.set(
        xlim=(0, 1),
        xlabel="overlap with the original's centre (share of it)",
        ylabel="cosine with the original's centre",
    )
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def stages(neighbours, begin_s, score) -> Figure:
    """What the first stage finds, a bar each, and how a query fits along one recording.

    neighbours: DataFrame of title, from_s and score, best first; begin_s, score: float (n,).
    """
    figure, ((left, right),) = panels(1, 2, figsize=(10.5, 3.6))
    names = [
        f"{title if len(title) <= 32 else '…' + title[-31:]}, {from_s:.1f} s"
        for title, from_s in zip(neighbours.title, neighbours.from_s)
    ]
    left.barh(range(len(names)), neighbours.score, color=METHODS["lift"])
    left.set_yticks(range(len(names)), names, fontsize=8)
    left.invert_yaxis()
    left.set(title="first stage: the nearest segments", xlabel="score (1: the same bits)")
    right.plot(begin_s, score, ".-", color=METHODS["nafp"])
    right.set(
        title="second stage: the query along the best recording",
        ylim=(-0.1, 1.05),
        xlabel="where the query would begin (s)",
        ylabel="mean inner product",
    )
    return figure
