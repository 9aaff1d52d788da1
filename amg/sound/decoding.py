"""Any sound file -> samples: what its bytes are decides, not its name or what its header claims."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from amg.check import InputError
from amg.sound import ffmpeg, libsndfile

UNKNOWN = 1  # libsndfile's number of the error that it knows no such format


def decode(path) -> Iterator[tuple[int, np.ndarray]]:
    """(rate in Hz, samples float32 (n, channels)), in consecutive blocks of up to 30 s.

    Where libsndfile stops, ffmpeg goes on, if it is installed. Raises InputError if nothing can be
    decoded, or, without ffmpeg, not all.
    """
    with open(path, "rb", buffering=0) as file:
        if not file.seek(0, os.SEEK_END):
            raise InputError(f"{path} is empty.")
        heard_s, stopped = 0.0, None
        for way in (libsndfile.decode, ffmpeg.decode, partial(libsndfile.decode, kind="MP3")):
            passed_s = 0.0
            try:
                for rate, block in way(file):
                    yield rate, block[max(0, round((heard_s - passed_s) * rate)) :]
                    passed_s += len(block) / rate
                return
            except (soundfile.LibsndfileError, EOFError) as error:
                stopped, heard_s = stopped or error, max(heard_s, passed_s)
            if way is ffmpeg.decode and not _unknown(stopped):
                break
    if not (ffmpeg.program() and isinstance(stopped, EOFError)):  # else that was all
        raise InputError(f"{path} {_reason(stopped, heard_s, Path(path).suffix.lower())}")


def _unknown(error):
    return isinstance(error, soundfile.LibsndfileError) and error.code == UNKNOWN


def _reason(stopped, heard_s, suffix):
    """What is wrong with a file, and what to do, by why libsndfile stopped after `heard_s`."""
    installed = ffmpeg.program()
    remedy = "export it again, as FLAC, WAV, OGG or MP3."
    remedy = remedy if installed else f"install ffmpeg, or {remedy}"
    if heard_s or isinstance(stopped, EOFError):
        return f"goes on after {heard_s:.1f} s, where libsndfile stops; {remedy}"
    if not _unknown(stopped):
        why = stopped.error_string.removeprefix("Error : ").rstrip(".")
        return f"cannot be decoded ({why}); {remedy}"
    if suffix in ffmpeg.SUFFIXES and not installed:
        return f"needs ffmpeg to be decoded, which is not installed; {remedy}"
    return "is not an audio file that can be read (WAV, FLAC, OGG, MP3; more formats with ffmpeg)."
