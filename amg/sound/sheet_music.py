"""Corpus `sheet_music`: real compositions, rendered with a sound font.

music21's corpus supplies the notes, pretty_midi's TimGM6mb the instruments, symusic the synthesis.
How a piece is arranged (instruments, tempo, transposition, dynamics, level) follows from its name
and one seed; its role does not depend on the seed: those in `fingerprinter_pieces.txt` trained the
shipped fingerprinter, others go by a hash of their name. Training may ask for more songs than there
are works: then each is arranged anew, up to TAKES times, as `work@2`, and begins elsewhere.
"""

import bisect
import itertools
import zlib
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soxr
import yaml

from amg import code, files, paths, progress
from amg.check import InputError
from amg.sound import recordings
from amg.sound.audio import SAMPLE_RATE
from amg.sound.clips import CLIP_S, MAX_SILENCE_S, Clip, longest_silence

START_S = 0.5  # rendered before the clip, and as much after it
RENDER_S = CLIP_S + 2 * START_S
RENDER_RATE = 44100  # the rate of the font's own samples; high partials alias at 8 kHz
TABLES = yaml.safe_load(Path(__file__).with_name("sheet_music.yaml").read_text())
COLLECTIONS = TABLES["collections"]  # of music21's works
SHARES = TABLES["shares"]  # role -> share of the names, in %
TAKES = TABLES["takes"]  # role -> arrangements of a work, 1 where none is given


def pieces(role, seed) -> list[str]:
    """Names of the works of one role, in the seed's order; then of their further arrangements."""
    names = [name for name, own in _roles().items() if own == role]
    names = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    return names + [f"{name}@{take}" for take in range(2, 1 + TAKES.get(role, 1)) for name in names]


def role_by_hash(name) -> str:
    """The key of SHARES that any name has, whatever the seed."""
    bounds = list(itertools.accumulate(SHARES.values()))
    return list(SHARES)[bisect.bisect(bounds, zlib.crc32(name.encode()) % 100)]


@lru_cache
def _roles():
    """Name -> role of every work; one that comes in several formats is one work."""
    from music21 import common, corpus  # slow to import, and only this corpus needs it

    heard = Path(__file__).with_name("fingerprinter_pieces.txt").read_text().splitlines()
    works, root = {}, common.getCorpusFilePath()
    for name in sorted(Path(path).relative_to(root).as_posix() for path in corpus.getCorePaths()):
        if Path(name).suffix in TABLES["formats"] and name.split("/")[0] in COLLECTIONS:
            works.setdefault(_slug(name), name)
    return {
        name: "fingerprinter" if slug in heard else role_by_hash(slug)
        for slug, name in works.items()
    }


def _slug(name):
    """File name of a piece's clip: `palestrina-Agnus_0@2` for `palestrina/Agnus_0.krn@2`."""
    work, at, take = name.partition("@")
    return work.rsplit(".", 1)[0].replace("/", "-") + at + take


def render(piece, seed) -> np.ndarray:
    """Play one piece, arranged as the seed says: RENDER_S seconds at 8 kHz, float32 (248000,).

    Raises InputError if it is not readable, too short at the slowest tempo, or falls silent.
    """
    rng = np.random.default_rng([seed, zlib.crc32(piece.encode())])
    parts, length_beats = _notes(piece)
    if len(parts) == 1:  # two instruments play a lone tune, an octave apart
        parts.append(parts[0] + [0, 0, rng.choice([-12, 12])])
    bpm = min(float(rng.uniform(66, 132)), length_beats * 60 / (RENDER_S + 2))  # quarter notes
    if bpm < 50:
        raise InputError(f"lasts {length_beats:g} beats, too few for {RENDER_S:g} s")
    programs = rng.choice(TABLES["programs"], len(parts), replace=False).tolist()
    semitones, level_db = int(rng.integers(-5, 7)), float(rng.uniform(-26, -16))
    first_beat = float(rng.uniform(0, length_beats - (RENDER_S + 1) * bpm / 60))
    audio = _play(parts, programs, bpm, semitones, first_beat, rng)
    if longest_silence(audio) > MAX_SILENCE_S:
        raise InputError(f"is silent for more than {MAX_SILENCE_S:g} s")
    audio *= 10 ** (level_db / 20) / np.sqrt(np.mean(audio**2))
    audio *= min(1.0, 0.98 / np.abs(audio).max())
    return audio.astype(np.float32)


def _notes(piece):
    """Parse a work: one array of rows (onset in beats, duration, MIDI pitch) per part."""
    from music21 import converter, corpus

    try:  # from the notes themselves: music21 would keep a pickle in a folder that others write to
        work = corpus.getWork(piece.partition("@")[0])
        score = converter.parseFile(work, forceSource=True, storePickle=False)
    except (OSError, MemoryError):  # says nothing of the piece
        raise
    except Exception as error:  # music21 raises its own errors of many kinds
        raise InputError(f"is not readable: {type(error).__name__}") from None
    parts = []
    for part in list(getattr(score, "parts", ()))[:8]:
        rows = []
        for note in part.flatten().notes:
            times = float(note.offset), float(note.quarterLength)
            rows += [(*times, pitch.midi) for pitch in note.pitches]
        if rows:
            parts.append(np.array(rows))
    if not parts:
        raise InputError("has no notes")
    return parts, max(float((p[:, 0] + p[:, 1]).max()) for p in parts)


def _play(parts, programs, bpm, semitones, first_beat, rng):
    """Synthesise RENDER_S seconds from `first_beat` on, with human timing and dynamics."""
    from symusic import Note, Score, Synthesizer, Tempo, Track

    ticks = 960
    score = Score(ticks)
    score.tempos.append(Tempo(0, qpm=bpm))
    end_beat = first_beat + (RENDER_S + 1) * bpm / 60
    for program, rows in zip(programs, parts):
        track = Track(program=program)
        loudness = rng.uniform(70, 105)
        inside = rows[(rows[:, 0] >= first_beat - 4) & (rows[:, 0] < end_beat)]
        for onset, length, pitch in inside:
            start = max(onset - first_beat + rng.normal(0, 0.015), 0)
            length -= max(first_beat - onset, 0)  # a note that began before the clip
            swing = 12 * np.sin(onset / 5 + program)  # phrases swell and fade
            velocity = int(np.clip(loudness + swing + rng.normal(0, 6), 30, 127))
            pitch = int(np.clip(pitch + semitones, 28, 96))
            if length > 0:
                time, duration = int(start * ticks), max(int(length * ticks), 60)
                track.notes.append(Note(time, duration, pitch, velocity))
        score.tracks.append(track)
    font = str(Path(find_spec("pretty_midi").origin).parent / "TimGM6mb.sf2")
    synthesizer = Synthesizer(sf_path=font, sample_rate=RENDER_RATE, quality=0)
    sound = np.asarray(synthesizer.render(score, stereo=False)[0], dtype=np.float32)
    sound = soxr.resample(sound, RENDER_RATE, SAMPLE_RATE)
    n_samples = round(RENDER_S * SAMPLE_RATE)
    return np.pad(sound, (0, max(0, n_samples - len(sound))))[:n_samples]


def build(role, n_clips, seed, workers=2, spare=0) -> list[Clip]:
    """Render the first `n_clips` usable pieces of a role to FLAC; the clips are their middle 30 s.

    Up to `spare` further clips are added while the role has pieces. Files lie in
    `data/audio/sheet_music/<seed>-<code>/<role>/`; those already there are kept, so an
    interrupted call continues. Raises InputError if the role has too few pieces.
    """
    folder = paths.resolve(f"data/audio/sheet_music/{seed}-{code.digest(__name__)}/{role}")
    candidates, clips = iter(pieces(role, seed)), []
    # a round asks for as many pieces as are missing, until none refuses or none is left
    while names := list(itertools.islice(candidates, n_clips + spare - len(clips))):
        jobs = [(piece, seed, folder) for piece in names]
        built = progress.parallel(_build_one, jobs, workers, desc=f"rendering {role}", unit="piece")
        clips += [clip for clip in built if not clip.refused]
    if len(clips) < n_clips:
        raise InputError(
            f"{n_clips} clips are asked for the role {role}, but the corpus sheet_music has only "
            f"{len(clips)} usable pieces for it; ask for fewer."
        )
    return clips


def _build_one(piece, seed, folder):
    """Render one piece unless its file, or a note of why there is none, is there; its clip."""
    file = folder / f"{_slug(piece)}.flac"
    work = piece.partition("@")[0]
    clip = Clip(piece, work, work.split("/")[0], file=str(paths.relative(file)))
    clip = replace(clip, start_s=START_S, seconds=float(CLIP_S), role=folder.name)
    note = file.with_suffix(".json")
    refused = (files.read_json(note) or {}).get("refused")
    if not refused and not file.exists():
        try:
            recordings.write(file, [render(piece, seed)])
        except InputError as reason:
            refused = str(reason)
            files.write_json(note, {"piece": piece, "refused": refused})
    return replace(clip, refused=refused) if refused else clip.measured()
