"""Trials, hits and hit rates.

A *trial* asks for `query_frames` frames of a degraded song, from frame `start` on. Every
method answers with its ten best guesses; the *tolerance* says what counts as a hit:

    segment   the segment in which the query begins, or the next one of the same song
    exact     the very frame where the query begins
    near      that frame or a neighbour of it (+-1 frame = +-0.5 s)

One row per trial goes in, percentages with 95 % intervals come out.
"""

import numpy as np
import pandas as pd

from amg import crops, encoders, search
from amg.audio import seconds
from amg.check import InputError

TOLERANCES = ("segment", "exact", "near")
RETRIEVAL_COLUMNS = ["method", "encoder", "loss", "duration_max", "stage", "protocol",
                     "tolerance", "query_frames", "query_s", "n_queries", "top1", "top10",
                     "top1_low", "top1_high"]


def trial_starts(n_frames, query_frames, n_starts, segment_lengths=()):
    """Up to `n_starts` start frames, evenly spread over a song of `n_frames`.

    All lie inside a segment of every segmentation under test (`segment_lengths`, in frames),
    so that every method gets the same trials; without segmentations, anywhere. A song shorter than
    the query has none.
    """
    covered = min((n_frames // length * length for length in segment_lengths), default=n_frames)
    last = min(n_frames - query_frames, covered - 1)
    return np.unique(np.linspace(0, last, n_starts).astype(int)) if last >= 0 else np.array([], int)


def trials(queries, lengths, n_starts, segment_lengths=()):
    """All trials as a DataFrame: song, start, query_frames (one row each).

    queries: list of float32 (T, 128), one per test song; lengths: query lengths in frames.
    """
    rows = [(song, start, length)
            for length in lengths for song, query in enumerate(queries)
            for start in trial_starts(len(query), length, n_starts, segment_lengths)]
    if not rows:
        raise InputError(f"no query of {min(lengths)} frames or more, and no whole segment, fits "
                         "into the test songs.")
    return pd.DataFrame(rows, columns=["song", "start", "query_frames"])


def hits(guesses, truth, slack):
    """(hit at rank 1, hit in the first ten): `truth` within `slack[0]..slack[1]` of a guess."""
    offset = np.asarray(guesses)[: search.N_BEST] - truth
    right = (offset >= slack[0]) & (offset <= slack[1])
    return bool(right[:1].any()), bool(right.any())


def base_system(trials, queries, sequences, first_song):
    """NAFP sequence search: adds exact1, exact10, near1, near10 to a copy of `trials`.

    Query song i is song `first_song + i` of `sequences`.
    """
    return frame_hits(trials, base_guesses(trials, queries, sequences), sequences, first_song)


def base_guesses(trials, queries, sequences):
    """Where NAFP sequence search finds each trial: an array of positions, best first, each."""
    index = search.flat_index(sequences.frames)
    k = min(search.FRAME_NEIGHBOURS, index.ntotal)
    neighbours = [index.search(np.ascontiguousarray(query), k)[1] for query in queries]
    guesses = []
    for trial in trials.itertuples():
        part = slice(trial.start, trial.start + trial.query_frames)
        guesses.append(search.sequence_search(
            queries[trial.song][part], neighbours[trial.song][part], sequences)[0])
    return guesses


def embedding_search(trials, queries, encoder, vectors, segments, sequences, first_song):
    """AMG search: returns (single-stage, two-stage) copies of `trials` with their hits.

    vectors: float32 (n, 128), one per segment, in the order of `segments`. All pieces of all
    queries are embedded and searched together; each trial then votes and refines by itself.
    """
    index = search.flat_index(vectors)
    asked = [queries[t.song][t.start : t.start + t.query_frames] for t in trials.itertuples()]
    pieces = [search.cut_pieces(query, segments.length, crops.SHORTEST) for query in asked]
    embedded = encoders.embed(encoder, [piece for cut in pieces for piece in cut])
    scores, neighbours = index.search(embedded, min(search.SEGMENT_NEIGHBOURS, index.ntotal))
    bounds = np.cumsum([len(cut) for cut in pieces])[:-1]
    single = [search.single_stage(n, s, segments.song)[0]
              for n, s in zip(np.split(neighbours, bounds), np.split(scores, bounds))]
    two = [search.two_stage(query, candidates, segments, sequences)[0]
           for query, candidates in zip(asked, single)]
    return (segment_hits(trials, single, sequences, segments, first_song),
            frame_hits(trials, two, sequences, first_song))


def frame_hits(trials, guesses, sequences, first_song):
    """Score guesses of start positions (one array per trial) at tolerances exact and near."""
    truth = sequences.bounds[first_song + trials.song.to_numpy()] + trials.start.to_numpy()
    exact = np.array([hits(g, t, (0, 0)) for g, t in zip(guesses, truth)])
    near = np.array([hits(g, t, (-1, 1)) for g, t in zip(guesses, truth)])
    return trials.assign(exact1=exact[:, 0], exact10=exact[:, 1],
                         near1=near[:, 0], near10=near[:, 1])


def segment_hits(trials, guesses, sequences, segments, first_song):
    """Score guesses of segments (one array per trial) at tolerance segment."""
    truth = sequences.bounds[first_song + trials.song.to_numpy()] + trials.start.to_numpy()
    truth = np.searchsorted(segments.start, truth, side="right") - 1
    rows = []
    for guess, segment in zip(guesses, truth):
        has_next = (segment + 1 < len(segments.song)
                    and segments.song[segment + 1] == segments.song[segment])
        rows.append(hits(guess, segment, (0, int(has_next))))
    rows = np.array(rows)
    return trials.assign(segment1=rows[:, 0], segment10=rows[:, 1])


def hit_rates(scored, **labels):
    """Rows of `retrieval.csv` from scored trials: one per tolerance and query length.

    labels: method, encoder, loss, duration_max, stage, protocol. Percentages to two decimals.
    """
    rows = []
    for tolerance in (t for t in TOLERANCES if f"{t}1" in scored):
        for length, group in scored.groupby("query_frames"):
            low, high = bootstrap(group[f"{tolerance}1"], group.song)
            rows.append({**labels, "tolerance": tolerance, "query_frames": length,
                         "query_s": seconds(length), "n_queries": len(group),
                         "top1": 100 * group[f"{tolerance}1"].mean(),
                         "top10": 100 * group[f"{tolerance}10"].mean(),
                         "top1_low": low, "top1_high": high})
    return pd.DataFrame(rows, columns=RETRIEVAL_COLUMNS).round(2)


def bootstrap(hit, song, n_draws=2000, seed=0):
    """95 % interval of a hit rate in percent, songs (not trials) drawn with replacement."""
    per_song = pd.DataFrame({"hit": np.asarray(hit, float), "song": np.asarray(song)}).groupby("song")
    total, count = per_song.hit.sum().to_numpy(), per_song.hit.size().to_numpy()
    n_songs = len(total)
    weight = np.random.default_rng(seed).multinomial(n_songs, np.full(n_songs, 1 / n_songs), n_draws)
    return tuple(100 * np.percentile((weight @ total) / (weight @ count), [2.5, 97.5]))


def nafp_rates(trials, queries, sequences, first_song):
    """Rows of `retrieval.csv` for the base system."""
    scored = base_system(trials, queries, sequences, first_song)
    return hit_rates(scored, method="nafp", encoder="nafp", loss="ntxent", duration_max=None,
                     stage="sequence", protocol="contiguous")


def amg_rates(trials, queries, model, vectors, segments, sequences, first_song, **labels):
    """Rows of `retrieval.csv` for an encoder module, both stages; labels: method, encoder, loss,
    duration_max."""
    single, two = embedding_search(trials, queries, model, vectors, segments, sequences,
                                   first_song)
    return pd.concat([hit_rates(single, stage="single", protocol="contiguous", **labels),
                      hit_rates(two, stage="two", protocol="contiguous", **labels)])


def concat(rates):
    """One table from several methods' rows, in their order."""
    return pd.concat([table.astype({"duration_max": float}) for table in rates], ignore_index=True)
