"""Plain ways of doing what the package does fast: loops over queries, batches with padding.

Tests compare results; the benchmarks time the published way with them.
"""

import faiss
import numpy as np
import torch
from torch.nn import functional as F

from amg.embedding.losses import amg, arcface


def ranked(scores):
    """The ten best keys of {key: score}, ties to the lower key."""
    return sorted(scores, key=lambda key: (-scores[key], key))[:10]


def diagonal(query, frames, start):
    return float(np.mean([query[i] @ frames[start + i] for i in range(len(query))]))


def sequence_search(query, neighbours, sequences):
    scores = {}
    for i, row in enumerate(neighbours):
        for position in row[row >= 0]:
            song = sequences.song_of(position)
            start = position - i
            low, high = sequences.bounds[song : song + 2]
            if low <= start and start + len(query) <= high:
                scores[start] = diagonal(query, sequences.frames, start)
    return ranked(scores)


def vote(neighbours, scores, song=None):
    votes = {}
    for piece, (row, products) in enumerate(zip(neighbours, scores)):
        for n, product in zip(row, products):
            if n >= 0 and n - piece >= 0 and (song is None or song[n - piece] == song[n]):
                votes[n - piece] = votes.get(n - piece, 0.0) + float(product)
    return ranked(votes)


def two_stage(query, candidates, segments, sequences):
    starts = set()
    for candidate in (c for c in candidates if c >= 0):
        for segment in (candidate, candidate - 1):
            if segment >= 0 and segments.song[segment] == segments.song[candidate]:
                starts |= set(
                    range(segments.start[segment], segments.start[segment] + segments.length)
                )
    end = {s: sequences.bounds[sequences.song_of(s) + 1] for s in starts}
    return ranked(
        {s: diagonal(query, sequences.frames, s) for s in starts if s + len(query) <= end[s]}
    )


def published_second_stage(query, candidates, arrays, k=10):
    """The candidates' arrays laid end to end: the ten best (segment, frame in it)."""
    candidates = [c for c in candidates if c >= 0]
    laid = np.concatenate([arrays[c] for c in candidates])
    length = len(arrays[candidates[0]])
    query = np.ascontiguousarray(query[:length])
    index = faiss.IndexFlatIP(laid.shape[1])
    index.add(laid)
    starts = np.unique(index.search(query, k)[1] - np.arange(len(query))[:, None])
    scores = {}
    for start in starts[starts >= 0]:
        part = laid[start : start + len(query)]
        scores[start] = float(np.mean(np.sum(part * query[: len(part)], axis=1)))
    return [(candidates[start // length], start % length) for start in ranked(scores)]


def margin_logits(embedding, centres, label, margin, scale=arcface.SCALE):
    """Logits of the additive angular margin softmax, (B, n_classes), all at once."""
    cosine = F.normalize(embedding) @ F.normalize(centres).T
    true = cosine.gather(1, label[:, None])[:, 0]
    return scale * cosine.scatter(1, label[:, None], arcface.with_margin(true, margin)[:, None])


def published_loss(embedding, centres, label, margin, is_original):
    """The AMG loss from the table of all logits."""
    loss = F.cross_entropy(margin_logits(embedding, centres, label, margin), label)
    if is_original.any():
        cosine = F.cosine_similarity(embedding[is_original], centres[label[is_original]])
        loss = loss + amg.PULL * (1 - cosine).mean()
    return loss


def pad(arrays, padded_frames):
    """List of (L_i, 128) -> (B, M, 128) and the mask of its padding."""
    x = torch.zeros(len(arrays), padded_frames, 128)
    mask = torch.ones(len(arrays), padded_frames, dtype=torch.bool)
    for i, array in enumerate(arrays):
        x[i, : len(array)] = torch.from_numpy(np.array(array))
        mask[i, : len(array)] = False
    return x, mask
