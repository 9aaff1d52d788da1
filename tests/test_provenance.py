"""Files and made things: whole or not there, found again, never displaced, never mixed."""

import multiprocessing
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amg import files, machine, paths, provenance
from amg.check import InputError


def recipe(**parameters):
    return provenance.Recipe("run", parameters, {"data": "abc"})


def make(name, text, **parameters):
    """Write one file into what `parameters` make; returns the folder."""
    with provenance.making(name, recipe(**parameters)) as place:
        if not place.finished:
            (place.folder / "a.txt").write_text(text)
    return place.folder


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(KeyError), files.atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert files.read_json(tmp_path / "a.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "\0"])
def test_a_broken_json_counts_as_absent_and_is_said(tmp_path, capsys, text):
    assert files.read_json(tmp_path / "none.json") is None and not capsys.readouterr().out
    (tmp_path / "a.json").write_text(text)
    assert files.read_json(tmp_path / "a.json") is None
    assert "a.json is empty or damaged; it counts as absent." in capsys.readouterr().out


@given(
    st.dictionaries(st.text(max_size=3), st.one_of(st.integers(), st.text(max_size=3)), max_size=4)
)
@settings(max_examples=30)
def test_equal_recipes_have_equal_digests(parameters):
    backwards = dict(reversed(parameters.items()))
    assert recipe(**{"x": parameters}).digest == recipe(**{"x": backwards}).digest
    assert recipe(**{"x": parameters}).digest != recipe(**{"x": [parameters]}).digest


def test_going_back_to_earlier_parameters_finds_what_they_made(tmp_path):
    name = tmp_path / "runs" / "mt"
    first = make(name, "first", lr=1)
    second = make(name, "second", lr=2)
    assert first != second and name.resolve() == second
    assert make(name, "never written", lr=1) == first == name.resolve()
    assert (name / "a.txt").read_text() == "first" and (second / "a.txt").read_text() == "second"


def test_what_was_interrupted_is_not_finished_and_continues(tmp_path):
    name = tmp_path / "mt"
    with pytest.raises(KeyError), provenance.making(name, recipe()) as place:
        (place.folder / "half").touch()
        raise KeyError
    with pytest.raises(InputError, match="mt-.* is not finished; run notebook 03_train again"):
        provenance.find(name, "03_train")
    assert not provenance.find(name, "03_train", unfinished=True).finished
    with provenance.making(name, recipe()) as place:
        assert not place.finished and (place.folder / "half").exists()
    assert provenance.find(name, "03_train").finished


@pytest.mark.parametrize("text", ["", "{", None])
def test_a_lost_record_costs_no_data(tmp_path, text):
    folder = make(tmp_path / "mt", "kept")
    record = provenance.record_of(folder)
    record.unlink() if text is None else record.write_text(text)
    with pytest.raises(InputError, match="not finished"):
        provenance.find(tmp_path / "mt", "03_train")
    with provenance.making(tmp_path / "mt", recipe()) as place:
        assert not place.finished and (place.folder / "a.txt").read_text() == "kept"
    assert provenance.find(tmp_path / "mt", "03_train").finished


def test_a_folder_from_elsewhere_is_read_and_left_alone(tmp_path):
    (tmp_path / "data-1k").mkdir()
    np.save(tmp_path / "data-1k/1-00.npy", np.zeros(3))
    before = (tmp_path / "data-1k/1-00.npy").stat()
    with pytest.raises(InputError, match="was not made by this kit and is left alone"):
        make(tmp_path / "data-1k", "x")
    assert [path.name for path in (tmp_path / "data-1k").iterdir()] == ["1-00.npy"]
    found = provenance.find(tmp_path / "data-1k", "01_data_prep")
    assert found.finished and found.record == {}
    identity = found.identity
    np.save(tmp_path / "data-1k/1-01.npy", np.zeros(3))
    assert provenance.find(tmp_path / "data-1k", "01_data_prep").identity != identity
    assert (tmp_path / "data-1k/1-00.npy").stat().st_mtime_ns == before.st_mtime_ns


def test_what_is_missing_names_the_notebook(tmp_path):
    with pytest.raises(InputError, match="none is missing; run notebook 01_data_prep first"):
        provenance.find(tmp_path / "none", "01_data_prep")


def test_the_kit_s_version_makes_no_other_thing(tmp_path, monkeypatch):
    first = make(tmp_path / "mt", "old")
    identity = provenance.find(tmp_path / "mt", "x").identity
    monkeypatch.setattr(provenance.amg, "__version__", "9")
    assert make(tmp_path / "mt", "new") == first and (first / "a.txt").read_text() == "old"
    assert provenance.find(tmp_path / "mt", "x").identity == identity


def _hold(name, ready):
    with provenance.making(name, recipe()):
        ready.set()
        threading.Event().wait()  # until it is killed


def test_a_second_process_is_told_and_a_killed_one_leaves_no_lock(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "mt", ready))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(InputError, match="another process is working on .*mt-"):
            make(tmp_path / "mt", "x")
    finally:
        other.kill()
        other.join()
    assert (make(tmp_path / "mt", "mine") / "a.txt").read_text() == "mine"


@pytest.mark.parametrize("able", [False, True])
def test_devices(able, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: able)
    assert machine.device("cpu") == "cpu"
    assert machine.device("auto") == ("cuda" if able else "cpu")
    if able:
        assert machine.device("cuda") == "cuda"
    else:
        with pytest.raises(InputError, match="device is 'cuda', but torch finds none here"):
            machine.device("cuda")
    with pytest.raises(InputError, match="device is 'tpu', but must be one of: auto, cpu, cuda"):
        machine.device("tpu")


def test_a_link_of_somebodys_own_is_read_and_left_alone(tmp_path):
    (tmp_path / "disk" / "songs").mkdir(parents=True)
    (tmp_path / "disk" / "songs.json").write_text('{"about": "these songs"}')
    name = tmp_path / "songs"
    name.symlink_to(tmp_path / "disk" / "songs")
    found = provenance.find(name, "01_data_prep")
    assert found.finished and found.record == {} and found.identity
    with (
        pytest.raises(InputError, match="was not made by this kit"),
        provenance.making(name, recipe()),
    ):
        pass
    assert name.resolve() == tmp_path / "disk" / "songs"


def test_a_copy_that_followed_links_is_what_it_is_a_copy_of(tmp_path):
    """Found with its record; and once something is made under its name, a link again. What was
    changed in it since is somebody's own."""
    make(tmp_path / "here/mt", "first", lr=1)
    second = make(tmp_path / "here/mt", "second", lr=2)
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    name = tmp_path / "copy/mt"
    assert not name.is_symlink() and provenance.is_ours(name)
    found = provenance.find(name, "03_train")
    assert found.folder == name.with_name(second.name) and found.record["parameters"] == {"lr": 2}
    assert found.identity == provenance.find(tmp_path / "here/mt", "03_train").identity
    (name / "a.txt").write_text("mine")
    assert not provenance.is_ours(name) and provenance.find(name, "03_train").record == {}
    with pytest.raises(InputError, match="not made by this kit, or is a copy that followed a link"):
        make(name, "x", lr=1)
    (name / "a.txt").write_text("second")
    assert (make(name, "never written", lr=1) / "a.txt").read_text() == "first"
    assert name.is_symlink() and (name / "a.txt").read_text() == "first"
    assert sorted(path.name for path in name.parent.iterdir() if path.name[0] != ".") == sorted(
        path.name for path in second.parent.iterdir() if path.name[0] != "."
    )


def test_a_try_does_not_take_the_place_of_what_was_more(tmp_path):
    name = tmp_path / "mt"

    def made(tried, lr):
        with provenance.making(name, recipe(lr=lr), tried=tried) as place:
            return place.folder

    first, second = made(True, 1), made(True, 2)
    assert first != second == name.resolve()  # of tries alone, the last
    third = made(False, 3)
    assert made(True, 1) == first and name.resolve() == third
    assert made(True, 3) == third and made(True, 4) and name.resolve() == third
    assert made(False, 1) == first == name.resolve()
    assert made(True, 2) == second and name.resolve() == first


def test_no_repository_around_the_checkout_gives_its_commit(tmp_path, monkeypatch):
    """As where it was unpacked from an archive, within another project."""

    def git(*words):
        author = ("-c", "user.name=x", "-c", "user.email=x@x.org")
        subprocess.run(["git", *author, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "thesis")
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    assert re.fullmatch("[0-9a-f]{7,}", machine.commit())
    (tmp_path / "kit/amg").mkdir(parents=True)
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path / "kit")
    assert machine.commit() == "unknown" and not machine.at_commit("HEAD")


def test_a_path_that_is_none_is_refused():
    with pytest.raises(InputError, match="5 is given as a path, but must be a text"):
        paths.resolve(5)
