"""Files that survive whatever interrupts us: written whole, read with care, told apart."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amg import paths
from amg.check import InputError

FULL = 2**16  # bytes free from which down on a disk is full


@contextmanager
def atomic(path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block succeeds.

    A reader sees the old file or the whole new one, whatever interrupts us, a power cut included.
    Raises OSError if the disk is full, whatever the block's library made of that.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())  # on the disk before it gets its name
        os.replace(temporary, path)
    except InputError:
        raise
    except Exception as error:
        full, name = os.strerror(errno.ENOSPC), str(paths.relative(path))
        if isinstance(error, OSError) and error.errno:
            error.filename = error.filename or name
        elif full in str(error) or shutil.disk_usage(path.parent).free <= FULL:
            raise OSError(errno.ENOSPC, full, name) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path, value) -> None:
    """Write a JSON-able value, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def read_json(path) -> dict | None:
    """The dict in a file; None if there is no file, or, with a message, anything else."""
    try:
        value = json.loads(Path(path).read_text())
        if isinstance(value, dict):
            return value
    except FileNotFoundError:
        return None
    except ValueError:
        pass
    print(f"{paths.relative(path)} is empty or damaged; it counts as absent.")
    return None


def digest(value) -> str:
    """16 hex digits of a JSON-able value, the same for equal values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def sha256(path) -> str:
    """Hex digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
