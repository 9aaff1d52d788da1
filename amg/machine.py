"""What ran where: commit, packages, processor, peak memory."""

import contextlib
import os
import platform
import re
import subprocess
import threading
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
import torch

from amg import paths
from amg.check import InputError, one_of

DEVICES = ("auto", "cpu", "cuda")
CODE = ("amg", "notebooks", ":!amg/weights/*.json", ":!amg/weights/*.md")  # what runs

# oneDNN keeps a program per shape of product, and crops have many: fewer than its 1,024 save memory
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")


def device(name="auto") -> str:
    """The device, cpu or cuda, that a parameter of DEVICES stands for; auto takes cuda if it can.

    Raises InputError for another name, and for cuda where there is none.
    """
    able = torch.cuda.is_available()
    if one_of("device", name, DEVICES) == "cuda" and not able:
        raise InputError("device is 'cuda', but torch finds none here; choose auto or cpu.")
    return "cuda" if able and name != "cpu" else "cpu"


class PeakMemory:
    """Context manager; `peak_mb` is the most memory of all child processes together, so far."""

    def __enter__(self):
        self.peak_mb, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

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
            self.peak_mb = max(self.peak_mb, round(total / 1e6))


def describe() -> dict:
    """Commit, versions of the packages, and machine, for a report's manifest."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    processor = named[1] if named else platform.processor() or platform.machine()
    return {
        "commit": commit(),
        "packages": _packages(),
        "machine": {
            "processor": processor,
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
    }


def _packages():
    """Versions of what requirements.txt pins, or, without a checkout, of what the package asks for;
    what is not installed is left out."""
    lock = paths.checkout() / "requirements.txt"
    wanted = lock.read_text().splitlines() if paths.is_checkout() else requires("amg") or []
    versions = {}
    for name in (re.match(r"[\w.-]+", line) for line in wanted):
        with contextlib.suppress(PackageNotFoundError):
            versions |= {name[0]: version(name[0])} if name else {}
    return versions


def commit() -> str:
    """Short hash of the checkout's commit, `+` if files differ from it; 'unknown' without git."""
    head = _git("rev-parse", "--short", "HEAD")
    if head is None:
        return "unknown"
    return head if at_commit("HEAD") else f"{head}+"


def at_commit(name) -> bool:
    """Whether amg/ and notebooks/ are as in a commit, named as by `commit`: `<hash>+` never is."""
    return _git("diff", "--name-only", name, "--", *CODE) == ""


def _git(*words):
    """What git says of the checkout, and of no repository around it; None if it fails, or there is
    none."""
    root = paths.checkout()
    alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(root.parent)}
    try:
        return subprocess.run(
            ["git", *words], cwd=root, env=alone, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
