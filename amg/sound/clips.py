"""Clips: excerpts of recordings."""

from dataclasses import dataclass, fields

import numpy as np
import soundfile

from amg import paths
from amg.sound.audio import SAMPLE_RATE


@dataclass(frozen=True)
class Clip:
    """One excerpt of one recording."""

    piece: str
    recording: str
    source: str
    version: str
    file: str
    start_s: float
    seconds: float
    level_db: float = 0.0
    peak: float = 0.0
    sha256: str = ""
    role: str = ""
    refused: str = ""

    def read(self) -> np.ndarray:
        with soundfile.SoundFile(paths.resolve(self.file)) as file:
            file.seek(round(self.start_s * SAMPLE_RATE))
            return file.read(round(self.seconds * SAMPLE_RATE), dtype="float32")


def from_table(table) -> list[Clip]:
    names = [field.name for field in fields(Clip)]
    return [Clip(*row) for row in table[names].fillna("").itertuples(index=False)]
