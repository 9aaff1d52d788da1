"""Corpus `open_music`: soundtracks and sounds of free games, from Debian's archive.

A package is downloaded and unpacked, never installed; its sounds are decoded once to 8 kHz
mono, and package and archive are deleted. Tracks of 30 s and more are music; shorter sounds
(speech, machines, weather, weapons) serve as background noise. Splits are by package
(`packages.yaml`): no composer's set of tracks stands in two roles, and no noise on two sides. Some
test noise is made of sound effects of games whose music is among the distractors.
"""

import csv
import shutil
import subprocess
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import soundfile
import yaml

from amg import files, paths, progress
from amg.sound import recordings
from amg.check import InputError

SHORTEST_S = 30.0  # of music
NOISE_S = (0.4, 20.0)  # of sound effects and prompts
_LISTED = yaml.safe_load(Path(__file__).with_name("packages.yaml").read_text())
PACKAGES = _LISTED["music"]  # role -> packages whose music plays it
NOISES = _LISTED["noise"]  # side -> kind of noise -> packages it is made of


def fetch(packages, workers=2) -> pd.DataFrame:
    """Download, unpack and decode packages; returns the manifest of all of them.

    Columns: package, version, licence (path of the copyright file kept beside the tracks) and
    those of `recordings.decode_all`. Packages whose sounds are all there are not touched; one
    that cannot be had is named and left out. Raises InputError where there is no apt.
    """
    packages = list(packages)
    missing = [name for name in packages if not _is_whole(name)]
    if missing and not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise InputError("corpus 'open_music' is fetched with apt-get and dpkg-deb, which this "
                         "system lacks; run it on Debian or Ubuntu, or use corpus 'folder' with "
                         "music of your own, or 'sheet_music', which needs neither.")
    jobs = [joblib.delayed(_fetch_one)(name) for name in missing]
    results = joblib.Parallel(workers, return_as="generator_unordered")(jobs)
    for refusal in progress.bar(results, desc="fetching packages", unit="package",
                                total=len(packages), initial=len(packages) - len(jobs)):
        if refusal:
            print(refusal)
    tables = [_read(name) for name in packages if _is_whole(name)]
    if not tables:
        raise InputError(f"none of the packages {', '.join(packages)} can be had; run `apt-get "
                         "update` as root, and see to the network.")
    return pd.concat(tables, ignore_index=True)


def noises(side, workers=2) -> dict[str, list[np.ndarray]]:
    """Sounds for the noise of one side: {"music": [...], "speech": [...], "machines": [...]}.

    Each is a list of float32 (n_samples,) at 8 kHz: whole tracks of music; prompts and sound
    effects of NOISE_S seconds.
    """
    sounds = {}
    for kind, packages in NOISES[side].items():
        table = fetch(packages, workers).query("refused == ''")
        low, high = (SHORTEST_S, float("inf")) if kind == "music" else NOISE_S
        files = table.file[table.seconds.between(low, high)]
        if files.empty:
            raise InputError(f"the packages {', '.join(packages)} hold no sound for {side} noise "
                             f"of the kind {kind!r}; see why they were skipped.")
        sounds[kind] = [soundfile.read(paths.resolve(f), dtype="float32")[0] for f in files]
    return sounds


def _read(package):
    return pd.read_csv(_manifest(package), keep_default_na=False, dtype={"version": str})


def _is_whole(package):
    """Whether a package was fetched, and none of its sounds was deleted since."""
    return _manifest(package).exists() and all(
        paths.resolve(file).exists() for file in _read(package).file if file)


def _folder(package):
    return paths.resolve(f"data/audio/open_music/{package}")


def _manifest(package):
    return _folder(package) / "manifest.csv"


def _fetch_one(package):
    """Make one package's folder; returns None, or a sentence why it cannot be had.

    The manifest is written last: its presence says that the folder was whole.
    """
    work = paths.resolve(f"data/audio/open_music/.{package}")
    try:
        package_file = next(work.glob("*.deb"), None) or _download(package, work)
        rows = _decode(package, package_file, work / "unpacked")
    except (LookupError, OSError, RuntimeError, subprocess.CalledProcessError,
            zipfile.BadZipFile) as reason:
        return f"package {package} is skipped: {reason}"
    licence = _folder(package) / "copyright"
    version = package_file.stem.split("_")[1].replace("%3a", ":")
    shutil.rmtree(work)
    with files.atomic(_manifest(package)) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["package", "version", "licence", *recordings.COLUMNS])
        writer.writeheader()
        for row in rows:
            writer.writerow({"package": package, "version": version,
                             "licence": str(paths.relative(licence)), **row})
    return None


def _download(package, work):
    """Download one package to `work`, under its name only when it is whole; returns its path.

    Raises LookupError with apt's own words if it cannot be had.
    """
    part = work / "part"
    part.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["apt-get", "download", package], cwd=part, capture_output=True,
                          text=True)
    if done.returncode or not (found := next(part.glob("*.deb"), None)):
        errors = [line for line in done.stderr.splitlines() if line.startswith("E: ")]
        raise LookupError((errors or ["E: apt-get gave no reason"])[0].removeprefix("E: "))
    return found.rename(work / found.name)


def _decode(package, package_file, unpacked):
    """Unpack a package, keep its licence, decode its sounds; returns the rows of its manifest."""
    subprocess.run(["dpkg-deb", "-x", package_file, unpacked], check=True)
    for archive in [f for f in unpacked.rglob("*") if f.suffix in (".zip", ".pk3") and f.is_file()]:
        with zipfile.ZipFile(archive) as inner:  # some games ship their sounds zipped
            sounds = [n for n in inner.namelist() if n.lower().endswith(recordings.SUFFIXES)]
            inner.extractall(archive.with_name(f"{archive.name}.d"), sounds)
    licence = next(unpacked.glob("usr/share/doc/*/copyright"), None)
    if not licence:
        raise LookupError("it states no licence")
    _folder(package).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(licence, _folder(package) / "copyright")
    return recordings.decode_all(unpacked, _folder(package), NOISE_S[0], workers=1, label=package)
