"""`amg list | stats | remove | dedup`: what a catalogue holds, and what it need not hold.

None of it touches the music itself.
"""

import os
from collections import Counter

import numpy as np

from amg import code, paths, progress
from amg.catalogue import store, writing
from amg.catalogue.answer import clock
from amg.catalogue.indexing import CATALOGUE, inside, shown
from amg.check import InputError, one_line
from amg.retrieval import search
from amg.sound import audio, duplicates

N_NEAREST = 50  # segments, most of them perhaps of the same sound, that are looked at for each
SIMILAR = 0.4  # inner product of frames of one sound: mostly more, a quarter of a second off, too
MOST = 0.75  # of the frames of two recordings that sound the same
N_FOLDERS = 10  # that are told


def remove(places, catalogue=CATALOGUE) -> int:
    """`amg remove`: takes files, and all below folders, out, whether they exist or not.

    places: a list of paths. Prints and returns how many files the catalogue held of them;
    InputError, and nothing is removed, if there are none of one.
    """
    gone = set()
    with writing.locked(catalogue) as on_disk:
        known = on_disk.places()
        for path in map(paths.resolve, places):
            either = bytes(path), bytes(path.resolve())
            below = {place for place in known if inside(place, either)}
            if not below:
                raise InputError(
                    f"the catalogue has nothing of {path}; amg list shows what it has."
                )
            gone |= below
        on_disk.keep([], gone)
        on_disk.compact()
    print(f"files removed from the catalogue: {len(gone):,}; the music itself was not touched.")
    return len(gone)


def dedup(catalogue) -> tuple[list, list]:
    """Files that are the same, byte for byte, and others that sound the same from begin to end: two
    lists of lists of (seconds, Place)."""
    with store.Store(catalogue) as on_disk:
        sounds, copies, arrays = on_disk.read()
    rows = [
        [(audio.seconds(n_frames), place) for place in copies.get(sha256, ())]
        for sha256, n_frames, *_ in sounds
    ]
    groups = _alike(sounds, *arrays) if sounds else ()
    alike = [[rows[number][0] for number in group if rows[number]] for group in groups]
    return [of for of in rows if len(of) > 1], [of for of in alike if len(of) > 1]


def _alike(sounds, frames, vectors):
    """Groups of numbers of sounds that are the same from begin to end, as fingerprints tell: the
    middle segment of each finds the others."""
    sequences = search.Sequences(frames, np.cumsum([0, *(n_frames for _, n_frames, *_ in sounds)]))
    songs, n_segments = sequences.songs(), [n for _, _, n, *_ in sounds]
    of_segment, index = np.repeat(np.arange(len(songs)), n_segments), search.flat_index(vectors)
    middle = np.cumsum([0, *n_segments[:-1]]) + np.array(n_segments) // 2
    group = np.arange(len(songs))
    bar = progress.bar(range(len(songs)), desc="comparing", unit="recording", disable=None)
    for number in bar:  # on a terminal alone, not in what is piped on
        row = vectors[middle[number]][None]
        _, near = search.nearest(index, row, min(N_NEAREST, len(vectors)))
        for other in np.unique(of_segment[near]):
            if group[other] != group[number] and _same(songs[number], songs[other]):
                group[group == group[other]] = group[number]
    return [np.flatnonzero(group == first) for first in np.unique(group)]


def _same(song, other):
    """Whether two songs share an excerpt, and from there on both ways most of the longer one."""
    due = MOST * max(len(song), len(other))
    if min(len(song), len(other)) < due:
        return False
    for at, there in duplicates.alike_places(song, other):
        ours, theirs = song[max(at - there, 0) :], other[max(there - at, 0) :]
        n_frames = min(len(ours), len(theirs))
        products = np.einsum("ld,ld->l", ours[:n_frames], theirs[:n_frames])
        if (products >= SIMILAR).sum() >= due:
            return True
    return False


def _line(seconds, place):
    """Length, artist, title and path of a file, between tabs."""
    told = clock(seconds, 0), place.artist, place.title, shown(place.path)
    return "\t".join(map(one_line, told))


def list_command(catalogue=CATALOGUE) -> None:
    """`amg list`: a line for each file."""
    with store.Store(catalogue) as on_disk:
        seconds = {sha256: audio.seconds(n_frames) for sha256, n_frames, *_ in on_disk.sounds()}
        for place in on_disk.places().values():
            print(_line(seconds[place.sha256], place))


def stats_command(catalogue=CATALOGUE) -> None:
    """`amg stats`."""
    with store.Store(catalogue) as on_disk:
        about, places = on_disk.about, on_disk.places()
        n_bytes = sum(file.stat().st_size for file in on_disk.folder.iterdir())
        print(f"{paths.relative(on_disk.folder)}: {n_bytes:,} bytes")
        print(f"recordings: {len(on_disk.sounds()):,}, {on_disk.hours:.2f} hours")
        print(f"files: {len(places):,}")
    changed = ", ".join(code.changed(about)) if "code" in about else "it does not tell by which"
    print(f"encoder: {about['encoder']}, segments of {about['duration_max']} s")
    print(f"fingerprinter: {about['fingerprinter']}")
    print(f"made by this version: {f'no ({changed})' if changed else 'yes'}")
    for folder, n in sorted(_folders(places).items()):
        print(f"files in {one_line(shown(folder))}: {n:,}")


def _folders(places):
    """How many files lie in which folders; if these are many, below which."""
    counts = Counter(map(os.path.dirname, places))
    while len(counts) > N_FOLDERS:
        depth = {folder: folder.rstrip(b"/").count(b"/") for folder in counts}
        for folder in [folder for folder in counts if depth[folder] == max(depth.values())]:
            counts[os.path.dirname(folder)] += counts.pop(folder)
    return counts


def dedup_command(catalogue=CATALOGUE) -> None:
    """`amg dedup`."""
    copies, alike = dedup(catalogue)
    for what, groups in (("the same file", copies), ("the same sound", alike)):
        for rows in groups:
            print(f"{what}:", *(f"  {_line(*row)}" for row in rows), sep="\n")
    print(f"files at several places: {len(copies):,}; sounds in several files: {len(alike):,}")
