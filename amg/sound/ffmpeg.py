"""Formats that libsndfile lacks, decoded by the ffmpeg that is installed, if one is."""

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from amg.check import InputError

SUFFIXES = (".aac", ".ape", ".m4a", ".m4b", ".mp4", ".webm", ".wma", ".wv")
# a playlist in disguise does not reach into the network
OPTIONS = ("-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe")
FIRST_AS_AU = ("-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-")
MAGIC, HEADER = b".snd", 24  # of AU, which tells rate and channels and needs no length


def decode(path) -> tuple[int, Iterator[np.ndarray]]:
    """The first audio stream of a file: its rate in Hz, and blocks of float32 (n, channels).

    Raises InputError if there is no ffmpeg, or nothing that it can decode. Where it fails later,
    what was decoded counts.
    """
    program = shutil.which("ffmpeg")
    if not program:
        raise InputError(
            f"{path} needs ffmpeg to be decoded, which is not installed; install it, or convert "
            "the file to FLAC, WAV, OGG or MP3."
        )
    command = [program, *OPTIONS, "-i", f"file:{Path(path).absolute()}", *FIRST_AS_AU]
    with tempfile.TemporaryFile() as errors:  # a pipe that nobody reads could fill up
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        head = process.stdout.read(HEADER)
        errors.seek(0)
        words = errors.read().decode(errors="replace").strip().splitlines() or ["no sound in it"]
    if len(head) < HEADER or not head.startswith(MAGIC):
        _stop(process)
        raise InputError(
            f"{path} cannot be decoded by ffmpeg ({words[-1].rpartition(': ')[2]}); "
            "export it again, as FLAC, WAV, OGG or MP3."
        )
    offset, _, _, rate, channels = struct.unpack(">5I", head[4:])
    process.stdout.read(offset - HEADER)
    return rate, _blocks(process, 30 * rate, channels)


def _blocks(process, size, channels):
    try:
        while data := process.stdout.read(4 * channels * size):
            whole = len(data) - len(data) % (4 * channels)
            yield np.frombuffer(data[:whole], ">f4").reshape(-1, channels).astype(np.float32)
    finally:
        _stop(process)


def _stop(process):
    process.kill()
    process.stdout.close()
    process.wait()
