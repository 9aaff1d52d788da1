"""What a larger database would do to hit rates, told by the tail of the scores in the one there is.

A query fails when a song scores higher than the right one. The best wrong songs tell how many of a
larger number would do so: with u = -log(1 - score), which is exponential in the tail where scores
are cosines of neighbours, the number of songs above u follows from the MOST highest ones. Songs
count, not segments, since those of a song go together. `check` tests that: a part of the
distractors predicts the result for all of them.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from amg.embedding import encoders
from amg.retrieval import hits
from amg.retrieval.trials import excerpts, first_rows

MOST = 5  # songs that tell of the tail; more reach down to where it is none
PARTS = (2, 4, 8, 16)  # of the distractors, by which the forecast is checked ...
DRAWS = 10  # ... so many times each
COLUMNS = ["part", "n_songs", "top1_there", "forecast", "top1"]


class Scores(NamedTuple):
    """Best scores of songs for Q queries, as u = -log(1 - score), float (Q,) and (Q, n)."""

    right: np.ndarray  # of the segments in which a query begins
    others: np.ndarray  # of the other test songs and the right song's other segments
    wrong: np.ndarray  # of the distractors


def scores(indexed, trials, queries) -> Scores:
    """The single stage's scores; indexed: an `evaluate.Indexed`; trials: of one length, at most a
    segment's."""
    database, segments = indexed.database, indexed.segments
    embedded = encoders.embed(indexed.encoder, excerpts(trials, queries))
    products = encoders.floats(embedded) @ encoders.floats(indexed.vectors).T
    u = -np.log(np.maximum(1 - products, 1e-9))
    begin = first_rows(trials, database.sequences, database.first_test)
    every = np.broadcast_to(np.arange(u.shape[1]), u.shape)
    is_right = hits.segment(every, begin, segments)
    right = np.where(is_right, u, -np.inf).max(axis=1)
    first = np.flatnonzero(np.diff(segments.song, prepend=-1))
    by_song = np.maximum.reduceat(np.where(is_right, -np.inf, u), first, axis=1)
    is_wrong = segments.song[first] < database.first_test
    return Scores(right, by_song[:, ~is_wrong], by_song[:, is_wrong])


def above(right, wrong, most=MOST) -> np.ndarray:
    """How many of the wrong songs, (Q, n), are expected to score higher than the right one, (Q,):
    counted where there are, and by the tail above the highest `most`."""
    highest = -np.sort(-wrong, axis=1)[:, :most]
    last = highest[:, -1]
    excess = np.maximum((highest[:, :-1] - last[:, None]).mean(axis=1), 1e-9)
    counted = (wrong >= right[:, None]).sum(axis=1)
    return np.where(right > last, most * np.exp(-(right - last) / excess), counted)


def expected_top1(scores, times) -> float:
    """Top-1 (%) among `times` as many distractors, as many as there are independent ones."""
    first_of_tests = scores.right > scores.others.max(axis=1)
    n_above = times * above(scores.right, scores.wrong)
    return 100 * float((first_of_tests * np.exp(-n_above)).mean())


def check(scores, seed=0) -> pd.DataFrame:
    """Rows of `forecast.csv`, COLUMNS: what a part of the distractors foretells of all, forecast,
    and what is true of the part, top1_there, and of all, top1."""
    rng, n, rows = np.random.default_rng(seed), scores.wrong.shape[1], []
    first = scores.right > scores.others.max(axis=1)
    top1 = 100 * (first & (scores.right > scores.wrong.max(axis=1))).mean()
    for part in (part for part in PARTS if n // part > MOST):
        drawn = [scores.wrong[:, rng.permutation(n)[: n // part]] for _ in range(DRAWS)]
        there = [(first & (scores.right > wrong.max(axis=1))).mean() for wrong in drawn]
        told = [expected_top1(scores._replace(wrong=wrong), part) for wrong in drawn]
        rows.append((part, n // part, 100 * np.mean(there), np.mean(told), top1))
    return pd.DataFrame(rows, columns=COLUMNS)
