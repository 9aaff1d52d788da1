"""Recordings played a little faster or slower: more distractors, of other pitch and tempo."""

from dataclasses import replace

import joblib
import numpy as np
import soundfile
import soxr

from amg import files, paths, progress
from amg.sound import recordings
from amg.sound.audio import SAMPLE_RATE
from amg.sound.clips import Clip

FORMAT = 1  # raised when the same recording and speed give another sound
SPEEDS = (0.94, 1.06)  # a semitone down and up


def copies(clips, workers=2) -> list[Clip]:
    """Each whole recording at each of SPEEDS; recordings of their own.

    They lie in `data/audio/speed/`, by the checksum of their recording; those there are kept.
    """
    jobs = [joblib.delayed(copy)(clip, speed) for clip in clips for speed in SPEEDS]
    results = joblib.Parallel(workers, return_as="generator")(jobs)
    return list(progress.bar(results, desc="changing speed", unit="recording", total=len(jobs)))


def copy(clip, speed) -> Clip:
    """A whole recording at another speed."""
    sound = clip.measured().sha256  # what is there now, not what was decoded once
    file = paths.resolve(f"data/audio/speed/{speed}-v{FORMAT}/{sound}.flac")
    if not file.exists():
        with files.atomic(file) as temporary:
            recordings.write(temporary, _resampled(clip.blocks(), speed))
    name = f"{clip.recording} x{speed}"
    return replace(clip, piece=name, recording=name, file=str(paths.relative(file)),
                   seconds=soundfile.info(file).frames / SAMPLE_RATE).measured()


def _resampled(blocks, speed):
    resampler = soxr.ResampleStream(speed * SAMPLE_RATE, SAMPLE_RATE, 1, "float32")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
