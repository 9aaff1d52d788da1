"""A query in windows, and where each is heard.

A query is heard on two grids, the second a quarter of a second later, so that no window lies farther
than an eighth from a stored frame. Windows are as long as a segment, or as the query if that is
shorter; each is asked for by itself.

How good a hit is, is said by how many as good ones chance gives. With u = -log(1 - score), music that
is not in a catalogue of n frames finds there n * exp(-rate * (u - middle)) hits as good as u. The
two numbers are fitted, by method and length of window, to validation songs that are not there.
"""

from typing import NamedTuple

import numpy as np

from amg import files
from amg.catalogue.models import CALIBRATION
from amg.embedding import encoders
from amg.retrieval import search
from amg.sound import audio

METHODS = ("two_stage", "single_stage", "sequence")
FITTED = METHODS[:2]  # the base system's score is that of two stages, and so is what chance gives
GRIDS = 2
STEP = 10  # frames from one window to the next
BATCH = 64  # windows that are asked for at once
SILENT = 0.99  # inner product with the fingerprint of silence from which on a frame is silent
HOP_S = audio.HOP / audio.SAMPLE_RATE


class Hits(NamedTuple):
    """Where windows are heard: arrays (n,), times in seconds."""

    begin_s: np.ndarray  # of the window, in the query
    end_s: np.ndarray
    song: np.ndarray  # int, number of the sound
    position_s: np.ndarray  # in the sound, where the window begins
    score: np.ndarray
    chance: np.ndarray  # how many as good ones chance gives in the whole query


def begins(n_frames, length) -> list[int]:
    """Where the windows of a grid begin, in frames: every STEP, and the last at the end."""
    last = n_frames - length
    return sorted({*range(0, last, STEP), last}) if last >= 0 else []


def ask(frames, catalogue, method) -> Hits:
    """The ten best hits of each window of a query.

    frames: float32 (GRIDS * (T - 1) + 1 or so, 128), all grids by turns. Silent windows have none.
    """
    length = min(catalogue.segments.length, max(len(frames) // GRIDS, 1))
    asked, begin_s = [], []
    for grid in range(GRIDS):
        of_grid = frames[grid::GRIDS]
        for at in begins(len(of_grid), length):
            window = of_grid[at : at + length]
            if np.mean(window @ catalogue.models.silence > SILENT) < 0.5:
                asked.append(window)
                begin_s.append((at + grid / GRIDS) * HOP_S)
    place, score = find(np.stack(asked), catalogue, method) if asked else np.zeros((2, 0, 1))
    row, column = np.nonzero(place >= 0)
    found, score = place[row, column].astype(int), score[row, column]
    song, begin = catalogue.sequences.song_of(found), np.array(begin_s)[row]
    return Hits(begin, begin + audio.seconds(length), song,
                (found - catalogue.sequences.bounds[song]) * HOP_S, score,
                len(asked) * chance(score, length, catalogue.n_frames, method))


def find(queries, catalogue, method) -> tuple[np.ndarray, np.ndarray]:
    """Positions of frames and scores, (Q, 10), of queries float32 (Q, L, 128) of a segment at most."""
    if len(queries) > BATCH:
        parts = [find(queries[low : low + BATCH], catalogue, method)
                 for low in range(0, len(queries), BATCH)]
        return tuple(map(np.concatenate, zip(*parts)))
    if method == "sequence":
        index, k = catalogue.index("frames"), search.FRAME_NEIGHBOURS
        flat = queries.reshape(-1, queries.shape[2])
        neighbours = index.search(flat, min(k, index.ntotal))[1]
        return search.sequence_search(queries, neighbours.reshape(*queries.shape[:2], -1),
                                      catalogue.sequences)
    vectors = encoders.embed(catalogue.models.encoder, list(queries))
    index = catalogue.index("vectors")
    scores, segments = search.nearest(index, vectors, min(search.SHORTLIST, index.ntotal))
    if method == "single_stage":
        best = segments[:, : search.N_BEST]
        return catalogue.segments.first_frames(best), scores[:, : search.N_BEST]
    return search.two_stage(queries, segments, catalogue.segments, catalogue.sequences)


def heard(frames, hits, best, begin_s, end_s, catalogue) -> tuple[float, float]:
    """Which part of a query, between two of its times, is what a hit says: from where to where, in
    seconds, its frames are like the song's by more than half the hit's score, on balance.

    frames, hits: as `ask` takes and gives them; best: the hit's number.
    """
    low, high = catalogue.sequences.bounds[hits.song[best] :][:2]
    begin, at, end = (round(time_s / HOP_S * GRIDS) for time_s in
                      (begin_s, hits.begin_s[best], end_s - audio.seconds(1)))
    asked = np.arange(at - (at - begin) // GRIDS * GRIDS, min(end + 1, len(frames)), GRIDS)
    song = low + round(hits.position_s[best] / HOP_S) + (asked - at) // GRIDS
    likeness = np.full(len(asked), -1.0)
    for late in (-1, 0, 1):  # the tempo may not be quite the same
        inside = (song + late >= low) & (song + late < high)
        found = catalogue.sequences.frames[song[inside] + late]
        likeness[inside] = np.maximum(likeness[inside],
                                      np.einsum("ld,ld->l", frames[asked[inside]], found))
    gain = np.cumsum(np.append(0, likeness - hits.score[best] / 2))
    last = np.argmax(gain - np.minimum.accumulate(gain))
    first = np.argmin(gain[: last + 1])
    return asked[first] * HOP_S / GRIDS, asked[max(last - 1, first)] * HOP_S / GRIDS + audio.seconds(1)


def chance(score, length, n_frames, method) -> np.ndarray:
    """How many hits of a window of `length` frames are as good as `score`, float (n,), by chance.

    A catalogue that is smaller than the smallest one that was checked counts as that.
    """
    known = files.read_json(CALIBRATION)
    fitted = known[method if method in FITTED else FITTED[0]]
    middle, rate = (np.interp(length, fitted["frames"], fitted[name]) for name in ("middle", "rate"))
    return by_chance(score, max(n_frames, known["smallest_frames"]), middle, rate)


def by_chance(score, n_frames, middle, rate) -> np.ndarray:
    """The same, with the two numbers given."""
    return n_frames * np.exp(-rate * (scale(score) - middle))


def scale(score) -> np.ndarray:
    """u, on which the scores of unknown music fall off exponentially."""
    return -np.log(np.maximum(1 - score, 1e-9))
