"""Shared fixtures: golden files, a private workspace, and one run of the smoke profile."""

import os

# several processes test at once, on the same cores: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from amg.embedding import encoders, losses, registry, training
from amg.embedding.fast import products
from amg.report.running import pipeline
from amg.sound import audio

CHECKOUT = Path(__file__).resolve().parent.parent


# a file is one process's; the longest begin
FIRST = ("test_kill.py", "test_notebooks.py", "test_own_experiment.py")


def pytest_collection_modifyitems(items):
    """The longest files first, so that all processes end at about the same time."""
    items.sort(
        key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST)
    )


@pytest.fixture
def rivals():
    """The encoders of notebooks/rivals.py, for one test: the others know the kit's alone."""
    kept = dict(encoders.registry)
    registry.load("rivals")
    yield
    encoders.registry.clear()
    encoders.registry.update(kept)
    del sys.modules["rivals"]


@pytest.fixture(scope="session")
def golden():
    """Folder of inputs and of the published implementation's answers."""
    return Path(os.environ.get("AMG_GOLDEN") or CHECKOUT / "tests" / "golden")


@pytest.fixture
def unrounded(monkeypatch):
    """Products of training are exact on every processor: by oneDNN unless it rounds here."""
    if products.rounded_here():
        monkeypatch.setattr(torch.cpu, "get_capabilities", dict)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty workspace of the test's own."""
    monkeypatch.setenv("AMG_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def own():
    """The registries of encoders and losses are afterwards what they were before."""
    kept = [(kind, dict(kind)) for kind in (encoders.registry, losses.registry)]
    yield
    for kind, before in kept:
        kind.clear()
        kind.update(before)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A workspace, its path with a space in it, in which the smoke profile has run; test_notebooks
    goes on in it. The processes share the run: whoever comes later waits."""
    root = _shared(tmp_path_factory) / "smoke run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMG_HOME", str(root))
        with FileLock(root.with_suffix(".lock")):
            if not (root.parent / "undisturbed").exists():
                root.mkdir()
                pipeline.reproduce("smoke")
                for part in ("data/models", "reports/smoke"):
                    shutil.copytree(root / part, root.parent / "undisturbed" / part, symlinks=True)
        yield root


@pytest.fixture(scope="session")
def undisturbed(smoke):
    """The models and the report of the smoke run as it left them."""
    return smoke.parent / "undisturbed"


def _shared(tmp_path_factory):
    """The folder of all processes of this session of tests."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def unit_rows(rng, *shape):
    """Random unit vectors, float32."""
    rows = rng.standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def hearing(sounds, sequences):
    """A function, as `databases.Database.hear`, for songs of these samples."""

    def hear(position, n_frames):
        song = int(sequences.song_of(position))
        assert position + n_frames <= sequences.bounds[song + 1]
        first = position - sequences.bounds[song]
        return sounds[song][first * audio.HOP :][: (n_frames + 1) * audio.HOP]

    return hear


def write_training_set(folder, n_songs=6, n_clips=3, n_frames=30, seed=0):
    """A training folder in the published layout, of random unit vectors."""
    from amg.fingerprint import features

    rng = np.random.default_rng(seed)
    for song in range(1, n_songs + 1):
        original = unit_rows(rng, n_frames, 128)
        for clip in range(n_clips):
            noisy = original + 0.03 * clip * rng.standard_normal(original.shape)
            noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
            features.save(features.song_file(folder, song, clip), noisy)
    return folder


@contextmanager
def interrupted_at(step):
    """What is trained inside stops at this step, and has kept a checkpoint of each before."""
    update = training.Run._update

    def interrupted(run, batch, lr):
        if run.progress["step"] == step:
            raise KeyboardInterrupt
        return update(run, batch, lr)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SAVE_S", 0.0)
        patch.setattr(training.Run, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            yield


def run_module(*words, **options):
    """`python -m` these words, in a process: what is said and how it ended."""
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def parameters(**values):
    """Words of a command line that give a notebook these parameters."""
    return [word for name, value in values.items() for word in ("-p", name, str(value))]
