"""What ran where: commit, packages, processor, peak memory."""

import os
import platform
import re
import subprocess
import threading
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from amg import paths
from amg.check import InputError, one_of

DEVICES = ("auto", "cpu", "cuda")
CODE = ("amg", "notebooks", ":!amg/weights/*.json")  # what runs; a model's card only tells


def device(name="auto") -> str:
    """The device that a parameter of DEVICES stands for: cpu or cuda; auto takes cuda where it is.

    Raises InputError for another name, and for cuda where there is none.
    """
    able = torch.cuda.is_available()
    if one_of("device", name, DEVICES) == "cuda" and not able:
        raise InputError("device is 'cuda', but torch finds none here; choose auto or cpu.")
    return "cuda" if able and name != "cpu" else "cpu"


class PeakMemory:
    """Context manager: highest memory of all child processes together, sampled every 0.2 s."""

    def __enter__(self):
        self._bytes, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    @property
    def peak_mb(self):
        return round(self._bytes / 1e6)

    def _watch(self):
        while not self._stop.wait(0.2):
            total = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    memory = process.memory_info()
                    # pages that processes share, as packed fingerprints, count once at most
                    total += memory.rss - getattr(memory, "shared", 0)
                except psutil.Error:
                    pass  # ended between the listing and the look
            self._bytes = max(self._bytes, total)


def describe():
    """Commit, package versions and machine, as they go into a manifest."""
    return {"commit": commit(), "packages": packages(), "machine": {
        "processor": processor(), "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version()}}


def commit() -> str:
    """Short hash of the checkout's commit, `+` if files differ from it; 'unknown' without git."""
    try:
        return _git("rev-parse", "--short", "HEAD") + ("" if at_commit("HEAD") else "+")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def at_commit(name) -> bool:
    """Whether the checkout's files in amg/ and notebooks/ are those of a commit, named as by `commit`."""
    try:
        return not _git("diff", "--name-only", name, "--", *CODE)
    except (OSError, subprocess.CalledProcessError):
        return False  # also of `<hash>+`, or where there is no git


def _git(*words):
    return subprocess.run(["git", *words], cwd=paths.checkout(), capture_output=True, text=True,
                          check=True).stdout.strip()


def packages():
    """Installed versions of everything that requirements.txt pins."""
    lines = (paths.checkout() / "requirements.txt").read_text().splitlines()
    names = [line.split("==")[0] for line in lines if "==" in line]
    return {name: version(name) for name in names}


def processor():
    """The processor's name as its system states it."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return match[1] if match else platform.processor() or platform.machine()
