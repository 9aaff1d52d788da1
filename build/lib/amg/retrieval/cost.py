"""What a search costs: bytes, and milliseconds per query.

A method's time is that of embedding and search, its bytes those of its index and of the
fingerprints that its second stage reads. Times are of single queries; fingerprinting them, which
every method needs, is left out.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
import pandas as pd

from amg.embedding import crops, encoders
from amg.retrieval import search

COLUMNS = [
    "method",
    "duration_max",
    "n_vectors",
    "index_bytes",
    "refine_bytes",
    "embed_ms",
    "embed_ms_q1",
    "embed_ms_q3",
    "search_ms",
    "search_ms_q1",
    "search_ms_q3",
    "top1",
    "run",
    "finished",
]


@dataclass(frozen=True)
class Method:
    """A way to search, and what it keeps in store."""

    method: str
    n_vectors: int
    index_bytes: int
    refine_bytes: int  # of fingerprints that are read beside the index
    search: Callable  # (query float32 (L, 128), what `embed` gave of it) -> its answers
    embed: Callable = lambda query: None  # query float32 (L, 128) -> its vectors
    duration_max: float = np.nan  # seconds; the base system has none
    top1: float = np.nan  # % of exact hits of this very configuration, where it has exact answers
    run: str = ""  # whose encoder it is, and whether that is finished
    finished: bool = True


def base_method(method, index, sequences, top1=np.nan) -> Method:
    """NAFP sequence search through a faiss index of `sequences.frames`; if that holds codes, or a
    part of them, the frames themselves are a second stage."""
    k = min(search.FRAME_NEIGHBOURS, index.ntotal)
    refined = 0 if isinstance(index, faiss.IndexFlat) else sequences.frames.nbytes

    def find(query, _):
        return search.sequence_search(query[None], index.search(query, k)[1][None], sequences)

    return Method(method, index.ntotal, n_bytes(index), refined, find, top1=top1)


def amg_methods(
    encoder, vectors, segments, sequences, labels, top1=np.nan, shortlist=search.SHORTLIST
) -> list[Method]:
    """Single-stage and two-stage of an encoder; vectors: of the segments; labels: as
    `evaluate.labels`; top1: of two-stage."""
    index = search.flat_index(vectors)
    k, duration_max = min(shortlist, index.ntotal), labels["duration_max"]

    def embed(query):
        return encoders.embed(
            encoder,
            [
                query[low:high]
                for low, high in search.cut_pieces(len(query), segments.length, crops.SHORTEST)
            ],
        )

    def single(_, embedded):
        scores, neighbours = search.nearest(index, embedded, k)
        return search.single_stage(neighbours[None], scores[None], segments.song, shortlist)

    def two(query, embedded):
        return search.two_stage(query[None], single(query, embedded)[0], segments, sequences)

    name = "amg" if labels["run"] else labels["encoder"]
    size, of = (index.ntotal, n_bytes(index)), (labels["run"], labels["finished"])
    whole = sequences.frames.nbytes
    return [
        Method(f"{name} single-stage", *size, 0, single, embed, duration_max, np.nan, *of),
        Method(f"{name} two-stage", *size, whole, two, embed, duration_max, top1, *of),
    ]


def n_bytes(index) -> int:
    """Size of a faiss index as it is written to disk."""
    binary = isinstance(index, faiss.IndexBinary)
    return (faiss.serialize_index_binary if binary else faiss.serialize_index)(index).nbytes


def excerpts(trials, queries, query_frames, n=50) -> list[np.ndarray]:
    """Queries of `n` trials of one length at most, evenly spread: list of (query_frames, 128)."""
    rows = np.flatnonzero(trials.query_frames == query_frames)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int))]
    return [
        np.ascontiguousarray(queries[song][start : start + query_frames])
        for song, start in zip(trials.song.to_numpy()[rows], trials.start.to_numpy()[rows])
    ]


def measure(methods, queries) -> pd.DataFrame:
    """`cost.csv`: COLUMNS, a row per `Method`, with medians and quartiles over the queries.

    queries: list of float32 (L, 128). Each query goes to all
    methods before the next one comes, so that a slow moment of the machine meets them all, in an
    order drawn anew, for a method pays for the caches that the one before it has filled. The first
    query also warms them up.
    """
    rng, times = np.random.default_rng(0), np.empty((1 + len(queries), len(methods), 2))
    for of_query, query in zip(times, (queries[0], *queries)):
        for i in rng.permutation(len(methods)):
            of_query[i] = _times_ms(methods[i], query)
    q1, median, q3 = np.percentile(times[1:], [25, 50, 75], axis=0).round(3)  # each (n_methods, 2)
    table = pd.DataFrame([vars(method) for method in methods])
    for i, name in enumerate(("embed_ms", "search_ms")):
        table[name], table[f"{name}_q1"], table[f"{name}_q3"] = median[:, i], q1[:, i], q3[:, i]
    return table[COLUMNS].astype({"duration_max": float})


def _times_ms(method, query):
    """Milliseconds of embedding a query, and of searching for it."""
    began = time.perf_counter()
    embedded = method.embed(query)
    between = time.perf_counter()
    method.search(query, embedded)
    return 1000 * (between - began), 1000 * (time.perf_counter() - between)
