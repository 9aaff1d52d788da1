"""Recordings of any format and length -> 8 kHz mono FLAC and a manifest row.

Used by the corpora `folder` (any directory of audio) and `open_music`. What cannot be used is
a row, too, with the reason in its column `refused`, so that nothing is left out in silence.
"""

import hashlib
import os
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import soundfile

from amg import files, paths, progress
from amg.check import InputError
from amg.sound import audio, clips
from amg.sound.audio import SAMPLE_RATE

COLUMNS = ("track", "file", "seconds", "level_db", "peak", "sha256", "refused")
SUFFIXES = tuple(f".{name.lower()}" for name in (
    "aif", "aiff", "au", "caf", "flac", "mp3", "oga", "ogg", "opus", "snd", "w64", "wav"))


def find(folder) -> list[Path]:
    """Audio files below `folder`, by suffix, in the order of their relative paths."""
    return sorted(path for path in folder.rglob("*")
                  if path.suffix.lower() in SUFFIXES and path.is_file())


def first_folder(track) -> str:
    """Of a path below a corpus's folder: the first folder in it, "." if it lies in none."""
    return Path(track).parts[0] if len(Path(track).parts) > 1 else "."


def root(folder) -> Path:
    """Resolve a user's directory of audio; InputError if there is none, or no audio in it."""
    path = paths.resolve(folder or ".")
    if not folder or not path.is_dir() or not find(path):
        raise InputError(f"folder is {str(folder)!r}, but must be a directory with audio files "
                         f"({', '.join(suffix[1:] for suffix in SUFFIXES)}).")
    return path


def decode_folder(folder, shortest_s, workers=2) -> pd.DataFrame:
    """Decode a user's directory to `data/audio/folder/<name>-<hash>/`; its manifest.

    It is written beside the decoded files, too, as `manifest.csv`.
    """
    source = root(folder)
    name = f"{source.name}-{hashlib.sha256(str(source).encode()).hexdigest()[:8]}"
    target = paths.resolve(f"data/audio/folder/{name}")
    table = pd.DataFrame(decode_all(source, target, shortest_s, workers))
    with files.atomic(target / "manifest.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


def decode_all(folder, target, shortest_s, workers=2, label="decoding") -> list[dict]:
    """Decode every audio file below `folder` to `target`; returns the rows of a manifest.

    Columns: track (path below `folder`), file (the decoded FLAC), seconds, level_db (RMS, dB
    below full scale), peak, sha256 (of the decoded 16-bit samples), refused (why it is unusable:
    not decodable, silent, shorter than `shortest_s`, or the same samples as an earlier track;
    else empty). Files already decoded are kept, so an interrupted call continues.
    """
    jobs = [joblib.delayed(decode)(path, path.relative_to(folder), target, shortest_s)
            for path in find(folder)]
    results = joblib.Parallel(workers, return_as="generator")(jobs)
    rows = list(progress.bar(results, desc=label, unit="file", total=len(jobs)))
    first = {}
    for row in rows:
        if not row["refused"] and first.setdefault(row["sha256"], row) is not row:
            row["refused"] = f"same samples as {first[row['sha256']]['track']}"
    return rows


def decode(path, track, target, shortest_s) -> dict:
    """Decode one file, unless that is done; returns its manifest row.

    What was decoded bears the time of its source: a source or a copy of another date is noticed,
    older or newer.
    """
    row = dict.fromkeys(COLUMNS, "") | {"track": str(track), "seconds": 0.0}
    file, time = (target / track).with_name(f"{track.name}.flac"), path.stat().st_mtime_ns
    try:
        if not file.exists() or file.stat().st_mtime_ns != time:
            with files.atomic(file) as temporary:
                write(temporary, audio.blocks(path))
                os.utime(temporary, ns=(time, time))
        found = clips.measure(soundfile.blocks(file, blocksize=60 * SAMPLE_RATE, dtype="float32"))
        found["refused"] = _verdict(found, shortest_s)
        return row | {"file": str(paths.relative(file))} | found
    except InputError as reason:
        return row | {"refused": str(reason).removeprefix(f"{path} ").split(" (")[0]}


def write(file, blocks) -> None:
    """Write blocks of 8 kHz samples to a 16-bit FLAC file; InputError if there are none."""
    n_samples = 0
    with soundfile.SoundFile(file, "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC") as out:
        for block in blocks:
            out.write(np.clip(block, -1, 1))
            n_samples += len(block)
    if not n_samples:  # a FLAC file without samples could not be read again
        raise InputError("holds no sound")


def _verdict(found, shortest_s):
    if found["seconds"] < shortest_s:
        return f"lasts {found['seconds']:.1f} s, shorter than {shortest_s:g} s"
    return "silent" if found["level_db"] < clips.SILENT_DB else ""
