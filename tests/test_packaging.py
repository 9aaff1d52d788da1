"""A wheel holds all that the package needs, and its command runs where there is no checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import amg

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, CHECKOUT]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_holds_every_module_and_data_file(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in (CHECKOUT / "amg").rglob("*") if path.is_file()]
    needed = {path.relative_to(CHECKOUT).as_posix() for path in files if path.suffix != ".pyc"}
    assert needed <= inside, sorted(needed - inside)
    assert amg.__version__ in wheel.name


def test_the_version_stands_in_one_place_more_and_is_the_same():
    cited = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    assert cited["version"] == amg.__version__


def test_the_wheel_runs_from_an_empty_folder(wheel, tmp_path):
    site, here = tmp_path / "site", tmp_path / "empty"
    here.mkdir()
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "AMG_HOME": str(here)}
    told = subprocess.run(
        [sys.executable, "-c", "import amg; print(amg.__file__)"],
        cwd=here, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.startswith(str(site))
    for words in (["--help"], ["index", "--help"]):
        done = subprocess.run(
            [site / "bin" / "amg", *words], cwd=here, env=environment, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()
    done = subprocess.run(
        [site / "bin" / "amg", "identify", "none.wav"], cwd=here, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.startswith("amg: ") and done.stderr.count("\n") == 1
