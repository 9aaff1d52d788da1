"""The published evaluation protocol, to the letter, its defects included, and published files.

Votes are not held to a song. The second stage lays the ten best segments end to end, so that a
match that runs over a segment's end is scored against whatever comes next in rank. The segment
after the true one is a hit whatever its song.
"""

import io
import pickle
import re
from pathlib import Path

import numpy as np
import torch
from torch import nn

from amg import check, paths
from amg.check import InputError
from amg.embedding import crops, encoders
from amg.retrieval import search


def single_stage(neighbours, scores, song, n_best=search.N_BEST) -> tuple[np.ndarray, np.ndarray]:
    """As `search.single_stage`, but pieces vote for segments of whatever song."""
    return search.single_stage(neighbours, scores, np.zeros_like(song), n_best)


def two_stage(queries, candidates, segments, sequences) -> tuple[np.ndarray, np.ndarray]:
    """As `search.two_stage`, but candidates are laid end to end, in rank order, and the ten nearest
    frames of each of a query's first `segments.length` frames propose starts."""
    queries = queries[:, : segments.length]
    order = np.argsort(candidates < 0, axis=1, kind="stable")  # real ones first, in their order
    candidates = np.take_along_axis(candidates, order, 1)
    n_queries, length, dim = queries.shape
    n_frames = candidates.shape[1] * segments.length
    parts = []
    for part in search.blocks(n_queries, n_frames * dim):
        at = segments.start[candidates[part], None] + np.arange(segments.length)
        laid = sequences.frames[at].reshape(-1, n_frames, dim)
        end = (candidates[part] >= 0).sum(1)[:, None] * segments.length
        missing = np.arange(n_frames) >= end  # (block, n_frames)
        products = np.where(missing[:, None], -2, queries[part] @ laid.mT)  # (block, L, n_frames)
        nearest = np.argpartition(-products, min(search.N_BEST, n_frames) - 1)[..., : search.N_BEST]
        proposed = np.zeros((len(laid), n_frames + length), bool)  # its end catches negative starts
        starts = (nearest - np.arange(length)[:, None]).reshape(len(laid), -1)
        np.put_along_axis(proposed, starts, True, 1)
        query, place = np.nonzero(proposed[:, :n_frames] & ~missing)
        products[missing[:, None].repeat(length, 1)] = 0
        products = np.pad(products, ((0, 0), (0, 0), (0, length - 1)))  # a last match is cut short
        within = np.clip(end - np.arange(n_frames), 1, length)
        scores = search.diagonals(torch.from_numpy(products), n_frames).sum(1).numpy() / within
        parts.append((query + part.start, place, scores[query, place]))
    place, scores = search.best(*map(np.concatenate, zip(*parts)), n_queries)
    segment = np.take_along_axis(candidates, np.maximum(place, 0) // segments.length, 1)
    return np.where(place < 0, -1, segments.start[segment] + place % segments.length), scores


def right(trials, single, two, segments, database) -> tuple[dict, dict]:
    """Which answers the published code counts as hits: {tolerance: bool (n, 10)} of each stage.

    single: segments, two: positions, int (n, 10). A query of a song without a segment has no hit;
    one that begins behind its song's last segment has that of the next song, as published.
    """
    song = database.first_test + trials.song.to_numpy()
    place, within = np.divmod(trials.start.to_numpy(), segments.length)
    truth = np.searchsorted(segments.song, song) + place
    known = np.isin(song, segments.song) & (truth < len(segments.song))
    position = segments.start[np.where(known, truth, 0)] + within
    truth, position, known = (column[:, None] for column in (truth, position, known))
    segment = known & ((single == truth) | (single == truth + 1))
    return {"segment": segment}, {"exact": known & (two == position)}


class _Plain(pickle._Unpickler):  # in Python: the one in C reserves what an index or a size claims
    """Reads dicts, lists, strings and numbers; what a pickle could run is refused."""

    dispatch = dict(pickle._Unpickler.dispatch)
    del dispatch[pickle.BYTEARRAY8[0]]

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load_test_ids(path) -> dict:
    """Start positions from the published pickle: {duration_max: {query_frames: list of starts}}.
    InputError for anything else; executes nothing."""
    try:
        starts = _Plain(io.BytesIO(Path(path).read_bytes())).load()
        lengths = [length for of_length in starts.values() for length in of_length]
        lists = [list(at) for of_length in starts.values() for at in of_length.values()]
        numbers = [*lengths, *(start for at in lists for start in at)]
        if (
            set(starts) != set(crops.DURATIONS)
            or not all(starts.values())
            or not all(lists)
            or not all(type(n) is int and n >= 0 for n in numbers)
            or 0 in lengths
        ):
            raise ValueError("it holds something else")
    except Exception as error:  # whatever a foreign file makes of pickle
        reason = "it has other instructions" if isinstance(error, KeyError) else error
        raise InputError(
            f"{paths.relative(path)} is no pickle of start positions, duration_max -> "
            f"query frames -> list of starts, for duration_max {crops.DURATIONS} ({reason})."
        ) from None
    return starts


def load_published(file, encoder="mt") -> nn.Module:
    """An encoder `mt` or `mlstm` from a checkpoint of the published code, a `.pth`.

    Its size follows from its weights. Training on several GPUs leaves names that begin with
    `module.`; the published Transformer carries an `encoder_layer` that it never uses. Reads
    numbers only, executes nothing. Raises InputError if it is missing, or something else.
    """
    check.one_of("encoder", encoder, ("mt", "mlstm"), ", if a published checkpoint is given")
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)["model"]
        weights = {name.removeprefix("module."): weight for name, weight in weights.items()}
        weights = {name: w for name, w in weights.items() if not name.startswith("encoder_layer.")}
        if not all(torch.isfinite(weight).all() for weight in weights.values()):
            raise ValueError("its weights are not finite")
        layers = re.findall(r"(?:encoder\.layers\.|weight_hh_l)(\d+)", " ".join(weights))
        if encoder == "mlstm":
            sizes = {"hidden": weights["lstm.weight_hh_l0"].shape[1]}
        else:
            sizes = {"width": len(weights["linear1.weight"])}
            sizes["feedforward"] = len(weights["encoder.layers.0.linear1.weight"])
        model = encoders.registry[encoder](len(set(layers)), **sizes)
        model.load_state_dict(weights)
        return model.eval()
    except Exception as error:  # whatever a foreign file makes of torch.load
        reason = " ".join(str(error).split()).split(". ")[0][:200]  # not how to execute it
        raise InputError(
            f"{paths.relative(file)} is no published checkpoint of {encoder}, a "
            f"dict with its weights under 'model' ({reason})."
        ) from None
