"""Fingerprints as codes of a few bytes each, for the second stage.

A codec is one of FAISS by its factory name, as SQ4 (4 bits a value, 64 bytes) or PQ32x8 (a product
quantiser, 32 bytes). Codes stand where frames do: rows are decoded when they are read. What is
decoded is made a unit vector again, else long codes would win.
"""

import re
from dataclasses import dataclass

import faiss
import numpy as np

from amg.check import InputError
from amg.fingerprint.nafp import DIM


@dataclass(frozen=True)
class Codes:
    """Frames (N, 128), kept as codes."""

    codec: faiss.Index  # trained; it holds none
    packed: np.ndarray  # uint8 (N, bytes), of an array or a file

    @classmethod
    def of(cls, name, frames, others) -> "Codes":
        """From frames, by the codec of this FAISS name, trained on others; float32 (N, 128) both.

        InputError for a name that FAISS does not know, or that is no code, and for fewer frames to
        train on than it takes.
        """
        try:
            # np: no polysemous training, for codes that are compared bit by bit; it takes longest
            codec = faiss.index_factory(DIM, re.sub("^PQ[0-9]+x[0-9]+$", r"\g<0>np", name))
            codec.sa_code_size()
        except (RuntimeError, TypeError):
            raise InputError(
                f"code is {name!r}, but must be a code of FAISS, as SQ4 or PQ32x8."
            ) from None
        try:
            codec.train(others)
        except RuntimeError:
            too_few = f"{len(others)} frames are too few to train the code {name}."
            raise InputError(too_few) from None
        return cls(codec, codec.sa_encode(np.ascontiguousarray(frames)))

    def __len__(self):
        return len(self.packed)

    def __getitem__(self, rows) -> np.ndarray:
        """Decoded frames, float32 (..., 128), of rows: an int array or a slice."""
        packed = self.packed[rows]
        decoded = self.codec.sa_decode(np.ascontiguousarray(packed.reshape(-1, packed.shape[-1])))
        decoded /= np.maximum(np.linalg.norm(decoded, axis=1, keepdims=True), 1e-6)
        return decoded.reshape(*packed.shape[:-1], DIM)

    def index(self) -> faiss.Index:
        """Exhaustive index of the codes."""
        index = faiss.clone_index(self.codec)
        index.add_sa_codes(self.packed)
        return index

    @property
    def nbytes(self) -> int:
        """Of all codes; the codec itself has some kilobytes."""
        return self.packed.nbytes
