"""The base system's index as its authors run it: IVF-PQ (arXiv 2010.11910, and its published code).

A frame is kept in the list of the nearest of 256 centroids, as 64 codes of 8 bits, each for two
dimensions of what the centroid leaves. Codes in the 40 lists nearest to a query frame propose where
the query may lie; the original fingerprints score it (`search.sequence_search`).
"""

import faiss
import numpy as np

N_LISTS = 256
CODE_BYTES = 64  # sub-quantisers of 8 bits
N_PROBE = 40
PER_LIST = 39  # training frames that FAISS asks for per centroid


def build(frames, training) -> faiss.IndexIVFPQ:
    """An index of `frames`, float32 (N, 128), trained on `training`, float32 (n, 128), that is on
    distractors. Fewer than 39 of those per list give fewer lists."""
    dim = frames.shape[1]
    n_lists = int(np.clip(len(training) // PER_LIST, 1, N_LISTS))
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(dim), dim, n_lists, CODE_BYTES, 8)
    index.pq.cp.min_points_per_centroid = 1  # without a warning: few frames are all that there are
    index.train(np.resize(training, (max(len(training), index.pq.ksub), dim)))
    index.add(frames)
    index.nprobe = N_PROBE
    return index


def describe(index) -> str:
    """What an index is, in a sentence."""
    said = "" if index.nlist == N_LISTS else f" (its authors have {N_LISTS}: too few distractors)"
    return (f"IVF-PQ: {index.ntotal:,} frames in {index.nlist} lists{said}, {index.code_size} "
            f"bytes a frame; {min(index.nprobe, index.nlist)} lists are searched.")
