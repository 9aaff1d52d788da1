"""The document on an experiment of one's own, literally."""

import itertools
import os
import re
import shutil
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import CHECKOUT

from amg.sound import sheet_music


@pytest.mark.slow
def test_an_experiment_on_ones_own_music_is_four_lines(tmp_path):
    """As the document says, in a copy of the checkout without its times, whose sweep has two cells;
    a file in the folder is none."""
    document = (CHECKOUT / "docs/own_experiment.md").read_text()
    (profile,) = re.findall(r"^```yaml\n(all:\n.+?)^```", document, re.MULTILINE | re.DOTALL)
    (command,) = re.findall(r"^make .+ PROFILE=mine$", document, re.MULTILINE)
    assert len(profile.splitlines()) == 4
    kit, music = tmp_path / "kit", tmp_path / "Music"
    for part in ("amg", "notebooks"):
        left_out = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(CHECKOUT / part, kit / part, False, left_out, shutil.copyfile)
    (kit / "notebooks/profiles/mine.yaml").write_text(profile)
    sweep = kit / "notebooks/sweeps/demo.yaml"
    sweep.write_text(re.sub("  (ArcFace|InfoNCE|LSTM|one-bit lift): .+\n", "", sweep.read_text()))
    _stand_in_for_the_environment(kit)
    rng, names = np.random.default_rng(0), iter(f"{n}.wav" for n in range(1000))
    music.mkdir()
    for role, count in (("train", 9), ("valid", 2), ("test", 3), ("dummy", 4)):
        of_role = (name for name in names if sheet_music.role_by_hash(name) == role)
        for name in itertools.islice(of_role, count):
            notes = np.repeat(rng.uniform(300, 3000, 80), 3200) / 8000
            soundfile.write(music / name, 0.3 * np.sin(2 * np.pi * np.cumsum(notes)), 8000)
    broken = next(name for name in names if sheet_music.role_by_hash(name) == "dummy")
    (music / broken).write_text("no sound")
    own = {name: value for name, value in os.environ.items() if name != "AMG_HOME"}
    # the folder is ~/Music; what lies in the true home is used
    own |= {"HOME": str(tmp_path), "MPLCONFIGDIR": matplotlib.get_configdir()}
    own |= {"PYTHONPATH": str(kit)}
    subprocess.run(command.split(), cwd=kit, env=own, check=True)
    report = kit / "reports/mine"
    clips = pd.read_csv(report / "tables/clips.csv")
    assert clips.piece[clips.refused.notna()].tolist() == [broken]
    assert clips.role.value_counts().to_dict() == {"train": 8, "dummy": 5, "test": 3, "valid": 2}
    tables = {path.name for path in (CHECKOUT / "reports/reference/demo/tables").iterdir()}
    assert {path.name for path in (report / "tables").iterdir()} == tables
    assert (report / "index.html").exists()


def _stand_in_for_the_environment(kit):
    """A .venv that the Makefile finds ready, whose Python is this one, for the kit alone."""
    (kit / ".venv/bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copyfile(CHECKOUT / name, kit / name)
        os.utime(kit / name, (0, 0))
    (kit / ".venv/installed").touch()
    (kit / ".venv/bin/python").write_text(
        f'#!/bin/sh\n[ "$2" = amg ] && exec {sys.executable} "$@"\n'
    )
    (kit / ".venv/bin/python").chmod(0o755)
