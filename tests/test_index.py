"""What `index` makes of folders that are away, that have moved, or that may not be read; and of a
catalogue that others use."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
from test_catalogue import RATE, tune, write

import amg
from amg import progress
from amg.catalogue import catalogue as catalogue_
from amg.catalogue import indexing, models, store
from amg.catalogue.catalogue import Catalogue
from amg.check import InputError


@pytest.fixture
def music(tmp_path):
    """A song of its own in a folder, and two in another one below it."""
    for number, name in enumerate(("a.wav", "usb/b.wav", "usb/c.wav")):
        write(tmp_path / "music" / name, tune(number, 4))
    return tmp_path / "music"


def index(folder, **options):
    """Index a folder beside its catalogue."""
    return indexing.index([folder], folder.parent / "catalogue", workers=1, **options)


def known(folder):
    with store.Store(folder / "catalogue") as on_disk:
        return {os.path.relpath(os.fsdecode(path), folder) for path in on_disk.places()}


def named(folder, seed):
    """Paths that are named for a tune."""
    answer = amg.identify((tune(seed, 4), RATE), folder / "catalogue")
    return [os.path.relpath(match.path, folder) for match in answer.matches]


def empty(folder):
    shutil.move(folder, folder.parents[1] / "away")
    folder.mkdir()


def vanish(folder):
    shutil.move(folder, folder.parents[1] / "away")


def dangle(folder):
    vanish(folder)
    folder.symlink_to("nowhere")


@pytest.mark.parametrize("unplug", [empty, vanish, dangle])
def test_what_is_away_stays_until_it_is_pruned(music, unplug):
    folder = music.parent
    index(music)
    everything = known(folder)
    unplug(music / "usb")
    for _ in range(2):
        report = index(music)
        assert (report.unchanged, report.removed, known(folder)) == (1, 0, everything)
        why = "can be reached (No such file or directory); files kept in the catalogue: 2."
        assert report.kept == [f"nothing of {music}/usb {why}"]
        assert "add --prune" in str(report)
    assert named(folder, 1) == ["music/usb/b.wav"]
    usb = music / "usb"
    usb.unlink() if usb.is_symlink() else shutil.rmtree(usb, ignore_errors=True)
    shutil.move(folder / "away", usb)
    report = index(music)
    assert (report.heard, report.unchanged, report.kept) == (0, 3, [])
    unplug(usb)
    assert index(music, prune=True).removed == 2 and known(folder) == {"music/a.wav"}
    assert not named(folder, 1)


def test_a_folder_that_is_away_altogether_stays_until_it_is_pruned(music):
    """It may be given beside one that is there; where nothing was known, it is a slip."""
    folder, other = music.parent, music.parent / "other"
    index(music)
    write(other / "d.wav", tune(3, 4))
    vanish(music / "usb")
    shutil.rmtree(music)
    report = indexing.index([music, other], folder / "catalogue", workers=1)
    assert (report.heard, report.removed, report.refused) == (1, 0, [])
    assert f"of {music} can" in report.kept[0]
    assert len(known(folder)) == 4
    assert index(music, prune=True).removed == 3 and known(folder) == {"other/d.wav"}
    with pytest.raises(InputError, match="music: no such folder"):
        index(music)


def test_single_files_are_indexed(music):
    folder = music.parent
    report = indexing.index([music / "a.wav", music / "usb/b.wav"], folder / "catalogue")
    assert (report.heard, report.refused) == (2, [])
    assert known(folder) == {"music/a.wav", "music/usb/b.wav"}
    (music / "a.wav").unlink()
    report = indexing.index([music / "a.wav"], folder / "catalogue")
    assert (report.removed, len(report.kept)) == (0, 1) and "a.wav can" in report.kept[0]
    report = indexing.index([music / "a.wav", music / "usb"], folder / "catalogue")
    assert (report.heard, report.removed) == (1, 1)  # there is music beside it
    assert known(folder) == {"music/usb/b.wav", "music/usb/c.wav"}


def test_a_library_that_has_moved_is_followed(music):
    folder = music.parent
    index(music)
    music.rename(folder / "zmusic")
    indexing.index([folder / "zmusic"], folder / "catalogue", workers=1)
    assert known(folder) == {"zmusic/a.wav", "zmusic/usb/b.wav", "zmusic/usb/c.wav"}
    assert named(folder, 1) == ["zmusic/usb/b.wav"]
    # a copy is no move
    shutil.copytree(folder / "zmusic", folder / "copy")
    indexing.index([folder / "copy"], folder / "catalogue", workers=1)
    assert len(known(folder)) == 6 and named(folder, 0) == ["copy/a.wav"]
    shutil.rmtree(folder / "copy")  # and what is named exists, if any place does
    assert named(folder, 0) == ["zmusic/a.wav"]


def test_a_folder_that_is_linked_again_is_not_away(music):
    index(music)
    (music / "another").symlink_to("usb")
    report = index(music)
    assert report.kept == [] and known(music.parent) == {
        "music/a.wav",
        "music/another/b.wav",
        "music/another/c.wav",
    }


def test_a_changed_file_that_is_no_music_any_more_is_forgotten(music):
    index(music)
    (music / "usb/b.wav").write_text("a letter")
    report = index(music)
    assert report.removed == 1 and "b.wav is not an audio file" in report.refused[0]
    assert known(music.parent) == {"music/a.wav", "music/usb/c.wav"}
    assert not named(music.parent, 1)


def test_one_strange_file_does_not_stop_the_others(music, monkeypatch):
    def strange(path, blocks, fingerprinter):
        if path.endswith("b.wav"):
            raise ZeroDivisionError("of a decoder")
        return listen(path, blocks, fingerprinter)

    listen = indexing.listen
    monkeypatch.setattr(indexing, "listen", strange)
    report = index(music)
    assert report.heard == 2
    assert report.refused == [
        f"{music}/usb/b.wav cannot be fingerprinted (ZeroDivisionError('of a decoder'))."
    ]


def test_any_date_will_do(music):
    for name, time_s in (("a.wav", 2**34), ("usb/b.wav", -(2**31))):
        os.utime(music / name, (time_s, time_s))
    assert index(music).heard == 3
    assert index(music).unchanged == 3


def test_a_change_that_keeps_size_and_date_is_read_if_asked_for(music):
    index(music)
    file = music / "a.wav"
    before = file.stat()
    write(file, tune(9, 4))
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert index(music).unchanged == 3
    report = index(music, reread=True)
    assert (report.heard, report.moved) == (1, 2) and named(music.parent, 9) == ["music/a.wav"]


@dataclass
class Deadly:
    """A fingerprinter for which the system has no memory."""

    real: object
    digest: str
    parent: int

    def load(self):
        if os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.real.load()


def test_a_killed_worker_ends_in_one_sentence_and_the_same_command_continues(music):
    made_by = models.load()
    deadly = Deadly(made_by.fingerprinter, made_by.fingerprinter.digest, os.getpid())
    with pytest.raises(InputError, match="a worker process died, perhaps for want of memory"):
        indexing.index(
            [music], music.parent / "catalogue", replace(made_by, fingerprinter=deadly), 2
        )
    assert index(music).heard == 3


def unprivileged(*words):
    """A command of amg as somebody who may not read everything, whoever runs the tests."""
    prefix = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may read everything")
        without = "-dac_override,-dac_read_search"
        prefix = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"]
    command = [*prefix, sys.executable, "-m", "amg", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_folder_without_permission_stays_and_is_named(music):
    folder = music.parent
    index(music)
    everything = known(folder)
    write(folder / "music/new/d.wav", tune(3, 4))
    for place in ("usb", "new"):
        (music / place).chmod(0o600)
    try:
        run = unprivileged("index", music, "--catalogue", folder / "catalogue", "--workers", 1)
        assert run.returncode == 0, run.stderr
        assert (
            f"nothing of {music}/usb can be reached (Permission denied); files kept" in run.stdout
        )
        assert f"{music}/new cannot be read (Permission denied)" in run.stdout
    finally:
        for place in ("usb", "new"):
            (music / place).chmod(0o700)
    assert known(folder) == everything


def test_a_catalogue_of_somebody_else_is_read_if_it_may_be(music):
    folder = music.parent
    index(music)
    places = [folder / "catalogue", *(folder / "catalogue").iterdir()]
    words = ("identify", music / "a.wav", "--catalogue", folder / "catalogue")
    try:
        for place, mode in ((places[0], 0o555), *((place, 0o444) for place in places[1:])):
            place.chmod(mode)
        run = unprivileged(*words)
        assert run.returncode == 0 and "a.wav" in run.stdout, run.stderr
        run = unprivileged("index", music, "--catalogue", folder / "catalogue")
        assert run.returncode == 1 and "cannot be written ([Errno 13] Permission" in run.stderr
        for place in places:
            before = place.stat().st_mode
            if place.name == ".lock":
                continue
            place.chmod(0)
            run = unprivileged(*words)
            assert run.returncode == 1 and "Permission denied" in run.stderr, place
            assert "damaged" not in run.stderr and run.stderr.count("\n") == 1
            place.chmod(before)
    finally:
        for place in places:
            place.chmod(0o700)


def test_a_reader_meets_a_writer(music, monkeypatch):
    """The catalogue is written anew after it was opened, and before its arrays are."""
    index(music)
    load = models.load

    def slow(*of):
        made_by = load(*of)
        (music / "usb/b.wav").unlink()
        index(music, made_by=made_by)
        return made_by

    monkeypatch.setattr(catalogue_.models, "load", slow)
    catalogue = Catalogue.load(music.parent / "catalogue")
    assert [os.path.basename(place.path) for place in catalogue.places] == [b"a.wav", b"c.wav"]
    assert not (music.parent / "catalogue" / "frames-1.f32").exists()


def test_while_a_catalogue_is_read_no_writer_deletes_its_arrays(music):
    index(music)
    with store.Store(music.parent / "catalogue") as on_disk:
        arrays, taken = on_disk.arrays, []

        def during():
            other = sqlite3.connect(on_disk.folder / store.DATABASE, timeout=0)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("DELETE FROM places").connection.commit()
            taken.append(True)
            return arrays()

        on_disk.arrays = during
        sounds, _, (frames, _) = on_disk.read()
    assert taken and len(frames) == sum(n_frames for _, n_frames, *_ in sounds)


def test_workers_that_live_answer_in_order():
    assert list(progress.parallel(abs, [(-1,), (-2,)], 2)) == [1, 2]
