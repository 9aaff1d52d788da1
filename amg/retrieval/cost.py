"""What a search costs: bytes, and milliseconds per query.

A method's time is that of embedding and search, its bytes those of its index and of the
fingerprints that its second stage reads. Times are of single queries; fingerprinting them, which
every method needs, is left out.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from amg.embedding import crops, encoders
from amg.fingerprint.nafp import DIM
from amg.retrieval import search, trials

TIMES = [f"{part}_ms{of}" for part in ("embed", "search") for of in ("", "_q1", "_q3")]
SIZES = ["n_vectors", "index_bytes", "refine_bytes"]
COLUMNS = ["method", "duration_max", *SIZES, *TIMES, "top1", "run", "finished"]


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
    """NAFP sequence search through a faiss index of `sequences.frames`, which are a second stage
    unless an exhaustive index holds them as they are."""
    k = min(search.FRAME_NEIGHBOURS, index.ntotal)
    refined = 0 if isinstance(index, faiss.IndexFlatCodes) else sequences.frames.nbytes

    def find(query, _):
        return search.sequence_search(query[None], index.search(query, k)[1][None], sequences)

    return Method(method, index.ntotal, n_bytes(index), refined, find, top1=top1)


def amg_methods(indexed, top1=np.nan, shortlist=search.SHORTLIST) -> list[Method]:
    """Single-stage and two-stage of an `evaluate.Indexed`; top1: of two-stage."""
    index, segments, labels = search.flat_index(indexed.vectors), indexed.segments, indexed.labels
    sequences, k = indexed.database.sequences, min(shortlist, index.ntotal)

    def embed(query):
        pieces = search.cut_pieces(len(query), segments.length, crops.SHORTEST)
        return encoders.embed(indexed.encoder, [query[low:high] for low, high in pieces])

    def single(_, embedded):
        scores, neighbours = search.nearest(index, embedded, k)
        return search.single_stage(neighbours[None], scores[None], segments.song, shortlist)

    def two(query, embedded):
        return search.two_stage(query[None], single(query, embedded)[0], segments, sequences)

    name, code = "amg" if labels["run"] else labels["encoder"], labels["method"].removeprefix("amg")
    size, whole = (index.ntotal, n_bytes(index)), sequences.frames.nbytes
    of = {part: labels[part] for part in ("duration_max", "run", "finished")}
    return [
        Method(f"{name} single-stage", *size, 0, single, embed, **of),
        Method(f"{name} two-stage{code}", *size, whole, two, embed, top1=top1, **of),
    ]


def n_bytes(index) -> int:
    """Size of a faiss index as it is written to disk."""
    binary = isinstance(index, faiss.IndexBinary)
    return (faiss.serialize_index_binary if binary else faiss.serialize_index)(index).nbytes


def gflops(encoder, n_frames) -> float:
    """Billions of floating-point operations for the vector of a segment of so many frames; those of
    matrix products and convolutions alone, as torch counts them."""
    x = torch.full((1, n_frames, DIM), DIM**-0.5)
    padding = torch.zeros(1, n_frames, dtype=torch.bool)
    fast = torch.backends.mha.get_fastpath_enabled()
    with warnings.catch_warnings(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        warnings.simplefilter("ignore")  # of a setting of oneDNN that is not touched
        torch.backends.mha.set_fastpath_enabled(False)  # what is fused is not counted
        try:
            with torch.backends.mkldnn.flags(enabled=False):
                encoder.eval()(x, padding)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() / 1e9


def excerpts(drawn, queries, query_frames, n=50) -> list[np.ndarray]:
    """Queries of `n` trials of one length at most, evenly spread: list of (query_frames, 128)."""
    of_length = drawn[drawn.query_frames == query_frames]
    rows = np.linspace(0, len(of_length) - 1, min(n, len(of_length))).astype(int)
    return trials.excerpts(of_length.iloc[np.unique(rows)], queries)


def measure(methods, queries) -> pd.DataFrame:
    """`cost.csv`: COLUMNS, a row per `Method`, with medians and quartiles over the queries.

    queries: list of float32 (L, 128). Each query goes to all methods before the next one comes, so
    that a slow moment of the machine meets them all, in an order drawn anew, for a method pays for
    the caches that the one before it has filled. The first query also warms them up.
    """
    rng, times = np.random.default_rng(0), np.empty((1 + len(queries), len(methods), 2))
    for of_query, query in zip(times, (queries[0], *queries)):
        for i in rng.permutation(len(methods)):
            of_query[i] = _times_ms(methods[i], query)
    spread = np.percentile(times[1:], [50, 25, 75], axis=0)  # (3, n_methods, 2)
    columns = pd.DataFrame(spread.transpose(1, 2, 0).reshape(-1, 6).round(3), columns=TIMES)
    table = pd.DataFrame([vars(method) for method in methods]).join(columns)
    return table[COLUMNS].astype({"duration_max": float})


def _times_ms(method, query):
    """Milliseconds of embedding a query, and of searching for it."""
    began = time.perf_counter()
    embedded = method.embed(query)
    between = time.perf_counter()
    method.search(query, embedded)
    return 1000 * (between - began), 1000 * (time.perf_counter() - between)
