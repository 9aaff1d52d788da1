"""One query, made and followed as one turns its knobs: what notebook 10 shows."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from amg import check
from amg.catalogue import models, windows
from amg.catalogue.catalogue import Catalogue
from amg.catalogue.identify import Answer, identify
from amg.catalogue.store import Place
from amg.check import InputError
from amg.retrieval import search
from amg.sound import degrade
from amg.sound.audio import SAMPLE_RATE


@dataclass(frozen=True)
class Explored:
    """An excerpt, its degraded version, and what each stage makes of it."""

    original: np.ndarray  # float32 (n_samples,)
    query: np.ndarray  # the same, degraded
    of_original: np.ndarray  # fingerprints, float32 (T, 128)
    of_query: np.ndarray
    neighbours: pd.DataFrame  # of the first stage: title, from_s, score, best first
    begin_s: np.ndarray  # places in the recording of the best candidate, seconds ...
    score: np.ndarray  # ... and how well the query fits there
    answer: Answer


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
        self.pool, self.clips = pool, database.clips[database.first_test :]
        places = [Place(clip.piece.encode(), 0, 0, title=clip.piece) for clip in database.clips]
        self.catalogue = Catalogue.of(database.sequences.songs(), models.load(), places)
        self.sound = lru_cache(8)(lambda song: self.clips[song].read())

    def titles(self) -> list[tuple]:
        """(title, number) of each song that can be asked for."""
        return [(f"{number}: {clip.piece}", number) for number, clip in enumerate(self.clips)]

    def ask(self, song=0, begin_s=3.0, length_s=8.0, snr_db=5.0, noise=0, room=0) -> Explored:
        """Ask for `length_s` seconds of a song, from `begin_s` on, under noise and in a room.

        noise, room: numbers of the pool, -1 for none. Raises InputError for what there is not.
        """
        check.integer("song", song, 0, len(self.clips) - 1)
        sound = self.sound(song)
        lasts = len(sound) / SAMPLE_RATE
        check.number("length_s", length_s, 1.5, lasts)
        begin = int(min(check.number("begin_s", begin_s, 0, lasts), lasts - length_s) * SAMPLE_RATE)
        check.number("snr_db", snr_db, -20, 60)
        check.integer("noise", noise, -1, len(self.pool.noises) - 1)
        check.integer("room", room, -1, len(self.pool.rooms) - 1)
        original = sound[begin : begin + int(length_s * SAMPLE_RATE)]
        noise, room = (None if number < 0 else number for number in (noise, room))
        dropped: dict = dict.fromkeys(("microphone", "speaker", "overload_db", "codec", "offset_s"))
        levels: dict = {"snr_db": float(snr_db), "gain_db": 0.0, "noise_offset": 0.0}
        setting = degrade.Degradation(noise=noise, room=room, **levels, **dropped)
        query = degrade.apply(original, setting, self.pool)
        extract = self.catalogue.models.fingerprinter.load().extract
        of_original, of_query = extract([[original], [query]])
        window = of_query[: self.catalogue.segments.length]
        neighbours = self._neighbours(window)
        answer = identify((query, SAMPLE_RATE), self.catalogue, name=self.clips[song].piece)
        fit = self._alignment(window, answer)
        return Explored(original, query, of_original, of_query, neighbours, *fit, answer)

    def _neighbours(self, window):
        """The first stage's segments, best first."""
        ranked = windows.find(window[None, None], self.catalogue, "single_stage")
        place, score = (of[0, 0] for of in ranked)
        songs = self.catalogue.sequences.song_of(place)
        from_s = (place - self.catalogue.sequences.bounds[songs]) * windows.HOP_S
        titles = [self.catalogue.places[song].title for song in songs]
        return pd.DataFrame({"title": titles, "from_s": from_s, "score": score})

    def _alignment(self, window, answer):
        """How well a window fits at each place of the best candidate's recording."""
        if not answer.candidates:
            return np.zeros(0), np.zeros(0)
        sequences, titles = self.catalogue.sequences, [of.title for of in self.catalogue.places]
        low, high = sequences.bounds[titles.index(answer.candidates[0].title) :][:2]
        start = np.arange(low, high - len(window) + 1)
        of_window = np.zeros(len(start), int)
        score = search.diagonal_scores(window[None], sequences.frames, of_window, start)
        return (start - low) * windows.HOP_S, score
