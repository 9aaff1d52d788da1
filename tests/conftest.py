"""Shared fixtures: golden files, a private workspace, and one run of the smoke profile."""

import os
from pathlib import Path

import numpy as np
import pytest

# two processes test at once, on the same cores: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items):
    """One process makes the smoke run, and tests all that reads it."""
    for item in items:
        if "smoke" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("smoke"))


@pytest.fixture(scope="session")
def golden():
    """Folder of inputs and of the published implementation's answers."""
    return Path(os.environ.get("AMG_GOLDEN") or CHECKOUT / "tests" / "golden")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty workspace of the test's own."""
    monkeypatch.setenv("AMG_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A workspace, its path with a space in it, in which the smoke profile has run."""
    from amg.report import pipeline

    root = tmp_path_factory.mktemp("smoke run")
    before = os.environ.get("AMG_HOME")
    os.environ["AMG_HOME"] = str(root)
    try:
        pipeline.reproduce("smoke")
        yield root
    finally:
        if before is None:
            del os.environ["AMG_HOME"]
        else:
            os.environ["AMG_HOME"] = before


def unit_rows(rng, *shape):
    """Random unit vectors, float32."""
    rows = rng.standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


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
