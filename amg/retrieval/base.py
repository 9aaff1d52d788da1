"""The base system: NAFP sequence search, with every stored frame in the index (arXiv 2010.11910).

Guesses are positions in the frames of all stored songs, best first, ten for each trial; -1 where
there are fewer.
"""

import numpy as np

from amg.retrieval import evaluate, search


def find(trials, queries, sequences):
    """Where NAFP sequence search finds each trial: positions, best first, int (n, 10)."""
    return _search(search.flat_index(sequences.frames), trials, queries, sequences)[0]


def find_on_grids(trials, queries, sequences, n_grids):
    """The same for queries that may begin between two frames, which are listened to on several grids.

    queries: list of float32 (n_grids * (T - 1) + 1, 128), with `n_grids` frames per hop. Every
    n_grids-th of them, from frame k on, is grid k: it lies k / n_grids of a hop later than the first.
    Within the query's sound it has one frame less, so that a query of one frame has the first grid
    only. Returns guesses, float (n_grids, n, 10), and the score of each best one, (n_grids, n); a
    guess is where the query begins, up to a frame before the first of its song.
    """
    guesses = np.full((n_grids, len(trials), search.N_BEST), -1.0)
    scores = np.full((n_grids, len(trials)), -np.inf)
    index = search.flat_index(sequences.frames)
    for k in range(n_grids):
        n_frames = trials.query_frames - (k > 0)
        rows = np.flatnonzero(n_frames)
        if len(rows):
            found, score = _search(index, trials.assign(query_frames=n_frames).iloc[rows],
                                   [query[k::n_grids] for query in queries], sequences)
            guesses[k, rows] = np.where(found < 0, -1, found - k / n_grids)
            scores[k, rows] = np.where(found[:, 0] < 0, -np.inf, score[:, 0])
    return guesses, scores


def answer(guesses, scores):
    """The guesses (n, 10) of the grid whose best one scores highest; arguments of `find_on_grids`.

    Every s-th grid of n_grids, guesses[::s] and scores[::s], is what n_grids / s grids would find.
    """
    return guesses[scores.argmax(0), np.arange(guesses.shape[1])]


def _search(index, trials, queries, sequences):
    """Positions and scores of NAFP sequence search, best first, int and float32 (n, 10)."""
    asked = search.Sequences.of(queries)
    k = min(search.FRAME_NEIGHBOURS, index.ntotal)
    neighbours = index.search(asked.frames, k)[1]  # of each query frame, once
    first, guesses = evaluate.first_rows(trials, asked), evaluate.no_guesses(trials)
    scores = np.zeros(guesses.shape, np.float32)
    for length, rows in evaluate.of_length(trials):
        at = first[rows, None] + np.arange(length)
        guesses[rows], scores[rows] = search.sequence_search(asked.frames[at], neighbours[at], sequences)
    return guesses, scores


def hits(trials, queries, sequences, first_song):
    """NAFP sequence search: adds exact1, exact10, near1, near10 to a copy of `trials`.

    Query song i is song `first_song + i` of `sequences`.
    """
    return evaluate.frame_hits(trials, find(trials, queries, sequences), sequences, first_song)


def rates(trials, queries, sequences, first_song):
    """Rows of `retrieval.csv` for the base system."""
    scored = hits(trials, queries, sequences, first_song)
    return evaluate.hit_rates(scored, method="nafp", encoder="nafp", loss="ntxent",
                              duration_max=None, stage="sequence", protocol="contiguous")
