"""Databases: songs cut into segments, one vector per segment (AMG paper, "Build DB").

The tree is the published one: `dummy_db/fma_part`, `db/test_30s` and `query` hold a file per
song; `fma_part_10s`, `test_10s` and so on hold the same songs cut into segments.
"""

from dataclasses import dataclass

from amg import features, paths, progress, search
from amg.check import InputError

DUMMY, TEST, QUERY = "dummy_db/fma_part", "db/test_30s", "query"


def split_folder(whole, duration_max):
    """Folder of the segments of `whole`: `fma_part` -> `fma_part_10s`, `test_30s` -> `test_10s`."""
    return whole.with_name(f"{whole.name.removesuffix('_30s')}_{duration_max}s")


def split_database(source, target, max_len):
    """Cut every file of `source` into consecutive pieces of `max_len` frames.

    Piece i of `{stem}.npy` becomes `{stem}_{i}.npy` in `target`; a shorter tail is dropped.
    Pieces already there are kept. Returns the number of pieces. Raises InputError if `target`
    holds files that are no pieces of `source`.
    """
    songs = features.files(source, "01_data_prep")
    target.mkdir(parents=True, exist_ok=True)
    present = {path.name: path.stat().st_mtime_ns for path in target.glob("[!.]*.npy")}
    wanted = set()
    for song in progress.bar(songs, desc=f"splitting {target.name}", unit="song"):
        frames = features.load(song)
        for i in range(len(frames) // max_len):
            name = f"{song.stem}_{i}.npy"
            wanted.add(name)
            if present.get(name, 0) <= song.stat().st_mtime_ns:  # missing, or older than the song
                features.save(target / name, frames[i * max_len : (i + 1) * max_len])
    if strangers := sorted(set(present) - wanted):
        raise InputError(f"{paths.relative(target)} holds {len(strangers)} files that are no "
                         f"segments of {source.name}, as {strangers[0]}; move them elsewhere.")
    return len(wanted)


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
    dummies = features.files(root / DUMMY, "01_data_prep")
    tests = features.files(root / TEST, "01_data_prep")
    asked = features.files(root / QUERY, "01_data_prep")
    if [path.name for path in tests] != [path.name for path in asked]:
        raise InputError(f"{paths.relative(root / QUERY)} and {paths.relative(root / TEST)} must "
                         "hold files of the same names, a query for each test song.")
    songs = [features.load(path) for path in dummies + tests]
    database = Database(search.Sequences.of(songs), [p.stem for p in dummies + tests], len(dummies))
    return database, [features.load(path) for path in asked]


def load_segments(root, database, duration_max, length):
    """Segments of a split tree, in the order of the songs: returns (Segments, list of arrays).

    Raises InputError if the tree is not that of `database`, cut at `length` frames.
    """
    segments = search.Segments.of(database.sequences, length)
    folders = [split_folder(root / whole, duration_max) for whole in (DUMMY, TEST)]
    if folders[1] == root / TEST:  # 30 s songs: their own segments
        frames = database.sequences.frames
        return segments, [frames[start : start + length] for start in segments.start]
    arrays = [features.load(path) for folder in folders
              for path in features.files(folder, "02_split")]
    if {len(array) for array in arrays} != {length} or len(arrays) != len(segments.start):
        raise InputError(f"{paths.relative(folders[0])} and {paths.relative(folders[1])} do not "
                         f"hold the {len(segments.start)} segments of {length} frames that their "
                         "songs give; empty them and run notebook 02_split again.")
    return segments, arrays
