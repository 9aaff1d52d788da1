"""Databases: songs cut into segments, one vector per segment (AMG paper, "Build DB").

The tree is the published one: a file per song in `dummy_db/fma_part`, `db/test_30s` and `query`,
and the same songs cut into segments in `fma_part_10s`, `test_10s` and so on. In one that notebook
01 made, `songs.csv` tells what was recorded.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from amg import check, code, files, paths, progress, provenance
from amg.check import InputError
from amg.embedding import crops
from amg.fingerprint import features
from amg.fingerprint.nafp import DIM
from amg.retrieval import codes, search
from amg.sound import clips

DUMMY, TEST, QUERY = "dummy_db/fma_part", "db/test_30s", "query"
MAKER = "01_data_prep"


@dataclass(frozen=True)
class Database:
    """Songs to search, distractors first, then the test songs; lists have an item per song."""

    sequences: search.Sequences
    names: list  # of str: the stem of its file
    first_test: int  # index of the first test song
    recordings: list  # of str: what it is an excerpt of
    clips: list | None = None  # of Clip; None: no sound is at hand
    fingerprinter: str | None = None  # digest; None: not known
    identity: str = ""  # digest, changes when a song or query does

    @classmethod
    def of(cls, songs, first_test=0, names=None, recordings=None) -> "Database":
        """From fingerprints alone, a list of float32 (T, 128): unless they are given, songs have
        numbers for names, and each is its own recording."""
        names = names or [str(number) for number in range(len(songs))]
        return cls(search.Sequences.of(songs), names, first_test, recordings or names)

    @property
    def distractors(self) -> np.ndarray:
        """Frames of the songs that nobody asks for, float32 (N, 128)."""
        return self.sequences.frames[: self.sequences.bounds[self.first_test]]

    def coded(self, code, others) -> "Database":
        """The same songs as codes of FAISS, as `Codes.of` trained on other frames."""
        kept = codes.Codes.of(code, self.sequences.frames, others)
        return replace(self, sequences=replace(self.sequences, frames=kept))

    def decoded(self) -> "Database":
        """Of codes: what they decode to, all at once. Searches answer the same, and faster."""
        return replace(self, sequences=replace(self.sequences, frames=self.sequences.frames[:]))

    def place(self, position) -> tuple:
        """(Clip that holds a position, which of the clip's frames it is)."""
        song = int(self.sequences.song_of(position))
        return self.clips[song], int(position - self.sequences.bounds[song])

    def hear(self, position, n_frames) -> np.ndarray:
        """Undegraded samples of `n_frames` frames from a position on, float32."""
        clip, frame = self.place(position)
        return clip.excerpt(frame, n_frames)


def load(root) -> tuple[Database, list[np.ndarray]]:
    """Read a database tree: (Database, queries), float32 (T, 128) of each song from first_test on.

    Songs and queries are in the order of their names, as published. Raises InputError if something
    is missing or unfinished, or if songs and queries do not belong together or come from different
    fingerprinters; of files that cannot be used it names all, a sentence each.
    """
    folders = [root / part for part in (DUMMY, TEST, QUERY)]
    fingerprinters = {_fingerprinter(folder) for folder in (root, *folders)} - {None}
    if len(fingerprinters) > 1:
        raise InputError(
            f"the fingerprints in {paths.relative(root)} come from different "
            "fingerprinters; make songs and queries with one."
        )
    dummies, tests, degraded = (features.find(folder) for folder in folders)
    lone = {path.name for path in tests} ^ {path.name for path in degraded}
    if lone:
        raise InputError(
            f"{paths.relative(root / QUERY)} and {paths.relative(root / TEST)} must hold files of "
            f"the same names, a query for each test song; one alone has {', '.join(sorted(lone))}."
        )
    names, heard = [path.stem for path in dummies + tests], None
    if (root / "songs.csv").exists():
        table = clips.read_csv(root / "songs.csv")
        if list(table.get("name", ())) != names:
            raise InputError(
                f"{paths.relative(root / 'songs.csv')} must list the songs beside it, "
                f"distractors first; run notebook {MAKER} again, or move it away."
            )
        heard = clips.from_table(table)
    arrays, odd = _read(dummies + tests + degraded)
    for query, song in zip(degraded, tests):
        n_query, n_song = (len(arrays.get(path, ())) for path in (query, song))
        if n_query > n_song + 1 > 1:  # a resampler may round up; 0: it cannot be read
            odd.append(
                f"{paths.relative(query)} holds {n_query} fingerprints and its song {n_song}, but "
                "a query is the degraded song; make both again."
            )
    digests = {path: hashlib.sha256(array.tobytes()).digest() for path, array in arrays.items()}
    distractor = {digests[path]: path for path in dummies if path in digests}
    for path in filter(digests.get, tests):
        if twin := distractor.get(digests[path]):
            odd.append(
                f"{paths.relative(path)} and {paths.relative(twin)} are the same, but a test "
                "song is no distractor; delete one of them."
            )
    if odd:
        raise InputError("\n".join(odd))
    recordings = [clip.recording for clip in heard] if heard else names
    held = [[path.name, digests[path].hex()] for path in dummies + tests + degraded]
    identity = files.digest([len(dummies), held])
    sequences = search.Sequences.of([arrays[path] for path in dummies + tests])
    of_songs, fingerprinter = (sequences, names, len(dummies), recordings), [*fingerprinters, None]
    queries = [arrays[path] for path in degraded]
    return Database(*of_songs, heard, fingerprinter[0], identity), queries


def _read(places):
    """(path -> array of those that can be used, a sentence for each of the others)."""
    arrays, odd = {}, []
    for path in places:
        try:
            array = features.load(path)
            what = f"the number of values in a fingerprint of {paths.relative(path)}"
            check.one_of(what, array.shape[1], (DIM,))
            arrays[path] = array
        except InputError as reason:
            odd.append(str(reason))
    return arrays, odd


def _fingerprinter(folder):
    """Digest of the fingerprinter that made a folder, None if it is not known."""
    return provenance.find(folder, MAKER).record.get("inputs", {}).get("fingerprinter")


def load_queries(folder, database) -> list[np.ndarray]:
    """Other queries of the test songs, list of float32 (T, 128); InputError if they are of other
    songs, or of another fingerprinter."""
    if database.fingerprinter not in (None, _fingerprinter(folder)):
        raise InputError(
            f"{paths.relative(folder)} comes from another fingerprinter than the "
            "database; run the notebook that makes it again."
        )
    queries = features.find(folder)
    if [path.stem for path in queries] != database.names[database.first_test :]:
        raise InputError(f"{paths.relative(folder)} must hold a query for each test song.")
    return [features.load(path) for path in queries]


def split_folder(whole, duration_max) -> paths.Path:
    """Folder of the segments of `whole`: `fma_part` -> `fma_part_10s`, `test_30s` -> `test_10s`."""
    return whole.with_name(f"{whole.name.removesuffix('_30s')}_{duration_max}s")


def split_database(source, target, max_len) -> int:
    """Cut every file of `source` into consecutive pieces of `max_len` frames; returns their number.

    source, target: folders, taken from the workspace's root. Piece i of `{stem}.npy` becomes
    `{stem}_{i}.npy`; a shorter tail is dropped. A `target` that came from elsewhere is not written
    into: InputError if it holds anything but all those pieces.
    """
    check.integer("max_len", max_len, 1)
    source, target = paths.resolve(source), paths.resolve(target)
    songs = features.find(source)
    pieces = _pieces([path.stem for path in songs], map(features.load, songs), max_len)
    if target.is_dir() and not provenance.is_ours(target):
        _compare(target, pieces)
        return len(pieces)
    inputs = {"songs": files.digest([[song.name, files.sha256(song)] for song in songs])}
    recipe = provenance.Recipe("segments", {"frames": max_len}, inputs, code=code.of(__name__))
    with provenance.making(target, recipe) as place:
        for stem in progress.bar(pieces, desc=f"writing {target.name}", unit="piece"):
            if not (place.folder / f"{stem}.npy").exists():
                features.save(place.folder / f"{stem}.npy", pieces[stem])
    return len(pieces)


def load_segments(root, database, duration_max) -> search.Segments:
    """Segments of a split tree, in the order of the songs; InputError if it is not `database`, cut
    for `duration_max` (seconds), or if no test song is as long as a segment."""
    length = crops.segment_frames(duration_max)
    segments = search.Segments.of(database.sequences, length)
    if not (segments.song >= database.first_test).any():
        raise InputError(
            f"no test song in {paths.relative(root)} is as long as a segment of "
            f"{length} frames; choose a shorter duration_max than {duration_max}."
        )
    songs, first = database.sequences.songs(), database.first_test
    for whole, part in (DUMMY, slice(first)), (TEST, slice(first, None)):
        folder = split_folder(root / whole, duration_max)
        if folder != root / whole:  # test songs of 30 s are their own segments
            provenance.find(folder, "02_split")
            _compare(folder, _pieces(database.names[part], songs[part], length))
    return segments


def _pieces(names, songs, length):
    """Consecutive pieces of songs: their name -> float32 (length, 128)."""
    return {
        f"{name}_{i}": song[i * length :][:length]
        for name, song in zip(names, songs)
        for i in range(len(song) // length)
    }


def _compare(folder, pieces):
    """InputError unless `folder` holds exactly these `_pieces`."""
    present = {path.stem: path for path in sorted(folder.glob("[!.]*.npy"))}
    for stem, path in present.items():
        if stem not in pieces or not np.array_equal(features.load(path), pieces[stem]):
            raise InputError(
                f"{paths.relative(path)} is no segment of the songs beside that "
                "folder; move the folder elsewhere, and run notebook 02_split."
            )
    if len(present) < len(pieces):
        raise InputError(
            f"{paths.relative(folder)} holds {len(present)} of {len(pieces)} segments of the songs "
            "beside it; unpack it whole, or move it elsewhere and run notebook 02_split."
        )
