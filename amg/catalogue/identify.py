"""Which song is this? The matches of a clip, or of each part of a long recording, or none.

Windows of the query (see `windows`) that find the same recording at the same offset are one match.
Where that leaves something open, a long query is heard in shorter windows, too, and every query at
other speeds.
"""

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amg import check
from amg.catalogue import listening, significance, sounds, windows
from amg.catalogue.answer import CERTAIN, Answer, Match
from amg.catalogue.catalogue import Catalogue
from amg.catalogue.indexing import CATALOGUE, shown
from amg.check import InputError, one_line
from amg.sound import audio

SPEEDS = (1.02, 0.98, 1.04, 0.96)  # at which the query may have been played, if not as it is
SHORTER = (9, 5)  # frames of further windows in what is longer than a segment
SHARE = 0.8  # of ALLOWED that the windows of the query as it is may use; the others share the rest
APART_S = 0.5  # offsets that differ by no more belong together
N_CANDIDATES = 5  # that are told at most


def identify(sound, catalogue=CATALOGUE, method="two_stage", name="") -> Answer:
    """Name the music in a file, or in samples with their rate in Hz.

    sound: as for `sounds.blocks`. catalogue: a `Catalogue`, or its folder. method: one of
    windows.METHODS; `sequence` is the base system, every frame indexed. name: what to call the
    sound. Raises InputError if it cannot be decoded, or is silent or shorter than 1 s.
    """
    check.one_of("method", method, windows.METHODS)
    catalogue = catalogue if isinstance(catalogue, Catalogue) else Catalogue.load(catalogue)
    if not name:
        is_path = isinstance(sound, (str, os.PathLike))
        name = shown(bytes(Path(sound))) if is_path else "samples"
    longest = catalogue.segments.length

    def ask(hearing, share, length=longest, beyond=0):
        laid = windows.laid(hearing.sounding, length, beyond)
        hits = windows.ask(hearing.frames, laid, catalogue, method)
        hits = hits._replace(chance=hits.chance / share)
        return [*_groups(hits, hearing, catalogue, method)]

    as_it_is = _hear(name, sound, catalogue)
    seconds = (len(as_it_is.frames) - 1) * windows.TICK_S + 1
    groups = ask(as_it_is, SHARE)
    if not _explained(groups, as_it_is.sounding):
        shares = (1 - SHARE) / (len(SHORTER) + len(SPEEDS))
        for length in SHORTER:
            groups += ask(as_it_is, shares, length, beyond=longest)
        for speed in (speed for speed in SPEEDS if seconds * speed >= 1):
            groups += ask(_hear(name, sound, catalogue, speed), shares)
    groups = sorted(groups, key=lambda group: (-group.evidence, group.chance))
    best: dict = {}
    for group in groups:
        best.setdefault(group.path, group)
    return Answer(name, seconds, _matches(groups), [*best.values()][:N_CANDIDATES])


class _Hearing(NamedTuple):
    """A query as it sounds if it was played at another speed."""

    frames: np.ndarray  # float32 (T, 128), of all grids by turns
    sounding: np.ndarray  # bool (T,)
    speed: float


def _hear(name, sound, catalogue, speed=1.0):
    blocks = sounds.blocks(sound)
    if speed != 1:
        blocks = audio.resampled(blocks, audio.SAMPLE_RATE / speed)
    fingerprinter, hop = catalogue.models.fingerprinter, audio.HOP // windows.GRIDS
    frames, level = listening.listen(name, blocks, fingerprinter, hop)
    return _Hearing(frames, listening.sounding(level), speed)


def _explained(groups, sounding):
    """Whether matches that are hardly chance cover nine tenths of what sounds."""
    explained = np.zeros(len(sounding), bool)
    for group in groups:
        if group.chance <= CERTAIN:
            begin, end = (round(at_s / windows.TICK_S) for at_s in (group.begin_s, group.end_s))
            explained[begin:end] = True
    return explained[sounding].sum() >= 0.9 * sounding.sum()


def _groups(hits, hearing, catalogue, method):
    """A Match for each recording and offset that windows agree on."""
    offset_s = hits.position_s - hits.begin_s
    order = np.lexsort((offset_s, hits.song))
    apart = (np.diff(hits.song[order]) != 0) | (np.diff(offset_s[order]) > APART_S)
    for rows in np.split(order, np.flatnonzero(apart) + 1) if len(order) else ():
        best = rows[hits.score[rows].argmax()]
        place = catalogue.places[hits.song[best]]
        if place is None:  # the file has gone, and the arrays were not written anew since
            continue
        of_second = {}  # windows of two grids, or of one place, are no evidence of their own
        for second, chance in zip(hits.begin_s[rows] // 1, hits.chance[rows]):
            of_second[second] = min(of_second.get(second, 1.0), chance)
        evidence = -np.log(np.maximum([*of_second.values()], 1e-300)).sum() + 0.0  # not -0.0
        begin_s, end_s = hits.begin_s[rows].min(), hits.end_s[rows].max()
        chance, segment_s = hits.chance[rows].min(), audio.seconds(catalogue.segments.length)
        if chance <= significance.ALLOWED and end_s - begin_s > segment_s:
            begin_s, end_s = windows.heard(hearing.frames, hits, best, begin_s, end_s, catalogue)
        position_s, speed = max(offset_s[best] + begin_s, 0.0), hearing.speed
        begin_s, end_s = begin_s / speed, end_s / speed
        numbers = begin_s, end_s, position_s, hits.score[best], chance, evidence, speed
        others = [other.path for other in catalogue.copies.get(place.sha256, ())]
        also = tuple(shown(path) for path in others if path != place.path and os.path.exists(path))
        within_s = segment_s if method == "single_stage" else 0.0
        names = shown(place.path), place.title, place.artist
        yield Match(*names, *map(float, numbers), also, within_s)


def _matches(groups):
    """Those of falling `evidence` that chance does not explain, each of a part of the query that no
    better one explains, in the order of time."""
    kept = []
    for group in groups:
        shared = sum(
            max(0, min(group.end_s, other.end_s) - max(group.begin_s, other.begin_s))
            for other in kept
        )
        if group.chance <= significance.ALLOWED and shared <= (group.end_s - group.begin_s) / 2:
            kept.append(group)
    return sorted(kept, key=lambda match: match.begin_s)


def command(
    sounds, method, fingerprinter, catalogue=CATALOGUE, as_json=False, with_paths=False
) -> None:
    """`amg identify`: the answer for each sound, or why there is none; InputError if none
    could be used."""
    check.one_of("method", method, windows.METHODS)
    catalogue, n_answers = Catalogue.load(catalogue, fingerprinter), 0
    for given in sounds:
        for answer in _answers(given, catalogue, method):
            if isinstance(answer, InputError):
                print(f"amg: {one_line(answer)}", file=sys.stderr)
                continue
            print(json.dumps(answer.to_dict()) if as_json else answer.text(with_paths), flush=True)
            n_answers += 1
    if not n_answers:
        raise InputError("none of the files could be used.")


def _answers(given, catalogue, method):
    """The Answer, or an InputError, for each file that a path of the command line stands for."""
    try:
        listed = sounds.files(given)
    except InputError as error:
        listed = []
        yield error
    for sound in listed:
        try:
            with sounds.at_hand(sound) as (path, name):
                answer = identify(path, catalogue, method, name=name)
        except InputError as error:
            answer = error
        yield answer
