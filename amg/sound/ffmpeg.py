"""Sound that libsndfile does not decode, by the ffmpeg that is installed, if one is."""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator

import numpy as np

from amg.sound import libsndfile

SUFFIXES = (".aac", ".ape", ".m4a", ".m4b", ".mp4", ".webm", ".wma", ".wv")
# a playlist in disguise does not reach into the network
OPTIONS = ("-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe")
FIRST_AS_AU = ("-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-")
MAGIC, HEADER = b".snd", 24  # of AU, which tells rate and channels and needs no length


def program() -> str | None:
    """Where it is, None if it is not installed."""
    return shutil.which("ffmpeg")


def decode(file) -> Iterator[tuple[int, np.ndarray]]:
    """The first audio stream of a file on disk: (rate in Hz, samples float32 (n, channels)), in
    blocks of up to 30 s.

    Raises EOFError if there is no ffmpeg, or nothing that it can decode. Where it fails later,
    what was decoded counts.
    """
    file.seek(0)
    if not program() or b"\0" not in file.read(4096):  # a text may be a list of other files
        raise EOFError("no ffmpeg, or no sound")
    command = [program(), *OPTIONS, "-i", f"file:{os.path.abspath(file.name)}", *FIRST_AS_AU]
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
