"""Stored fingerprints: the published `.npy` layout, and one packed array for training.

A fingerprint array is float32 (T, D), rows of unit norm, T = 2 * seconds - 1; D is 128 for NAFP.
A training set is a folder of `{songId}-{clipId:02d}.npy`, songId 1..N, clipId 00 the original and
01.. its degraded versions. `pack` copies such a folder into one file; training opens no other.
"""

import glob
import hashlib
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amg import files, paths, progress, provenance
from amg.check import InputError
from amg.sound.clips import read_csv


@dataclass(frozen=True)
class TrainingSet:
    """Songs x clips: clip c of song s is `frames[first[s, c] :][: length[s, c]]`."""

    frames: np.ndarray  # float32 (N, D), memory-mapped
    first: np.ndarray  # int64 (n_songs, n_clips)
    length: np.ndarray  # int64 (n_songs, n_clips), 0 where a version is missing
    content: str  # digest of frames and lengths
    problems: list  # of {"file", "problem", "done"}: what was wrong with the folder
    fingerprinter: str | None = None  # digest; None: not known

    def clip(self, song, clip) -> np.ndarray:
        """Fingerprints of one clip, float32 (T, D)."""
        return self.frames[self.first[song, clip] :][: self.length[song, clip]]


def songs_table(folder) -> Path:
    """The CSV of clips beside a training set that notebook 01 made: inside are only arrays."""
    folder = provenance.find(folder, "01_data_prep", unfinished=True).folder
    return folder.with_name(f"{folder.name}.songs.csv")


def recordings(folder, n_songs) -> list[str]:
    """The recording of each song of a training set; of a set from elsewhere, each its own."""
    table = songs_table(folder)
    if not table.exists():
        return [str(song) for song in range(n_songs)]
    return read_csv(table).recording.tolist()


def save(path, fingerprints) -> None:
    """Write one fingerprint array atomically."""
    with files.atomic(path) as temporary:
        np.save(temporary, fingerprints.astype(np.float32, copy=False))


def load(path) -> np.ndarray:
    """Read one fingerprint array, float32 (T, D); InputError if it is none."""
    array, problem = _read(path)
    if problem:
        raise InputError(f"{paths.relative(path)} {problem}; extract it again.")
    return array


def _read(path, dimension=None):
    """(array, None), (array, problem) of rows of another norm than 1, or (None, problem)."""
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        return None, "is missing"
    except MemoryError:
        return None, "is not a readable .npy array (it claims more rows than memory holds)"
    except Exception as error:  # numpy lets through whatever a broken header makes Python raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        return None, f"is not a readable .npy array ({reason})"  # not how to unpickle it
    wide = array.ndim == 2 and array.shape[1] == (dimension or max(array.shape[1], 2))
    if not wide or not len(array) or array.dtype.kind != "f":
        wanted = f"floats of shape (frames, {dimension or 'dimension'})"
        kind = f"has shape {array.shape} and type {array.dtype}"
        return None, f"{kind}, but fingerprints are {wanted}"
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        array = array.astype(np.float32, copy=False)
        norms = np.linalg.norm(array, axis=1)
    if not np.isfinite(norms).all() or norms.min() == 0:
        return None, "has rows of zeros, infinities or NaN"
    if np.abs(norms - 1).max() >= 0.01:
        return array, f"has rows of norm {norms.min():.3g} to {norms.max():.3g}, not 1"
    return array, None


def find(folder) -> list[Path]:
    """The .npy files of a folder by name, as published; InputError if there are none."""
    arrays = sorted(folder.glob("[!.]*.npy")) if folder.is_dir() else []
    if not arrays:
        raise InputError(
            f"{paths.relative(folder)} holds no fingerprints; run notebook 01_data_prep first, or "
            "unpack your own there."
        )
    return arrays


def song_file(folder, song, clip) -> Path:
    """Path of a clip in the published layout; `song` counts from 1."""
    return folder / f"{song}-{clip:02d}.npy"


def pack(folder) -> TrainingSet:
    """Pack a training folder once, and open the packed file memory-mapped: a TrainingSet.

    The packed copy lies in `data/cache/`, named by the identity of the set: what made it or, if it
    came from elsewhere, the names, sizes and times of its files. What cannot be used is left out,
    and listed in `problems`. Raises InputError if nothing is left, or if the set is not finished.
    """
    arrays = find(folder)
    training_set = provenance.find(folder, "01_data_prep")
    name = f"{training_set.folder.parent.name}-{training_set.folder.name}"
    packed = paths.resolve(f"data/cache/{name}-{training_set.identity}.f32")
    note = packed.with_suffix(".f32.json")
    described = files.read_json(note)
    if not described or not packed.exists() or packed.stat().st_size != described["bytes"]:
        for outdated in packed.parent.glob(f"{glob.escape(name)}-{16 * '[0-9a-f]'}.*"):
            outdated.unlink(missing_ok=True)
        described = _write_packed(folder, arrays, packed)
        files.write_json(note, described)  # last: its presence says that the packed file is whole
    length = np.array(described["length"])
    first = np.concatenate([[0], np.cumsum(length.ravel())[:-1]]).reshape(length.shape)
    frames = np.memmap(packed, np.float32, "r").reshape(-1, described["dimension"])
    content, problems = described["content"], described["problems"]
    fingerprinter = training_set.record.get("inputs", {}).get("fingerprinter")
    return TrainingSet(frames, first, length, content, problems, fingerprinter)


def _write_packed(folder, arrays, packed):
    """Write the clips of all songs that have an original, song after song; returns the note."""
    songs, n_clips, problems = _songs(arrays)
    lengths, dimension, content = [], None, hashlib.sha256()
    with files.atomic(packed) as temporary, temporary.open("wb") as out:
        for song in progress.bar(songs, desc="packing", unit="song"):
            versions = [song_file(folder, song, clip) for clip in range(n_clips)]
            clips = _clips(versions, dimension, problems)
            if clips:
                frames = np.concatenate(clips)
                out.write(frames.data)
                content.update(frames.data)
                lengths.append([len(clip) for clip in clips])
                dimension = frames.shape[1]
        if not lengths:
            raise InputError(
                f"{paths.relative(folder)} holds no song whose original, as 1-00.npy, can be used: "
                f"{' '.join(problems[0][:2])}."
            )
    content.update(json.dumps(lengths).encode())
    return {
        "length": lengths,
        "dimension": dimension,
        "bytes": packed.stat().st_size,
        "content": content.hexdigest()[:16],
        "problems": [dict(zip(("file", "problem", "done"), problem)) for problem in problems],
    }


def _songs(arrays):
    """Numbers of the songs in order, how many clips one has at most, and problems with names."""
    songs, n_clips, problems = set(), 1, []
    for file in arrays:
        match = re.fullmatch(r"([1-9][0-9]*)-([0-9][0-9])", file.stem)
        if match:
            songs.add(int(match[1]))
            n_clips = max(n_clips, int(match[2]) + 1)
        else:
            problems.append((file.name, "is not named songId-clipId, as 12-00", "left out"))
    n_gaps = max(songs, default=0) - len(songs)
    if n_gaps:
        gaps = (str(n) for n in itertools.count(1) if n not in songs)
        some = ", ".join(itertools.islice(gaps, min(n_gaps, 5))) + (", ..." if n_gaps > 5 else "")
        wrong, done = f"{n_gaps} numbers without a file", "classes are numbered without them"
        problems.append((f"songs {some}", wrong, done))
    return sorted(songs), n_clips, problems


def _clips(versions, dimension, problems):
    """Arrays of a song's files, empty where one is of no use; [] if the first, its original, is."""
    clips = []
    for file in versions:
        array, problem = _read(file, dimension)
        done = "trained without it" if clips else "the song is left out"
        if array is not None and problem:
            array, done = array / np.linalg.norm(array, axis=1, keepdims=True), "rescaled to norm 1"
        if problem:
            problems.append((file.name, problem, done))
        if array is None and not clips:
            return []
        if array is None:
            array = np.empty((0, dimension), np.float32)
        dimension = array.shape[1]
        clips.append(array)
    return clips
