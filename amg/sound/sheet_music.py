"""Corpus `scores`: real compositions, rendered with a sound font.

music21's corpus supplies the notes (chorales, masses, madrigals, quartets, fiddle tunes),
pretty_midi's TimGM6mb the instruments, symusic the synthesis. Each piece gets a seeded
arrangement: instruments, tempo, transposition, dynamics, level. Everything follows from the
piece's name and one seed.

A piece belongs to one *role* for ever, by a hash of its name alone, so that no seed can move
a piece that the shipped fingerprinter was trained on into the test set.
"""

import bisect
import csv
import itertools
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import joblib
import numpy as np
import soundfile
import soxr

from amg import files, paths, progress
from amg.sound.audio import SAMPLE_RATE
from amg.check import InputError

CLIP_S = 30
RENDER_RATE = 44100  # the rate of the font's own samples; high partials alias at 8 kHz
MAX_SILENCE_S = 2.0  # longest silence in a usable clip
COLLECTIONS = ("palestrina", "ryansMammoth", "bach", "monteverdi", "trecento", "beethoven",
               "mozart", "haydn", "corelli", "handel", "joplin", "schumann_clara",
               "schumann_robert", "chopin", "schubert")
SUFFIXES = (".krn", ".abc", ".mxl", ".xml", ".musicxml")
# share of the pieces, in %, that each role owns
ROLES = {"train": 52, "valid": 3, "test": 8, "dummy": 30, "noise_train": 3, "noise_valid": 1,
         "noise_test": 3}
# General MIDI programs that hold or repeat a note well: keyboards, mallets, organs,
# guitars, bowed strings, voices, brass, reeds, pipes, synthetic leads
PROGRAMS = (0, 4, 6, 11, 12, 16, 19, 21, 22, 24, 25, 26, 29, 40, 41, 42, 45, 46, 48, 52, 56,
            57, 58, 60, 61, 64, 65, 66, 68, 70, 71, 73, 74, 75, 79, 80, 81, 104, 105, 107)


class Unusable(Exception):
    """This piece cannot give a clip; the message says why."""


@dataclass(frozen=True)
class Arrangement:
    """How one piece is played; every field follows from (piece, seed)."""

    programs: tuple  # General MIDI program of each part
    bpm: float  # quarter notes per minute
    transpose: int  # semitones
    level_db: float  # RMS of the clip, dBFS


def pieces(role, seed):
    """Names of the works of one role, in the seed's order; `role` is a key of ROLES."""
    from music21 import corpus  # only rendering needs it

    works = {}  # a work that comes in several formats is one piece
    for name in sorted(_name(path) for path in corpus.getCorePaths()):
        if Path(name).suffix in SUFFIXES and name.split("/")[0] in COLLECTIONS:
            works.setdefault(_slug(name), name)
    names = [works[slug] for slug in works if role_of(slug) == role]
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]


def role_of(name):
    """The role that a name has for ever, by its hash."""
    bounds = list(itertools.accumulate(ROLES.values()))
    return list(ROLES)[bisect.bisect(bounds, zlib.crc32(name.encode()) % 100)]


def _slug(name):
    """File name of a piece's clip: `palestrina-Agnus_0` for `palestrina/Agnus_0.krn`."""
    return name.rsplit(".", 1)[0].replace("/", "-")


def _name(path):
    """`palestrina/Agnus_0.krn` from the path of a file in music21's corpus."""
    return "/".join(Path(path).parts[Path(path).parts.index("corpus") + 1 :])


def render(piece, seed):
    """Play one piece: returns (float32 (240000,), Arrangement), 30 s at 8 kHz.

    Raises Unusable if the piece is too short at the slowest tempo or falls silent.
    """
    rng = np.random.default_rng([seed, zlib.crc32(piece.encode())])
    parts, length_beats = _notes(piece)
    if len(parts) == 1:  # two instruments play a lone tune, an octave apart
        parts.append(parts[0] + [0, 0, rng.choice([-12, 12])])
    bpm = float(rng.uniform(66, 132))
    bpm = min(bpm, length_beats * 60 / (CLIP_S + 2))
    if bpm < 50:
        raise Unusable(f"lasts {length_beats:g} beats, too few for {CLIP_S} s")
    arrangement = Arrangement(
        programs=tuple(int(p) for p in rng.choice(PROGRAMS, len(parts), replace=False)),
        bpm=bpm, transpose=int(rng.integers(-5, 7)), level_db=float(rng.uniform(-26, -16)))
    first_beat = float(rng.uniform(0, length_beats - (CLIP_S + 1) * bpm / 60))
    audio = _play(parts, arrangement, first_beat, rng)
    if longest_silence(audio) > MAX_SILENCE_S:
        raise Unusable("is silent for more than 2 s")
    audio *= 10 ** (arrangement.level_db / 20) / np.sqrt(np.mean(audio**2))
    audio *= min(1.0, 0.98 / np.abs(audio).max())
    return audio.astype(np.float32), arrangement


def longest_silence(audio):
    """Longest stretch, in seconds, whose level stays 40 dB below the clip's RMS."""
    blocks = audio[: len(audio) // 400 * 400].reshape(-1, 400)  # 50 ms each
    loud = np.sqrt(np.mean(blocks**2, axis=1)) > 0.01 * np.sqrt(np.mean(audio**2)) + 1e-6
    edges = np.flatnonzero(np.concatenate([[True], loud, [True]]))
    return float((np.diff(edges).max() - 1) * 400 / SAMPLE_RATE)


def _notes(piece):
    """Parse a work: one array of rows (onset in beats, duration, MIDI pitch) per part."""
    from music21 import corpus

    try:
        score = corpus.parse(piece)
    except Exception as error:  # music21 raises its own errors of many kinds
        raise Unusable(f"is not readable: {type(error).__name__}") from None
    parts = []
    for part in list(getattr(score, "parts", ()))[:8]:
        rows = [(float(note.offset), float(note.quarterLength), pitch.midi)
                for note in part.flatten().notes for pitch in note.pitches]
        if rows:
            parts.append(np.array(rows))
    if not parts:
        raise Unusable("has no notes")
    return parts, max(float((p[:, 0] + p[:, 1]).max()) for p in parts)


def _play(parts, arrangement, first_beat, rng):
    """Synthesise CLIP_S seconds from `first_beat` on, with human timing and dynamics."""
    from symusic import Note, Score, Synthesizer, Tempo, Track

    ticks = 960
    score = Score(ticks)
    score.tempos.append(Tempo(0, qpm=arrangement.bpm))
    n_beats = (CLIP_S + 1) * arrangement.bpm / 60
    for program, rows in zip(arrangement.programs, parts):
        track = Track(program=program)
        loudness = rng.uniform(70, 105)
        inside = rows[(rows[:, 0] >= first_beat - 4) & (rows[:, 0] < first_beat + n_beats)]
        for onset, length, pitch in inside:
            start = max(onset - first_beat + rng.normal(0, 0.015), 0)
            length -= max(first_beat - onset, 0)  # a note that began before the clip
            swing = 12 * np.sin(onset / 5 + program)  # phrases swell and fade
            velocity = int(np.clip(loudness + swing + rng.normal(0, 6), 30, 127))
            if length > 0:
                track.notes.append(Note(int(start * ticks), max(int(length * ticks), 60),
                                        int(np.clip(pitch + arrangement.transpose, 28, 96)),
                                        velocity))
        score.tracks.append(track)
    font = Path(find_spec("pretty_midi").origin).parent / "TimGM6mb.sf2"
    sound = Synthesizer(sf_path=str(font), sample_rate=RENDER_RATE, quality=0).render(
        score, stereo=False)[0]
    sound = soxr.resample(np.asarray(sound, dtype=np.float32), RENDER_RATE, SAMPLE_RATE)
    n_samples = CLIP_S * SAMPLE_RATE
    return np.pad(sound, (0, max(0, n_samples - len(sound))))[:n_samples]


def build(role, n_clips, seed, workers=2, spare=0):
    """Render the first `n_clips` usable pieces of a role to FLAC; return their manifest.

    Up to `spare` further clips are added while the role has pieces. Files lie in
    `data/audio/scores/<seed>-<code>/<role>/`; those already there are kept, so an interrupted
    call continues. The manifest is a list of dicts: file, piece, programs, bpm, transpose,
    level_db, peak, silence_s. Raises InputError if the role has too few pieces.
    """
    folder = paths.resolve(f"data/audio/scores/{seed}-{paths.code('sheet_music')}/{role}")
    candidates, rows = iter(pieces(role, seed)), []
    wanted = n_clips + spare
    with progress.bar(total=wanted, desc=f"rendering {role}", unit="clip") as bar:
        # a round asks for as many pieces as are missing, until none refuses or none is left
        while jobs := [joblib.delayed(_build_one)(piece, seed, folder)
                       for piece in itertools.islice(candidates, wanted - len(rows))]:
            for row in joblib.Parallel(workers, return_as="generator")(jobs):
                if "refused" not in row:
                    rows.append(row)
                    bar.update()
    if len(rows) < n_clips:
        raise InputError(f"{n_clips} clips are asked for the role {role}, but the scores corpus "
                         f"has only {len(rows)} usable pieces for it; ask for fewer.")
    return rows


def _build_one(piece, seed, folder):
    """Render one piece unless its file is there; returns its manifest row."""
    file = folder / f"{_slug(piece)}.flac"
    note = file.with_suffix(".csv")
    if note.exists():
        row = next(csv.DictReader(note.open(newline="")))
        if "refused" in row or file.exists():
            return row
    try:
        audio, arrangement = render(piece, seed)
    except Unusable as reason:
        row = {"piece": piece, "refused": str(reason)}
    else:
        with files.atomic(file) as temporary:
            soundfile.write(temporary, audio, SAMPLE_RATE, subtype="PCM_16")
        row = {"file": str(paths.relative(file)), "piece": piece,
               "programs": " ".join(map(str, arrangement.programs)),
               "bpm": round(arrangement.bpm, 1), "transpose": arrangement.transpose,
               "level_db": round(20 * float(np.log10(np.sqrt(np.mean(audio**2)))), 1),
               "peak": round(float(np.abs(audio).max()), 3),
               "silence_s": longest_silence(audio)}
    with files.atomic(note) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        writer.writeheader()
        writer.writerow(row)
    return row
