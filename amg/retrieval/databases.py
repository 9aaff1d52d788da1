"""Databases: songs cut into segments, one vector per segment (AMG paper, "Build DB").

The tree is the published one: `dummy_db/fma_part`, `db/test_30s` and `query` hold a file per
song; `fma_part_10s`, `test_10s` and so on hold the same songs cut into segments.
"""

import pickle
from dataclasses import dataclass

import numpy as np

from amg import files, paths, progress
from amg.fingerprint import features
from amg.embedding import crops
from amg.retrieval import search
from amg.check import InputError

DUMMY, TEST, QUERY = "dummy_db/fma_part", "db/test_30s", "query"


def split_folder(whole, duration_max):
    """Folder of the segments of `whole`: `fma_part` -> `fma_part_10s`, `test_30s` -> `test_10s`."""
    return whole.with_name(f"{whole.name.removesuffix('_30s')}_{duration_max}s")


def split_database(source, target, max_len):
    """Cut every file of `source` into consecutive pieces of `max_len` frames.

    Piece i of `{stem}.npy` becomes `{stem}_{i}.npy` in `target`; a shorter tail is dropped.
    Returns the number of pieces. What an earlier call made of other songs is put aside. Pieces
    that came with an unpacked archive are kept. Raises InputError, before anything is written,
    if such pieces are not those of `source`.
    """
    songs = features.find(source, "01_data_prep")
    pieces = {f"{song.stem}_{i}.npy": (song, i * max_len) for song in songs
              for i in range(len(features.load(song)) // max_len)}
    note = features.recipe_of(target)
    present = {path.name for path in target.glob("[!.]*.npy")}
    if present and not note.exists():
        _verify(target, present, pieces, max_len)
    else:
        features.claim(target, {"source": files.stamp(songs), "frames": max_len})
    frames = {}
    for name, (song, begin) in progress.bar(pieces.items(), desc=f"splitting {target.name}",
                                            unit="piece"):
        if not (target / name).exists():
            if song not in frames:
                frames = {song: features.load(song)}  # pieces come song by song
            features.save(target / name, frames[song][begin : begin + max_len])
    return len(pieces)


def _verify(target, present, pieces, max_len):
    """InputError unless the unpacked pieces in `target` are exactly those of their songs."""
    for name in sorted(present):
        song, begin = pieces.get(name, (None, 0))
        if song is None or not np.array_equal(
                features.load(target / name), features.load(song)[begin : begin + max_len]):
            raise InputError(f"{paths.relative(target / name)} is no segment of {max_len} frames of "
                             "a song beside that folder; move the folder's files elsewhere.")


@dataclass(frozen=True)
class Database:
    """Songs to search: distractors first, then the test songs."""

    sequences: search.Sequences
    names: list  # one per song
    first_test: int  # index of the first test song


def load_database(root):
    """Read the unbroken songs of a database tree: returns (Database, queries).

    queries: list of float32 (T, 128); query i is a degraded version of song first_test + i.
    """
    dummies = features.find(root / DUMMY, "01_data_prep")
    tests = features.find(root / TEST, "01_data_prep")
    asked = features.find(root / QUERY, "01_data_prep")
    if [path.name for path in tests] != [path.name for path in asked]:
        raise InputError(f"{paths.relative(root / QUERY)} and {paths.relative(root / TEST)} must "
                         "hold files of the same names, a query for each test song.")
    songs = [features.load(path) for path in dummies + tests]
    database = Database(search.Sequences.of(songs), [p.stem for p in dummies + tests], len(dummies))
    return database, [features.load(path) for path in asked]


def load_songs(folder):
    """All fingerprints of a folder in natural order: list of float32 (T, 128)."""
    return [features.load(path) for path in features.find(folder, "01_data_prep")]


def load_segments(root, database, duration_max, length):
    """Segments of a split tree, in the order of the songs: a `search.Segments`.

    Raises InputError if the tree is not that of `database`, cut at `length` frames.
    """
    segments = search.Segments.of(database.sequences, length)
    per_song = np.bincount(segments.song, minlength=len(database.names))
    names = [f"{name}_{i}" for name, count in zip(database.names, per_song) for i in range(count)]
    tests = segments.song >= database.first_test
    for whole, first, last in ((DUMMY, 0, np.argmax(tests)), (TEST, np.argmax(tests), len(names))):
        folder = split_folder(root / whole, duration_max)
        if folder == root / whole:  # test songs of 30 s are their own segments
            continue
        pieces = features.find(folder, "02_split")
        if [path.stem for path in pieces] != names[first:last]:
            raise _not_split(folder, length)
        for path, start in zip(pieces, segments.start[first:last]):
            if not np.array_equal(features.load(path), database.sequences.frames[start : start + length]):
                raise _not_split(folder, length)
    return segments


class _Plain(pickle.Unpickler):
    """Reads dicts, lists, strings and numbers; anything that a pickle could run is refused."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, _):
        raise pickle.UnpicklingError("it asks for an object outside of it")


def load_test_ids(path):
    """Read the published pickle of start positions, and nothing else that a pickle may hold.

    Returns {duration_max: {query_frames: list of starts}}. Raises InputError for anything else.
    """
    try:
        with open(path, "rb") as file:
            starts = _Plain(file).load()
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError,
            AttributeError, UnicodeDecodeError) as error:
        raise InputError(f"{paths.relative(path)} is no pickle of start positions ({error}).") from None
    try:
        whole = all(type(n) is int for of_length in starts.values()
                    for length, at in of_length.items() for n in (length, *at)) and all(
                    at for of_length in starts.values() for at in of_length.values())
    except (AttributeError, TypeError):
        whole = False
    if not whole or set(starts) != set(crops.DURATIONS):
        raise InputError(f"{paths.relative(path)} must hold start positions as duration_max -> query "
                         f"frames -> list of starts, for duration_max {crops.DURATIONS}.")
    return starts


def _not_split(folder, length):
    return InputError(f"{paths.relative(folder)} does not hold the segments of {length} frames "
                      "of the songs beside it; move its files elsewhere and run notebook 02_split.")
