"""Millions of vectors: what happens to hit rate, bytes and time when the database grows.

Distractors beyond the real ones are `modelled` on them.
"""

import time
from contextlib import contextmanager

import faiss
import numpy as np
import pandas as pd
import torch

from amg import check, files
from amg.embedding import crops, encoders
from amg.retrieval import cost, hits, nafp_search, search
from amg.retrieval.trials import excerpts, first_rows
from amg.sound.audio import seconds
from amg.studies import scale_distractors

FLOATS = {
    "flat": "Flat",
    "8 bits a value": "SQ8",
    "HNSW": "HNSW32",
    "IVF-PQ, 64 bytes": "IVF{n_lists},PQ64",
    "IVF-PQ, 16 bytes": "IVF{n_lists},PQ16",
}
BITS = {"flat": "BFlat", "HNSW": "BHNSW32", "IVF": "BIVF{n_lists}"}
N_PROBE = 40  # lists that are searched of an IVF index
LISTS = {"IVF": 1, "IVF-PQ": 4}  # x sqrt(n); FAISS clusters bits as floats, 32 times their bytes
N_TIMED = 100  # queries, at most
TIMES = ["embed_ms", "search_ms", "search_ms_q1", "search_ms_q3"]


def vectors_of(indexed, n_vectors, seed=0) -> np.ndarray:
    """Vectors of `n_vectors` segments: the test songs' first, real distractors, modelled ones.

    As `encoders.embed_runs`. Raises InputError for fewer than the test songs have.
    """
    real = np.roll(indexed.vectors, -indexed.first_test, axis=0)
    check.integer("the number of vectors", n_vectors, len(real) - indexed.first_test)
    more = scale_distractors.blocks(indexed.database, indexed.segments, n_vectors - len(real), seed)
    modelled = [encoders.embed(indexed.encoder, block) for block in more]
    return np.concatenate([real[:n_vectors], *modelled])


def right_segments(ids, trials, indexed) -> np.ndarray:
    """Which of the found vectors, int (n, k) as `vectors_of` numbers them, are where the query
    begins, bool (n, k)."""
    database, first = indexed.database, indexed.first_test
    n_tests = len(indexed.vectors) - first
    numbers = np.where((ids >= 0) & (ids < n_tests), ids + first, -1)
    begin = first_rows(trials, database.sequences, database.first_test)
    return hits.segment(numbers, begin, indexed.segments)


def build(vectors, name, training) -> tuple:
    """(index of `vectors` by a name of FLOATS or BITS, seconds that it took). It is filled on one
    core: a graph depends on the order in which it grows.

    training: vectors of distractors alone, of which an IVF index takes as many as it needs, evenly
    spread; fewer than `nafp_search.PER_LIST` for each list give fewer lists.
    """
    binary, began = vectors.dtype == np.uint8, time.perf_counter()
    kind, dim = name.split(",")[0], vectors.shape[1]
    most_lists = len(training) // nafp_search.PER_LIST
    n_lists = int(min(LISTS.get(kind, 0) * len(vectors) ** 0.5, most_lists))
    text = (BITS if binary else FLOATS)[name].format(n_lists=max(1, n_lists))
    index = (
        faiss.index_binary_factory(8 * dim, text)
        if binary
        else faiss.index_factory(dim, text, faiss.METRIC_INNER_PRODUCT)
    )
    if kind in LISTS:
        index.cp.min_points_per_centroid, index.nprobe = 1, N_PROBE  # few may be all that there are
    if kind == "IVF-PQ":
        index.pq.cp.min_points_per_centroid = 1
        index.do_polysemous_training = False  # it orders codes for a search that is not made here
    if not index.is_trained:
        most = nafp_search.PER_LIST * max(n_lists, index.pq.ksub if kind == "IVF-PQ" else 256)
        some = training[:: -(-len(training) // most)]
        index.train(np.resize(some, (max(len(some), 256), dim)))
    with one_core():
        index.add(vectors)
    return index, time.perf_counter() - began


@contextmanager
def one_core():
    """FAISS and PyTorch compute on one core meanwhile."""
    cores, threads = faiss.omp_get_max_threads(), torch.get_num_threads()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(cores)
        torch.set_num_threads(threads)


def measure(folder, indexed, n_vectors, trials, queries, seed=0) -> list[dict]:
    """Rows of `scale.csv` at `n_vectors`, one per index: accuracy and cost of the single stage.

    indexed: an `evaluate.Indexed`; trials: of one length, at most a segment's. Each row is a file
    in `folder` as soon as it is measured, and is not measured again. Raises InputError for queries
    that a single vector does not stand for.
    """
    length = int(trials.query_frames.iloc[0])
    check.integer("query_frames", length, crops.SHORTEST, indexed.segments.length)
    rows, vectors = [], None
    for name in BITS if getattr(indexed.encoder, "bits", 0) else FLOATS:
        file = f"{indexed.labels['encoder']}-{n_vectors}-{name.replace(' ', '_')}.json"
        row = files.read_json(folder / file)
        if not row:
            vectors = vectors_of(indexed, n_vectors, seed) if vectors is None else vectors
            row = _row(indexed, vectors, name, trials, excerpts(trials, queries))
            files.write_json(folder / file, row)
        rows.append(row)
    return rows


def _row(indexed, vectors, name, trials, queries):
    """What one index costs and finds: one query at a time on one core, and all on every one."""
    n_tests = len(indexed.vectors) - indexed.first_test
    distractors = vectors[n_tests:] if len(vectors) > n_tests else vectors
    index, build_s = build(vectors, name, distractors)
    embedded, k = encoders.embed(indexed.encoder, queries), min(search.SHORTLIST, index.ntotal)
    began = time.perf_counter()
    ids = search.nearest(index, embedded, k)[1]
    batched_ms = 1000 * (time.perf_counter() - began) / len(queries)
    n_bytes, right = cost.n_bytes(index), right_segments(ids, trials, indexed)
    way = cost.Method(
        name,
        index.ntotal,
        n_bytes,
        0,
        search=lambda _, vector: search.nearest(index, vector, k),
        embed=lambda query: encoders.embed(indexed.encoder, [query]),
    )
    with one_core():
        times = cost.measure([way], queries[:N_TIMED]).iloc[0][TIMES].to_dict()
    labels = {"encoder": indexed.labels["encoder"], "index": name}
    labels["duration_max"], n_frames = indexed.labels["duration_max"], len(queries[0])
    length = {"query_frames": n_frames, "query_s": seconds(n_frames)}
    sizes = {"n_vectors": index.ntotal, "bytes_per_vector": n_bytes / index.ntotal}
    times = {"build_s": build_s, **times, "batched_ms": batched_ms}
    within = {"top1": 1, "top10": 10, "listed": k}
    shares = {at: 100 * float(right[:, :n].any(axis=1).mean()) for at, n in within.items()}
    return {**labels, **length, **sizes, **times, "n_queries": len(queries), **shares}


def confusable(indexed, trials, queries, seed=0) -> pd.DataFrame:
    """Are modelled distractors taken for answers as real ones are? The test songs among as many of
    either: `top1`, and quantiles of the best wrong segment's score, a row each."""
    first, n_tests = indexed.first_test, len(indexed.vectors) - indexed.first_test
    every = vectors_of(indexed, n_tests + 2 * first, seed)
    tests, real, modelled = np.split(every, [n_tests, n_tests + first])
    embedded, rows = encoders.embed(indexed.encoder, excerpts(trials, queries)), []
    for name, others in (("real", real), ("modelled", modelled)):
        index = search.flat_index(np.concatenate([tests, others]))
        top1 = right_segments(search.nearest(index, embedded, 1)[1], trials, indexed)
        wrong = search.nearest(search.flat_index(others), embedded, 1)[0][:, 0]
        row = {"distractors": name, "n_distractors": len(others), "n_queries": len(trials)}
        scores = zip((5, 50, 95), np.percentile(wrong, [5, 50, 95]))
        row |= {"top1": 100 * top1.mean(), **{f"wrong_score_{share}": at for share, at in scores}}
        rows.append(row)
    return pd.DataFrame(rows)
