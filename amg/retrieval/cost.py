"""What a database costs: vectors, bytes, milliseconds per query.

Times are medians over single queries on this machine. Fingerprinting the query is left out:
every method needs it.
"""

import time

import numpy as np
import pandas as pd

from amg.embedding import crops, encoders
from amg.retrieval import search

COLUMNS = ["method", "duration_max", "n_vectors", "index_bytes", "refine_bytes", "embed_ms",
           "search_ms"]


def base_cost(queries, query_frames, sequences, n_queries=50):
    """One row of `cost.csv` for NAFP sequence search: sizes, and median ms per query."""
    index = search.flat_index(sequences.frames)
    k = min(search.FRAME_NEIGHBOURS, index.ntotal)

    def find(query):
        search.sequence_search(query[None], index.search(query, k)[1][None], sequences)

    asked = _excerpts(queries, query_frames, n_queries)
    return {"method": "nafp sequence", "duration_max": None, "n_vectors": index.ntotal,
            "index_bytes": sequences.frames.nbytes, "refine_bytes": 0,
            "embed_ms": 0.0, "search_ms": _median_ms(find, asked)}


def embedding_cost(queries, query_frames, encoder, vectors, segments, sequences, duration_max,
                   n_queries=50):
    """Two rows of `cost.csv`: AMG single-stage and two-stage, one query at a time."""
    index = search.flat_index(vectors)
    k = min(search.SEGMENT_NEIGHBOURS, index.ntotal)

    def embed(query):
        return encoders.embed(encoder, [query[low:high] for low, high in search.cut_pieces(
            len(query), segments.length, crops.SHORTEST)])

    def first(embedded):
        scores, neighbours = index.search(embedded, k)
        return search.single_stage(neighbours[None], scores[None], segments.song)[0]

    def both(pair):
        search.two_stage(pair[0][None], first(pair[1]), segments, sequences)

    asked = _excerpts(queries, query_frames, n_queries)
    embedded = [embed(query) for query in asked]
    common = {"duration_max": duration_max, "n_vectors": index.ntotal,
              "index_bytes": vectors.nbytes, "embed_ms": _median_ms(embed, asked)}
    return [{"method": "amg single-stage", **common, "refine_bytes": 0,
             "search_ms": _median_ms(first, embedded)},
            {"method": "amg two-stage", **common, "refine_bytes": sequences.frames.nbytes,
             "search_ms": _median_ms(both, list(zip(asked, embedded)))}]


def _excerpts(queries, query_frames, n_queries):
    return [np.ascontiguousarray(query[:query_frames]) for query in queries[:n_queries]]


def _median_ms(function, items):
    """Median milliseconds of `function(item)`, one item at a time, after one warm-up call."""
    function(items[0])
    times = []
    for item in items:
        began = time.perf_counter()
        function(item)
        times.append(1000 * (time.perf_counter() - began))
    return round(float(np.median(times)), 3)


def table(rows):
    """`cost.csv` from the rows of all methods."""
    return pd.DataFrame(rows, columns=COLUMNS).astype({"duration_max": float})
