"""A catalogue on the disk: the fingerprints of one's own music, and what each recording is.

    catalogue.sqlite  about: how all was made; sounds: what was heard; places: the files, with tags
    frames-1.f32      the sounds' fingerprints in order, rows of 128 float32
    vectors-1.bin     the sounds' segment vectors in order

The tables say what counts. A sound is appended to both arrays before its row is committed, so that
rows beyond the last one named are what a killed process left, and are written over. A sound goes by
the checksum of its file: one that was renamed, or lies there twice, is heard once. Sounds that no
place holds any more are left out when the arrays are next written anew, under the next number.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import filelock
import numpy as np

from amg import paths
from amg.check import InputError
from amg.fingerprint.nafp import DIM

FORMAT = 1
DATABASE = "catalogue.sqlite"
SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sounds (number INTEGER PRIMARY KEY, sha256 TEXT UNIQUE NOT NULL,
  n_frames INTEGER NOT NULL, n_segments INTEGER NOT NULL);
CREATE TABLE places (path BLOB PRIMARY KEY, size INTEGER NOT NULL, time_ns INTEGER NOT NULL,
  sha256 TEXT NOT NULL, title TEXT NOT NULL, artist TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Place:
    """A file: its size and time tell whether it has to be read again."""

    path: bytes  # absolute, as the file system has it: not every name is a text
    size: int
    time_ns: int
    sha256: str = ""
    title: str = ""
    artist: str = ""

    def same(self, other) -> bool:
        """Whether another Place, or None, is of a file that has not changed since."""
        return other is not None and (self.size, self.time_ns) == (other.size, other.time_ns)


class Store:
    """The tables and arrays of a catalogue in one folder; reading needs no lock.

    about: how it is made, a JSON-able dict with `vector_type`, a dtype, and `vector_values`. Of a
    folder that holds a catalogue already it must be the same, if it is given. Raises InputError if
    it is not, or if the folder has something else.
    """

    def __init__(self, folder, about=None):
        self.folder = Path(folder)
        if about is None and not (self.folder / DATABASE).is_file():
            raise InputError(
                f"{paths.relative(self.folder)} holds no catalogue; make one of your "
                "music first: python -m amg index FOLDER"
            )
        try:
            self.tables = sqlite3.connect(
                self.folder / DATABASE, timeout=60, isolation_level=None, check_same_thread=False
            )
            self.tables.execute("PRAGMA synchronous = FULL")
            known = self.tables.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not known and about is not None:
                self._create(about)
            self.about = {
                name: json.loads(value)
                for name, value in self.tables.execute("SELECT name, value FROM about")
            }
        except (sqlite3.Error, ValueError) as error:
            raise InputError(
                f"{paths.relative(self.folder / DATABASE)} is no catalogue, or is "
                f"damaged ({error}); move it away and index your music again."
            ) from None
        if about is not None:
            self.compare(about)

    def _create(self, about):
        with self.commit():
            for statement in SCHEMA.split(";"):
                self.tables.execute(statement)
            for name, value in {"format": FORMAT, "generation": 1, **about}.items():
                self._set(name, value)

    def compare(self, about) -> None:
        """InputError unless this catalogue was made as `about` says."""
        for name, value in {"format": FORMAT, **about}.items():
            if self.about.get(name) != value:
                raise InputError(
                    f"{paths.relative(self.folder)} was made with {name} "
                    f"{self.about.get(name)}, not {value}; give the same again, or "
                    "another --catalogue."
                )

    def _set(self, name, value):
        self.tables.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, json.dumps(value)))

    @contextmanager
    def commit(self) -> Iterator[None]:
        """All that is written inside, or nothing."""
        self.tables.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.tables.execute("ROLLBACK")
            raise
        self.tables.execute("COMMIT")

    @property
    def row_bytes(self) -> tuple[int, int]:
        """Bytes of a row of each of the two arrays."""
        return 4 * DIM, np.dtype(self.about["vector_type"]).itemsize * self.about["vector_values"]

    def files(self, generation=None) -> tuple[Path, Path]:
        """The two arrays."""
        number = generation or self.about["generation"]
        return self.folder / f"frames-{number}.f32", self.folder / f"vectors-{number}.bin"

    def places(self) -> dict[bytes, Place]:
        """All files, by path."""
        rows = self.tables.execute("SELECT * FROM places ORDER BY path")
        return {row[0]: Place(*row) for row in rows}

    def sounds(self) -> list[tuple]:
        """(checksum, number of frames, of segments, whether a place holds it), in the arrays'
        order."""
        return self.tables.execute(
            "SELECT sha256, n_frames, n_segments, sha256 IN (SELECT sha256 "
            "FROM places) FROM sounds ORDER BY number"
        ).fetchall()

    def keep(self, places) -> None:
        """Note where known sounds lie, in place of what is known of these paths."""
        self.tables.executemany(
            "INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?, ?, ?)",
            [astuple(place) for place in places],
        )

    def add(self, places, frames, vectors) -> None:
        """Append a sound, which lies at all `places`, to the arrays: fingerprints float32 (T, 128)
        and its segments' vectors."""
        n_frames, n_segments = self.tables.execute(
            "SELECT coalesce(sum(n_frames), 0), coalesce(sum(n_segments), 0) FROM sounds"
        ).fetchone()
        rows = (frames, n_frames), (vectors, n_segments)
        for path, width, (array, n_before) in zip(self.files(), self.row_bytes, rows):
            with path.open("r+b" if path.exists() else "w+b") as file:
                file.seek(n_before * width)
                file.write(np.ascontiguousarray(array).data)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        with self.commit():
            self.tables.execute(
                "INSERT INTO sounds (sha256, n_frames, n_segments) VALUES (?, ?, ?)",
                (places[0].sha256, len(frames), len(vectors)),
            )
            self.keep(places)

    def forget(self, paths_) -> None:
        """Files, by path, are there no more."""
        self.tables.executemany("DELETE FROM places WHERE path = ?", [(path,) for path in paths_])

    def compact(self) -> None:
        """Write the arrays anew without sounds that no place holds, if there are such."""
        sounds = self.sounds()
        kept = np.array([held for *_, held in sounds], bool)
        if kept.all():
            return
        old, new = self.files(), self.files(self.about["generation"] + 1)
        counts = np.array([row[1:3] for row in sounds]).T
        for source, target, width, count in zip(old, new, self.row_bytes, counts):
            end = width * np.cumsum(count)
            with source.open("rb") as file_before, target.open("wb") as file:
                for begin, size in zip((end - width * count)[kept], width * count[kept]):
                    file_before.seek(begin)
                    file.write(file_before.read(size))
                file.flush()
                os.fsync(file.fileno())
        with self.commit():
            self.tables.execute(
                "DELETE FROM sounds WHERE sha256 NOT IN (SELECT sha256 FROM places)"
            )
            self._set("generation", self.about["generation"] + 1)
        self.about["generation"] += 1
        for path in old:
            path.unlink(missing_ok=True)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Fingerprints float32 (N, 128) and vectors (n, values) as far as the table names them,
        memory-mapped; InputError if a file is shorter than that."""
        n_rows = np.sum([row[1:3] for row in self.sounds()] or [[0, 0]], axis=0)
        kinds = (np.float32, DIM), (self.about["vector_type"], self.about["vector_values"])
        mapped = []
        for path, n, (kind, values) in zip(self.files(), n_rows.tolist(), kinds):
            try:
                # copy-on-write: torch takes no arrays that are read-only
                mapped.append(
                    np.memmap(path, kind, "c", shape=(n, values))
                    if n
                    else np.zeros((0, values), kind)
                )
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{paths.relative(path)} is damaged ({error}); delete "
                    f"{paths.relative(self.folder)} and index your music again."
                ) from None
        return tuple(mapped)


@contextmanager
def writing(folder, about) -> Iterator[Store]:
    """The `Store` of a folder, which is made if need be, for one writer; others wait.

    Raises InputError as `Store`, or if the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strange = [
            path.name for path in sorted(folder.glob("[!.]*")) if not (folder / DATABASE).exists()
        ]
        if strange:
            raise InputError(
                f"{paths.relative(folder)} is no catalogue, it has {strange[0]}; give "
                "a new folder as --catalogue."
            )
        lock = filelock.FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            print(
                f"another process is indexing into {paths.relative(folder)}; waiting for it.",
                flush=True,
            )
            lock.acquire()
        with lock:
            store = Store(folder, about)
            for path in (*folder.glob("frames-*"), *folder.glob("vectors-*")):
                if path not in store.files():  # of a process that was killed while it wrote anew
                    path.unlink()
            yield store
            store.tables.close()
    except (OSError, sqlite3.Error) as error:
        raise InputError(
            f"{paths.relative(folder)} cannot be written ({error}); make room there, "
            "or give another --catalogue."
        ) from None
