"""`python -m amg index ~/Music`: bring a catalogue up to date with one's folders of music.

A file is read again if its size or time has changed, and heard again only if its content has. Each
is committed by itself, in the order of paths: the same command continues after any interruption,
and ends with the same catalogue as an undisturbed one.
"""

import os
from dataclasses import dataclass, replace

import numpy as np
import tinytag

from amg import check, files, progress
from amg.catalogue import models, store
from amg.catalogue.store import Place
from amg.check import InputError
from amg.retrieval import search
from amg.sound import audio, recordings

CATALOGUE = "data/catalogue"


@dataclass(frozen=True)
class Report:
    """What `index` did: numbers of files, and a sentence for each file that cannot be used."""

    heard: int
    unchanged: int
    moved: int  # their content was known: renamed, copied, or only written again
    removed: int
    refused: list

    def __str__(self):
        counts = (
            f"{self.heard} files fingerprinted, {self.unchanged} unchanged, {self.moved} known by "
            f"content, {self.removed} removed, {len(self.refused)} left out"
        )
        return "\n".join([*self.refused, counts])


def index(folders, catalogue=CATALOGUE, made_by=None, workers=2) -> Report:
    """Index every audio file below `folders`, a list, into the folder `catalogue`.

    made_by: a `models.Models`, by default the improved recipe in 10 s. What has gone from these
    folders is removed; what was indexed from others stays. Raises InputError if there is no audio,
    or if the catalogue cannot be written or was made by other models or code.
    """
    check.integers(1, workers=workers)
    made_by = made_by or models.load()
    roots = [recordings.root(folder, linked=True).resolve() for folder in folders]
    made_by.fingerprinter.load()  # refused here, not in every worker
    with store.writing(catalogue, made_by.about) as on_disk:
        known, (present, refused) = on_disk.places(), _look(roots)
        below = tuple(os.fsencode(os.path.join(root, "")) for root in roots)
        gone = [path for path in known if path.startswith(below) and path not in present]
        changed = [place for path, place in present.items() if not place.same(known.get(path))]
        reading = progress.bar(changed, desc="reading", unit="file") if changed else ()
        held, moved, fresh = {sha256 for sha256, *_ in on_disk.sounds()}, [], {}
        for place in _usable(map(_read, reading), refused):
            of_sound = moved if place.sha256 in held else fresh.setdefault(place.sha256, [])
            of_sound.append(place)
        on_disk.keep(moved, gone)
        jobs, n_heard = [(copies, made_by.fingerprinter) for copies in fresh.values()], 0
        workers = min(workers, len(jobs))
        hearing = jobs and progress.parallel(
            _hear, jobs, workers, desc="fingerprinting", unit="file"
        )
        for copies, frames in _usable(hearing, refused):
            on_disk.add(copies, frames, made_by.vectors(search.Sequences.of([frames])))
            n_heard += len(copies)
        on_disk.compact()
    return Report(n_heard, len(present) - len(changed), len(moved), len(gone), sorted(refused))


def command(arguments) -> None:
    """`python -m amg index`; InputError if nothing in the folders can be used."""
    made_by = models.load(arguments.encoder, arguments.duration_max, arguments.fingerprinter)
    catalogue = arguments.catalogue or CATALOGUE
    report = index(arguments.folders, catalogue, made_by, arguments.workers)
    print(report)
    if not report.heard + report.unchanged + report.moved:
        raise InputError("no file can be used.")


def shown(path) -> str:
    """A path, bytes, as text, whatever bytes it has."""
    return path.decode(errors="backslashreplace")


def _look(roots):
    """({path: Place}, in the order of paths; sentences about files that cannot be looked at)."""
    present, refused = {}, []
    linked = {bytes(path) for root in roots for path in recordings.find(root, linked=True)}
    for path in sorted(linked):
        try:
            stat = os.stat(path)
            present[path] = Place(path, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            refused.append(f"{shown(path)} cannot be read ({error.strerror}).")
    return present, refused


def _usable(answers, refused):
    """The answers that are no sentences; those go to `refused`."""
    for answer in answers:
        if isinstance(answer, str):
            refused.append(answer)
        else:
            yield answer


def _read(place):
    """The place with checksum and tags, or a sentence on why its file cannot be read."""
    try:
        sha256 = files.sha256(os.fsdecode(place.path))
    except OSError as error:
        return f"{shown(place.path)} cannot be read ({error.strerror})."
    try:
        tags = tinytag.TinyTag.get(os.fsdecode(place.path))
        title, artist = tags.title or "", tags.artist or ""
    except Exception:  # whatever a strange file makes of it: its sound counts
        title = artist = ""
    return replace(place, sha256=sha256, title=title, artist=artist)


def _hear(copies, fingerprinter):
    """(copies, fingerprints float32 (T, 128)) of a file that lies at several places, or a
    sentence."""
    path = os.fsdecode(copies[0].path)
    try:
        return copies, listen(path, audio.blocks(path), fingerprinter)
    except InputError as reason:
        return str(reason).replace(path, shown(copies[0].path))


def listen(name, blocks, fingerprinter, hop=audio.HOP) -> np.ndarray:
    """Fingerprints float32 (T, 128) of blocks of sound; InputError if it is shorter than a frame,
    or silent."""
    n_samples, loud = 0, False

    def checked():
        nonlocal n_samples, loud
        for block in blocks:
            n_samples, loud = n_samples + len(block), loud or block.any()
            yield block
        if n_samples < audio.WINDOW:
            raise InputError(
                f"{name} holds {n_samples / audio.SAMPLE_RATE:.2f} s of sound, but a "
                "fingerprint needs 1 s."
            )

    frames = next(fingerprinter.load().extract([checked()], hop))
    if not loud:
        raise InputError(
            f"{name} holds nothing but digital silence, or channels that cancel each other."
        )
    return frames
