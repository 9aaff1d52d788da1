"""One query, made and followed as one turns its knobs: what notebook 10 shows."""

import itertools
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from pyroomacoustics.experimental import measure_rt60

from amg import check
from amg.catalogue import models, significance, windows
from amg.catalogue.catalogue import Catalogue
from amg.catalogue.identify import APART_S, SHARE, Answer, identify
from amg.catalogue.store import Place
from amg.check import InputError
from amg.retrieval import search
from amg.sound import audio, degrade, sheet_music
from amg.sound.audio import SAMPLE_RATE

METHOD = "two_stage"
SHORTEST_S = 1.5  # of an excerpt: two fingerprints
RIGHT = "right"
MARK = {True: "✓", False: "✗"}


@dataclass(frozen=True)
class Explored:
    """An excerpt, its degraded version, and what each stage makes of it."""

    asked: str  # the song that it is from
    begin_s: float  # where in it
    through: str  # noise and room
    original: np.ndarray  # float32 (n_samples,)
    query: np.ndarray  # the same, degraded
    of_original: np.ndarray  # fingerprints, float32 (T, 128)
    of_query: np.ndarray
    neighbours: pd.DataFrame  # of the first stage: title, from_s, score, right; best first
    fits: list  # (title, DataFrame of at_s, score) of the song, and of the nearest if it is another
    answer: Answer
    verdicts: list  # on each match of the answer: right, wrong place or wrong song
    enough: float  # about the score from which on a match counts

    @property
    def score(self) -> float:
        """Of the place that is asked for."""
        _, fit = self.fits[0]
        return float(fit.score[(fit.at_s - self.begin_s).abs() <= APART_S].max())

    @property
    def headline(self) -> str:
        """What is asked and what is heard, a line each."""
        heard = [
            f"heard: {match.name} at {starts_s(match):.1f} s {MARK[verdict == RIGHT]} {verdict}"
            for match, verdict in zip(self.answer.matches, self.verdicts)
        ]
        heard = heard or [f"heard: not here {MARK[False]} although it is ({self._lacks()})"]
        return "\n".join([f"asked: {self.asked} at {self.begin_s:.1f} s", *heard])

    def _lacks(self):
        """Why the place that is asked for is not among the matches."""
        if not self.score >= self.enough:
            return f"score {self.score:.2f}; about {self.enough:.2f} would have been enough"
        why = "another place fits better" if self.verdicts else "the first stage left it out"
        return f"score {self.score:.2f}, which is enough, but {why}"

    def __str__(self):
        lasts_s = len(self.query) / SAMPLE_RATE
        lines = [self.headline, f"The query lasts {lasts_s:.1f} s: {self.through}."]
        if self.verdicts and RIGHT not in self.verdicts:
            lines.append(f"The place that was asked for: {self._lacks()}.")
        allowed = f"at most {times(significance.ALLOWED)}"
        lines.append(f"The nearest (one counts if chance gives as good ones {allowed}):")
        for match in self.answer.candidates:
            lines.append(
                f"  score {match.score:.2f}, by chance {times(match.chance)}: {match.name} at "
                f"{starts_s(match):.1f} s"
            )
        return "\n".join(lines)


def times(chance) -> str:
    """How often chance gives a match, in words."""
    return f"{chance:.0f} times" if chance >= 1 else f"{chance:.1g} times"


def starts_s(match) -> float:
    """Where in a match's recording the query begins, in seconds."""
    return max(match.position_s - match.begin_s, 0.0)


class Explorer:
    """The songs of a database as a catalogue, and a pool of noises and rooms to ask for them
    through.

    database: a `databases.Database` whose clips are known; pool: a `pools.Pool`.
    """

    def __init__(self, database, pool):
        if not database.clips:
            raise InputError(
                "the sound of these songs is not known; give a database that notebook "
                "01_data_prep made."
            )
        self.pool, self.clips, self.first = pool, database.clips, database.first_test
        self.titles = [title(clip) for clip in self.clips]
        self.number = {clip.piece: number for number, clip in enumerate(self.clips)}
        places = [Place(c.piece.encode(), 0, 0, title=of) for c, of in zip(self.clips, self.titles)]
        self.catalogue = Catalogue.of(database.sequences.songs(), models.load(), places)
        self.sound = lru_cache(8)(lambda number: self.clips[number].read())
        # name -> number, in the order in which they are offered
        titles = enumerate(self.titles[self.first :])
        self.songs = {f"{number}: {of}": number for number, of in titles}
        self.noises, self.rooms = {"no noise": -1}, {"no room": -1}
        kinds = pd.Series(pool.kinds).replace("coloured", "hiss")
        for number, kind in enumerate(kinds):
            self.noises[f"{kind} {(kinds[: number + 1] == kind).sum()}"] = number
        # how long sound takes to fall by 60 dB, as it falls from -5 to -25 dB
        lasts_s = [measure_rt60(room, SAMPLE_RATE, decay_db=20) for room in pool.rooms]
        for number in np.argsort(lasts_s, kind="stable").tolist():  # the driest first
            self.rooms[f"echo of {lasts_s[number]:.2f} s (room {number})"] = number

    def ask(self, song=0, begin_s=3.0, length_s=8.0, snr_db=5.0, noise=0, room=0) -> Explored:
        """Ask for `length_s` seconds of a song, from `begin_s` on, under noise and in a room.

        noise, room: numbers of the pool, -1 for none. Raises InputError for what there is not.
        """
        check.integer("song", song, 0, len(self.songs) - 1)
        number, sound = self.first + song, self.sound(self.first + song)
        check.number("length_s", length_s, SHORTEST_S, len(sound) / SAMPLE_RATE)
        check.number("begin_s", begin_s, 0, len(sound) / SAMPLE_RATE - length_s)
        begin = int(begin_s * SAMPLE_RATE)
        original = sound[begin : begin + int(length_s * SAMPLE_RATE)]
        query, through = self._degraded(original, snr_db, noise, room)
        extract, hop = self.catalogue.models.fingerprinter.load().extract, audio.HOP
        (of_original,), (frames,) = extract([[original]]), extract([[query]], hop // windows.GRIDS)
        sounds = through, original, query, of_original, frames[:: windows.GRIDS]
        n_frames = len(frames) // windows.GRIDS
        length = min(self.catalogue.segments.length, n_frames)  # of windows, as `identify` has them
        begins = windows.begins(n_frames, length)
        first = frames[: length * windows.GRIDS].reshape(length, windows.GRIDS, -1).swapaxes(0, 1)
        asked = self.titles[number]
        answer = identify((query, SAMPLE_RATE), self.catalogue, METHOD, name=asked)
        heard = [number, *(self.number[of.path] for of in answer.candidates[:1])]
        songs = dict.fromkeys(heard)
        fits = [(self.titles[of], self._fit(frames, of, begins, length)) for of in songs]
        verdicts = [self._verdict(match, number, begin_s) for match in answer.matches]
        neighbours = self._neighbours(first, number, begin_s, begin_s + length_s)
        enough = self._enough(first, len(begins))
        return Explored(asked, begin_s, *sounds, neighbours, fits, answer, verdicts, enough)

    def _degraded(self, original, snr_db, noise, room):
        """The query, and the names of what it went through."""
        check.number("snr_db", snr_db, -20, 60)
        check.integer("noise", noise, -1, len(self.noises) - 2)
        check.integer("room", room, -1, len(self.rooms) - 2)
        kinds = (self.noises, noise), (self.rooms, room)
        names = [next(name for name in of if of[name] == number) for of, number in kinds]
        names[0] += f" at {snr_db:g} dB SNR" if noise >= 0 else ""
        noise, room = (None if of < 0 else of for of in (noise, room))
        fixed = {"noise": noise, "room": room, "snr_db": float(snr_db), "gain_db": 0.0}
        query = degrade.degrade(lambda _: original, 0, self.pool, (), noise_offset=0.0, **fixed)
        return query, ", ".join(names)

    def between(self, excerpt, song, **knobs) -> Explored:
        """The same of an excerpt (begin, end) in seconds, moved or widened where it is too short or
        leaves the song."""
        lasts_s = len(self.sound(self.first + song)) / SAMPLE_RATE
        length_s = min(max(excerpt[1] - excerpt[0], SHORTEST_S), lasts_s)
        return self.ask(song, min(excerpt[0], lasts_s - length_s), length_s, **knobs)

    def _verdict(self, match, number, begin_s):
        if self.number[match.path] != number:
            return "wrong song"
        return RIGHT if abs(starts_s(match) - begin_s) <= APART_S else "wrong place"

    def _enough(self, window, n_windows):
        """Of a window, (GRIDS, L, 128), one of so many, heard as it is, not at other speeds."""
        calibration, any_score, length = self.catalogue.calibration, 0.5, window.shape[1]
        ordinary = significance.ordinary(window, calibration.background)
        law = any_score, ordinary, length, self.catalogue.n_frames, METHOD
        chance = windows.GRIDS * n_windows * calibration.expected(*law) / SHARE
        return float(calibration.enough(any_score, chance, length, METHOD).min())

    def _neighbours(self, window, number, begin_s, end_s):
        """The first stage's segments for a window, (GRIDS, L, 128), best first; right are those
        that hold a part of the song from `begin_s` to `end_s`."""
        ranked = windows.find(window[None], self.catalogue, "single_stage")
        (place, score), sequences = (of[0, 0] for of in ranked), self.catalogue.sequences
        song = sequences.song_of(place)
        from_s = (place - sequences.bounds[song]) * windows.HOP_S
        until_s = from_s + audio.seconds(self.catalogue.segments.length)
        right = (song == number) & (from_s < end_s) & (until_s > begin_s)
        titles = [self.titles[of] for of in song]
        return pd.DataFrame({"title": titles, "from_s": from_s, "score": score, "right": right})

    def _fit(self, frames, number, begins, length):
        """How well the windows of a query fit in a song, by where the query would begin: at_s and
        score, the best window's."""
        low, high = self.catalogue.sequences.bounds[number:][:2]
        start, rows = np.arange(low, high - length + 1), []
        for at, grid in itertools.product(begins, range(windows.GRIDS)):
            window = frames[at * windows.GRIDS + grid :: windows.GRIDS][None, :length]
            every = window, self.catalogue.sequences.frames, np.zeros(len(start), int), start
            at_s = (start - low - at) * windows.HOP_S - grid * windows.TICK_S
            rows.append(pd.DataFrame({"at_s": at_s, "score": search.diagonal_scores(*every)}))
        fit = pd.concat(rows).groupby("at_s", as_index=False).score.max()
        return fit[fit.at_s > -windows.HOP_S]


def title(clip) -> str:
    """What people would call a clip: composer and work of sheet music, else the file's name, with
    the folder or package that it is from."""
    name = re.sub(r"\.\w+($| x[\d.]+$)", r"\1", clip.recording)
    if clip.source in sheet_music.COLLECTIONS:
        work = _words(name.partition("/")[2].replace("/", ", "))
        work = re.sub(r"(?i)^[b-df-hj-np-tv-z]+(?= \d)", lambda letters: letters[0].upper(), work)
        return f"{_words(clip.source).title()}: {work}"
    name = name.rpartition("/")[2]
    if cut := clip.piece.removeprefix(clip.recording):
        name += f" (from {cut[1:]} s)"
    return check.one_line(name if clip.source == "." else f"{clip.source}: {name}")


def _words(name):
    """`opus59no2_movement1` -> `Opus 59 no 2 movement 1`, `ryansMammoth` -> `Ryans Mammoth`."""
    name = re.sub(r"[_-]+|(?<=[a-z])(?=[A-Z])|(?<=[a-z])\.?(?=\d)|(?<=\d)(?=[a-z]{2})", " ", name)
    return name[:1].upper() + name[1:]
