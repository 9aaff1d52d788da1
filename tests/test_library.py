"""What a catalogue is asked beside the music in a clip: `amg list | stats | remove | dedup`.

`PYTHONPATH=tests python -m test_library` writes the session of `docs/catalogue.md` anew.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import CHECKOUT
from test_catalogue import RATE, tune, write

from amg.catalogue import indexing, library, store
from amg.check import InputError

DOCUMENT = CHECKOUT / "docs/catalogue.md"
COMMANDS = """\
find music -type f | sort
amg index music
amg identify clip.wav
amg list
amg dedup
rm music/old/*
amg index music
amg index music --prune
amg remove music/ada/second.flac
amg stats"""


def session(home):
    """What these commands say in a folder with some tunes, as it is shown."""
    os.makedirs(home / "music/ada")
    for seed, title in enumerate(("First", "Second")):
        name = home / "music/ada" / f"{title.lower()}.flac"
        with soundfile.SoundFile(name, "w", RATE, 1) as file:
            file.artist, file.title = "Ada", title
            file.write(tune(seed))
    write(home / "music/old/first.ogg", tune(0))
    shutil.copy(home / "music/ada/second.flac", home / "music/old/copy.flac")
    write(home / "clip.wav", tune(1)[3 * RATE : 13 * RATE])
    program = f'amg() {{ {shlex.quote(sys.executable)} -m amg "$@"; }}'
    environment = {**os.environ, "AMG_HOME": str(home)}
    shown = []
    for command in COMMANDS.splitlines():
        run = subprocess.run(
            ["bash", "-c", f"{program}; {command}"],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0 and not run.stderr, (command, run)
        said = [line for line in re.split("[\r\n]", run.stdout) if line and "%|" not in line]
        shown.append("\n".join([f"$ {command}", *said]).replace(str(home), "/home/ada"))
    return "```\n" + "\n".join(shown) + "\n```"


def test_the_documented_session_is_what_is_said(tmp_path):
    documented = DOCUMENT.read_text().split("<!-- session -->\n")[1].split("\n<!-- /session")[0]
    assert session(tmp_path.resolve()) == documented


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A catalogue of duplicates of several kinds, which tests only read."""
    folder, rng = tmp_path_factory.mktemp("library"), np.random.default_rng(0)
    one, two = tune(0, 20), tune(1, 20)
    write(folder / "music/one.wav", one)
    write(folder / "music/late.wav", one[int(1.75 * RATE) :])  # between two frames
    write(folder / "music/noisy.flac", 0.3 * one + 0.003 * rng.standard_normal(len(one)))
    write(folder / "music/two.wav", two)
    write(folder / "music/half.wav", two[10 * RATE :])
    write(folder / "music/other.wav", np.concatenate([two[: 8 * RATE], tune(3, 12)]))
    write(folder / "music/a/three.wav", tune(2, 20))
    shutil.copytree(folder / "music/a", folder / "music/b")
    indexing.index([folder / "music"], folder / "catalogue", workers=1)
    return folder


def names(folder, groups):
    music = folder / "music"
    return [
        {os.path.relpath(os.fsdecode(place.path), music) for _, place in rows} for rows in groups
    ]


def test_duplicates_are_the_same_from_begin_to_end(folder):
    """An excerpt is none, nor is what has a part in common."""
    copies, alike = library.dedup(folder / "catalogue")
    assert names(folder, copies) == [{"a/three.wav", "b/three.wav"}]
    assert names(folder, alike) == [{"one.wav", "late.wav", "noisy.flac"}]


def test_what_is_removed_may_exist_or_not(folder, tmp_path):
    shutil.copytree(folder / "catalogue", tmp_path / "catalogue")
    music, catalogue = folder / "music", tmp_path / "catalogue"
    with pytest.raises(InputError, match="the catalogue has nothing of .*music/none; amg list"):
        library.remove([music / "two.wav", music / "none"], catalogue)
    assert library.remove([music / "two.wav"], catalogue) == 1
    (tmp_path / "link").symlink_to(music)
    assert library.remove([tmp_path / "link/a", music / "b/three.wav"], catalogue) == 2
    assert (music / "two.wav").exists() and (music / "a/three.wav").exists()
    with store.Store(catalogue) as on_disk:
        assert len(on_disk.places()) == len(on_disk.sounds()) == 5
    assert library.remove([music], catalogue) == 5
    with store.Store(catalogue) as on_disk:
        assert on_disk.read() == ([], {}, ()) and on_disk.hours == 0
    assert library.dedup(catalogue) == ([], [])
    assert indexing.index([music], catalogue, workers=1).heard == 8
    with pytest.raises(InputError, match="holds no catalogue"):
        library.remove([music], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_many_folders_are_added_up():
    few = [b"/m/%d/a.wav" % number for number in range(library.N_FOLDERS)]
    assert library._folders(few) == {b"/m/%d" % number: 1 for number in range(library.N_FOLDERS)}
    assert library._folders([*few, b"/m/a/b/c.wav", b"/m/x.wav"]) == {b"/m": len(few) + 2}
    assert library._folders([b"/%d/a.wav" % number for number in range(99)] + [b"/a"]) == {
        b"/": 100
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        new = session(Path(temporary).resolve())
    text = DOCUMENT.read_text()
    between = "(?<=<!-- session -->\n).*(?=<!-- /session)"
    DOCUMENT.write_text(re.sub(between, lambda _: f"{new}\n", text, flags=re.DOTALL))
