"""Fingerprinters by name: NAFP, and whatever a researcher registers.

A fingerprinter turns 8 kHz mono sound into a sequence of unit vectors. It has `hop` and `window`,
samples from one frame to the next and in a frame, and `extract(recordings, hop=HOP)`. That yields
float32 (T, dimension) for each recording, an iterable of consecutive blocks of samples, and raises
InputError for one shorter than a frame. What it extracts is stored and packed whatever its
dimension; to be trained on and searched it must have 128 values, as NAFP's fingerprints have.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from amg import code, files, paths
from amg.check import InputError
from amg.fingerprint import nafp
from amg.sound.audio import HOP, WINDOW


@dataclass(frozen=True)
class Source:
    """A fingerprinter that is not loaded yet: what workers are given, and what records tell."""

    name: str
    loader: Callable
    weights: Path | None = None

    @property
    def digest(self) -> str:
        """Names it as an input of what is made with it: from its weights, if it has any."""
        return files.sha256(self.weights)[:16] if self.weights else files.digest(self.name)

    @property
    def code(self) -> dict:
        """Module -> digest of what loads and computes it, as `code.of`."""
        module = self.loader.__module__
        own = module.split(".")[0] != "amg"
        return {self.name: code.of_own(self.loader)} if own else code.of(module)

    def load(self, device="cpu"):
        """The fingerprinter, loaded once per process, device and version of its weights.

        Raises InputError if its frames are not those of the paper: 2 * d - 1 in d seconds.
        """
        known = self.weights and self.weights.exists()
        return _load(self, device, known and self.weights.stat().st_mtime_ns)


@lru_cache(1)
def _load(source, device, version):
    loaded = source.loader(source.weights, device)
    if loaded.hop != HOP or not HOP < loaded.window <= WINDOW:
        raise InputError(
            f"fingerprinter {source.name!r} has a frame of {loaded.window} samples every "
            f"{loaded.hop}, but d seconds must have 2 * d - 1 frames: a hop of {HOP} samples "
            f"(half a second) and frames of {HOP + 1} to {WINDOW}."
        )
    return loaded


SOURCES = {"nafp": Source("nafp", nafp.load, nafp.shipped())}


def register(name) -> Callable:
    """Decorate a function (path of weights or None, device) -> fingerprinter: known as `name`.

    Its fingerprints are told from others by the name and the source of the function.
    """

    def keep(load):
        SOURCES[name] = Source(name, load)
        return load

    return keep


def find(fingerprinter="") -> Source:
    """What a notebook's parameter `fingerprinter` names: a registered one, or a file of NAFP
    weights, relative to the workspace; "" is the shipped one."""
    name = fingerprinter or "nafp"
    return SOURCES.get(name) or Source("nafp", nafp.load, paths.resolve(name))
