"""What a user would pick instead: programs that name recordings, asked the same questions.

    Identify     this kit's, as `amg identify` runs it
    Chromaprint  AcoustID's fingerprints (pyacoustid); every place of every song is compared
    Landmarks    pairs of spectral peaks (Wang, ISMIR 2003), by audfprint

A system is made with its settings. `hear` says what it keeps of a song, `hold` gives it all songs,
and `ask` which of them a sound is from. What is not installed raises InputError.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import soxr

from amg import check
from amg.catalogue import models
from amg.catalogue.catalogue import Catalogue
from amg.catalogue.identify import identify
from amg.catalogue.store import Place
from amg.check import InputError
from amg.sound.audio import SAMPLE_RATE


class Named(NamedTuple):
    """What a system makes of a sound."""

    song: int  # number of the likeliest song, -1 for none
    score: float  # how sure it is, higher is surer
    named: bool  # whether it names the song by its own rule


NOTHING = Named(-1, -np.inf, False)


class Identify:
    """The two-stage search and the calibrated decision of this kit."""

    name, needs = "amg identify", "amg"

    def __init__(self):
        self.models = models.load()

    def hear(self, sound) -> np.ndarray:  # float32 (T, 128)
        return next(iter(self.models.fingerprinter.load().extract([[sound]])))

    def hold(self, songs):
        places = [Place(str(number).encode(), 0, 0) for number in range(len(songs))]
        self.catalogue = Catalogue.of(songs, self.models, places)

    def ask(self, sound) -> Named:
        answer = identify((sound, SAMPLE_RATE), self.catalogue)
        told = sorted(answer.matches, key=lambda match: -match.evidence) or answer.candidates
        for best in told[:1]:
            return Named(int(best.path), -np.log(max(best.chance, 1e-300)), bool(answer.matches))
        return NOTHING

    @property
    def n_bytes(self) -> int:
        return self.catalogue.sequences.frames.nbytes + self.catalogue.vectors.nbytes


class Chromaprint:
    """32 bits about each eighth of a second. A place is as like a query as the share of items that
    differ in `most_bits` bits at most, pyacoustid's rule for two files."""

    name, needs = "Chromaprint", "pyacoustid"

    def __init__(self, most_bits=2):
        self.most_bits = most_bits
        # without the library, acoustid is there all the same, and chromaprint is not
        self.chromaprint, self.acoustid = (_module(of, self) for of in ("chromaprint", "acoustid"))

    def hear(self, sound) -> np.ndarray:  # uint32 (n,)
        samples = np.round(32767 * sound).astype("<i2").tobytes()
        length_s = len(sound) // SAMPLE_RATE + 1
        encoded = self.acoustid.fingerprint(SAMPLE_RATE, 1, iter([samples]), length_s)
        items, _ = self.chromaprint.decode_fingerprint(encoded)
        return np.array(items, np.uint32)

    def hold(self, songs):
        self.items = np.concatenate(songs)
        self.song = np.repeat(np.arange(len(songs)), [len(song) for song in songs])

    def ask(self, sound) -> Named:
        query = self.hear(sound)
        n_places = len(self.items) - len(query) + 1
        if not len(query) or n_places < 1:  # an item takes 2.6 s of sound
            return NOTHING
        alike = np.zeros(n_places, np.int32)
        for i, item in enumerate(query):
            alike += np.bitwise_count(self.items[i : i + n_places] ^ item) <= self.most_bits
        alike[self.song[:n_places] != self.song[len(query) - 1 :]] = 0  # not within one song
        best = int(alike.argmax())
        return Named(int(self.song[best]), alike[best] / len(query), bool(alike[best]))

    @property
    def n_bytes(self) -> int:
        return self.items.nbytes


class Landmarks:
    """audfprint; its settings by their names there, and what it takes for a match."""

    name, needs = "audfprint", "audfprint2"
    shifts = 4  # of a query, by less than a frame: the program's own

    def __init__(self, density=20.0, fanout=3, search_depth=100, min_count=5):
        program = _module("audfprint2", self)
        self.program, self.analyzer = program, program.core.analyzer.Analyzer(density)
        self.analyzer.maxpairsperpeak, self.matcher = fanout, program.core.matcher.Matcher()
        self.matcher.search_depth, self.matcher.threshcount = search_depth, min_count
        self.matcher.window = 2

    def hear(self, sound, shifts=1) -> np.ndarray:  # int32 (n, 2): time, hash
        rate = self.analyzer.target_sr
        sound, parts = soxr.resample(sound, SAMPLE_RATE, rate), []
        for shift in range(shifts):
            peaks = self.analyzer.find_peaks(sound[shift * self.analyzer.n_hop // shifts :], rate)
            landmarks = self.analyzer.peaks2landmarks(peaks)
            parts.append(self.program.core.analyzer.landmarks2hashes(landmarks))
        return np.unique(np.concatenate(parts), axis=0)

    def hold(self, songs):
        self.table = self.program.core.hash_table.HashTable(maxtime=2**16)
        for number, song in enumerate(songs):
            self.table.store(str(number), song.tolist())

    def ask(self, sound) -> Named:
        hashes = self.hear(sound, self.shifts)
        found = self.matcher.match_hashes(self.table, hashes) if len(hashes) else ()
        for number, count, *_ in found[:1]:
            return Named(int(self.table.names[number]), float(count), True)
        return NOTHING

    @property
    def n_bytes(self) -> int:
        return 4 * int(np.minimum(self.table.counts, self.table.depth).sum())


SYSTEMS: dict[str, Any] = {"identify": Identify, "chromaprint": Chromaprint, "audfprint": Landmarks}


def at_hand(names) -> list[str]:
    """Those of some names of SYSTEMS that are installed; of others it is said what they need."""
    check.each("systems", names, check.one_of, SYSTEMS)
    there = []
    for name in names:
        try:
            SYSTEMS[name]()
            there.append(name)
        except InputError as reason:
            print(f"{reason}")
    return there


def check_landmarks(name, value) -> None:
    """InputError unless `value` is a density and a fanout of `Landmarks`."""
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{name} is {value!r}, but must be [density, fanout], as [20, 3].")
    for number in value:
        check.integer(name, number, 1)


def variants(names, landmarks) -> dict[str, Callable]:
    """Label -> a function that makes a system, for names of SYSTEMS; landmarks: of [density,
    fanout], each a system of its own."""
    made: dict[str, Callable] = {}
    for system in (SYSTEMS[name] for name in names):
        if system is not Landmarks:
            made[system.name] = system
            continue
        for density, fanout in landmarks:
            label = f"{system.name}, density {density}, fanout {fanout}"
            made[label] = partial(system, density, fanout)
    return made


def _module(name, system):
    """A module that a system needs; InputError, one sentence, without it."""
    try:
        return __import__(name, fromlist=["*"])
    except ImportError as error:
        raise InputError(
            f"{system.name} is left out, for it needs {system.needs} ({error}); pip install "
            "'.[rivals]' in the checkout, and for Chromaprint its library, which systems package "
            "as libchromaprint1 or chromaprint."
        ) from None
