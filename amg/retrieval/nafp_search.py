"""The base system: NAFP sequence search, with every stored frame in the index (arXiv 2010.11910).

The index is exhaustive or, as its authors run it, of codes (IVF-PQ): a frame is kept in the list of
the nearest of 256 centroids, as 64 codes of 8 bits, each for two dimensions of what the centroid
leaves. Codes in the 40 lists nearest to a query frame propose where the query may lie; the original
fingerprints score it. A decimated index, of one frame in so many, is the cheapest way to few
vectors.
"""

import faiss
import numpy as np

from amg.retrieval import search
from amg.retrieval.trials import ask

LABELS: dict = {"method": "nafp", "encoder": "nafp", "loss": "ntxent", "duration_max": np.nan}
LABELS |= {"stage": "sequence", "protocol": "contiguous", "run": "", "finished": True}
N_LISTS = 256
CODE_BYTES = 64  # sub-quantisers of 8 bits
N_PROBE = 40
PER_LIST = 39  # training frames that FAISS asks for per centroid


def coded_index(frames, training) -> faiss.IndexIVFPQ:
    """An IVF-PQ index of `frames`, float32 (N, 128), trained on `training`, float32 (n, 128), the
    distractors. Fewer than PER_LIST of those per list give fewer lists."""
    dim = frames.shape[1]
    n_lists = int(np.clip(len(training) // PER_LIST, 1, N_LISTS))
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(dim), dim, n_lists, CODE_BYTES, 8)
    index.pq.cp.min_points_per_centroid = 1  # without a warning: few frames are all that there are
    index.train(np.resize(training, (max(len(training), index.pq.ksub), dim)))
    index.add(frames)
    index.nprobe = N_PROBE
    return index


def decimated_index(sequences, every) -> faiss.IndexIDMap:
    """Exhaustive index of every `every`-th frame of each song, numbered as in `sequences.frames`:
    as many vectors as segments of that length would have, without an encoder."""
    kept = np.concatenate(
        [np.arange(*bounds, every) for bounds in zip(sequences.bounds, sequences.bounds[1:])]
    )
    index = faiss.IndexIDMap(faiss.IndexFlatIP(sequences.frames.shape[1]))
    index.add_with_ids(sequences.frames[kept], kept)
    return index


def describe(coded) -> str:
    """What a coded index is, in a sentence."""
    few = "" if coded.nlist == N_LISTS else f" (its authors have {N_LISTS}: too few distractors)"
    return (
        f"IVF-PQ: {coded.ntotal:,} frames in {coded.nlist} lists{few}, {coded.code_size} "
        f"bytes a frame; {min(coded.nprobe, coded.nlist)} lists are searched."
    )


def find(trials, queries, sequences, index=None) -> tuple[np.ndarray, np.ndarray]:
    """Where NAFP sequence search finds each trial, positions in the frames of all stored songs, -1
    for none, and their scores, mean inner products, best first: int and float32 (n, 10).

    queries: list of float32 (T, 128), one per test song; index: of `sequences.frames`, by default
    the exhaustive one.
    """
    index = search.flat_index(sequences.frames) if index is None else index
    degraded = search.Sequences.of(queries)
    k = min(search.FRAME_NEIGHBOURS, index.ntotal)
    neighbours = index.search(degraded.frames, k)[1]  # of each query frame, once

    def find_rows(at, _):
        return search.sequence_search(degraded.frames[at], neighbours[at], sequences)

    return ask(trials, degraded, find_rows)


def find_on_grids(trials, queries, find, n_grids) -> tuple[np.ndarray, np.ndarray]:
    """Where any search finds queries that may begin between two frames, heard on several grids.

    queries: list of float32 (n_grids * (T - 1) + 1, 128); find: (trials, queries) -> positions and
    scores, as `find`. Every n_grids-th frame from frame k on is grid k, k / n_grids of a hop later
    than the first. It has one frame less within the query's sound: a query of one frame has the
    first grid only. Returns where queries begin, float (n_grids, n, 10), up to a frame before their
    song, and the scores of the best, (n_grids, n).
    """
    answers = np.full((n_grids, len(trials), search.N_BEST), -1.0)
    scores = np.full((n_grids, len(trials)), -np.inf)
    for k in range(n_grids):
        shorter = trials.assign(query_frames=trials.query_frames - (k > 0))
        rows = np.flatnonzero(shorter.query_frames)
        if len(rows):
            places, score = find(shorter.iloc[rows], [query[k::n_grids] for query in queries])
            answers[k, rows] = np.where(places < 0, -1, places - k / n_grids)
            scores[k, rows] = np.where(places[:, 0] < 0, -np.inf, score[:, 0])
    return answers, scores


def best_grid(answers, scores) -> np.ndarray:
    """The answers (n, 10) of the grid whose best one scores highest; arguments of `find_on_grids`,
    whose every s-th grid, answers[::s] and scores[::s], is what n_grids / s grids would find."""
    return answers[scores.argmax(0), np.arange(answers.shape[1])]
