"""Stored fingerprints: the published `.npy` layout, and one packed array for training.

A fingerprint array is float32 (T, 128) with rows of unit norm, T = 2 * seconds - 1. A training
set is a folder of `{songId}-{clipId:02d}.npy`, songId 1..N, clipId 00 the original and 01.. its
degraded versions. `pack` copies such a folder into one file, which is then memory-mapped:
training opens no other file.
"""

import hashlib
import json
import re
from dataclasses import dataclass

import numpy as np

from amg import paths, progress
from amg.check import InputError
from amg.nafp import DIM


@dataclass(frozen=True)
class TrainingSet:
    """Songs x clips: clip c of song s is `frames[first[s, c] :][: length[s, c]]`."""

    frames: np.ndarray  # float32 (N, 128), memory-mapped
    first: np.ndarray  # int64 (n_songs, n_clips)
    length: np.ndarray  # int64 (n_songs, n_clips)
    content: str  # digest of the frames

    def clip(self, song, clip):
        """Fingerprints of one clip, float32 (T, 128)."""
        return self.frames[self.first[song, clip] :][: self.length[song, clip]]


def natural_key(path):
    """Sort key that reads digits as numbers: 2.npy before 10.npy, 2_0 before 2_1."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def save(path, fingerprints):
    """Write one fingerprint array atomically."""
    with paths.atomic(path) as temporary:
        np.save(temporary, fingerprints.astype(np.float32, copy=False))


def load(path):
    """Read one fingerprint array; returns float32 (T, 128). Raises InputError if it is none."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{paths.relative(path)} is not a readable .npy array ({error}).") from None
    if array.ndim != 2 or array.shape[1] != DIM or not len(array) or array.dtype.kind != "f":
        raise InputError(f"{paths.relative(path)} has shape {array.shape} and type {array.dtype}, "
                         f"but fingerprints are floats of shape (frames, {DIM}).")
    array = array.astype(np.float32, copy=False)
    norms = np.linalg.norm(array, axis=1)
    if not np.abs(norms - 1).max() < 0.01:  # false for NaN, too
        raise InputError(f"{paths.relative(path)} has rows of norm {norms.min():.3g} to "
                         f"{norms.max():.3g}, but fingerprints have norm 1; extract it again.")
    return array


def files(folder, made_by):
    """The .npy files of a folder in natural order; InputError if there are none."""
    found = sorted(folder.glob("[!.]*.npy"), key=natural_key) if folder.is_dir() else []
    if not found:
        raise InputError(f"{paths.relative(folder)} holds no fingerprints; run notebook {made_by} "
                         "first, or unpack your own there.")
    return found


def song_file(folder, song, clip):
    """Path of a clip in the published layout; `song` counts from 1."""
    return folder / f"{song}-{clip:02d}.npy"


def claim(folder, recipe):
    """Mark `folder` as made by `recipe`, a JSON-able dict.

    What another recipe of the kit made is put aside. Raises InputError if the folder holds
    fingerprints that the kit did not make.
    """
    note = folder / "recipe.json"
    if note.exists():
        if json.loads(note.read_text()) == recipe:
            return
        paths.put_aside(folder)
    elif folder.is_dir() and any(folder.glob("[!.]*.npy")):
        raise InputError(f"{paths.relative(folder)} holds fingerprints that this notebook did not "
                         "make; choose another name, or move them elsewhere.")
    with paths.atomic(note) as temporary:
        temporary.write_text(json.dumps(recipe, indent=1) + "\n")


def stamp(files):
    """Digest of names, sizes and times of files: changes when any of them does."""
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]


def pack(folder):
    """Pack a training folder once, and open the packed file memory-mapped: a TrainingSet.

    The packed copy lies in `data/cache/` and is made anew when any file of the folder changes.
    """
    found = files(folder, "01_data_prep")
    grid = _grid(folder, found)
    name = f"{folder.parent.name}-{folder.name}"
    packed = paths.resolve(f"data/cache/{name}-{stamp(found)}.npy")
    note = packed.with_suffix(".json")
    if not note.exists():
        for outdated in packed.parent.glob(f"{name}-{16 * '[0-9a-f]'}.*"):
            outdated.unlink()
        _write_packed(packed, note, grid)
    described = json.loads(note.read_text())
    length = np.array(described["length"])
    first = np.concatenate([[0], np.cumsum(length.ravel())[:-1]]).reshape(length.shape)
    frames = np.load(packed, mmap_mode="r", allow_pickle=False)
    return TrainingSet(frames, first, length, described["content"])


def _grid(folder, found):
    """Paths as a list of songs, each a list of its clips; InputError if one is missing."""
    names = [re.fullmatch(r"(\d+)-(\d+)", file.stem) for file in found]
    for file, match in zip(found, names):
        if match is None:
            raise InputError(f"{paths.relative(file)} is not named songId-clipId.npy, "
                             "as 12-00.npy; move it elsewhere.")
    songs = sorted({int(match[1]) for match in names})
    clips = range(1 + max(int(match[2]) for match in names))
    present = set(found)
    grid = [[song_file(folder, song, clip) for clip in clips] for song in songs]
    missing = [path.name for row in grid for path in row if path not in present]
    if missing:
        raise InputError(f"{paths.relative(folder)} lacks {len(missing)} files, the first "
                         f"{missing[0]}; every song needs clips 00 to {clips[-1]:02d}.")
    return grid


def _write_packed(packed, note, grid):
    lengths, content = [[len(load(path)) for path in row] for row in grid], hashlib.sha256()
    with paths.atomic(packed) as temporary:
        out = np.lib.format.open_memmap(temporary, "w+", np.float32, (sum(map(sum, lengths)), DIM))
        at = 0
        for row in progress.bar(grid, desc="packing", unit="song"):
            for array in map(load, row):
                out[at : at + len(array)] = array
                content.update(array)
                at += len(array)
        out.flush()
    # written last: its presence says that the packed file is whole
    with paths.atomic(note) as temporary:
        temporary.write_text(json.dumps({"length": lengths, "content": content.hexdigest()[:16]}))
