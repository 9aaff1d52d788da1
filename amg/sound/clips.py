"""Clips: excerpts of recordings, what is measured on them, and tables of them.

A clip belongs to one of five ROLES, which share no recording: music that trained the
fingerprinter, music that trains and that validates AMG, test songs, and dummies (distractors).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from amg import files, paths
from amg.check import InputError
from amg.sound import audio
from amg.sound.audio import SAMPLE_RATE

if TYPE_CHECKING:  # else where it is needed: a catalogue has no tables, and is asked sooner
    import pandas as pd

ROLES = ("fingerprinter", "train", "valid", "test", "dummy")
CLIP_S = 30
MARGIN_S = 0.3  # of its recording that a cut clip has before and after it
SILENT_DB = -60.0  # RMS below full scale under which sound counts as silent
MAX_SILENCE_S = 2.0  # longest silence in a usable clip


@dataclass(frozen=True)
class Clip:
    """One excerpt of one recording, or the whole of it."""

    piece: str  # unique name
    recording: str  # what it is an excerpt of
    source: str  # package, first folder ("." if in none), or collection of sheet music
    version: str = ""  # of the package
    file: str = ""  # decoded FLAC, relative to the workspace
    start_s: float = 0.0
    seconds: float = 0.0
    level_db: float = np.nan  # RMS below full scale
    peak: float = np.nan  # 0 to 1
    sha256: str = ""  # of its own 16-bit samples
    role: str = ""  # of ROLES, or noise_<side>
    refused: str = ""  # why it is not used, "" if it is

    def read(self, margin_s=0.0) -> np.ndarray:
        """Samples, float32 (8000 * (seconds + 2 * margin_s),): the clip and what lies around it.

        Raises InputError if its file is gone, or ends before.
        """
        return np.concatenate(list(self.blocks(margin_s)))

    def blocks(self, margin_s=0.0) -> Iterator[np.ndarray]:
        """The same in consecutive pieces of CLIP_S seconds."""
        first = round((self.start_s - margin_s) * SAMPLE_RATE)
        n_samples = round((self.seconds + 2 * margin_s) * SAMPLE_RATE)
        try:
            with soundfile.SoundFile(paths.resolve(self.file)) as file:
                if first < 0 or first + n_samples > len(file):
                    raise InputError(
                        f"{self.file} ends within {margin_s:g} s of the clip {self.piece}; run "
                        "notebook 01_data_prep again."
                    )
                file.seek(first)
                yield from file.blocks(CLIP_S * SAMPLE_RATE, dtype="float32", frames=n_samples)
        except (soundfile.LibsndfileError, OSError):
            raise InputError(
                f"{self.file}, the sound of {self.piece}, is missing or damaged; run "
                "notebook 01_data_prep again."
            ) from None

    def excerpt(self, frame, n_frames) -> np.ndarray:
        """Samples of up to `n_frames` frames of the clip, from one of its frames on."""
        n_frames = min(n_frames, audio.n_frames(self.seconds) - frame)
        start_s = self.start_s + frame * audio.HOP / SAMPLE_RATE
        return replace(self, start_s=start_s, seconds=audio.seconds(n_frames)).read()

    def check(self) -> None:
        """Raise InputError if its sound is not what it was when the clip was measured."""
        if self.measured(pauses=True).sha256 != self.sha256:
            raise InputError(
                f"{self.file} was replaced since {self.piece} was listened to; run "
                "notebook 01_data_prep again."
            )

    def measured(self, pauses=False) -> "Clip":
        """The clip with level, peak, checksum and verdict of its own sound, whatever they were.

        It is refused if it is silent, or, up to CLIP_S, for long, unless it may have `pauses`.
        """
        digest, energy, peak, n_samples = hashlib.sha256(), 0.0, 0.0, 0
        for block in self.blocks():
            digest.update(np.round(block * 32768).astype("<i2").tobytes())
            energy += float(np.square(block, dtype=float).sum())
            peak = max(peak, float(np.abs(block).max(initial=0)))
            n_samples += len(block)
        level_db = round(float(10 * np.log10(energy / max(n_samples, 1) + 1e-12)), 1)
        refused = "silent" if level_db < SILENT_DB else ""
        if not refused and not pauses and self.seconds <= CLIP_S:
            silence_s = longest_silence(self.read())
            refused = f"is silent for {silence_s:.1f} s" if silence_s > MAX_SILENCE_S else ""
        peak, sha256 = round(peak, 3), digest.hexdigest()
        return replace(self, refused=refused, level_db=level_db, peak=peak, sha256=sha256)

    def whole(self, file) -> "Clip":
        """All of a decoded file in place of the clip's own sound, measured."""
        seconds = soundfile.info(file).frames / SAMPLE_RATE
        clip = replace(self, file=str(paths.relative(file)), start_s=0.0, seconds=seconds)
        return clip.measured(pauses=True)


def longest_silence(sound) -> float:
    """Longest stretch, in seconds, whose level stays 40 dB below the RMS of `sound`."""
    blocks = sound[: len(sound) // 400 * 400].reshape(-1, 400)  # 50 ms each
    loud = np.sqrt(np.mean(blocks**2, axis=1)) > 0.01 * np.sqrt(np.mean(sound**2)) + 1e-6
    edges = np.flatnonzero(np.concatenate([[True], loud, [True]]))
    return float((np.diff(edges).max() - 1) * 400 / SAMPLE_RATE)


def hours(clips) -> dict[str, float]:
    """How much of it comes from where: "source version" -> hours."""
    table = to_table(clips)
    names = (table.source + " " + table.version).str.strip()
    return (table.seconds.astype(float).groupby(names).sum() / 3600).round(2).to_dict()


def to_table(clips) -> "pd.DataFrame":
    """A row per clip; its columns are the fields of `Clip`."""
    import pandas as pd

    return pd.DataFrame(clips, columns=[field.name for field in fields(Clip)])


def from_table(table) -> list[Clip]:
    """What `to_table` was given; other columns are left out."""
    table = table[[field.name for field in fields(Clip)]]
    return [Clip(*row) for row in table.itertuples(index=False)]


def write_csv(table, path) -> None:
    """Write a table of clips, and what columns it has besides, for `read_csv`."""
    with files.atomic(path) as temporary:
        table.to_csv(temporary, index=False)


def read_csv(path) -> "pd.DataFrame":
    """A written table of clips: texts stay texts, whatever they look like."""
    import pandas as pd

    texts = [field.name for field in fields(Clip) if field.type is str]
    types, numbers = dict.fromkeys([*texts, "name"], str), ("level_db", "peak")
    missing = dict.fromkeys(numbers, "")
    return pd.read_csv(path, dtype=types, keep_default_na=False, na_values=missing)
