"""Any sound file -> samples: what its bytes are decides, not its name or what its header claims.

libsndfile decodes it, or the ffmpeg that is installed, if one is.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from amg.check import InputError
from amg.sound import libsndfile

UNKNOWN = 1  # libsndfile's number of the error that it knows no such format
OF_FFMPEG = (".aac", ".ape", ".m4a", ".m4b", ".mp4", ".webm", ".wma", ".wv")
# a playlist in disguise does not reach into the network
OPTIONS = ("-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe")
FIRST_AS_AU = ("-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-")
MAGIC, HEADER = b".snd", 24  # of AU, which tells rate and channels and needs no length


def decode(path) -> Iterator[tuple[int, np.ndarray]]:
    """(rate in Hz, samples float32 (n, channels)), in consecutive blocks of up to 30 s.

    Where libsndfile stops, ffmpeg goes on, if it is installed. Raises InputError if nothing can be
    decoded, or, without ffmpeg, not all.
    """
    with open(path, "rb", buffering=0) as file:
        if not file.seek(0, os.SEEK_END):
            raise InputError(f"{path} is empty.")
        heard_s, stopped = 0.0, None
        for way in (libsndfile.decode, by_ffmpeg, partial(libsndfile.decode, kind="MP3")):
            passed_s = 0.0
            try:
                for rate, block in way(file):
                    yield rate, block[max(0, round((heard_s - passed_s) * rate)) :]
                    passed_s += len(block) / rate
                return
            except (soundfile.LibsndfileError, EOFError) as error:
                stopped, heard_s = stopped or error, max(heard_s, passed_s)
            if way is by_ffmpeg and getattr(stopped, "code", None) != UNKNOWN:
                break
    if not (ffmpeg() and isinstance(stopped, EOFError)):  # else that was all
        raise InputError(f"{path} {_reason(stopped, heard_s, Path(path).suffix.lower())}")


def ffmpeg() -> str | None:
    """Where it is, None if it is not installed."""
    return shutil.which("ffmpeg")


def by_ffmpeg(file) -> Iterator[tuple[int, np.ndarray]]:
    """The first audio stream of a file on disk, as `libsndfile.decode`.

    Raises EOFError if there is no ffmpeg, or nothing that it can decode. Where it fails later,
    what was decoded counts.
    """
    file.seek(0)
    if not ffmpeg() or b"\0" not in file.read(4096):  # a text may be a list of other files
        raise EOFError("no ffmpeg, or no sound")
    command = [ffmpeg(), *OPTIONS, "-i", f"file:{os.path.abspath(file.name)}", *FIRST_AS_AU]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            head = process.stdout.read(HEADER)
            if len(head) < HEADER or not head.startswith(MAGIC):
                raise EOFError("ffmpeg decodes nothing")
            offset, _, _, rate, channels = struct.unpack(">5I", head[4:])
            process.stdout.read(offset - HEADER)
            size = 4 * channels * libsndfile.block_length(rate, channels)
            while data := process.stdout.read(size):
                whole = len(data) - len(data) % (4 * channels)
                samples = np.frombuffer(data[:whole], ">f4").reshape(-1, channels)
                yield rate, samples.astype(np.float32)
        finally:
            process.kill()


def _reason(stopped, heard_s, suffix):
    """What is wrong with a file, and what to do, by why libsndfile stopped after `heard_s`."""
    remedy = "export it again, as FLAC, WAV, OGG or MP3."
    remedy = remedy if ffmpeg() else f"install ffmpeg, or {remedy}"
    if heard_s or isinstance(stopped, EOFError):
        return f"goes on after {heard_s:.1f} s, where libsndfile stops; {remedy}"
    if stopped.code != UNKNOWN:
        why = stopped.error_string.removeprefix("Error : ").rstrip(".")
        return f"cannot be decoded ({why}); {remedy}"
    if suffix in OF_FFMPEG and not ffmpeg():
        return f"needs ffmpeg to be decoded, which is not installed; {remedy}"
    return "is not an audio file that can be read (WAV, FLAC, OGG, MP3; more formats with ffmpeg)."
