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
from amg.retrieval import cost, evaluate, hits, nafp_search, search
from amg.retrieval import trials as trials_
from amg.sound.audio import HOP, SAMPLE_RATE, seconds
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
LAPTOP_BYTES = 12e9  # of 16 GB, what an index may take
COLUMNS = [
    "encoder",
    "index",
    "duration_max",
    "query_frames",
    "query_s",
    "n_vectors",
    "bytes_per_vector",
    "build_s",
    "embed_ms",
    "search_ms",
    "search_ms_q1",
    "search_ms_q3",
    "batched_ms",
    "n_queries",
    "top1",
    "top10",
    "listed",
]


def vectors_of(encoder, database, segments, n_vectors, seed=0) -> np.ndarray:
    """Vectors of `n_vectors` segments: the test songs' first, real distractors, modelled ones.

    As `encoders.embed_runs`. Raises InputError for fewer than the test songs have.
    """
    first = np.searchsorted(segments.song, database.first_test)
    real = np.roll(evaluate.segment_vectors(encoder, segments, database.sequences), -first, axis=0)
    check.integer("the number of vectors", n_vectors, len(real) - first)
    parts = [real[:n_vectors]]
    for block in scale_distractors.blocks(database, segments, n_vectors - len(real), seed):
        start = np.arange(0, len(block), segments.length)
        length = np.full(len(start), segments.length)
        parts.append(encoders.embed_runs(encoder, block, start, length))
    return np.concatenate(parts)


def right_segments(ids, trials, database, segments) -> np.ndarray:
    """Which of the found vectors, int (n, k) as `vectors_of` numbers them, are where the query
    begins, bool (n, k)."""
    first = np.searchsorted(segments.song, database.first_test)
    n_tests = len(segments.song) - first
    numbers = np.where((ids >= 0) & (ids < n_tests), ids + first, -1)
    begin = trials_.first_rows(trials, database.sequences, database.first_test)
    return hits.segment(numbers, begin, segments)


def build(vectors, name, training) -> tuple:
    """(index of `vectors` by a name of FLOATS or BITS, seconds that it took). It is filled on one
    core: a graph depends on the order in which it grows.

    training: vectors of distractors alone, of which an IVF index takes as many as it needs, evenly
    spread; fewer than `nafp_search.PER_LIST` for each list give fewer lists.
    """
    binary, began = vectors.dtype == np.uint8, time.perf_counter()
    kind, dim = name.split(",")[0], vectors.shape[1]
    n_lists = int(
        min(LISTS.get(kind, 0) * len(vectors) ** 0.5, len(training) // nafp_search.PER_LIST)
    )
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


def measure(
    folder, encoder, n_vectors, trials, queries, database, segments, labels, seed=0
) -> list[dict]:
    """Rows of `scale.csv` at `n_vectors`, one per index: accuracy and cost of the single stage.

    trials: of one length, at most a segment's; labels: encoder and duration_max. Each row is a file
    in `folder` as soon as it is measured, and is not measured again. Raises InputError for queries
    that a single vector does not stand for.
    """
    length = int(trials.query_frames.iloc[0])
    check.integer("query_frames", length, crops.SHORTEST, segments.length)
    kinds = BITS if getattr(encoder, "bits", 0) else FLOATS
    places = {
        name: folder / f"{labels['encoder']}-{n_vectors}-{name.replace(' ', '_')}.json"
        for name in kinds
    }
    rows = {name: files.read_json(place) for name, place in places.items()}
    if not all(rows.values()):
        vectors = vectors_of(encoder, database, segments, n_vectors, seed)
        asked = excerpts(trials, queries)
        for name in kinds:
            if not rows[name]:
                found = _measure(encoder, vectors, name, asked, trials, database, segments)
                rows[name] = {
                    **labels,
                    "index": name,
                    "query_frames": length,
                    "query_s": seconds(length),
                    **found,
                }
                files.write_json(places[name], rows[name])
    return list(rows.values())


def excerpts(trials, queries) -> list[np.ndarray]:
    """What trials of one length ask for, list of float32 (query_frames, 128)."""
    return [
        np.ascontiguousarray(queries[t.song][t.start : t.start + t.query_frames])
        for t in trials.itertuples()
    ]


def _measure(encoder, vectors, name, asked, trials, database, segments):
    """What one index costs and finds: one query at a time on one core, and all on every one."""
    n_tests = np.sum(segments.song >= database.first_test)
    distractors = vectors[n_tests:] if len(vectors) > n_tests else vectors
    index, build_s = build(vectors, name, distractors)
    embedded, k = encoders.embed(encoder, asked), min(search.SHORTLIST, index.ntotal)
    began = time.perf_counter()
    ids = search.nearest(index, embedded, k)[1]
    batched_ms = 1000 * (time.perf_counter() - began) / len(asked)
    right = right_segments(ids, trials, database, segments)
    with one_core():
        embed_ms = _times(lambda i: encoders.embed(encoder, asked[i : i + 1]), len(asked))
        search_ms = _times(lambda i: search.nearest(index, embedded[i : i + 1], k), len(asked))
    q1, middle, q3 = np.percentile(search_ms, [25, 50, 75]).tolist()
    return {
        "n_vectors": index.ntotal,
        "bytes_per_vector": cost.n_bytes(index) / index.ntotal,
        "build_s": build_s,
        "embed_ms": float(np.median(embed_ms)),
        "search_ms": middle,
        "search_ms_q1": q1,
        "search_ms_q3": q3,
        "batched_ms": batched_ms,
        "n_queries": len(asked),
        **{
            name: 100 * float(right[:, :n].any(axis=1).mean())
            for name, n in (("top1", 1), ("top10", 10), ("listed", k))
        },
    }


def _times(call, n, most=100):
    """Milliseconds of calls with 0 to n - 1, `most` at most, float (n,); the first warms up."""
    call(0)
    times = []
    for i in range(min(n, most)):
        began = time.perf_counter()
        call(i)
        times.append(1000 * (time.perf_counter() - began))
    return np.array(times)


def kept(file, make) -> list[dict]:
    """Rows that `make` gave, from a JSON file if it was called before."""
    record = files.read_json(file)
    if record is None:
        record = {"rows": make()}
        files.write_json(file, record)
    return record["rows"]


def confusable(encoder, trials, queries, database, segments, seed=0) -> pd.DataFrame:
    """Are modelled distractors taken for answers as real ones are? The test songs among as many of
    either: `top1`, and quantiles of the best wrong segment's score, a row each."""
    first = int(np.searchsorted(segments.song, database.first_test))
    every = vectors_of(encoder, database, segments, len(segments.song) + first, seed)
    n_tests = len(segments.song) - first
    embedded = encoders.embed(encoder, excerpts(trials, queries))
    rows = []
    for name, others in (
        ("real", every[n_tests : n_tests + first]),
        ("modelled", every[n_tests + first :]),
    ):
        index = search.flat_index(np.concatenate([every[:n_tests], others]))
        top1 = right_segments(search.nearest(index, embedded, 1)[1], trials, database, segments)
        wrong = search.nearest(search.flat_index(others), embedded, 1)[0][:, 0]
        low, middle, high = np.percentile(wrong, [5, 50, 95])
        rows.append(
            {
                "distractors": name,
                "n_distractors": len(others),
                "n_queries": len(trials),
                "top1": 100 * top1.mean(),
                "wrong_score_5": low,
                "wrong_score_50": middle,
                "wrong_score_95": high,
            }
        )
    return pd.DataFrame(rows)


def laptop(table, whole) -> pd.DataFrame:
    """Hours of music that fit into LAPTOP_BYTES, with the hit rate and time that were measured.

    table: `scale.csv`, of which the largest size counts; whole: `scale_two_stage.csv`, whose second
    stages read the fingerprints, which are counted. hours = bytes / bytes per vector (or frame) x
    its seconds of music / 3600. Columns: method, stage, n, unit, bytes_per_hour, hours, top1,
    query_ms.
    """
    largest = table[table.n_vectors == table.n_vectors.max()]
    frames = [crops.segment_frames(int(d)) for d in largest.duration_max]
    single = pd.DataFrame(
        {
            "method": largest.encoder + ", " + largest["index"],
            "stage": "single-stage",
            "n": largest.n_vectors,
            "unit": "vectors",
            "top1": largest.top1,
            "query_ms": largest.embed_ms + largest.search_ms,
            "bytes_per_hour": largest.bytes_per_vector
            * 3600
            / (np.array(frames) * HOP / SAMPLE_RATE),
        }
    )
    two = pd.DataFrame(
        {
            "method": whole.method,
            "stage": "exact",
            "n": whole.n_frames,
            "unit": "frames",
            "top1": whole.top1,
            "query_ms": whole.embed_ms + whole.search_ms,
            "bytes_per_hour": (whole.index_bytes + whole.refine_bytes)
            / whole.n_frames
            * 3600
            * SAMPLE_RATE
            / HOP,
        }
    )
    both = pd.concat([single, two], ignore_index=True)
    return both.assign(hours=LAPTOP_BYTES / both.bytes_per_hour)
