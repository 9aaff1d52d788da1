"""Trials, hits and hit rates.

A *trial* asks for `query_frames` frames of a degraded song, from frame `start` on. Every
method answers with its ten best guesses; the *tolerance* says what counts as a hit:

    segment   the segment in which the query begins, or the next one of the same song
    exact     at most half a frame (0.25 s) from where the query begins; if that is a frame, this frame
    near      at most 1 frame (0.5 s) from where the query begins

One row per trial goes in, percentages with 95 % intervals come out. Two protocols are known, and
never mixed: `contiguous`, ours, scores a match against the song's unbroken sequence; `published`
does what the published code does (`search.two_stage_published`), and has no near hits.
"""

import numpy as np
import pandas as pd

from amg.embedding import crops, encoders
from amg.retrieval import search
from amg.sound.audio import seconds
from amg.check import InputError

TOLERANCES = ("segment", "exact", "near")
PROTOCOLS = ("contiguous", "published")
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


def trials_at(queries, starts):
    """The same from start positions that were drawn elsewhere: query length -> list of starts.

    Every song is asked for at each. A start in a tail that no segment holds (the published draw may
    give one) is in reach of the base system alone. Raises InputError if one does not lie inside every song.
    """
    shortest = min(map(len, queries))
    for length, at in starts.items():
        if min(at) < 0 or max(at) + length > shortest:
            raise InputError(f"start positions {min(at)} to {max(at)} are asked for with queries of "
                             f"{length} frames, but the shortest test song has {shortest}.")
    rows = [(song, start, length) for length, at in starts.items()
            for song in range(len(queries)) for start in at]
    return pd.DataFrame(rows, columns=["song", "start", "query_frames"])


def of_length(trials):
    """Rows of the trials of each query length: pairs (length, int array)."""
    return trials.groupby("query_frames").indices.items()


def first_rows(trials, sequences, first_song=0):
    """Row of `sequences.frames` where each trial begins, int64 (n,); its song i is `first_song + i`."""
    return sequences.bounds[first_song + trials.song.to_numpy()] + trials.start.to_numpy()


def hits(guesses, truth, before=0, after=0):
    """(hit at rank 1, hit in the first ten), bool (n,): truth - before <= guess <= truth + after.

    guesses (n, 10), -1 for none; truth (n,); before and after numbers or (n,).
    """
    offset = np.asarray(guesses) - np.asarray(truth)[:, None]
    right = (offset >= -np.reshape(before, (-1, 1))) & (offset <= np.reshape(after, (-1, 1)))
    right &= np.asarray(guesses) > -1
    return right[:, :1].any(1), right[:, : search.N_BEST].any(1)


def segment_vectors(encoder, segments, sequences):
    """One vector per segment, float32 (n, 128), in their order."""
    length = np.full(len(segments.start), segments.length)
    return encoders.embed_runs(encoder, sequences.frames, segments.start, length)


def embedding_search(trials, queries, encoder, vectors, segments, sequences, first_song,
                     protocol="contiguous"):
    """AMG search: returns (single-stage, two-stage) copies of `trials` with their hits.

    vectors: those of `segment_vectors`.
    """
    single = first_stage(trials, queries, encoder, vectors, segments, protocol)
    two = second_stage(trials, queries, single, segments, sequences, protocol)
    if protocol == "published":
        return (_published_segment_hits(trials, single, segments, first_song),
                frame_hits(trials, two, sequences, first_song).drop(columns=["near1", "near10"]))
    return (segment_hits(trials, single, sequences, segments, first_song),
            frame_hits(trials, two, sequences, first_song))


def first_stage(trials, queries, encoder, vectors, segments, protocol="contiguous"):
    """Segments that the pieces of each trial vote for, best first, int (n, 10)."""
    index, asked, guesses = search.flat_index(vectors), search.Sequences.of(queries), no_guesses(trials)
    song = segments.song if protocol == "contiguous" else None
    k = min(search.SEGMENT_NEIGHBOURS, index.ntotal)
    first = first_rows(trials, asked)
    for length, rows in of_length(trials):
        begin, end = np.array(search.cut_pieces(length, segments.length, crops.SHORTEST)).T
        pieces = (first[rows, None] + begin).ravel()  # (Q, n_pieces)
        embedded = encoders.embed_runs(encoder, asked.frames, pieces, np.tile(end - begin, len(rows)))
        scores, neighbours = (found.reshape(len(rows), -1, k) for found in index.search(embedded, k))
        guesses[rows] = search.single_stage(neighbours, scores, song)[0]
    return guesses


def second_stage(trials, queries, candidates, segments, sequences, protocol="contiguous"):
    """Start positions within each trial's candidate segments, best first, int (n, 10)."""
    function = search.two_stage if protocol == "contiguous" else search.two_stage_published
    asked, guesses = search.Sequences.of(queries), no_guesses(trials)
    first = first_rows(trials, asked)
    for length, rows in of_length(trials):
        excerpts = asked.frames[first[rows, None] + np.arange(length)]
        guesses[rows] = function(excerpts, candidates[rows], segments, sequences)[0]
    return guesses


def frame_hits(trials, guesses, sequences, first_song, late_frames=0.0):
    """Score guesses of start positions, (n, 10), at tolerances exact and near.

    late_frames: how much later than its frame `start` each trial begins, a number or (n,).
    """
    truth = first_rows(trials, sequences, first_song) + late_frames
    exact, near = hits(guesses, truth, 0.5, 0.5), hits(guesses, truth, 1, 1)
    return trials.assign(exact1=exact[0], exact10=exact[1], near1=near[0], near10=near[1])


def segment_hits(trials, guesses, sequences, segments, first_song):
    """Score guesses of segments, int (n, 10), at tolerance segment."""
    truth = np.searchsorted(segments.start, first_rows(trials, sequences, first_song), "right") - 1
    after = np.minimum(truth + 1, len(segments.song) - 1)
    same_song = (after > truth) & (segments.song[after] == segments.song[truth])
    return _segment_hits(trials, guesses, truth, same_song.astype(int))


def _published_segment_hits(trials, guesses, segments, first_song):
    """The same as the published code counts: every test song has as many segments as the first, and
    the next segment is a hit whatever its song."""
    first = np.searchsorted(segments.song, first_song)
    per_song = np.count_nonzero(segments.song == first_song)
    truth = first + trials.song.to_numpy() * per_song + trials.start.to_numpy() // segments.length
    return _segment_hits(trials, guesses, truth, 1)


def _segment_hits(trials, guesses, truth, after):
    first, ten = hits(guesses, truth, after=after)
    return trials.assign(segment1=first, segment10=ten)


def no_guesses(trials):
    """Ten guesses of each trial that say nothing yet, int (n, 10)."""
    return np.full((len(trials), search.N_BEST), -1)


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


def amg_rates(trials, queries, model, vectors, segments, sequences, first_song,
              protocol="contiguous", **labels):
    """Rows of `retrieval.csv` for an encoder module, both stages; labels: method, encoder, loss,
    duration_max."""
    single, two = embedding_search(trials, queries, model, vectors, segments, sequences,
                                   first_song, protocol)
    return pd.concat([hit_rates(single, stage="single", protocol=protocol, **labels),
                      hit_rates(two, stage="two", protocol=protocol, **labels)])


def concat(rates):
    """One table from several methods' rows, in their order."""
    return pd.concat([table.astype({"duration_max": float}) for table in rates], ignore_index=True)
