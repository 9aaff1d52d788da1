"""Charts of a sweep, drawn from its tables."""

from amg.report import figures
from amg.sound.audio import seconds

LEARNT = {"loss": "loss", "top1": "validation Top-1 (%)", "alike": "mean cosine between songs"}
STROKES = ("-", "--", ":")  # of cells that share a colour, where cells are many


def training(epochs) -> figures.Figure:
    """Loss, validation Top-1 and mean cosine between songs against epochs, a panel for each that is
    there, a colour per cell, a thin line per seed; epochs: `sweep_training.csv`."""
    shown = [name for name in LEARNT if name in epochs and epochs[name].notna().any()]
    figure, (axes,) = figures.panels(1, len(shown), figsize=(2.4 + 3.0 * len(shown), 3.8))
    colours = figures.colours(epochs.cell)
    for axis, score in zip(axes, shown):
        for i, (cell, colour) in enumerate(colours.items()):
            stroke = STROKES[[*colours.values()][:i].count(colour) % len(STROKES)]
            for number, (_, of_seed) in enumerate(epochs[epochs.cell == cell].groupby("seed")):
                look = {"color": colour, "ls": stroke, "lw": 0.9, "marker": ".", "ms": 3}
                axis.plot(of_seed.epoch, of_seed[score], label=None if number else cell, **look)
        axis.set(xlabel="epoch", ylabel=LEARNT[score])
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return figure


def compared(rates, of_seeds) -> figures.Figure:
    """Single-stage Top-1 of each cell, a panel per query length and one of their mean: dots are
    seeds, bars their mean with its 95 % interval. rates: `sweep_rates.csv`; of_seeds:
    `sweep_seeds.csv`."""
    rates, of_seeds = (
        table[table.stage == "single"].fillna({"query_frames": 0}) for table in (rates, of_seeds)
    )
    cells, lengths = [*dict.fromkeys(rates.cell)], rates.query_frames.unique()
    size = (2.2 + 2.0 * len(lengths), 1.3 + 0.36 * len(cells))
    figure, (axes,) = figures.panels(1, len(lengths), figsize=size, sharey=True)
    colours, row = figures.colours(cells), {cell: i for i, cell in enumerate(cells)}
    for axis, n_frames in zip(axes, lengths):
        mean, dots = (table[table.query_frames == n_frames] for table in (rates, of_seeds))
        for one in mean.itertuples():
            reach = [[one.top1 - one.top1_low], [one.top1_high - one.top1]]
            look = {"color": colours[one.cell], "capsize": 3, "elinewidth": 1.5}
            axis.errorbar(one.top1, row[one.cell], xerr=reach, fmt="|", ms=11, mew=2, **look)
        axis.plot(dots.top1, dots.cell.map(row) + 0.22, "o", ms=3, color="#444444", zorder=3)
        axis.set_title(f"{seconds(n_frames):g} s" if n_frames else "mean")
        axis.set_yticks(range(len(cells)), cells)
    axes[0].yaxis.set_inverted(True)
    figure.supxlabel("single-stage Top-1, segment (%)")
    return figure
