"""Rows of the evaluation: 500 queries at 12 starts, 19 frames each, among 6,000 segments of 10 s.

Ours and the published way start from the same files, use one encoder of the published size, and
must find the same hit rates.
"""

import naive
import numpy as np
import torch

from amg.embedding.encoders.transformer import Transformer
from amg.retrieval import databases, evaluate, search
from amg.retrieval import published as protocol
from amg.retrieval import trials as trials_
from bench import published
from bench.timing import (
    forward_flops,
    matmul_rate,
    medians_alone,
    peak_memory,
    prepare_product,
    row,
)

DURATION_MAX, FRAMES, STARTS = 10, 19, np.linspace(0, 40, 12).astype(int).tolist()
REPEATS = 3


def encoder():
    """The same weights in every process."""
    torch.manual_seed(0)
    return Transformer().eval()


def ours(model, root, starts, query_frames, duration_max, stages):
    """Our evaluation by the published protocol: Top-1 and Top-10 (%), as `published.evaluate`."""
    database, queries = databases.load(root)
    segments = databases.load_segments(root, database, duration_max)
    indexed = evaluate.Indexed.of(model, database, segments)
    trials = trials_.at(database, queries, {query_frames: starts})
    single, _ = evaluate.first_stage(trials, queries, indexed, vote=protocol.single_stage)
    two = np.full_like(single, -1)
    if stages == 2:
        two, _ = evaluate.second_stage(trials, queries, single, indexed, protocol.two_stage)
    (right,) = protocol.right(trials, single, two, segments, database)[stages - 1].values()
    return [100 * float(right[:, :n].any(1).mean()) for n in (1, 10)]


def prepare_whole(root, stages, way):
    """A function that evaluates from the files on."""
    model = encoder()
    return lambda: way(model, root, STARTS, FRAMES, DURATION_MAX, stages)


def prepare_embedding(root, way):
    """A function that embeds the segments, which are in memory."""
    model, (database, _) = encoder(), databases.load(root)
    segments = search.Segments.of(database.sequences, FRAMES)
    if way == "ours":
        return lambda: evaluate.segment_vectors(model, segments, database.sequences)
    arrays = [database.sequences.frames[start : start + FRAMES] for start in segments.start]
    return lambda: published.embed(model, arrays, 0, FRAMES, 24)


def prepare_second_stage(root, way):
    """A function that searches the ten candidates of each query, whose frames are in memory."""
    database, queries = databases.load(root)
    segments = search.Segments.of(database.sequences, FRAMES)
    trials = trials_.at(database, queries, {FRAMES: STARTS})
    candidates = np.random.default_rng(0).integers(0, len(segments.start), (len(trials), 10))
    refine = {"ours": protocol.two_stage, "contiguous": search.two_stage}.get(way)
    if refine:
        indexed = evaluate.Indexed(None, database, segments, None)
        return lambda: evaluate.second_stage(trials, queries, candidates, indexed, refine)[0]
    arrays = [database.sequences.frames[start : start + FRAMES] for start in segments.start]
    asked = [queries[trial.song][trial.start :][:FRAMES] for trial in trials.itertuples()]
    return lambda: [naive.published_second_stage(*each, arrays) for each in zip(asked, candidates)]


def rows(root):
    """All rows; raises AssertionError if the two ways find different things."""
    return [
        *_whole(root, 1, "evaluate_single_10"),
        *_whole(root, 2, "evaluate_two_10"),
        *_embedding(root),
        *_second_stage(root),
    ]


def _whole(root, stages, name):
    """The evaluation from the files on, and what it would be if products alone took time."""
    ways = [(prepare_whole, root, stages, way) for way in (ours, published.evaluate)]
    our, their, product = medians_alone(*ways, (prepare_product,), repeats=REPEATS)
    # sums in another order: of 6,000 queries, a tie or two may fall otherwise
    np.testing.assert_allclose(our.result, their.result, atol=0.05)
    n_queries, lengths = 500 * len(STARTS), np.full(6000 + 500 * len(STARTS), FRAMES)
    least_s = forward_flops(lengths) / matmul_rate(product.seconds)
    theirs = n_queries / their.seconds
    return [
        row(name, n_queries / our.seconds, theirs, "queries/s, files read, database embedded"),
        row(f"{name}_bound", n_queries / least_s, theirs, "queries/s if products were all"),
        row(f"{name}_memory", *(peak_memory(*way) for way in ways), "MB"),
    ]


def _embedding(root):
    ways = [(prepare_embedding, root, way) for way in ("ours", "published")]
    our, their, product = medians_alone(*ways, (prepare_product,), repeats=REPEATS)
    np.testing.assert_allclose(our.result, their.result, atol=1e-5)
    n, rate = len(our.result), matmul_rate(product.seconds)
    share = forward_flops(np.full(n, FRAMES)) / our.seconds / rate
    return [
        row("embed_10", n / our.seconds, n / their.seconds, "segments/s"),
        row("embed_10_flops", 100 * share, None, "% of matmul rate, useful only"),
    ]


def _second_stage(root):
    ways = [(prepare_second_stage, root, way) for way in ("ours", "published", "contiguous")]
    our, their, contiguous = medians_alone(*ways, repeats=REPEATS)
    segments = search.Segments.of(databases.load(root)[0].sequences, FRAMES)
    best = [segments.start[segment] + frame for (segment, frame), *_ in their.result]
    assert np.mean(our.result[:, 0] == best) > 0.999
    n = len(best)
    return [
        row("second_stage_10", n / our.seconds, n / their.seconds, "queries/s"),
        row("second_stage_10_contiguous", n / contiguous.seconds, None, "queries/s"),
    ]
