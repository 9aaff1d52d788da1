"""Writing a catalogue: one process at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import filelock

from amg import paths, provenance
from amg.catalogue import store
from amg.catalogue.store import DATABASE, Store
from amg.check import InputError


@contextmanager
def locked(folder, about=None) -> Iterator[Store]:
    """The `Store` of a folder, which is made if need be, for one writer; others wait.

    about: as for `Store`; None takes what is there, whatever made it. Raises InputError as `Store`,
    if it was made otherwise than `about` says, or by other code (unless provenance.KEEP is set), or
    if the folder cannot be written.
    """
    folder = paths.resolve(folder)
    shown = paths.relative(folder)
    with store.refusing(folder, "written"):
        if about is None:
            with Store(folder):  # refused before anything is written
                pass
        folder.mkdir(parents=True, exist_ok=True)
        strange = sorted(folder.glob("[!.]*"))
        if strange and not (folder / DATABASE).exists():
            raise InputError(
                f"{shown} is no catalogue, it has {strange[0].name}; give a new folder as "
                "--catalogue."
            )
        lock = filelock.FileLock(folder / ".lock")
        try:
            held = lock.acquire(timeout=0)
        except filelock.Timeout:
            print(f"another process is indexing into {shown}; waiting for it.", flush=True)
            held = lock.acquire()
        with held, Store(folder, about) as on_disk:
            other_code = on_disk.compare(about) if about else ""
            if other_code and not os.environ.get(provenance.KEEP):
                raise InputError(
                    f"{other_code}; index into a new folder by --catalogue, or set "
                    f"{provenance.KEEP}=1 to keep what it has."
                )
            if other_code:
                print(f"{other_code}; kept.")
            for path in (*folder.glob("frames-*"), *folder.glob("vectors-*")):
                if path not in on_disk.files():  # of a process that was killed while it wrote anew
                    path.unlink()
            yield on_disk
