"""What the published code does, step by step, from our reading of it.

A file is opened for each sample. Batches of 640 samples are padded to M frames and masked, and
embedded with gradients recorded, though nobody asks for them. The queries of one start are embedded
and searched at once, votes are counted in dictionaries. The second stage reads the files of each
query's ten candidates and builds an index over their frames.
"""

import naive
import numpy as np
import torch

from amg.embedding import crops
from amg.fingerprint import features
from amg.retrieval import databases, search

BATCH = 640
WINDOWS = 125  # of a batch of extraction


class Files:
    """Fingerprint arrays by number, each read whenever it is asked for."""

    def __init__(self, *folders):
        self.paths = [path for folder in folders for path in features.find(folder)]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return np.load(self.paths[i], allow_pickle=False)


def embed(encoder, arrays, start, length, padded_frames):
    """Vectors of the frames [start, start + length) of each array, float32 (n, 128)."""
    parts = []
    for first in range(0, len(arrays), BATCH):
        clips = [
            arrays[i][start : start + length] for i in range(first, min(first + BATCH, len(arrays)))
        ]
        parts.append(encoder(*naive.pad(clips, padded_frames)).detach().numpy())
    return np.concatenate(parts)


def evaluate(encoder, root, starts, query_frames, duration_max, stages):
    """Top-1 and Top-10 (%) of all queries of a database at all starts, in one or two stages."""
    length, padded = crops.segment_frames(duration_max), crops.PADDED_FRAMES[duration_max]
    dummies, tests = (
        databases.split_folder(root / whole, duration_max)
        for whole in (databases.DUMMY, databases.TEST)
    )
    segments, queries, ranks = Files(dummies, tests), Files(root / databases.QUERY), []
    n_dummies = len(Files(dummies))
    index = search.flat_index(embed(encoder, segments, 0, length, padded))
    for start in starts:
        voted = first_stage(encoder, index, queries, start, query_frames, length, padded)
        for song, found in enumerate(voted):
            truth = n_dummies + song * (59 // length) + start // length
            right = {truth, truth + 1}
            if stages == 2:
                query = queries[song][start : start + query_frames]
                found = naive.published_second_stage(query, found, segments)
                right = {(truth, start % length)}
            ranks.append(next((rank for rank, one in enumerate(found) if one in right), 10))
    return [100 * float(np.mean(np.array(ranks) < n)) for n in (1, 10)]


def first_stage(encoder, index, queries, start, query_frames, length, padded_frames):
    """The ten segments that each query's pieces vote for, best first: a list of lists."""
    found = [
        index.search(embed(encoder, queries, start + low, high - low, padded_frames), 10)
        for low, high in search.cut_pieces(query_frames, length, crops.SHORTEST)
    ]
    scores, neighbours = (np.stack(of_piece, axis=1) for of_piece in zip(*found))
    return [naive.vote(*of_query) for of_query in zip(neighbours, scores)]


def step(run, folder, batch):
    """One update: a file opened per sample, one batch padded to M frames."""
    clips, crop = [], batch.crop
    for song, clip, start, length in zip(batch.song, batch.clip, crop.start, crop.length):
        rows = np.load(features.song_file(folder, song + 1, clip), allow_pickle=False)
        clips.append(rows[start : start + length])
    x, mask = naive.pad(clips, crops.PADDED_FRAMES[run.config.duration_max])
    run.encoder.train()
    run.optimiser.zero_grad(set_to_none=True)
    song, margin, original = map(
        torch.from_numpy, (batch.song, crops.margin(crop.overlap), batch.clip == 0)
    )
    loss = naive.published_loss(run.encoder(x, mask), run.loss.centres, song, margin, original)
    loss.backward()
    run.optimiser.step()
    return loss.item()


def extract(encoder, windows):
    """Fingerprints of windows (T, 8000), float32 (T, 128), in batches of 125."""
    with torch.inference_mode():
        return np.concatenate(
            [
                encoder(torch.from_numpy(windows[at : at + WINDOWS])).numpy()
                for at in range(0, len(windows), WINDOWS)
            ]
        )
