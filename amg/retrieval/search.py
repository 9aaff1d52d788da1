"""Searches as pure functions over arrays: they know no files and no encoders.

They take many queries of one length at once, rank by inner product of unit vectors, ties to the
lower position, and return the ten best (ids, scores), int64 and float32 (Q, 10), -1 for none; the
first stage as many as the second is to look at.

    sequence_search   the base system: every frame indexed (NAFP, arXiv 2010.11910, sec. 4)
    single_stage      one vector per segment, pieces of a query vote (AMG, "DB & search")
    two_stage         the best segments' own fingerprints decide the exact frame
"""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import torch

N_BEST = 10  # answers; and candidates that the published second stage looks at
FRAME_NEIGHBOURS = 20  # k of the base system
SHORTLIST = 300  # segments that the contiguous second stage looks at
BLOCK = 2**19  # frames that are gathered at once have so many values: they stay in the cache


@dataclass(frozen=True)
class Sequences:
    """Fingerprints of many songs: song `i` is `frames[bounds[i]:bounds[i + 1]]`."""

    frames: Any  # float32 (N, 128), or `codes.Codes` that stand for them
    bounds: np.ndarray  # int64 (n_songs + 1,)

    @classmethod
    def of(cls, songs) -> "Sequences":
        """From a list of float32 (T_i, 128)."""
        bounds = np.cumsum([0, *map(len, songs)]).astype(np.int64)
        return cls(np.concatenate(songs), bounds)

    def songs(self, first=0) -> list[np.ndarray]:
        """The songs from number `first` on, as a list of views (T_i, 128)."""
        return np.split(self.frames, self.bounds[1:-1])[first:]

    def song_of(self, position) -> np.ndarray:
        """Index of the song that holds each position (int array of any shape)."""
        return np.searchsorted(self.bounds, position, side="right") - 1


@dataclass(frozen=True)
class Segments:
    """Consecutive pieces of `length` frames of every song."""

    start: np.ndarray  # int64 (n_segments,): position of the first frame in Sequences.frames
    song: np.ndarray  # int64 (n_segments,)
    length: int

    @classmethod
    def of(cls, sequences, length, tails=False) -> "Segments":
        """Cut `Sequences` in segments of `length` frames; shorter tails are dropped.

        tails: none goes unheard. The last segment ends with its song, over the one before; a song
        that is shorter than a segment is one, of its own length.
        """
        starts = []
        for low, high in zip(sequences.bounds, sequences.bounds[1:]):
            of_song = np.arange(low, high - length + 1, length)
            starts.append(np.union1d(of_song, max(low, high - length)) if tails else of_song)
        start = np.concatenate(starts).astype(np.int64)
        return cls(start, sequences.song_of(start), length)

    def first_frames(self, numbers) -> np.ndarray:
        """Positions where segments begin, -1 of -1."""
        return np.where(numbers < 0, -1, self.start[numbers])


def flat_index(vectors) -> faiss.Index | faiss.IndexBinary:
    """Exhaustive index over unit vectors, float32 (n, D), or over bits, uint8 (n, D / 8)."""
    width = vectors.shape[1]
    packed = vectors.dtype == np.uint8
    index = faiss.IndexBinaryFlat(8 * width) if packed else faiss.IndexFlatIP(width)
    index.add(np.ascontiguousarray(vectors))
    return index


def nearest(index, vectors, k) -> tuple[np.ndarray, np.ndarray]:
    """Inner products and positions of the k nearest, float32 and int64 (Q, k), best first.

    D bits stand for the unit vector of their signs, +-1 / sqrt(D): its inner product follows from
    the Hamming distance.
    """
    scores, ids = index.search(vectors, k)
    if isinstance(index, faiss.IndexBinary):  # those are Hamming distances
        scores = (1 - 2 * scores / index.d).astype(np.float32)
    return scores, ids


def best(query, ids, scores, n_queries, n_best=N_BEST) -> tuple[np.ndarray, np.ndarray]:
    """Rank candidates of queries: query, ids and scores are (C,), ids unique within a query."""
    order = np.lexsort((ids, -scores, query))
    query, ids, scores = query[order], ids[order], scores[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    kept, shape = rank < n_best, (n_queries, n_best)
    table = np.full(shape, -1), np.zeros(shape, np.float32)
    for column, values in zip(table, (ids, scores)):
        column[query[kept], rank[kept]] = values[kept]
    return table


def diagonal_scores(queries, frames, query, start) -> np.ndarray:
    """Mean inner product of queries[q] (L, 128) with frames[s : s + L], for pairs (q, s), (C,)."""
    length, scores = queries.shape[1], np.empty(len(start), np.float32)
    for part in blocks(len(start), length * queries.shape[2]):
        runs = frames[start[part, None] + np.arange(length)]  # (block, L, 128)
        scores[part] = np.einsum("cld,cld->c", queries[query[part]], runs) / length
    return scores


def sequence_search(queries, neighbours, sequences) -> tuple[np.ndarray, np.ndarray]:
    """Base system: starts where whole queries lie in a song, and their scores.

    queries float32 (Q, L, 128); neighbours int64 (Q, L, k), the nearest frames of each query
    frame. A neighbour of frame i at position p proposes the start p - i, if all L frames from there
    on lie in the song of p.
    """
    n_queries, length = queries.shape[:2]
    song = sequences.song_of(neighbours)
    start = neighbours - np.arange(length)[:, None]
    whole = (start >= sequences.bounds[song]) & (start + length <= sequences.bounds[song + 1])
    whole &= neighbours >= 0
    query, start, _ = _unique(np.nonzero(whole)[0], start[whole])
    return best(query, start, diagonal_scores(queries, sequences.frames, query, start), n_queries)


def cut_pieces(n_frames, length, shortest) -> list[tuple[int, int]]:
    """Bounds of the pieces of a query, (begin, end), each of `length` frames; a last one of fewer
    than `shortest` is dropped, unless it is the only one."""
    pieces = [(at, min(at + length, n_frames)) for at in range(0, n_frames, length)]
    return [(low, high) for low, high in pieces if high - low >= shortest] or pieces[:1]


def single_stage(neighbours, scores, song, n_best=N_BEST) -> tuple[np.ndarray, np.ndarray]:
    """Segments in which queries begin, by vote of their pieces, and the votes, (Q, n_best) each.

    neighbours int64 and scores float32 (Q, n_pieces, k): nearest segments of each piece; song int64
    (n_segments,). Neighbour n of piece j votes for segment n - j with its inner product, if both
    belong to one song.

    Two pieces of a query, whose neighbours are segments 1 and 0, and 2 and 3, of one song:

    >>> neighbours, scores = np.array([[[1, 0], [2, 3]]]), np.float32([[[0.8, 0.5], [0.7, 0.4]]])
    >>> segments, votes = single_stage(neighbours, scores, song=np.zeros(4, int), n_best=3)
    >>> print(segments[0], votes[0])  # segment 1 has the votes of 1 and of 2
    [1 0 2] [1.5 0.5 0.4]
    """
    candidate = neighbours - np.arange(neighbours.shape[1])[:, None]
    valid = (neighbours >= 0) & (candidate >= 0)
    valid &= song[np.maximum(candidate, 0)] == song[neighbours]
    query, ids, inverse = _unique(np.nonzero(valid)[0], candidate[valid])
    votes = np.bincount(inverse, scores[valid], minlength=len(ids))
    return best(query, ids, votes, len(neighbours), n_best)


def two_stage(queries, candidates, segments, sequences) -> tuple[np.ndarray, np.ndarray]:
    """Second stage: the exact starts among candidate segments, and their scores.

    queries float32 (Q, L, 128); candidates int64 (Q, c): the first stage's segments, or -1. Every
    start that lies in a candidate segment or in the one before it (a query may begin in one
    segment and lie mostly in the next) is scored against the song's unbroken sequence.

    A song of four frames in two segments; a query of its frames 1 and 2, which lies in both, and of
    which the first stage found the second segment alone:

    >>> frames = np.eye(4, dtype=np.float32)
    >>> song = Sequences.of([frames])
    >>> starts, scores = two_stage(frames[None, 1:3], np.array([[1]]), Segments.of(song, 2), song)
    >>> print(starts[0, :4], scores[0, :4])  # it can begin at 0, 1 and 2
    [ 1  0  2 -1] [1. 0. 0. 0.]
    """
    candidates = np.sort(candidates, axis=1)  # so that starts rise along a row
    candidates[:, 1:][candidates[:, 1:] == candidates[:, :-1]] = -1
    query, column = np.nonzero(candidates >= 0)
    segment, length = candidates[query, column], segments.length
    low, high = (sequences.bounds[segments.song[segment] + i] for i in (0, 1))
    # what lies before a candidate counts only if it is no candidate itself
    of_query = query * len(segments.song)
    alone = ~np.isin(of_query + segment - 1, of_query + segment)
    first = np.maximum(segments.start[segment] - length * alone, low)
    last = np.minimum(segments.start[segment] + length, high - queries.shape[1] + 1)
    # segments may overlap: a start counts for the first one
    follows = query[1:] == query[:-1]
    first[1:] = np.maximum(first[1:], np.where(follows, last[:-1], 0))
    n_starts = np.maximum(last - first, 0)
    start = np.full((*candidates.shape, 2 * length), -1)
    scores = np.full(start.shape, -np.inf, np.float32)
    for n in np.unique(n_starts[n_starts > 0]):
        rows = np.flatnonzero(n_starts == n)
        at = query[rows], column[rows], slice(n)
        start[at] = first[rows, None] + np.arange(n)
        scores[at] = slide(queries, sequences.frames, query[rows], first[rows], n)
    start, scores = start.reshape(len(queries), -1), scores.reshape(len(queries), -1)
    n_best = min(N_BEST, scores.shape[1])
    least = -np.partition(-scores, n_best - 1, axis=1)[:, n_best - 1, None]
    query, place = np.nonzero((scores >= least) & np.isfinite(scores))
    return best(query, start[query, place], scores[query, place], len(queries))


def slide(queries, frames, query, first, n_starts) -> np.ndarray:
    """Mean inner products of queries[query[c]] with `n_starts` runs of frames, from first[c] on:
    (C, n_starts). Beyond the first or last frame, that frame again."""
    length, dim = queries.shape[1:]
    queries = torch.from_numpy(queries)
    means, reach = np.empty((len(query), n_starts), np.float32), np.arange(n_starts + length - 1)
    for part in blocks(len(query), len(reach) * dim):
        at = np.clip(first[part, None] + reach, 0, len(frames) - 1)
        runs = torch.from_numpy(frames[at])  # (block, reach, 128)
        of_runs = queries.index_select(0, torch.from_numpy(query[part]))
        means[part] = diagonals(of_runs @ runs.mT, n_starts).mean(1)
    return means


def _unique(query, ids):
    """Distinct (query, id) pairs, sorted, and the inverse: three int arrays (C,), (C,), (n,)."""
    low = ids.min(initial=0)
    span = ids.max(initial=0) - low + 1
    keys, inverse = np.unique(query * span + ids - low, return_inverse=True)
    return keys // span, keys % span + low, inverse


def diagonals(products, n_starts) -> torch.Tensor:
    """View (B, L, n_starts) of a contiguous tensor (B, L, R): entry i, s is [:, i, s + i]."""
    n, length, reach = products.shape
    return products.as_strided((n, length, n_starts), (length * reach, reach + 1, 1))


def blocks(n, size) -> list[slice]:
    """Slices that cover range(n), of at most BLOCK values if each item has `size`."""
    step = max(1, BLOCK // size)
    return [slice(at, min(at + step, n)) for at in range(0, n, step)]
