"""A catalogue in memory, as it is asked."""

import threading
from dataclasses import dataclass, field

import faiss
import numpy as np

from amg import paths
from amg.catalogue import models as models_
from amg.catalogue import store as store_
from amg.catalogue.models import Models
from amg.check import InputError
from amg.retrieval import search


@dataclass(frozen=True)
class Catalogue:
    """An indexed catalogue, read once and then asked, by as many threads as one likes."""

    models: Models
    sequences: search.Sequences  # of all sounds
    vectors: np.ndarray  # of their segments, as `encoders.embed_runs`
    places: list  # a store.Place per sound, None: its file has gone meanwhile
    _indexes: dict = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, folder, fingerprinter="") -> "Catalogue":
        """What `index` made in a folder, with the fingerprinter it was made with, as for
        `fingerprinters.find`. Raises InputError if there is no catalogue, if it is empty, or if it
        was made by something that is not at hand."""
        folder = paths.resolve(folder)
        store = store_.Store(folder)
        try:
            models = models_.load(
                store.about.get("encoder"), store.about.get("duration_max"), fingerprinter
            )
            store.compare(models.about)
            frames, vectors = store.arrays()
            places = {place.sha256: place for place in reversed(store.places().values())}
            sounds = store.sounds()
        finally:
            store.tables.close()
        if not len(vectors):
            raise InputError(
                f"{paths.relative(folder)} has no music in it; index some first: "
                "python -m amg index FOLDER"
            )
        bounds = np.cumsum([0, *(n_frames for _, n_frames, *_ in sounds)])
        return cls(
            models,
            search.Sequences(frames, bounds),
            vectors,
            [places.get(sha256) for sha256, *_ in sounds],
        )

    @classmethod
    def of(cls, songs, models, places=None) -> "Catalogue":
        """Of fingerprints that are at hand, a list of float32 (T_i, 128), by default without
        names."""
        vectors = np.concatenate([models.vectors(song) for song in songs])
        return cls(models, search.Sequences.of(songs), vectors, places or [None] * len(songs))

    @property
    def n_frames(self) -> int:
        """Of all sounds."""
        return len(self.sequences.frames)

    @property
    def segments(self) -> search.Segments:
        """What `vectors` stand for."""
        with self._lock:
            if "segments" not in self._indexes:
                self._indexes["segments"] = self.models.segments(self.sequences)
            return self._indexes["segments"]

    def index(self, kind) -> faiss.Index | faiss.IndexBinary:
        """The exhaustive index of `vectors`, or of `frames`; made when it is first asked for."""
        with self._lock:
            if kind not in self._indexes:
                self._indexes[kind] = _in_parts(
                    self.sequences.frames if kind == "frames" else self.vectors
                )
            return self._indexes[kind]


def _in_parts(vectors):
    """An exhaustive index of a part for each core, so that a single query keeps all of them
    busy."""
    parts = [
        search.flat_index(part)
        for part in np.array_split(vectors, min(faiss.omp_get_max_threads(), len(vectors)))
    ]
    shards = faiss.IndexBinaryShards if vectors.dtype == np.uint8 else faiss.IndexShards
    index = shards(parts[0].d, True, True)  # in threads; numbered on from part to part
    for part in parts:
        index.add_shard(part)
    return index
