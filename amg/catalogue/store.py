"""A catalogue on the disk: the fingerprints of one's own music, and what each recording is.

    catalogue.sqlite  about: how all was made; sounds: what was heard; places: the files, with tags
    frames-1.f32      the sounds' fingerprints in order, rows of 128 float32
    vectors-1.bin     the sounds' segment vectors in order

The tables say what counts. A sound is appended to both arrays before its row is committed, so that
rows beyond the last one named are what a killed process left, and are written over. A sound goes by
the checksum of its file: one that was renamed, or lies there twice, is heard once. Sounds that no
place holds any more are left out when the arrays are next written anew, under the next number.
"""

import itertools
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from amg import paths, provenance
from amg.check import InputError
from amg.fingerprint.nafp import DIM
from amg.sound import audio

DATABASE = "catalogue.sqlite"
WAIT_S = 60  # for another process that writes, or reads
SCHEMA = """\
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sounds (number INTEGER PRIMARY KEY, sha256 TEXT UNIQUE NOT NULL,
  n_frames INTEGER NOT NULL, n_segments INTEGER NOT NULL);
CREATE TABLE places (path BLOB PRIMARY KEY, size INTEGER NOT NULL, time_ns INTEGER NOT NULL,
  sha256 TEXT NOT NULL, title TEXT NOT NULL, artist TEXT NOT NULL);"""


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


class Store(AbstractContextManager):
    """The tables and arrays of a catalogue in one folder; reading needs no lock.

    about: how one is made that is not there yet, a JSON-able dict with `vector_type`, a dtype,
    `vector_values`, and `code`, as `code.of`. Raises InputError if there is none, or something
    else.
    """

    def __init__(self, folder, about=None):
        self.folder = paths.resolve(folder)
        file = self.folder / DATABASE
        none = InputError(
            f"{paths.relative(self.folder)} holds no catalogue; make one of your music first: "
            "amg index FOLDER"
        )
        with refusing(self.folder, "read"):
            if about is None:
                try:
                    file.open("rb").close()  # says why it cannot be read; SQLite does not
                except (FileNotFoundError, NotADirectoryError):
                    raise none from None
            self.tables = sqlite3.connect(file, timeout=WAIT_S, isolation_level="IMMEDIATE")
            self.tables.execute("PRAGMA synchronous = FULL")
            if about is not None and not self._schema():
                with self.tables:
                    self.tables.executescript(f"BEGIN IMMEDIATE; {SCHEMA}")
                    self._tell(generation=1, **about)
            schema = self._schema()
            if not schema:  # it is being made
                raise none
            if schema != SCHEMA:
                raise InputError(
                    f"{paths.relative(file)} is of another version of amg, with other tables; use "
                    "that version, or index your music into another --catalogue."
                )
            self.about = self._about()

    def __exit__(self, *_):
        self.tables.close()

    def _about(self):
        rows = self.tables.execute("SELECT name, value FROM about")
        return {name: json.loads(value) for name, value in rows}

    def _schema(self):
        rows = self.tables.execute("SELECT sql || ';' FROM sqlite_master WHERE sql NOT NULL")
        return "\n".join(sql for (sql,) in rows)

    def _tell(self, **about):
        rows = [(name, json.dumps(value)) for name, value in about.items()]
        self.tables.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", rows)

    def compare(self, about) -> str:
        """What to say if other code than that of `about` made this catalogue, or ""; InputError if
        anything else differs."""
        shown = paths.relative(self.folder)
        for name, value in about.items():
            if name != "code" and self.about.get(name) != value:
                raise InputError(
                    f"{shown} was made with {name} {self.about.get(name)}, not {value}; give the "
                    "same again, or another --catalogue."
                )
        modules = provenance.differing(self.about, about)
        which = (
            f"{', '.join(modules)} changed" if "code" in self.about else "it does not tell which"
        )
        return f"{shown} was made by other code ({which})" if modules else ""

    @property
    def n_rows(self) -> tuple[int, int]:
        """How many rows of the two arrays count."""
        sums = "coalesce(sum(n_frames), 0), coalesce(sum(n_segments), 0)"
        return self.tables.execute(f"SELECT {sums} FROM sounds").fetchone()

    @property
    def hours(self) -> float:
        """Of all sounds."""
        return sum(audio.seconds(n_frames) for _, n_frames, *_ in self.sounds()) / 3600

    def files(self, later=0) -> tuple[Path, Path]:
        """The two arrays, or those of a later generation."""
        number = self.about["generation"] + later
        return self.folder / f"frames-{number}.f32", self.folder / f"vectors-{number}.bin"

    def places(self) -> dict[bytes, Place]:
        """All files, by path."""
        rows = self.tables.execute("SELECT * FROM places ORDER BY path")
        return {row[0]: Place(*row) for row in rows}

    def sounds(self) -> list[tuple]:
        """(checksum, number of frames, of segments, whether a place holds it), in the arrays'
        order."""
        held = "sha256 IN (SELECT sha256 FROM places)"
        query = f"SELECT sha256, n_frames, n_segments, {held} FROM sounds ORDER BY number"
        return self.tables.execute(query).fetchall()

    def keep(self, places, gone=()) -> None:
        """Note where known sounds lie, in place of what is known of these paths, and forget files
        that have gone, by path."""
        rows = map(astuple, places)
        with self.tables:
            self.tables.executemany("DELETE FROM places WHERE path = ?", [(path,) for path in gone])
            self.tables.executemany("INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?, ?, ?)", rows)

    def add(self, places, frames, vectors) -> None:
        """Append a sound, which lies at all `places`, to the arrays: fingerprints float32 (T, 128)
        and its segments' vectors."""
        for path, rows, n_before in zip(self.files(), (frames, vectors), self.n_rows):
            _write(path, n_before * rows[0].nbytes, [np.ascontiguousarray(rows)])
        sound = places[0].sha256, len(frames), len(vectors)
        with self.tables:  # the sound and its places at once
            self.tables.execute("INSERT INTO sounds VALUES (NULL, ?, ?, ?)", sound)
            self.keep(places)

    def compact(self) -> None:
        """Write the arrays anew without sounds that no place holds, if there are such."""
        sounds = self.sounds()
        kept = [held for *_, held in sounds]
        if all(kept):
            return
        old, counts = self.files(), np.array([row[1:3] for row in sounds]).T
        for rows, count, path in zip(self.arrays(), counts, self.files(later=1)):
            _write(path, 0, itertools.compress(np.split(rows, np.cumsum(count)), kept))
        with self.tables:
            held = "SELECT sha256 FROM places"
            self.tables.execute(f"DELETE FROM sounds WHERE sha256 NOT IN ({held})")
            self._tell(generation=self.about["generation"] + 1)
        self.about["generation"] += 1
        for path in old:
            path.unlink(missing_ok=True)

    def read(self) -> tuple[list, dict, tuple]:
        """`sounds`, checksum -> the Places that have it, by path, and the two arrays, if there are
        sounds: all as of one moment, whatever a writer does meanwhile."""
        copies: dict = {}
        with refusing(self.folder, "read"), self.tables:
            self.tables.execute("BEGIN")  # until it ends, no writer can commit and delete arrays
            self.about, sounds = self._about(), self.sounds()
            for place in self.places().values():
                copies.setdefault(place.sha256, []).append(place)
            return sounds, copies, self.arrays() if sounds else ()

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Fingerprints float32 (N, 128) and vectors (n, values) of a catalogue that is not empty,
        as far as the tables name them, memory-mapped; InputError if a file is shorter than that."""
        (frames, vectors), (n_frames, n_segments) = self.files(), self.n_rows
        kind, of_vectors = self.about["vector_type"], (n_segments, self.about["vector_values"])
        try:
            # copy-on-write: torch takes no arrays that are read-only
            return (
                np.memmap(frames, np.float32, "c", shape=(n_frames, DIM)),
                np.memmap(vectors, kind, "c", shape=of_vectors),
            )
        except (FileNotFoundError, ValueError) as error:
            raise _damaged(self.folder, error) from None


def _damaged(folder, why):
    return InputError(
        f"{paths.relative(folder)} is damaged ({why}); restore it from a copy, or index your music "
        "into another --catalogue."
    )


@contextmanager
def refusing(folder, doing) -> Iterator[None]:
    """InputError for what SQLite or the system says, with what is to be done about it."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        first = "end the program that holds it" if "locked" in str(error) else "mend this"
        raise InputError(
            f"{paths.relative(folder)} cannot be {doing} ({error}); {first}, and give the same "
            "command again."
        ) from None
    except sqlite3.DatabaseError as error:
        raise _damaged(folder, error) from None


def _write(path, begin, arrays):
    """Write arrays to a file from a byte on, and nothing behind them; then they are on the disk."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.seek(begin)
        file.writelines(array.data for array in arrays)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
