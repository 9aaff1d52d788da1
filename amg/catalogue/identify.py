"""Which song is this? The matches of a clip, or of each part of a long recording, or none.

Windows of the query (see `windows`) that find the same recording at the same offset are one match.
"""

import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from amg import check
from amg.catalogue import significance, windows
from amg.catalogue.catalogue import Catalogue
from amg.catalogue.indexing import CATALOGUE, listen, shown
from amg.check import InputError
from amg.sound import audio, recordings

APART_S = 0.5  # offsets that differ by no more belong together


@dataclass(frozen=True)
class Match:
    """A part of the query and where it is heard; times in seconds."""

    path: str
    title: str
    artist: str
    begin_s: float  # of the query
    end_s: float
    position_s: float  # in the recording, where the query has begin_s
    score: float  # of the best window: 1 is the very sound
    chance: float  # how many as good ones chance gives, in a query and a catalogue of this size
    evidence: float  # minus the logarithms of `chance` of its windows, added up

    @property
    def name(self) -> str:
        """Artist and title, or the file's name."""
        return " - ".join(filter(None, (self.artist, self.title))) or Path(self.path).name


@dataclass(frozen=True)
class Answer:
    """What `identify` found: the matches, in the order of the query's time, none if the music is
    not here; and the best candidates, one per recording, whether they count or not."""

    query: str
    seconds: float
    matches: list
    candidates: list

    def to_dict(self) -> dict:
        """For JSON."""
        return asdict(self)

    def __str__(self):
        lines = [f"{self.query}:" if self.matches else f"{self.query}: not here"]
        for match in self.matches:
            lines.append(
                f"  {_clock(match.begin_s)}-{_clock(match.end_s)}  {match.name}, from "
                f"{_clock(match.position_s)} on (score {match.score:.2f})"
            )
        if not self.matches and self.candidates:
            nearest = self.candidates[0]
            lines[0] += f" (nearest: {nearest.name}, score {nearest.score:.2f})"
        return "\n".join(lines)


def _clock(seconds):
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def identify(sound, catalogue=CATALOGUE, method="two_stage", n_candidates=5, name="") -> Answer:
    """Name the music in a file, or in samples (n,) or (n, channels) with their rate in Hz.

    sound: a path, or a tuple (samples, rate). catalogue: a `Catalogue`, or its folder. method: one
    of windows.METHODS; `sequence` is the base system, every frame indexed. name: what to call the
    sound. Raises InputError if it cannot be decoded, or is silent or shorter than 1 s.
    """
    check.one_of("method", method, windows.METHODS)
    check.integers(1, n_candidates=n_candidates)
    catalogue = catalogue if isinstance(catalogue, Catalogue) else Catalogue.load(catalogue)
    name = name or ("samples" if isinstance(sound, tuple) else shown(bytes(Path(sound))))
    fingerprinter, hop = catalogue.models.fingerprinter, audio.HOP // windows.GRIDS
    frames = listen(name, _blocks(sound), fingerprinter, hop)
    hits = windows.ask(frames, catalogue, method)
    groups = sorted(_groups(hits, frames, catalogue), key=lambda group: -group.evidence)
    best = {}
    for group in groups:
        best.setdefault(group.path, group)
    seconds = (len(frames) - 1) * windows.TICK_S + 1
    return Answer(name, seconds, _matches(groups), [*best.values()][:n_candidates])


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
        yield Match(shown(place.path), place.title, place.artist, *map(float, numbers))


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


def _blocks(sound):
    if isinstance(sound, tuple):
        samples, rate = sound
        samples = np.asarray(samples, np.float32)
        check.number("the rate", rate, *audio.RATES)
        if samples.ndim not in (1, 2) or not np.isfinite(samples).all():
            raise InputError(
                f"samples have shape {samples.shape}, but must be finite numbers of shape (n,) or "
                "(n, channels)."
            )
        return audio.resampled([samples if samples.ndim == 1 else samples.mean(axis=1)], rate)
    return audio.blocks(sound)


def command(arguments) -> None:
    """`python -m amg identify`: the answer for each sound, or why there is none; InputError if no
    sound can be used."""
    catalogue = arguments.catalogue or CATALOGUE
    catalogue, n_answers = Catalogue.load(catalogue, arguments.fingerprinter), 0
    for sound in _sounds(arguments.sounds):
        ask = _standard_input if sound == "-" else identify
        try:
            answer = ask(sound, catalogue, arguments.method)
        except InputError as error:
            print(f"amg: {error}", file=sys.stderr)
            continue
        print(json.dumps(answer.to_dict()) if arguments.json else answer, flush=True)
        n_answers += 1
    if not n_answers:
        raise InputError("no sound can be used.")


def _sounds(given):
    """Files as they were given, and those below folders."""
    for sound in given:
        if sound != "-" and os.path.isdir(sound):
            yield from recordings.find(recordings.root(os.path.abspath(sound)))
        else:
            yield sound


def _standard_input(_, catalogue, method):
    """The answer for a file that comes without a name: one that libsndfile reads, or else
    ffmpeg."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "standard input.wav"
        with file.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        try:
            return identify(file, catalogue, method, name="standard input")
        except InputError:
            file = file.rename(file.with_suffix(".mp4"))
            return identify(file, catalogue, method, name="standard input")
