"""What turns sound into fingerprints and segments into vectors in a catalogue.

Nothing here depends on the music that is indexed: the lift's usual energies, which notebooks fit to
a database's distractors, come with the kit, or from the calibration of one's own fingerprinter.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from amg import check, checkpoint, code, files, paths
from amg.check import InputError
from amg.embedding import crops, encoders, runs
from amg.fingerprint import fingerprinters
from amg.fingerprint.nafp import DIM
from amg.retrieval import search

USUAL = "usual.safetensors"  # what `calibration` wrote
FITTED = ("lift", "lift1024")  # encoders whose usual energies lie in that file
ENCODERS = (*FITTED, "mean", "mt")


@dataclass(frozen=True)
class Models:
    """A fingerprinter, an encoder, and the length of segments in seconds."""

    fingerprinter: fingerprinters.Source
    encoder: nn.Module
    duration_max: int
    about: dict  # what a catalogue tells of them: names, digests and `code.of` what they do

    def segments(self, sequences) -> search.Segments:
        """Segments of `search.Sequences`, their tails included."""
        return search.Segments.of(sequences, crops.segment_frames(self.duration_max), tails=True)

    def vectors(self, sequences) -> np.ndarray:
        """One vector for each of these segments, as `encoders.embed_runs`."""
        segments = self.segments(sequences)
        end = sequences.bounds[segments.song + 1]
        length = np.minimum(segments.length, end - segments.start)
        return encoders.embed_runs(self.encoder, sequences.frames, segments.start, length)


def home(fingerprinter) -> Path:
    """Where the calibration of a `fingerprinters.Source` lies: with the kit for the shipped one."""
    if fingerprinter.digest == fingerprinters.find().digest:
        return runs.shipped("").parent
    return paths.resolve(f"data/calibration/{fingerprinter.digest}")


def calibrated(fingerprinter, name) -> Path:
    """A file in its `home`; InputError if it is not there."""
    path = home(fingerprinter) / name
    if not path.exists():
        raise InputError(
            f"the fingerprinter {fingerprinter.digest} is not calibrated: nothing tells how good a "
            "score must be; first run amg calibrate --fingerprinter FILE --train-set "
            "NAME --database FOLDER, on what notebook 01 made with it."
        )
    return path


def load(encoder="lift", duration_max=10, fingerprinter="") -> Models:
    """The models by their names, of which the encoder is one of ENCODERS, whose weights come with
    the kit; fingerprinter: as for `fingerprinters.find`."""
    check.one_of("encoder", encoder, ENCODERS)
    crops.segment_frames(duration_max)
    source, weights = fingerprinters.find(fingerprinter), None
    if encoder == "mt":
        weights = runs.shipped(runs.Config(duration_max, encoder).name)
        model = runs.find(runs.SHIPPED, encoder, duration_max=duration_max).encoder
    else:
        model = encoders.registry.build(encoder, {}).eval()
    if encoder in FITTED:
        weights = calibrated(source, USUAL)
        usual, _ = checkpoint.load(weights)
        runs.load_weights(model, {**model.state_dict(), "usual": usual[encoder]}, weights)
    bits = getattr(model, "bits", 0)
    about = {
        "encoder": encoder,
        "duration_max": duration_max,
        "fingerprinter": source.digest,
        "weights": files.sha256(weights)[:16] if weights else "",
        "vector_type": "uint8" if bits else "float32",
        "vector_values": bits // 8 or DIM,
        "code": code.of(__name__, type(model).__module__) | source.code,
    }
    return Models(source, model, duration_max, about)
