"""A wheel holds all that the package needs, and its command runs where there is no checkout."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile

import numpy as np
import pytest
import soundfile
import yaml
from conftest import CHECKOUT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import amg

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# extras whose name on import is another; the tests' own interpreter has them all
IMPORTED = {"ipython": "IPython", "pillow": "PIL"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without what an earlier build left in the checkout: modules that are no more."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "setup.cfg").write_text(f"[build]\nbuild_base = {folder}/build\n")
    environment = {**os.environ, "DIST_EXTRA_CONFIG": str(folder / "setup.cfg")}
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", folder, CHECKOUT], check=True, env=environment)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A function that runs the installed command in a folder: there is no checkout, and nothing of
    the extras can be imported, in whatever process."""
    site = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True)
    asked = [Requirement(line).name for line in EXTRAS["notebooks"]]
    refused = [IMPORTED.get(name, name) for name in asked]
    (site / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({refused}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    environment.pop("AMG_HOME", None)

    def run(folder, *words, command=(site / "bin" / "amg",)):
        return subprocess.run(
            [*command, *words], cwd=folder, env=environment, capture_output=True, text=True
        )

    return run, site


def test_a_wheel_holds_every_module_and_data_file(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in (CHECKOUT / "amg").rglob("*") if path.is_file()]
    needed = {path.relative_to(CHECKOUT).as_posix() for path in files if path.suffix != ".pyc"}
    packaged = {name for name in inside if name.startswith("amg/")}
    assert packaged == needed, sorted(packaged ^ needed)
    assert amg.__version__ in wheel.name


def test_the_version_stands_in_one_place_more_and_is_the_same():
    cited = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    assert cited["version"] == amg.__version__


def test_the_lock_pins_what_is_asked_for_within_its_range():
    asked = sum(EXTRAS.values(), PROJECT["dependencies"])
    ranges = {canonicalize_name(of.name): of.specifier for of in map(Requirement, asked)}
    lines = (CHECKOUT / "requirements.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    names = [canonicalize_name(name) for name, _ in pins]
    assert sorted(names) == sorted(canonicalize_name(Requirement(line).name) for line in asked)
    assert not [name for name, (_, pin) in zip(names, pins) if pin not in ranges[name]]


@pytest.mark.slow
def test_the_installed_command_names_music_in_an_empty_folder(installed, tmp_path):
    run, site = installed
    told = run(tmp_path, "import amg; print(amg.__file__)", command=(sys.executable, "-P", "-c"))
    assert told.stdout.startswith(str(site)), told.stderr
    for name, chord in {"one": (220, 277, 330), "two": (196, 247, 311)}.items():
        _write(tmp_path / "music" / f"{name}.wav", chord)
    done = run(tmp_path, "index", "music")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "catalogue").is_dir()  # without AMG_HOME, the working directory
    for name in ("one", "two"):
        done = run(tmp_path, "identify", f"music/{name}.wav", "--json")
        assert done.returncode == 0, done.stderr
        assert f"{name}.wav" in json.dumps(json.loads(done.stdout)["matches"]), done.stdout


@pytest.mark.slow
def test_the_installed_command_says_what_needs_a_checkout(installed, tmp_path):
    run, _ = installed
    for words in (["--help"], ["index", "--help"], ["reproduce", "--help"]):
        done = run(tmp_path, *words)
        assert done.returncode == 0, done.stderr
    for words in (["reproduce"], ["reference"], ["run", "03_train"]):
        done = run(tmp_path, *words)
        assert done.returncode == 1
        assert done.stderr.startswith(f"amg: the command {words[0]} needs a checkout")
        assert done.stderr.count("\n") == 1
    done = run(tmp_path, "identify", "none.wav")
    assert done.returncode == 1 and done.stderr.startswith("amg: ") and done.stderr.count("\n") == 1
    described = "from amg import machine; print(*machine.describe()['packages'])"
    done = run(tmp_path, described, command=(sys.executable, "-c"))
    assert {"torch", "numpy"} <= set(done.stdout.split()), done.stderr
    assert not list(tmp_path.iterdir())


def _write(file, chord, rate=16000, seconds=24):
    """A WAV file of a chord in noise, the notes of which come and go."""
    rng, time = np.random.default_rng(chord[0]), np.arange(seconds * rate) / rate
    sound = 0.02 * rng.standard_normal(len(time))
    for pitch in chord:
        loud = np.repeat(rng.uniform(0, 0.2, 2 * seconds), rate // 2)
        sound += loud * np.sin(2 * np.pi * pitch * rng.choice([1, 1.5, 2], 1) * time)
    file.parent.mkdir(exist_ok=True)
    soundfile.write(file, sound, rate)
