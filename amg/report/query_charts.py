"""Charts of one query: what each stage of its search makes of it."""

from amg.report import charts, figures
from amg.studies import explore

SHOWN = 38  # letters of a title


def stages(seen) -> figures.Figure:
    """What the first stage finds, a bar each, and how the query fits along the song that is asked
    for, and along the nearest one if that is another.

    seen: an `explore.Explored`.
    """
    good, bad, grey = figures.METHODS["lift"], figures.METHODS["mean"], charts.GREY
    figure, ((left, right),) = figures.panels(1, 2, figsize=(11.5, 4.2))
    colour = good if explore.RIGHT in seen.verdicts else bad
    figure.suptitle(seen.headline, ha="left", x=0.01, fontsize=11, color=colour, parse_math=False)
    of = seen.neighbours
    names = [f"{_short(title)}, {from_s:.1f} s" for title, from_s in zip(of.title, of.from_s)]
    figures.bars(left, range(len(names)), of.score, color=of.right.map({True: good, False: grey}))
    left.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    left.set(title="first stage: the nearest segments (green: right)")
    left.set_xlabel("score (1: the same bits)")
    right.axvline(seen.begin_s, color=good, lw=3, alpha=0.35, label="where it was asked for")
    right.axhline(seen.enough, color="#444444", lw=0.8, ls=":", label="about enough to count")
    for (title, fit), colour in zip(seen.fits, (figures.METHODS["nafp"], grey)):
        right.plot(fit.at_s, fit.score, ".-", color=colour, ms=4, lw=1, label=_short(title))
    for match in sorted(seen.answer.candidates, key=lambda match: match.chance)[:1]:
        text = f"score {match.score:.2f}, by chance {explore.times(match.chance)}"
        point = explore.starts_s(match), match.score
        late = point[0] > seen.fits[-1][1].at_s.max() / 2
        shift, side = ((-5, 3), "right") if late else ((5, 3), "left")
        right.annotate(text, point, shift, textcoords="offset points", fontsize=8, ha=side)
    right.set(title="second stage: the query along a song", ylim=(None, 1.05))
    right.set(xlabel="where the query would begin (s)", ylabel="mean inner product")
    for text in right.legend(fontsize=8, loc="upper right").get_texts():
        text.set_parse_math(False)
    return figure


def _short(title):
    return title if len(title) <= SHOWN else f"{title[: SHOWN - 1]}…"
