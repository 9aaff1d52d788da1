"""The claims of the paper, and of the lift, judged by the tables of a report."""

import numpy as np
import pandas as pd

from amg.embedding import crops
from amg.report import sentences, tables
from amg.retrieval import intervals, search
from amg.sound.audio import seconds

LIFT, MEAN = "one-bit lift, no training", "mean pooling, no training"  # in `differences.csv`
NAFP = tables.ENCODERS["nafp"]
CLAIMS = pd.DataFrame(
    [
        ("Nearly as accurate", tables.METHOD, NAFP, "two", -2),
        ("Training beats mean pooling", tables.METHOD, MEAN, "single", 0),
        ("The lift beats the encoder", LIFT, tables.METHOD, "single", 0),
        ("The lift beats mean pooling", LIFT, MEAN, "single", 0),
        ("The lift is nearly as accurate", LIFT, NAFP, "two", -2),
    ],
    columns=["claim", "method", "against", "stage", "least"],  # least: the points it may lose
)
YES, NO, OPEN = "supported", "not supported", "not settled here"


def _judged(report):
    """The rows of `differences.csv` that bear on a claim, claim by claim.

    By its interval the `word` of a difference tells whether it is above `least`, below it, or
    neither, unless the recordings are too few for an interval.
    """
    rows = report.get("differences", ())
    if not len(rows):
        return pd.DataFrame()
    rows = CLAIMS.merge(rows, on=["method", "against", "stage"])
    few = rows.n_recordings < intervals.TOO_FEW
    too_few = rows.n_recordings.map("too few to judge ({:.0f} recordings)".format)
    above, below = rows.low > rows.least, rows.high < rows.least
    return rows.assign(word=np.select([few, above, below], [too_few, YES, NO], OPEN))


def claims(report, steps) -> pd.DataFrame:
    """Claim by claim, at 10 s and the duration nearest to it: what the paper says, what was
    measured, and the verdict; empty for a report without the tables or methods for it. Intervals
    stand with the differences that the verdict depends on.

    steps: those of its manifest.
    """
    rows, cost = _judged(report), report.get("cost")
    if rows.empty or cost is None:
        return pd.DataFrame()
    rows = tables.near(tables.at(rows, 10.0), 10.0)
    cost = tables.near(cost, 10.0).set_index("method")
    if [*rows.claim] != [*CLAIMS.claim] or "amg two-stage" not in cost.index:
        return pd.DataFrame()
    points = rows.apply(sentences.points, axis=1) + " points"
    accurate, trained, beats, pooled, _ = points
    near = rows.difference.iloc[-1]
    word = dict(zip(rows.claim, rows.word))
    size, time = tables.whole_cost(cost)
    index = 100 * cost.index_bytes["amg two-stage"] / cost.index_bytes["nafp"]
    whole = 100 * size["amg two-stage"] / cost.index_bytes["nafp"]
    flat, coded = (100 * time["amg two-stage"] / time[of] for of in ("nafp", "nafp ivf-pq"))
    codes = 100 * cost.index_bytes["amg two-stage"] / cost.index_bytes["nafp ivf-pq"]
    of_lift = [word["The lift beats the encoder"], word["The lift beats mean pooling"]]
    told = [
        (
            "Nearly as accurate as fingerprints",
            "comparable accuracy",
            f"{accurate} against {NAFP}, two-stage exact Top-1, {search.SHORTLIST} candidates"
            f"{_fewer_candidates(report)}; a loss of 2 is allowed",
            word["Nearly as accurate"],
        ),
        (
            "Under a tenth of the storage",
            "less than 1/10",
            f"{index:.1f} % for the index ({codes:.0f} % of IVF-PQ's); {whole:.0f} % with the "
            "fingerprints, which two-stage search reads, too",
            _tenth({"for the index": index, "for both stages": whole}),
        ),
        (
            "Under a tenth of the search time",
            "less than 1/10",
            f"{flat:.0f} % of an exhaustive search's; {coded:.0f} % of IVF-PQ's, as the authors of "
            f"the base system run it{_fewer_frames(cost)}",
            _tenth({"against an exhaustive search": flat, "against IVF-PQ": coded}),
        ),
        (
            "Training beats mean pooling",
            "trained on 100,000 songs: 10 layers, 50 epochs",
            f"{trained} from mean pooling's, single-stage segment Top-1{_sizes(steps)}",
            word["Training beats mean pooling"],
        ),
        (
            "The one-bit lift, without training, is better than the trained encoder, single-stage",
            "(ours)",
            f"{beats} from the trained encoder's, {pooled} from mean pooling's, single-stage "
            f"segment Top-1; {near:+.1f} points against {NAFP}, two-stage exact",
            of_lift[0] if len({*of_lift}) == 1 else " / ".join(of_lift),
        ),
        *_whole(cost, report["differences"]),
    ]
    query_s, n = rows.query_s.iloc[0], rows.n_recordings.max()
    measured = f"measured here ({query_s:g} s queries, {n:.0f} recordings)"
    columns = ["claim", "the paper", measured, "verdict"]
    return pd.DataFrame(told, columns=columns).set_index("claim")


def _whole(cost, differences):
    """The lift of 1,024 bits whose second stage reads codes, beside the base system of the same
    codes alone; nothing where that was not asked. cost: by method."""
    size, time = (100 * of / of["nafp"] for of in tables.whole_cost(cost))
    at_10_s = tables.near(tables.at(differences, 10.0), 10.0)
    lost = at_10_s[at_10_s.against == NAFP].set_index("method").apply(sentences.points, axis=1)
    for method in cost.index[cost.index.str.startswith("lift1024 two-stage ")]:
        code = method.rpartition(" ")[2]
        n_bytes = cost.refine_bytes[method] / cost.n_vectors["nafp"]
        ours, base = f"one-bit lift of 1,024, {code}, no training", f"NAFP, {code}"
        yield (
            "A tenth of both, the whole system",
            "(ours)",
            f"the one-bit lift of 1,024, and fingerprints as codes of {n_bytes:.0f} bytes: "
            f"{size[method]:.1f} % of the bytes of both stages and {time[method]:.0f} % of an "
            f"exhaustive search's time, {lost[ours]} points against {NAFP}, two-stage exact; all "
            f"fingerprints as these codes, without any encoder: {size[f'nafp {code}']:.1f} % and "
            f"{time[f'nafp {code}']:.0f} %, {lost[base]} points",
            _tenth({"in bytes": size[method], "in time": time[method]}),
        )


def _tenth(shares):
    """For or against what a share, in percent, is under a tenth."""
    under = [against for against, share in shares.items() if share < 10]
    if len(under) == len(shares):
        return YES
    return f"{YES} {', '.join(under)} alone" if under else NO


def _fewer_candidates(report):
    """Exact Top-1 with as many candidates as the published code takes, and the base system's."""
    lists = report.get("shortlists")
    if lists is None:
        return ""
    lists = tables.at(lists.assign(query_s=seconds(lists.query_frames)), 5.0)
    few = lists.top1[lists.run.notna() & (lists.shortlist == search.N_BEST)]
    if few.empty:
        return ""
    base = lists.top1[lists.encoder == "nafp"].iloc[0]
    return (
        f" (with the {search.N_BEST} of their code, {few.iloc[0]:.1f} % against {base:.1f} % at "
        f"{lists.query_s.iloc[0]:g} s, {lists.n_queries.iloc[0]:,} queries)"
    )


def _fewer_frames(cost):
    """What as few of the frames as there are vectors do without an encoder; cost: by method."""
    time, amg = tables.whole_cost(cost)[1], cost.loc["amg two-stage"]
    every = crops.segment_frames(int(amg.duration_max))
    if f"nafp 1/{every}" not in cost.index:
        return ""
    return (
        f"; one frame in {every}, without any encoder, finds "
        f"{cost.top1[f'nafp 1/{every}']:.1f} % in {time[f'nafp 1/{every}']:.1f} ms, AMG with "
        f"vectors of {amg.duration_max:g} s {amg.top1:.1f} % in {time['amg two-stage']:.1f} ms"
    )


def _sizes(steps):
    """Layers and epochs of the trained encoders, in brackets; nothing where none was trained."""
    given = [step["parameters"] for step in steps if step["label"].startswith("03_train")]
    trained = {f"{of['layers']} layers, {of['epochs']} epochs" for of in given}
    return f" ({' or '.join(sorted(trained))})" if trained else ""
