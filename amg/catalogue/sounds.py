"""What `identify` is asked: sound in a file, in samples, from a pipe, or below a folder."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from amg import check
from amg.check import InputError
from amg.sound import audio, recordings


def blocks(sound) -> Iterator[np.ndarray]:
    """A path, or a tuple of samples (n,), (n, channels) or (channels, n) and their rate in Hz, as
    `audio.blocks`; InputError if it is none, or there is no such file."""
    if isinstance(sound, tuple):
        mono, rate = _samples(sound)
        return audio.resampled([mono], rate)
    if not isinstance(sound, (str, os.PathLike)):
        raise InputError(
            f"the sound is of type {type(sound).__name__}, but must be a path or a tuple (samples, "
            "rate in Hz), as soundfile.read makes of an open file."
        )
    path = Path(sound).expanduser()
    if _kind(path) != stat.S_IFREG:
        raise InputError(f"{sound} is a folder or a device, but must be a file.")
    return audio.blocks(path)


def files(given) -> list:
    """Of a path of the command line, that, or if it is a folder the audio files below it, as
    `index` finds them; InputError if there are none."""
    if given == "-" or _kind(given) != stat.S_IFDIR:
        return [given]
    return recordings.find(recordings.root(os.path.abspath(given), linked=True), linked=True)


@contextmanager
def at_hand(given) -> Iterator[tuple]:
    """(Path, name) of a file of the command line, of a copy if it is a pipe or -, standard input.

    Raises InputError if nothing comes from there; others that are raised meanwhile do not tell of
    the copy.
    """
    if given != "-" and _kind(given) != stat.S_IFIFO:
        yield Path(given), ""
        return
    name = "standard input" if given == "-" else str(given)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sound")
        try:
            with file.open("wb") as copy:
                if given != "-":
                    with open(given, "rb") as pipe:
                        shutil.copyfileobj(pipe, copy)
                elif sys.stdin:  # None if it is closed
                    shutil.copyfileobj(sys.stdin.buffer, copy)
        except OSError as error:
            raise InputError(f"{name} cannot be read ({error.strerror}).") from None
        if not file.stat().st_size:
            raise InputError(f"{name} is empty; give it a sound: amg identify - < clip.mp3")
        try:
            yield file, name
        except InputError as error:
            raise InputError(str(error).replace(str(file), name)) from None


def _kind(path):
    """What the file system has there, as stat.S_IFREG is a file."""
    try:
        return stat.S_IFMT(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: of a null byte
        raise InputError(f"{path}: no such file.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None


def _samples(sound):
    """(float32 (n,), rate)."""
    try:
        samples, rate = sound
        samples = np.asarray(getattr(samples, "detach", lambda: samples)())  # of torch's
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the sound is no tuple (samples, rate in Hz): {error}.") from None
    kind = samples.dtype
    if samples.ndim in (1, 2) and samples.size and kind.kind in "iuf":
        samples = samples.astype(np.float32, copy=False)
        if (np.abs(samples) <= audio.LOUDEST).all():  # no NaN is
            rate = rate.item() if isinstance(rate, np.generic) else rate
            check.number("the rate", rate, *audio.RATES)
            # the longer axis is time
            mono = samples if samples.ndim == 1 else samples.mean(axis=np.argmin(samples.shape))
            return mono, rate
    raise InputError(
        f"samples have shape {samples.shape} and type {kind}, but must be finite numbers of "
        "shape (n,), (n, channels) or (channels, n)."
    )
