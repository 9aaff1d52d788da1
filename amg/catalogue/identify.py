"""Which song is this? The matches of a clip, or of each part of a long recording, or none.

Windows of the query (see `windows`) that find the same recording at the same offset are one match.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from amg import check
from amg.catalogue import significance, sounds, windows
from amg.catalogue.answer import Answer, Match
from amg.catalogue.catalogue import Catalogue
from amg.catalogue.indexing import CATALOGUE, listen, shown
from amg.check import InputError, one_line
from amg.sound import audio

APART_S = 0.5  # offsets that differ by no more belong together


def identify(sound, catalogue=CATALOGUE, method="two_stage", n_candidates=5, name="") -> Answer:
    """Name the music in a file, or in samples with their rate in Hz.

    sound: as for `sounds.blocks`. catalogue: a `Catalogue`, or its folder. method: one of
    windows.METHODS; `sequence` is the base system, every frame indexed. name: what to call the
    sound. Raises InputError if it cannot be decoded, or is silent or shorter than 1 s.
    """
    check.one_of("method", method, windows.METHODS)
    check.integers(1, n_candidates=n_candidates)
    catalogue = catalogue if isinstance(catalogue, Catalogue) else Catalogue.load(catalogue)
    heard = sounds.blocks(sound)
    name = name or ("samples" if isinstance(sound, tuple) else shown(bytes(Path(sound))))
    fingerprinter, hop = catalogue.models.fingerprinter, audio.HOP // windows.GRIDS
    frames = listen(name, heard, fingerprinter, hop)
    hits = windows.ask(frames, catalogue, method)
    groups = sorted(
        _groups(hits, frames, catalogue), key=lambda group: (-group.evidence, -group.score)
    )
    best = {}
    for group in groups:
        best.setdefault(group.path, group)
    seconds = (len(frames) - 1) * windows.TICK_S + 1
    nearest = max(groups, key=lambda group: group.score, default=None)
    return Answer(name, seconds, _matches(groups), [*best.values()][:n_candidates], nearest)


def _groups(hits, frames, catalogue):
    """A Match for each recording and offset that windows agree on; frames, hits: as `windows.ask`
    takes and gives them."""
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
        evidence = -np.log(np.maximum([*of_second.values()], 1e-300)).sum()
        begin_s, end_s = hits.begin_s[rows].min(), hits.end_s[rows].max()
        chance, segment_s = hits.chance[rows].min(), audio.seconds(catalogue.segments.length)
        if chance <= significance.ALLOWED and end_s - begin_s > segment_s:
            begin_s, end_s = windows.heard(frames, hits, best, begin_s, end_s, catalogue)
        position_s = max(offset_s[best] + begin_s, 0.0)
        numbers = begin_s, end_s, position_s, hits.score[best], chance, evidence
        others = [other.path for other in catalogue.copies.get(place.sha256, ())]
        also = tuple(shown(path) for path in others if path != place.path and os.path.exists(path))
        yield Match(shown(place.path), place.title, place.artist, *map(float, numbers), also)


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


def command(arguments) -> None:
    """`amg identify`: the answer for each sound, or why there is none; InputError if no sound can
    be used."""
    check.one_of("method", arguments.method, windows.METHODS)
    catalogue = arguments.catalogue or CATALOGUE
    catalogue, n_answers = Catalogue.load(catalogue, arguments.fingerprinter), 0
    for given in arguments.sounds:
        for answer in _answers(given, catalogue, arguments.method):
            if isinstance(answer, InputError):
                print(f"amg: {one_line(answer)}", file=sys.stderr)
                continue
            as_text = (
                json.dumps(answer.to_dict()) if arguments.json else answer.text(arguments.paths)
            )
            print(as_text, flush=True)
            n_answers += 1
    if not n_answers:
        raise InputError("no sound can be used.")


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
