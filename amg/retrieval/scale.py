"""Millions of vectors: what happens to hit rate, bytes and time when the database grows.

Real distractors are few, so that more are modelled on them. A real song is mirrored: about the mean
of all frames, in the directions of their covariance, each coordinate keeps its sign or changes it,
the same way for all frames of the song. What comes out sounds like nothing, yet it is spread as
real frames are, and moves from frame to frame as real music does. `confusable` tells whether
queries take it for an answer as often as real music.
"""

import time
from contextlib import contextmanager
from dataclasses import replace

import faiss
import numpy as np
import pandas as pd

from amg import check, files
from amg.embedding import crops, encoders
from amg.retrieval import base, cost, databases, evaluate, hits, search, trials as trials_
from amg.sound.audio import HOP, SAMPLE_RATE, seconds

FLOATS = {"flat": "Flat", "8 bits a value": "SQ8", "HNSW": "HNSW32", "IVF-PQ": ""}  # "": base's
BITS = {"flat": "BFlat", "HNSW": "BHNSW32", "IVF": "BIVF{n_lists}"}
NEIGHBOURS = 100  # that a search returns: the default shortlist
BLOCK = 4096  # segments that are modelled at once
LAPTOP_BYTES = 12e9  # of 16 GB, what an index may take
COLUMNS = ["encoder", "index", "duration_max", "query_frames", "query_s", "n_vectors",
           "bytes_per_vector", "build_s", "embed_ms", "search_ms", "search_ms_q1", "search_ms_q3",
           "batched_ms", "n_queries", "top1", "top10", "top100"]


class Mirror:
    """Songs made of real ones, float32 (T, 128) -> (T, 128), rows of unit norm."""

    def __init__(self, frames):
        """frames: float32 (N, 128), the distractors."""
        self.mean = frames.mean(axis=0)
        self.axes = np.linalg.eigh(np.cov(frames.T))[1].astype(np.float32)

    def __call__(self, song, signs) -> np.ndarray:
        """signs: -1 or 1, (128,) for all frames of a song, or as many rows as it has."""
        mirrored = ((song - self.mean) @ self.axes * signs) @ self.axes.T + self.mean
        return mirrored / np.linalg.norm(mirrored, axis=-1, keepdims=True)


def signs(song, copy, seed=0) -> np.ndarray:
    """Those of a copy of a distractor, float32 (128,); they follow from (seed, copy, song)."""
    return np.random.default_rng([seed, copy, song]).choice(np.float32([-1, 1]), 128)


def grown(database, n_frames, seed=0) -> databases.Database:
    """The database with modelled distractors before its own, of about `n_frames` in all."""
    mirror, songs = Mirror(database.distractors), database.sequences.songs()
    missing, copy, modelled = n_frames - len(database.sequences.frames), 0, []
    while missing > 0:
        for song in range(database.first_test):
            if missing > 0:
                modelled.append(mirror(songs[song], signs(song, copy, seed)))
                missing -= len(songs[song])
        copy += 1
    names = [f"modelled {i}" for i in range(len(modelled))]
    return replace(database, sequences=search.Sequences.of(modelled + songs), clips=None,
                   names=names + database.names, recordings=names + database.recordings,
                   first_test=len(names) + database.first_test)


def vectors_of(encoder, database, segments, n_vectors, seed=0) -> np.ndarray:
    """Vectors of `n_vectors` segments: the test songs' first, real distractors, modelled ones.

    As `encoders.embed_runs`. Raises InputError for fewer than the test songs have.
    """
    first = np.searchsorted(segments.song, database.first_test)
    real = np.roll(evaluate.segment_vectors(encoder, segments, database.sequences), -first, axis=0)
    check.integer("the number of vectors", n_vectors, len(real) - first)
    parts = [real[:n_vectors]]
    for block in modelled_blocks(database, segments, n_vectors - len(real), seed):
        start = np.arange(0, len(block), segments.length)
        length = np.full(len(start), segments.length)
        parts.append(encoders.embed_runs(encoder, block, start, length))
    return np.concatenate(parts)


def modelled_blocks(database, segments, n_segments, seed=0):
    """Frames of `n_segments` segments of modelled songs, in blocks, float32 (n * length, 128)."""
    mirror, n_real = Mirror(database.distractors), np.sum(segments.song < database.first_test)
    for low in range(0, n_segments, BLOCK):
        number = np.arange(low, min(low + BLOCK, n_segments))
        copy, of = number // n_real, number % n_real
        frames = database.sequences.frames[segments.start[of, None] + np.arange(segments.length)]
        each = np.stack([signs(*key, seed) for key in zip(segments.song[of], copy)])
        yield mirror(frames, each[:, None]).reshape(-1, frames.shape[2])


def right_segments(ids, trials, database, segments) -> np.ndarray:
    """Which of the found vectors, int (n, k) as `vectors_of` numbers them, are where the query
    begins, bool (n, k)."""
    first = np.searchsorted(segments.song, database.first_test)
    n_tests = len(segments.song) - first
    numbers = np.where((ids >= 0) & (ids < n_tests), ids + first, -1)
    begin = trials_.first_rows(trials, database.sequences, database.first_test)
    return hits.segment(numbers, begin, segments)


def build(vectors, name) -> tuple:
    """(index by a name of FLOATS or BITS, seconds that it took on one core).

    One, because a graph depends on the order in which it grows.
    """
    began = time.perf_counter()
    with one_core():
        if name == "IVF-PQ":
            return base.coded_index(vectors, vectors), time.perf_counter() - began
        n_lists = max(1, min(int(4 * len(vectors) ** 0.5), len(vectors) // 39))
        if vectors.dtype == np.uint8:
            text = BITS[name].format(n_lists=n_lists)
            index = faiss.index_binary_factory(8 * vectors.shape[1], text)
        else:
            index = faiss.index_factory(vectors.shape[1], FLOATS[name], faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(vectors)
        index.add(vectors)
    if name.startswith("IVF"):
        index.nprobe = base.N_PROBE
    return index, time.perf_counter() - began


@contextmanager
def one_core():
    """FAISS computes on one core meanwhile."""
    cores = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(cores)


def measure(encoder, vectors, names, trials, queries, database, segments, labels) -> list[dict]:
    """Rows of `scale.csv`, one per index: accuracy and cost of the single stage.

    trials: of one length, at most a segment's; labels: encoder and duration_max. One query at a
    time on one core, and all together on every one.
    """
    length = int(trials.query_frames.iloc[0])
    check.integer("query_frames", length, crops.SHORTEST, segments.length)
    asked = [np.ascontiguousarray(queries[t.song][t.start : t.start + length])
             for t in trials.itertuples()]
    embedded, embed_ms = encoders.embed(encoder, asked), _times(
        lambda i: encoders.embed(encoder, asked[i : i + 1]), len(asked))
    rows = []
    for name in names:
        index, build_s = build(vectors, name)
        k = min(NEIGHBOURS, index.ntotal)
        began = time.perf_counter()
        right = right_segments(search.nearest(index, embedded, k)[1], trials, database, segments)
        batched_ms = 1000 * (time.perf_counter() - began) / len(asked)
        with one_core():
            search_ms = _times(lambda i: search.nearest(index, embedded[i : i + 1], k), len(asked))
        q1, middle, q3 = np.percentile(search_ms, [25, 50, 75]).tolist()
        rows.append({**labels, "index": name, "query_frames": length, "query_s": seconds(length),
                     "n_vectors": index.ntotal, "build_s": build_s, "search_ms": middle,
                     "bytes_per_vector": cost.n_bytes(index) / index.ntotal,
                     "embed_ms": float(np.median(embed_ms)), "search_ms_q1": q1, "search_ms_q3": q3,
                     "batched_ms": batched_ms, "n_queries": len(asked),
                     **{f"top{n}": 100 * float(right[:, :n].any(axis=1).mean())
                        for n in (1, 10, 100)}})
    return rows


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
    length = trials.query_frames.iloc[0]
    embedded = encoders.embed(encoder, [queries[t.song][t.start : t.start + length]
                                        for t in trials.itertuples()])
    rows = []
    for name, others in (("real", every[n_tests : n_tests + first]),
                         ("modelled", every[n_tests + first :])):
        index = search.flat_index(np.concatenate([every[:n_tests], others]))
        top1 = right_segments(search.nearest(index, embedded, 1)[1], trials, database, segments)
        wrong = search.nearest(search.flat_index(others), embedded, 1)[0][:, 0]
        low, middle, high = np.percentile(wrong, [5, 50, 95])
        rows.append({"distractors": name, "n_distractors": len(others), "n_queries": len(trials),
                     "top1": 100 * top1.mean(), "wrong_score_5": low, "wrong_score_50": middle,
                     "wrong_score_95": high})
    return pd.DataFrame(rows)


def laptop(table) -> pd.DataFrame:
    """How much music fits into LAPTOP_BYTES, from the rows of `scale.csv` of the largest size, with
    their hit rate and time: hours = bytes / bytes per vector x seconds per vector."""
    largest = table[table.n_vectors == table.n_vectors.max()]
    frames = np.array([crops.segment_frames(int(d)) for d in largest.duration_max])
    hours = frames * HOP / SAMPLE_RATE / 3600  # of music in a vector
    return largest.assign(hours=LAPTOP_BYTES / largest.bytes_per_vector * hours)
