"""Recordings of any format and length -> 8 kHz mono FLAC, each a `Clip`.

What cannot be used is a clip, too, with the reason in `refused`: nothing is left out in silence.
"""

import errno
import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from amg import code, files, paths, progress
from amg.check import InputError
from amg.sound import audio, decoding
from amg.sound.audio import SAMPLE_RATE
from amg.sound.clips import CLIP_S, MARGIN_S, Clip

LOSSLESS = (".aif", ".aiff", ".au", ".caf", ".flac", ".snd", ".w64", ".wav")
SUFFIXES = tuple(sorted((*LOSSLESS, ".mp3", ".oga", ".ogg", ".opus")))  # what libsndfile decodes
DECODED = (*SUFFIXES, *decoding.OF_FFMPEG)
TOLERANCE_S = 0.1  # data sets of 30 s clips have some of 29.9 s
SPEEDS = (0.94, 1.06)  # a semitone down and up


def find(folder, suffixes=DECODED, linked=False, onerror=None) -> list[Path]:
    """Audio files below `folder`, by suffix, in the order of their relative paths.

    linked: with what lies in linked folders, each of which is followed once, wherever it is linked.
    onerror: is called with the OSError of each folder that may not be read.
    """
    listed, seen = [], set()
    for place, folders, names in os.walk(folder, onerror=onerror, followlinks=linked):
        folders.sort()
        if os.path.realpath(place) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        if onerror and not os.access(place, os.X_OK):
            onerror(PermissionError(errno.EACCES, os.strerror(errno.EACCES), place))
        listed += [Path(place, name) for name in names]
    named = (path for path in listed if path.suffix.lower() in suffixes)
    return sorted(path for path in named if os.path.isfile(path))


def root(folder, linked=False) -> Path:
    """Resolve a user's directory of audio; InputError if there is none, or no audio in it."""
    path = paths.resolve(folder or ".")
    if not folder or not path.is_dir() or not find(path, linked=linked):
        raise InputError(without_audio(folder))
    return path


def without_audio(folder) -> str:
    """What to say of a user's folder, or file, that has no audio."""
    path = paths.resolve(folder or ".")
    if not folder:
        return "folder is '', but must be a folder with audio files."
    if path.is_file() and path.suffix.lower() in DECODED:
        return f"{folder} is a file, but must be a folder with audio files."
    if not path.exists():
        return f"{folder}: no such folder."
    looked_for = ", ".join(suffix[1:] for suffix in DECODED)
    return f"{folder} holds no audio files (looked for: {looked_for})."


def decode_folder(folder, workers=2) -> list[Clip]:
    """A user's directory as `decode_all`, in `data/audio/folder/`, each file as `completed`, and
    none shorter than a clip."""
    source = root(folder)
    name = f"{source.name}-{files.digest(str(source))[:8]}-{code.digest(__name__)}"
    target = paths.resolve(f"data/audio/folder/{name}")
    jobs = [(path, source, target, CLIP_S, completed) for path in find(source)]
    return decode_all(jobs, workers)


def completed(blocks) -> Iterator[np.ndarray]:
    """Blocks of sound; with silence around them where they make a clip of CLIP_S, but for
    TOLERANCE_S, and not its margins, as the clips of data sets do."""
    blocks, first, n_samples = iter(blocks), [], 0
    wanted, margin = (round(time_s * SAMPLE_RATE) for time_s in (CLIP_S + 2 * MARGIN_S, MARGIN_S))
    while n_samples < wanted and (block := next(blocks, None)) is not None:
        first.append(block)
        n_samples += len(block)
    if (CLIP_S - TOLERANCE_S) * SAMPLE_RATE <= n_samples < wanted:
        after = max(wanted - margin - n_samples, 0)
        first = [np.zeros(margin, np.float32), *first, np.zeros(after, np.float32)]
    return itertools.chain(first, blocks)


def decode_all(jobs, workers=2, label="decoding") -> list[Clip]:
    """Recordings without a role, each by a job (the arguments of `decode`), in order.

    Refused is, too, what has the same samples as an earlier one. Files already decoded are kept, so
    an interrupted call continues.
    """
    clips, first = [], {}
    for clip in progress.parallel(decode, jobs, workers, desc=label, unit="file"):
        if not clip.refused and first.setdefault(clip.sha256, clip.piece) != clip.piece:
            clip = replace(clip, refused=f"same samples as {first[clip.sha256]}")
        clips.append(clip)
    return clips


def decode(path, folder, target, shortest_s, as_written=iter) -> Clip:
    """Decode one file below `folder` to `target`, unless that is done: its name is its path there.

    Refused is what cannot be decoded, is silent, or is shorter than `shortest_s`. as_written: what
    becomes of its blocks of sound. What was decoded bears the time of its source: a source or a
    copy of another date is noticed, older or newer.
    """
    track = path.relative_to(folder)
    clip = Clip(str(track), str(track), track.parts[0] if len(track.parts) > 1 else ".")
    file, time = (target / track).with_name(f"{track.name}.flac"), path.stat().st_mtime_ns
    try:
        if not file.exists() or file.stat().st_mtime_ns != time:
            scale = audio.full_scale(path)
            write(file, as_written(block / scale for block in audio.blocks(path)), time)
    except InputError as reason:
        return replace(clip, refused=str(reason).removeprefix(f"{path} ").split(" (")[0])
    clip = clip.whole(file)
    too_short = f"lasts {clip.seconds:.2f} s, shorter than {shortest_s:g} s"
    return replace(clip, refused=too_short) if clip.seconds < shortest_s else clip


def write(file, blocks, time_ns=None) -> None:
    """Write blocks of 8 kHz samples to a 16-bit FLAC file; raise InputError if there are none."""
    n_samples = 0
    with files.atomic(file) as temporary:
        with soundfile.SoundFile(temporary, "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC") as out:
            for block in blocks:
                out.write(np.clip(block, -1, 1))
                n_samples += len(block)
        if not n_samples:  # a FLAC file without samples could not be read again
            raise InputError("holds no sound")
        if time_ns is not None:
            os.utime(temporary, ns=(time_ns, time_ns))


def at_speeds(clips, workers=2) -> list[Clip]:
    """Each whole recording at each of SPEEDS: recordings of their own, of other pitch and tempo.

    They lie in `data/audio/speed/`, by the checksum of their original; those there are kept.
    """
    jobs = itertools.product(clips, SPEEDS)
    return [*progress.parallel(_at_speed, jobs, workers, desc="changing speed", unit="recording")]


def _at_speed(clip, speed):
    sound = clip.measured().sha256  # what is there now, not what was decoded once
    file = paths.resolve(f"data/audio/speed/{speed}-{code.digest(__name__)}/{sound}.flac")
    if not file.exists():
        write(file, audio.resampled(clip.blocks(), speed * SAMPLE_RATE))
    name = f"{clip.recording} x{speed}"
    return replace(clip, piece=name, recording=name).whole(file)
