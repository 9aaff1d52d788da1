"""One query, followed through both stages."""

from typing import NamedTuple

import numpy as np

from amg.embedding import encoders
from amg.retrieval import evaluate, hits, search
from amg.retrieval import trials as trials_


class Trace(NamedTuple):
    """What each stage makes of a query of L frames."""

    score: np.ndarray  # float32 (n_segments,), of every segment, best first
    right: np.ndarray  # bool (n_segments,): whether the query begins there, or in the one before
    shortlist: int  # how many of them the second stage looks at
    begin: int  # position at which the query begins
    start: np.ndarray  # int (n,), the ten answers of the second stage, best first
    mean: np.ndarray  # float32 (n,), their scores
    products: (
        np.ndarray
    )  # float32 (L, L + 2 * margin): frames of the query by those around the best
    margin: int


def follow(
    trials, queries, encoder, vectors, segments, database, shortlist=search.SHORTLIST, margin=10
) -> Trace:
    """The first of some trials; it must not be longer than a segment. Arguments as
    `evaluate.amg`."""
    asked = trials.iloc[:1]
    song, start, length = asked[trials_.COLUMNS].iloc[0]
    query = np.ascontiguousarray(queries[song][start : start + length])
    begin = trials_.first_rows(asked, database.sequences, database.first_test)
    score, order = search.nearest(
        search.flat_index(vectors), encoders.embed(encoder, [query]), len(vectors)
    )
    listed, _ = evaluate.first_stage(asked, queries, encoder, vectors, segments, n_best=shortlist)
    answers, means = evaluate.second_stage(asked, queries, listed, segments, database.sequences)
    around = answers[0, 0] + np.arange(-margin, length + margin)
    frames = database.sequences.frames
    kept = answers[0] >= 0
    return Trace(
        score[0],
        hits.segment(order, begin, segments)[0],
        shortlist,
        int(begin[0]),
        answers[0, kept],
        means[0, kept],
        query @ frames[np.clip(around, 0, len(frames) - 1)].T,
        margin,
    )
