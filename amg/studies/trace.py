"""One query, followed through both stages."""

from typing import NamedTuple

import numpy as np

from amg.embedding import encoders
from amg.retrieval import evaluate, hits, search
from amg.retrieval.trials import excerpts, first_rows


class Trace(NamedTuple):
    """What each stage makes of a query of L frames."""

    score: np.ndarray  # float32 (n_segments,), of every segment, best first
    right: np.ndarray  # bool (n_segments,): whether the query begins there, or in the one before
    shortlist: int  # how many of them the second stage looks at
    begin: int  # position at which the query begins
    start: np.ndarray  # int (n,), the ten answers of the second stage, best first
    mean: np.ndarray  # float32 (n,), their scores
    products: np.ndarray  # float32 (L, L + 2 * margin): its frames by those around the best start
    margin: int


def follow(trials, queries, indexed, shortlist=search.SHORTLIST, margin=10) -> Trace:
    """The first of some trials; it must not be longer than a segment. Arguments as
    `evaluate.amg`."""
    trials, database, segments = trials.iloc[:1], indexed.database, indexed.segments
    (query,), frames = excerpts(trials, queries), database.sequences.frames
    begin = first_rows(trials, database.sequences, database.first_test)
    index, vector = search.flat_index(indexed.vectors), encoders.embed(indexed.encoder, [query])
    score, order = search.nearest(index, vector, len(indexed.vectors))
    right = hits.segment(order, begin, segments)
    listed, _ = evaluate.first_stage(trials, queries, indexed, shortlist)
    answers, means = evaluate.second_stage(trials, queries, listed, indexed)
    around = answers[0, 0] + np.arange(-margin, len(query) + margin)
    products = query @ frames[np.clip(around, 0, len(frames) - 1)].T
    start, mean = (of[0, answers[0] >= 0] for of in (answers, means))
    return Trace(score[0], right[0], shortlist, int(begin[0]), start, mean, products, margin)
