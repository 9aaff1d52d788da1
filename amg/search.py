"""Searches as pure functions over arrays: they know no files and no encoders.

Songs are stored as one unbroken run of frames, song after song (`Sequences`). All searches
rank by inner product of unit vectors, best first; ties go to the lower position, so that a
result never depends on the order in which candidates were found.

    sequence_search   the base system: every frame indexed (NAFP, arXiv 2010.11910, sec. 4)
    single_stage      one vector per segment, pieces of a query vote (AMG, "DB & search")
    two_stage         the ten best segments' own fingerprints decide the exact frame
"""

from dataclasses import dataclass

import faiss
import numpy as np

N_BEST = 10  # candidates that a search returns, and that the second stage looks at
FRAME_NEIGHBOURS = 20  # k of the base system
SEGMENT_NEIGHBOURS = 10  # k of the first stage


@dataclass(frozen=True)
class Sequences:
    """Fingerprints of many songs: song `i` is `frames[bounds[i]:bounds[i + 1]]`."""

    frames: np.ndarray  # float32 (N, 128)
    bounds: np.ndarray  # int64 (n_songs + 1,)

    @classmethod
    def of(cls, songs):
        """From a list of float32 (T_i, 128)."""
        lengths = [len(song) for song in songs]
        return cls(np.concatenate(songs), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def songs(self, first=0):
        """The songs from number `first` on, as a list of views (T_i, 128)."""
        bounds = self.bounds[first:]
        return [self.frames[low:high] for low, high in zip(bounds, bounds[1:])]

    def song_of(self, position):
        """Index of the song that holds each position (int array of any shape)."""
        return np.searchsorted(self.bounds, position, side="right") - 1


@dataclass(frozen=True)
class Segments:
    """Consecutive pieces of `length` frames of every song; tails shorter than that dropped."""

    start: np.ndarray  # int64 (n_segments,): position of the first frame in Sequences.frames
    song: np.ndarray  # int64 (n_segments,)
    length: int

    @classmethod
    def of(cls, sequences, length):
        starts = [np.arange(low, high - length + 1, length)
                  for low, high in zip(sequences.bounds, sequences.bounds[1:])]
        song = np.repeat(np.arange(len(starts)), [len(s) for s in starts])
        return cls(np.concatenate(starts).astype(np.int64), song, length)


def flat_index(vectors):
    """Exhaustive inner-product index over float32 (n, 128)."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    return index


def best(ids, scores, n=N_BEST):
    """The `n` highest-scoring of unique `ids`: (ids, scores), ties to the lower id."""
    order = np.lexsort((ids, -scores))[:n]
    return ids[order], scores[order]


def diagonal_scores(query, frames, starts):
    """Mean inner product of `query` (L, 128) with `frames[s : s + L]`, for each start s."""
    at = starts[:, None] + np.arange(len(query))  # (S, L)
    return np.einsum("ld,sld->s", query, frames[at]) / len(query)


def sequence_search(query, neighbours, sequences):
    """Base system: where in the songs does the whole query lie?

    query float32 (L, 128); neighbours int64 (L, k), the nearest frames of each query frame.
    A neighbour of frame i at position p proposes the start p - i; it must lie, with all L
    frames, in the song of p. Returns the best starts and scores, (<=10,) each.
    """
    length = len(query)
    song = sequences.song_of(neighbours)
    start = neighbours - np.arange(length)[:, None]
    whole = (start >= sequences.bounds[song]) & (start + length <= sequences.bounds[song + 1])
    starts = np.unique(start[whole & (neighbours >= 0)])
    return best(starts, diagonal_scores(query, sequences.frames, starts))


def cut_pieces(query, length, shortest):
    """Cut a query (L, 128) in consecutive pieces of `length` frames, as segments are cut.

    A last piece of fewer than `shortest` frames is dropped, unless it is the only one.
    """
    pieces = [query[i : i + length] for i in range(0, len(query), length)]
    return [p for p in pieces if len(p) >= shortest] or pieces[:1]


def single_stage(neighbours, scores, song):
    """Voting: pieces of a query agree on the segment where the query begins.

    neighbours int64 (n_pieces, k) and scores float32 (n_pieces, k): nearest segments of each
    piece; song int64 (n_segments,). Neighbour n of piece j votes for segment n - j, which
    must belong to the song of n, with its inner product. Returns the best segments and votes.
    """
    candidate = neighbours - np.arange(len(neighbours))[:, None]
    valid = (neighbours >= 0) & (candidate >= 0)
    valid &= song[np.maximum(candidate, 0)] == song[neighbours]
    ids, inverse = np.unique(candidate[valid], return_inverse=True)
    return best(ids, np.bincount(inverse, scores[valid], minlength=len(ids)))


def two_stage(query, candidates, segments, sequences):
    """Second stage, `protocol="contiguous"`: the exact start among candidate segments.

    query float32 (L, 128); candidates int64 (c,): the first stage's segments. Every start that
    lies in a candidate segment or in the one before it (a query may begin in one segment and
    lie mostly in the next) is scored against the song's unbroken sequence. Returns the best
    starts and scores, (<=10,) each.
    """
    begin = segments.start[candidates][:, None]
    starts = begin + np.arange(1 - segments.length, segments.length)
    song = segments.song[candidates][:, None]
    whole = (starts >= sequences.bounds[song]) & (
        starts + len(query) <= sequences.bounds[song + 1])
    starts = np.unique(starts[whole])
    return best(starts, diagonal_scores(query, sequences.frames, starts))
