"""`amg index ~/Music`: bring a catalogue up to date with one's folders of music.

A file is read again if its size or time has changed, and heard again only if its content has. Each
is committed by itself, in the order of paths: the same command continues after any interruption,
and ends with the same catalogue as an undisturbed one.
"""

import ctypes
import os
import shlex
from collections import Counter
from dataclasses import dataclass, replace

import tinytag

from amg import check, files, paths, progress
from amg.catalogue import models, store, writing
from amg.catalogue.listening import listen
from amg.catalogue.store import Place
from amg.check import InputError, one_line
from amg.retrieval import search
from amg.sound import audio, recordings

CATALOGUE = "data/catalogue"


@dataclass(frozen=True)
class Report:
    """What `index` did: numbers of files, and sentences about what cannot be used now."""

    heard: int
    unchanged: int
    moved: int  # their content was known: renamed, copied, or only written again
    removed: int
    refused: list  # a sentence for each file or folder
    kept: list  # a sentence for each folder or file that is not there, but stays known

    def __str__(self):
        counts = (
            f"{self.heard} files fingerprinted, {self.unchanged} unchanged, {self.moved} known by "
            f"content, {self.removed} removed, {len(self.refused)} left out"
        )
        way_out = ["If that is gone for good, add --prune to remove it."] if self.kept else []
        return "\n".join([*map(one_line, [*self.refused, *self.kept]), *way_out, counts])


def index(
    folders, catalogue=CATALOGUE, made_by=None, workers=2, reread=False, prune=False
) -> Report:
    """Index audio files, and all below folders, a list of both, into the folder `catalogue`.

    made_by: a `models.Models`, by default the improved recipe in 10 s. What has moved is followed.
    A file that has gone is removed if there still is music in its folder; else all of that folder
    may only be away, as a drive that is not plugged in, and is removed with `prune`. What was
    indexed from elsewhere stays. reread: read files again whose size and time are the same. Raises
    InputError if there is no audio, or if the catalogue cannot be written or was made by other
    models or code.
    """
    check.integers(1, workers=workers)
    made_by = made_by or models.load()
    roots, unusable = _roots(folders, catalogue)
    made_by.fingerprinter.load()  # refused here, not in every worker
    with writing.locked(catalogue, made_by.about) as on_disk:
        known, (present, refused) = on_disk.places(), _look(roots)
        new = [at for at in present.values() if reread or not at.same(known.get(at.path))]
        held, moved, fresh = {sha256 for sha256, *_ in on_disk.sounds()}, [], {}
        for place in progress.bar(new, desc="reading", unit="file") if new else ():
            try:
                place = _read(place)
            except OSError as error:
                kept = "; what was known of it is kept" if place.path in known else ""
                refused.append(f"{shown(place.path)} cannot be read ({error.strerror}){kept}.")
                continue
            of_sound = moved if place.sha256 in held else fresh.setdefault(place.sha256, [])
            of_sound.append(place)
        refused += unusable
        gone, kept = _missing(known, present, roots, moved, prune)
        on_disk.keep(moved, gone)
        jobs, n_heard = [(copies, made_by.fingerprinter) for copies in fresh.values()], 0
        workers, spoilt = min(workers, len(jobs)), []
        hearing = jobs and progress.parallel(
            _hear, jobs, workers, desc="fingerprinting", unit="file"
        )
        for copies, frames in hearing:
            if isinstance(frames, str):
                refused.append(frames)
                spoilt += [place.path for place in copies if place.path in known]
            else:
                on_disk.add(copies, frames, made_by.vectors(search.Sequences.of([frames])))
                n_heard += len(copies)
        on_disk.keep([], spoilt)  # they no longer hold the sound that was known
        on_disk.compact()
    counts = n_heard, len(present) - len(new), len(moved), len(gone + spoilt)
    return Report(*counts, sorted(refused), kept)


def command(folders, encoder, duration_max, fingerprinter, catalogue=CATALOGUE, **options) -> None:
    """`amg index`, options: of `index`; InputError if nothing in the folders can be used."""
    made_by = models.load(encoder, duration_max, fingerprinter)
    report = index(folders, catalogue, made_by, **options)
    print(report)
    if not report.heard + report.unchanged + report.moved + report.removed:
        raise InputError("none of the files could be used.")
    words = ["amg", "identify", "SOUND"]
    words += ["--catalogue", catalogue] if catalogue != CATALOGUE else []
    words += ["--fingerprinter", fingerprinter] if fingerprinter else []
    with store.Store(catalogue) as on_disk:
        place, hours = paths.relative(on_disk.folder), on_disk.hours
    print(f"{hours:.2f} hours of music in {place}; next: {shlex.join(words)}")


def shown(path) -> str:
    """A path, bytes, as text, whatever bytes it has."""
    return path.decode(errors="backslashreplace")


def inside(path, folders) -> bool:
    """Whether a path is one of some folders or files, or below one; all are bytes."""
    return (path + b"/").startswith(tuple(os.path.join(folder, b"") for folder in folders))


def _roots(folders, catalogue):
    """(Absolute paths, bytes, of those that have audio, or had when they were indexed; a sentence
    for each other one); InputError if there is none."""
    roots, refused = [], []
    for folder in [folders] if isinstance(folders, (str, os.PathLike)) else folders:
        root = bytes(paths.resolve(folder).resolve())
        if folder and (_look([root])[0] or _indexed(root, catalogue)):
            roots.append(root)
        else:
            refused.append(recordings.without_audio(folder))
    if not roots:
        raise InputError(" ".join(refused))
    return roots, refused


def _indexed(root, catalogue):
    if not (paths.resolve(catalogue) / store.DATABASE).exists():
        return False
    with store.Store(catalogue) as on_disk:
        return any(inside(path, [root]) for path in on_disk.places())


def _look(roots):
    """({path: Place}, in the order of paths; sentences about what cannot be looked at)."""
    present, refused, listed = {}, [], set()

    def refuse(error):
        refused.append(f"{shown(os.fsencode(error.filename))} cannot be read ({error.strerror}).")

    for root in map(os.fsdecode, roots):
        if os.path.isfile(root):
            listed.add(root)
        elif os.path.isdir(root):  # of one that is not, `_missing` tells
            listed |= {*map(str, recordings.find(root, linked=True, onerror=refuse))}
    for path in sorted(map(os.fsencode, listed)):
        try:
            stat = os.stat(path)
        except OSError as error:
            refuse(error)
        else:
            # times after 2262 are more than SQLite holds, and begin again from below
            time_ns = ctypes.c_int64(stat.st_mtime_ns).value
            present[path] = Place(path, stat.st_size, time_ns)
    return present, refused


def _missing(known, present, roots, moved, prune):
    """(paths that are to be forgotten; sentences about folders, or files, of which one cannot tell
    whether they have gone)."""
    answering, elsewhere = set(), {place.sha256 for place in moved}
    for path in present:
        while (path := os.path.dirname(path)) not in answering:
            answering.add(path)
    ends = answering | {os.path.dirname(root) for root in roots}
    gone, away = [], Counter()
    for path, place in known.items():
        asked = inside(path, roots)
        if path in present or not asked and place.sha256 not in elsewhere:
            continue
        absent, why = _absent(path)
        answers = os.path.dirname(path) in answering or place.sha256 in elsewhere
        if absent and answers or asked and (prune or not why):
            gone.append(path)
        elif asked:
            while os.path.dirname(path) not in ends:
                path = os.path.dirname(path)
            away[path, why] += 1
    return gone, [
        f"nothing of {shown(path)} can be reached ({why}); files kept in the catalogue: {n}."
        for (path, why), n in away.items()
    ]


def _absent(path):
    """Whether a file that was not listed is known not to be there; what the system says of it, or
    nothing if it was listed by another name, through a link."""
    try:
        os.stat(path)
        os.scandir(os.path.dirname(path)).close()
    except OSError as error:
        nowhere = isinstance(error, (FileNotFoundError, NotADirectoryError))
        return nowhere and not os.path.lexists(path), error.strerror
    return False, ""


def _read(place):
    """The place with checksum and tags; OSError if it cannot be read."""
    sha256 = files.sha256(os.fsdecode(place.path))
    try:
        tags = tinytag.TinyTag.get(os.fsdecode(place.path))
        title, artist = tags.title or "", tags.artist or ""
    except Exception:  # whatever a strange file makes of it: its sound counts
        title = artist = ""
    return replace(place, sha256=sha256, title=title, artist=artist)


def _hear(copies, fingerprinter):
    """(copies, fingerprints float32 (T, 128), or a sentence) of a file that lies at several
    places."""
    path = os.fsdecode(copies[0].path)
    try:
        return copies, listen(path, audio.blocks(path), fingerprinter)[0]
    except InputError as reason:
        return copies, str(reason).replace(path, shown(copies[0].path))
    except Exception as error:  # one strange file does not stop the others
        return copies, f"{shown(copies[0].path)} cannot be fingerprinted ({error!r})."
