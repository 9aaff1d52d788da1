"""A catalogue in memory, as `identify` searches it."""

import os
import sys
import threading
import weakref
from dataclasses import dataclass, field
from functools import cached_property

import faiss
import numpy as np
import torch

from amg import paths
from amg.catalogue import models, significance, store
from amg.check import InputError
from amg.retrieval import search


@dataclass(frozen=True)
class Catalogue:
    """An indexed catalogue, read once and then searched, by as many threads as one likes."""

    models: models.Models
    sequences: search.Sequences  # of all sounds
    vectors: np.ndarray  # of their segments, as `encoders.embed_runs`
    places: list  # a store.Place per sound, one that exists if any does; None: it was removed
    copies: dict = field(default_factory=dict)  # SHA-256 -> the Places of all files that have it
    _indexes: dict = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, folder, fingerprinter="") -> "Catalogue":
        """What `index` made in a folder, with the fingerprinter it was made with, as for
        `fingerprinters.find`. Raises InputError if there is no catalogue, if it is empty, or if it
        was made by something that is not at hand; of other code it is told on standard error."""
        with store.Store(folder) as on_disk:
            encoder, duration_max = map(on_disk.about.get, ("encoder", "duration_max"))
            made_by = models.load(encoder, duration_max, fingerprinter)
            if other_code := on_disk.compare(made_by.about):
                print(f"amg: {other_code}.", file=sys.stderr)
            sounds, copies, arrays = on_disk.read()
            if not sounds:
                raise InputError(
                    f"{paths.relative(on_disk.folder)} has no music in it; index some first: "
                    "amg index FOLDER"
                )
        bounds = np.cumsum([0, *(n_frames for _, n_frames, *_ in sounds)])
        in_order = [_there(copies.get(sha256, [None])) for sha256, *_ in sounds]
        return cls(made_by, search.Sequences(arrays[0], bounds), arrays[1], in_order, copies)

    @classmethod
    def of(cls, songs, made_by, places=None) -> "Catalogue":
        """Of fingerprints that are at hand, a list of float32 (T_i, 128), by default without
        names; made_by: a `models.Models`."""
        sequences = search.Sequences.of(songs)
        return cls(made_by, sequences, made_by.vectors(sequences), places or [None] * len(songs))

    @property
    def n_frames(self) -> int:
        """Of all sounds."""
        return len(self.sequences.frames)

    @cached_property
    def segments(self) -> search.Segments:
        """What `vectors` stand for."""
        return self.models.segments(self.sequences)

    @cached_property
    def calibration(self) -> significance.Calibration:
        """How good a score has to be."""
        return significance.load(self.models)

    def index(self, kind) -> faiss.Index | faiss.IndexBinary:
        """The exhaustive index of `vectors`, or of `frames`; made when it is first asked for."""
        with self._lock:  # large, so that no two threads make it at once
            process = os.getpid(), kind
            if process not in self._indexes:
                rows = self.sequences.frames if kind == "frames" else self.vectors
                self._indexes[process] = _in_parts(rows)
            return self._indexes[process]


def _there(places):
    """The first that exists, or else the first."""
    several = places if len(places) > 1 else ()
    return next((place for place in several if os.path.exists(place.path)), places[0])


def _in_parts(vectors):
    """An exhaustive index of a part for each core, so that a single query keeps all of them
    busy."""
    n_parts = min(faiss.omp_get_max_threads(), len(vectors))
    parts = [search.flat_index(part) for part in np.array_split(vectors, n_parts)]
    shards = faiss.IndexBinaryShards if vectors.dtype == np.uint8 else faiss.IndexShards
    index = shards(parts[0].d, True, True)  # in threads; numbered on from part to part
    for part in parts:
        index.add_shard(part)
    _THREADED.add(index)
    return index


_THREADED = weakref.WeakSet()


def _forked():
    """Threads do not come along into a forked process: there, what would wait for them has one of
    its own, or is never deleted."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    for index in _THREADED:
        index.this.disown()


os.register_at_fork(after_in_child=_forked)
