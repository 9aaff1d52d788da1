"""Corpus `open_music`: soundtracks and sounds of free games, from Debian's archive.

A package is downloaded and unpacked, never installed; its sounds are decoded once to 8 kHz
mono, and package and archive are deleted. Tracks of 30 s and more are music; shorter sounds
(speech, machines, weather, weapons) serve as background noise. Splits are by package
(`packages.yaml`): no composer's set of tracks stands in two roles, and no noise on two sides. Some
test noise is made of sound effects of games whose music is among the distractors.
"""

import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import yaml

from amg import paths, progress, provenance
from amg.check import InputError
from amg.sound import clips, recordings
from amg.sound.clips import Clip

NOISE_S = (0.4, 20.0)  # from the shortest to the longest prompt or sound effect
LISTED = yaml.safe_load(Path(__file__).with_name("packages.yaml").read_text())
FAILURES = (LookupError, OSError, RuntimeError, subprocess.CalledProcessError, zipfile.BadZipFile)
PACKAGES = LISTED["music"]  # role -> packages whose music plays it
NOISES = LISTED["noise"]  # side -> kind of noise -> packages it is made of


def fetch(packages, workers=2) -> list[Clip]:
    """Download, unpack and decode packages; returns all their sounds, without a role.

    Packages whose sounds are all there are not touched; one that cannot be had is named and left
    out. Raises InputError where there is no apt.
    """
    missing = [name for name in packages if _read(name) is None]
    if missing and not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise InputError(
            "corpus 'open_music' is fetched with apt-get and dpkg-deb, which this system lacks; "
            "run it on Debian or Ubuntu, or use corpus 'folder' with music of your own, or "
            "'sheet_music', which needs neither."
        )
    jobs, label = [(name,) for name in missing], "fetching packages"
    for refusal in progress.parallel(_fetch_one, jobs, workers, desc=label, unit="package"):
        if refusal:
            print(refusal)
    sounds = [clip for name in packages for clip in _read(name) or ()]
    if not sounds:
        raise InputError(
            f"none of the packages {', '.join(packages)} can be had; run `apt-get update` as root, "
            "and see to the network."
        )
    return sounds


def _folder(package):
    return paths.resolve(f"data/audio/open_music/{package}")


def _read(package):
    """The sounds of a package; None if it was not fetched, or one of them was deleted since."""
    table = _folder(package) / "recordings.csv"
    sounds = clips.from_table(clips.read_csv(table)) if table.exists() else None
    lost = sounds and any(clip.file and not paths.resolve(clip.file).exists() for clip in sounds)
    return None if lost else sounds


def _fetch_one(package):
    """Make one package's folder; returns None, or a sentence why it cannot be had.

    The table is written last: its presence says that the folder was whole.
    """
    work = paths.resolve(f"data/audio/open_music/.{package}")
    work.parent.mkdir(parents=True, exist_ok=True)
    with provenance.lock(work):
        try:
            package_file = next(work.glob("*.deb"), None) or _download(package, work)
            sounds = _decode(package, package_file, work / "unpacked")
        except FAILURES as reason:
            return f"package {package} is skipped: {reason}"
        shutil.rmtree(work)
        clips.write_csv(clips.to_table(sounds), _folder(package) / "recordings.csv")
    return None


def _download(package, work):
    """Download one package to `work`, under its name only when it is whole; returns its path.

    Raises LookupError with apt's own words if it cannot be had.
    """
    part = work / "part"
    part.mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "download", package]
    done = subprocess.run(command, cwd=part, capture_output=True, text=True)
    if done.returncode or not (package_file := next(part.glob("*.deb"), None)):
        errors = [line for line in done.stderr.splitlines() if line.startswith("E: ")]
        raise LookupError((errors or ["E: apt-get gave no reason"])[0].removeprefix("E: "))
    return package_file.rename(work / package_file.name)


def _decode(package, package_file, unpacked):
    """Unpack a package, keep its licence, decode its sounds."""
    subprocess.run(["dpkg-deb", "-x", package_file, unpacked], check=True)
    for archive in [f for f in unpacked.rglob("*") if f.suffix in (".zip", ".pk3") and f.is_file()]:
        with zipfile.ZipFile(archive) as inner:  # some games ship their sounds zipped
            names = [n for n in inner.namelist() if n.lower().endswith(recordings.SUFFIXES)]
            inner.extractall(archive.with_name(f"{archive.name}.d"), names)
    licence = next(unpacked.glob("usr/share/doc/*/copyright"), None)
    if not licence:
        raise LookupError("it states no licence")
    _folder(package).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(licence, _folder(package) / "copyright")
    version = package_file.stem.split("_")[1].replace("%3a", ":")
    found = recordings.find(unpacked, recordings.SUFFIXES)  # alike with ffmpeg and without
    jobs = [(file, unpacked, _folder(package), NOISE_S[0]) for file in found]
    sounds = []
    for clip in recordings.decode_all(jobs, 1, package):
        name = f"{package}/{clip.piece}"
        sounds.append(replace(clip, piece=name, recording=name, source=package, version=version))
    return sounds
