"""Stored fingerprints: the published `.npy` layout, and one packed array for training.

A fingerprint array is float32 (T, 128) with rows of unit norm, T = 2 * seconds - 1. A training
set is a folder of `{songId}-{clipId:02d}.npy`, songId 1..N, clipId 00 the original and 01.. its
degraded versions. `pack` copies such a folder into one file, which is then memory-mapped:
training opens no other file.
"""

import hashlib
import itertools
import json
import re
import zipfile
from dataclasses import dataclass

import numpy as np

from amg import files, paths, progress
from amg.check import InputError
from amg.fingerprint.nafp import DIM


@dataclass(frozen=True)
class TrainingSet:
    """Songs x clips: clip c of song s is `frames[first[s, c] :][: length[s, c]]`."""

    frames: np.ndarray  # float32 (N, 128), memory-mapped
    first: np.ndarray  # int64 (n_songs, n_clips)
    length: np.ndarray  # int64 (n_songs, n_clips), 0 where a version is missing
    content: str  # digest of frames and lengths
    problems: list  # of {"file", "problem", "done"}: what was wrong with the folder

    def clip(self, song, clip):
        """Fingerprints of one clip, float32 (T, 128)."""
        return self.frames[self.first[song, clip] :][: self.length[song, clip]]


def natural_key(path):
    """Sort key that reads digits as numbers: 2.npy before 10.npy, 2_0 before 2_1."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def save(path, fingerprints):
    """Write one fingerprint array atomically."""
    with files.atomic(path) as temporary:
        np.save(temporary, fingerprints.astype(np.float32, copy=False))


def load(path):
    """Read one fingerprint array; returns float32 (T, 128). Raises InputError if it is none."""
    array, problem = _read(path)
    if array is None:
        raise InputError(f"{paths.relative(path)} {problem}.")
    if problem:
        raise InputError(f"{paths.relative(path)} {problem}, but fingerprints have norm 1; "
                         "extract it again.")
    return array


def _read(path):
    """(array, None) of sound fingerprints, (array, problem) of rows of another norm, or (None,
    problem)."""
    try:
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive of arrays")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0].split(". ")[0]  # not how to unpickle it all the same
        return None, f"is not a readable .npy array ({reason})"
    if array.ndim != 2 or array.shape[1] != DIM or not len(array) or array.dtype.kind != "f":
        return None, (f"has shape {array.shape} and type {array.dtype}, but fingerprints are floats "
                      f"of shape (frames, {DIM})")
    array = array.astype(np.float32, copy=False)
    norms = np.linalg.norm(array, axis=1)
    if not np.isfinite(norms).all() or norms.min() == 0:
        return None, "has rows of zeros, infinities or NaN"
    if np.abs(norms - 1).max() >= 0.01:
        return array, f"has rows of norm {norms.min():.3g} to {norms.max():.3g}"
    return array, None


def find(folder, made_by):
    """The .npy files of a folder in natural order; InputError if there are none."""
    found = sorted(folder.glob("[!.]*.npy"), key=natural_key) if folder.is_dir() else []
    if not found:
        raise InputError(f"{paths.relative(folder)} holds no fingerprints; run notebook {made_by} "
                         "first, or unpack your own there.")
    return found


def song_file(folder, song, clip):
    """Path of a clip in the published layout; `song` counts from 1."""
    return folder / f"{song}-{clip:02d}.npy"


def recipe_of(folder):
    """The note that says how the kit made a folder. It lies beside it: inside are only arrays."""
    return folder.with_name(f"{folder.name}.recipe.json")


def claim(folder, recipe):
    """Mark `folder` as made by `recipe`, a JSON-able dict.

    What another recipe of the kit made is put aside. Raises InputError if the folder holds
    fingerprints that the kit did not make.
    """
    note = recipe_of(folder)
    if note.exists() and folder.is_dir():
        if json.loads(note.read_text()) == recipe:
            return
        note.rename(recipe_of(paths.put_aside(folder)))
    elif folder.is_dir() and any(folder.glob("[!.]*.npy")):
        raise InputError(f"{paths.relative(folder)} holds fingerprints that this notebook did not "
                         "make; choose another name, or move them elsewhere.")
    with files.atomic(note) as temporary:
        temporary.write_text(json.dumps(recipe, indent=1) + "\n")
    folder.mkdir(exist_ok=True)


def pack(folder):
    """Pack a training folder once, and open the packed file memory-mapped: a TrainingSet.

    The packed copy lies in `data/cache/` and is made anew when any file of the folder changes.
    What cannot be used is left out, and listed in `problems`. Raises InputError if nothing is left.
    """
    found = find(folder, "01_data_prep")
    name = f"{folder.parent.name}-{folder.name}"
    packed = paths.resolve(f"data/cache/{name}-{files.stamp(found)}.f32")
    note = packed.with_suffix(".f32.json")
    if not note.exists():
        for outdated in packed.parent.glob(f"{name}-{16 * '[0-9a-f]'}.*"):
            outdated.unlink()
        _write_packed(folder, found, packed, note)
    described = json.loads(note.read_text())
    length = np.array(described["length"])
    first = np.concatenate([[0], np.cumsum(length.ravel())[:-1]]).reshape(length.shape)
    frames = np.memmap(packed, np.float32, "r").reshape(-1, DIM)
    return TrainingSet(frames, first, length, described["content"], described["problems"])


def _write_packed(folder, found, packed, note):
    """Write the clips of all songs that have an original, song after song, and then the note."""
    grid, problems = _grid(found)
    rows, content = [], hashlib.sha256()
    with files.atomic(packed) as temporary:
        with temporary.open("wb") as out:
            for song, clips in progress.bar(grid.items(), desc="packing", unit="song"):
                row = _song(folder, song, clips, problems)
                if row:
                    for array in row:
                        out.write(array.data)
                        content.update(array.data)
                    rows.append([len(array) for array in row])
        if not rows:
            raise InputError(f"{paths.relative(folder)} holds no song whose original, as 1-00.npy, "
                             f"can be used: {problems[0]['file']} {problems[0]['problem']}.")
    content.update(json.dumps(rows).encode())
    # written last: its presence says that the packed file is whole
    with files.atomic(note) as temporary:
        temporary.write_text(json.dumps({"length": rows, "content": content.hexdigest()[:16],
                                         "problems": problems}))


def _grid(found):
    """({song: paths of its clips 00, 01, .., None where there is none}, problems so far)."""
    clips, problems = {}, []
    for file in found:
        match = re.fullmatch(r"([1-9]\d*)-(\d\d)", file.stem)
        if match:
            clips.setdefault(int(match[1]), {})[int(match[2])] = file
        else:
            problems.append(_problem(file.name, "is not named songId-clipId, as 12-00", "left out"))
    n_clips = 1 + max((max(of_song) for of_song in clips.values()), default=0)
    n_gaps = max(clips, default=0) - len(clips)
    if n_gaps:
        some = itertools.islice((n for n in itertools.count(1) if n not in clips), min(n_gaps, 5))
        problems.append(_problem(f"songs {', '.join(map(str, some))}{', ...' if n_gaps > 5 else ''}",
                                 f"{n_gaps} numbers without a file",
                                 "classes are numbered without them"))
    return {song: [clips[song].get(clip) for clip in range(n_clips)]
            for song in sorted(clips)}, problems


def _song(folder, song, clips, problems):
    """Arrays of a song's clips, empty where one is missing; [] if the song is left out."""
    row = []
    for clip, file in enumerate(clips):
        array, problem = _read(file) if file else (None, "is missing")
        done = "the song is left out" if clip == 0 else "trained without it"
        if array is not None and problem:
            array, done = array / np.linalg.norm(array, axis=1, keepdims=True), "rescaled to norm 1"
        if problem:
            problems.append(_problem(song_file(folder, song, clip).name, problem, done))
        if array is None and clip == 0:
            return []
        row.append(np.ascontiguousarray(np.empty((0, DIM), np.float32) if array is None else array))
    return row


def _problem(file, problem, done):
    return {"file": file, "problem": problem, "done": done}
