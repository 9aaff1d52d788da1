"""Databases: songs cut into segments, one vector per segment (AMG paper, "Build DB").

The tree is the published one: `dummy_db/fma_part`, `db/test_30s` and `query` hold a file per
song; `fma_part_10s`, `test_10s` and so on hold the same songs cut into segments. One that notebook
01 made also has `songs.csv`, which tells what was recorded, a row per song.
"""

from dataclasses import dataclass

import numpy as np

from amg import check, files, made, paths, progress
from amg.check import InputError
from amg.embedding import crops
from amg.fingerprint import features
from amg.retrieval import duplicates, search
from amg.sound import clips

DUMMY, TEST, QUERY = "dummy_db/fma_part", "db/test_30s", "query"
MAKER = "01_data_prep"


@dataclass(frozen=True)
class Database:
    """Songs to search, distractors first, then the test songs."""

    sequences: search.Sequences
    names: list  # of str, one per song: the stem of its file
    first_test: int  # index of the first test song
    recordings: list  # of str, one per song: what it is an excerpt of
    clips: list | None = None  # of Clip, one per song; None: no sound is at hand
    fingerprinter: str | None = None  # digest; None: not known
    identity: str = ""  # digest, changes when a song or query does

    @classmethod
    def of(cls, songs, first_test=0) -> "Database":
        """From fingerprints alone, a list of float32 (T, 128): each song is its own recording."""
        names = [str(number) for number in range(len(songs))]
        return cls(search.Sequences.of(songs), names, first_test, names)

    def hear(self, position, n_frames) -> np.ndarray:
        """Undegraded samples of `n_frames` frames from a position on, float32."""
        return duplicates.hear(position, n_frames, self.clips, self.sequences)


def load(root) -> tuple[Database, list[np.ndarray]]:
    """Read a database tree: returns (Database, queries).

    queries: list of float32 (T, 128); query i is a degraded version of song first_test + i. Raises
    InputError if something is missing or unfinished, or if songs and queries do not belong together
    or come from different fingerprinters.
    """
    made.find(root, MAKER)
    parts = [root / part for part in (DUMMY, TEST, QUERY)]
    found = dummies, tests, asked = [features.find(part, MAKER) for part in parts]
    if [path.name for path in tests] != [path.name for path in asked]:
        raise InputError(f"{paths.relative(root / QUERY)} and {paths.relative(root / TEST)} must "
                         "hold files of the same names, a query for each test song.")
    names = [path.stem for path in dummies + tests]
    table = _songs(root, names)
    own = {_fingerprinter(folder) for folder in (root, *parts)} - {None}
    if len(own) > 1:
        raise InputError(f"the fingerprints in {paths.relative(root)} come from different "
                         "fingerprinters; make songs and queries with one.")
    songs = search.Sequences.of([features.load(path) for path in dummies + tests])
    recordings = names if table is None else [clip.recording for clip in table]
    identity = files.stamp([path for part in found for path in part])
    return Database(songs, names, len(dummies), recordings, table, next(iter(own), None),
                    identity), [features.load(path) for path in asked]


def _songs(root, names):
    """What was recorded, a list of Clip; None without `songs.csv`."""
    path = root / "songs.csv"
    if not path.exists():
        return None
    table = clips.read_csv(path)
    if list(table.name) != names:
        raise InputError(f"{paths.relative(path)} must list the songs beside it, distractors "
                         f"first; run notebook {MAKER} again.")
    return clips.from_table(table)


def _fingerprinter(folder):
    """Digest of the fingerprinter that made a folder, None if it is not known."""
    return made.find(folder, MAKER).record.get("inputs", {}).get("fingerprinter")


def load_queries(folder, database) -> list[np.ndarray]:
    """Other queries of the test songs, in their order: list of float32 (T, 128).

    Raises InputError if they are not those songs, or of another fingerprinter.
    """
    other = _fingerprinter(folder)
    if database.fingerprinter and other != database.fingerprinter:
        raise InputError(f"{paths.relative(folder)} comes from another fingerprinter than the "
                         "database; run the notebook that makes it again.")
    found = features.find(folder, MAKER)
    if [path.stem for path in found] != database.names[database.first_test :]:
        raise InputError(f"{paths.relative(folder)} must hold a query for each test song.")
    return [features.load(path) for path in found]


def split_folder(whole, duration_max) -> paths.Path:
    """Folder of the segments of `whole`: `fma_part` -> `fma_part_10s`, `test_30s` -> `test_10s`."""
    return whole.with_name(f"{whole.name.removesuffix('_30s')}_{duration_max}s")


def split_database(source, target, max_len) -> int:
    """Cut every file of `source` into consecutive pieces of `max_len` frames; returns their number.

    source, target: folders, taken from the workspace's root. Piece i of `{stem}.npy` becomes
    `{stem}_{i}.npy` in `target`; a shorter tail is dropped. A `target` that came from elsewhere is
    compared and never written into: InputError if it holds anything but all those pieces.
    """
    check.integer("max_len", max_len, 1)
    source, target = paths.resolve(source), paths.resolve(target)
    found = features.find(source, MAKER)
    songs = {path.stem: features.load(path) for path in found}
    pieces = {f"{stem}_{i}": song[i * max_len :][:max_len] for stem, song in songs.items()
              for i in range(len(song) // max_len)}
    if target.is_dir() and not target.is_symlink():
        _compare(target, pieces)
        return len(pieces)
    recipe = made.Recipe("segments", {"frames": max_len}, {"songs": files.stamp(found)})
    with made.making(target, recipe) as place:
        for stem, piece in progress.bar(pieces.items(), desc=f"writing {target.name}", unit="piece"):
            if not (place.folder / f"{stem}.npy").exists():
                features.save(place.folder / f"{stem}.npy", piece)
    return len(pieces)


def load_segments(root, database, duration_max) -> search.Segments:
    """Segments of a split tree, in the order of the songs.

    Raises InputError if the tree is not that of `database`, cut for `duration_max`, or if no test
    song is as long as a segment.
    """
    length = crops.segment_frames(duration_max)
    segments = search.Segments.of(database.sequences, length)
    is_test = segments.song >= database.first_test
    if not is_test.any():
        raise InputError(f"no test song in {paths.relative(root)} is as long as a segment of "
                         f"{length} frames; choose a shorter duration_max than {duration_max}.")
    number = (segments.start - database.sequences.bounds[segments.song]) // length
    for whole, rows in ((DUMMY, np.flatnonzero(~is_test)), (TEST, np.flatnonzero(is_test))):
        folder = split_folder(root / whole, duration_max)
        if folder != root / whole:  # test songs of 30 s are their own segments
            made.find(folder, "02_split")
            _compare(folder, {
                f"{database.names[segments.song[i]]}_{number[i]}":
                    database.sequences.frames[segments.start[i] :][:length] for i in rows})
    return segments


def _compare(folder, pieces):
    """InputError unless `folder` holds exactly these: name -> float32 (length, 128)."""
    present = {path.stem: path for path in sorted(folder.glob("[!.]*.npy"))}
    for stem, path in present.items():
        if stem not in pieces or not np.array_equal(features.load(path), pieces[stem]):
            raise InputError(f"{paths.relative(path)} is no segment of the songs beside that "
                             "folder; move the folder elsewhere, and run notebook 02_split.")
    if len(present) < len(pieces):
        raise InputError(f"{paths.relative(folder)} holds {len(present)} of {len(pieces)} segments "
                         "of the songs beside it; unpack it whole, or move it elsewhere and run "
                         "notebook 02_split.")
