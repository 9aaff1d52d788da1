"""Sound decoded by libsndfile until nothing comes, whatever a header claims, song after song."""

import contextlib
import io
import os
import re
import sys
import threading
from collections.abc import Iterator

import numpy as np
import soundfile

NEAR = 2**17  # bytes in which the next song must begin; a longer rest is more than tags
# formats whose files may be joined: how a song begins, and how far libsndfile reads ahead of one
JOINED = {
    "MP3": (rb"ID3|\xff[\xe2-\xff]", 4),
    "OGG": (rb"OggS\x00\x02", 2**16),
    "FLAC": (rb"fLaC", 2**16),
}
_ALONE = threading.Lock()


def decode(file, kind=None) -> Iterator[tuple[int, np.ndarray]]:
    """A binary file, unbuffered and on disk: (rate in Hz, samples float32 (n, channels)), in blocks
    of up to 30 s. Rate and channels may change where another song begins.

    kind: one of JOINED, to find its first song behind other bytes. Raises LibsndfileError where
    the file cannot be read (further), EOFError where much of it is left.
    """
    file.seek(0)
    begin, end, n_samples = 0, 0, 0
    if kind:
        sound, begin = _next(file, kind, -1, 0)
        if not sound:
            raise EOFError(f"no {kind}")
    else:
        with _quiet():
            sound = _Sequential(file.fileno(), closefd=False)
    while sound:
        with sound:
            kind = sound.format
            for block in _blocks(sound):
                n_samples += len(block)
                yield sound.samplerate, block
        end = file.tell()
        sound, begin = _next(file, kind, begin, end) if kind in JOINED else (None, begin)
    if (kind in JOINED or not n_samples) and file.seek(0, os.SEEK_END) - end > NEAR:
        raise EOFError("libsndfile stops before the end")


def block_length(rate, channels) -> int:
    """Samples of a channel in a block: 30 s, or what memory holds, whatever a header claims."""
    return max(1, min(30 * rate, 2**26 // channels))


def _blocks(sound):
    """What can be read of a song: its header's number of samples is no promise."""
    quiet = _quiet if "MPEG" in sound.subtype else contextlib.nullcontext
    left, wanted = sound.frames, block_length(sound.samplerate, sound.channels)
    while left:
        wanted = min(wanted, left)
        with quiet():
            block = sound.read(wanted, "float32", always_2d=True)
        yield block
        left = left - wanted if len(block) == wanted else 0  # what came then would be no sound


def holds_floats(path) -> bool:
    """Whether a file's samples are floating-point numbers, which full scale does not bound."""
    with contextlib.suppress(OSError, soundfile.LibsndfileError), open(path, "rb") as file:
        with _quiet(), soundfile.SoundFile(file) as sound:
            return sound.subtype in ("FLOAT", "DOUBLE")
    return False


class _Sequential(soundfile.SoundFile):
    """Read from front to end, never sought: what a header counts bounds no block."""

    def seekable(self):
        return False


class _From(io.RawIOBase):
    """A file from a byte on."""

    def __init__(self, file, begin):
        self.file, self.begin = file, begin

    def readinto(self, buffer):
        return self.file.readinto(buffer)

    def seek(self, offset, whence=os.SEEK_SET):
        if whence == os.SEEK_SET:
            offset += self.begin
        return self.file.seek(offset, whence) - self.begin

    def tell(self):
        return self.file.tell() - self.begin


def _next(file, kind, begin, end):
    """The song after one from byte `begin` to about `end`, and where it begins; else None."""
    pattern, ahead = JOINED[kind]
    start = max(begin + 1, end - ahead)
    file.seek(start)
    for match in re.finditer(pattern, file.read(NEAR)):
        with contextlib.suppress(soundfile.LibsndfileError), _quiet():
            begin = file.seek(start + match.start())
            return _Sequential(_From(file, begin)), begin
    return None, begin


@contextlib.contextmanager
def _quiet():
    """Nothing reaches standard error, where libmpg123 takes notes that no setting can stop."""
    if sys.__stderr__ is None:  # closed: its number may be that of any other file
        yield
        return
    with _ALONE, open(os.devnull, "wb") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
