"""Stored fingerprints and checkpoints: round trips, packing, and whatever is wrong with a file."""

import io
import json
import os
import pickle
import struct

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import unit_rows, write_training_set

from amg import checkpoint, provenance
from amg.check import InputError
from amg.fingerprint import features


def test_pack_holds_every_clip(home):
    folder = write_training_set(home / "data/train/t", n_songs=11)
    data = features.pack(folder)
    assert data.length.shape == (11, 3) and len(data.frames) == 11 * 3 * 30
    for song in range(11):
        for clip in range(3):
            stored = features.load(features.song_file(folder, song + 1, clip))
            assert np.array_equal(data.clip(song, clip), stored)
    assert isinstance(data.frames, np.memmap)


def test_pack_notices_a_changed_file(home):
    folder = write_training_set(home / "data/train/t")
    features.pack(folder)
    path = features.song_file(folder, 2, 1)
    features.save(path, unit_rows(np.random.default_rng(9), 30, 128))
    os.utime(path, ns=(1, 1))
    assert np.array_equal(features.pack(folder).clip(1, 1), features.load(path))


def one(array):
    return lambda f: np.save(features.song_file(f, 2, 1), array, allow_pickle=True)


ROWS = unit_rows(np.random.default_rng(5), 30, 128)


def test_pack_of_a_made_set_follows_its_recipe(home):
    """Another recipe is another packed file; the files of one that is finished are not looked
    at."""
    contents = []
    for seed in (0, 1, 0):
        recipe = provenance.Recipe("training set", {"seed": seed})
        with provenance.making(home / "data/train/t", recipe) as place:
            if not place.finished:
                write_training_set(place.folder, seed=seed)
        contents.append(features.pack(home / "data/train/t").content)
    assert contents[0] == contents[2] != contents[1]
    assert len(list((home / "data/cache").glob("*.f32"))) == 2


def test_pack_refuses_an_unfinished_set(home):
    with pytest.raises(RuntimeError):
        with provenance.making(
            home / "data/train/t", provenance.Recipe("training set", {})
        ) as place:
            write_training_set(place.folder)
            raise RuntimeError
    with pytest.raises(InputError, match="not finished; run notebook 01_data_prep again"):
        features.pack(home / "data/train/t")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: f.write_bytes(f.read_bytes()[:-4]),
        lambda f: f.unlink(),
        lambda f: f.with_suffix(".f32.json").write_text(""),
    ],
)
def test_a_spoilt_packed_file_is_made_anew(home, spoil):
    folder = write_training_set(home / "data/train/t")
    frames = np.array(features.pack(folder).frames)
    spoil(next((home / "data/cache").glob("*.f32")))
    assert np.array_equal(features.pack(folder).frames, frames)


def test_another_dimension_is_packed_alike(home):
    rng = np.random.default_rng(0)
    for song in (1, 2):
        features.save(features.song_file(home / "t", song, 0), unit_rows(rng, 9, 64))
    features.save(features.song_file(home / "t", 2, 1), unit_rows(rng, 9, 128))
    data = features.pack(home / "t")
    assert data.frames.shape == (18, 64) and data.length.tolist() == [[9, 0], [9, 0]]
    assert "(frames, 64)" in [p["problem"] for p in data.problems if p["file"] == "2-01.npy"][0]


@pytest.mark.parametrize(
    "spoil, file, problem, done",
    [
        (
            lambda f: features.song_file(f, 2, 1).unlink(),
            "2-01.npy",
            "is missing",
            "trained without",
        ),
        (
            lambda f: features.song_file(f, 2, 0).unlink(),
            "2-00.npy",
            "is missing",
            "song is left out",
        ),
        (
            lambda f: np.save(f / "hello.npy", ROWS),
            "hello.npy",
            "is not named songId-clipId",
            "left out",
        ),
        (one(3 * ROWS), "2-01.npy", "rows of norm 3 to 3", "rescaled to norm 1"),
        (one(np.full((3, 128), "x")), "2-01.npy", "type <U1", "trained without it"),
        (one(ROWS[:, :64]), "2-01.npy", "shape", "trained without it"),
        (
            one(np.where(np.arange(30)[:, None] == 4, np.nan, ROWS)),
            "2-01.npy",
            "NaN",
            "trained without",
        ),
        (
            one(np.where(np.arange(30)[:, None] == 4, 0, ROWS)),
            "2-01.npy",
            "zeros",
            "trained without",
        ),
        (
            lambda f: features.song_file(f, 2, 1).write_text("x"),
            "2-01.npy",
            "not a readable",
            "trained without it",
        ),
        (one(np.array([{}])), "2-01.npy", "not a readable", "trained without it"),
        (
            lambda f: [features.song_file(f, 2, clip).unlink() for clip in range(3)],
            "songs 2",
            "1 numbers without a file",
            "classes are numbered without them",
        ),
    ],
)
def test_what_is_wrong_with_a_training_set_is_listed_by_file(home, spoil, file, problem, done):
    folder = write_training_set(home / "data/train/t")
    spoil(folder)
    data = features.pack(folder)
    (found,) = data.problems
    assert found["file"] == file and problem in found["problem"] and done in found["done"]
    assert len(data.length) == (6 if "song" not in done and "classes" not in done else 5)
    assert (data.length == 0).sum() == ("trained without" in done)
    assert np.allclose(np.linalg.norm(data.frames, axis=1), 1, atol=1e-3)
    assert np.array_equal(
        data.clip(len(data.length) - 1, 2), features.load(features.song_file(folder, 6, 2))
    )


def test_a_training_set_without_any_original_is_refused(home):
    features.save(home / "data/train/t/1-01.npy", ROWS)
    with pytest.raises(InputError, match="no song whose original.* 1-00.npy is missing"):
        features.pack(home / "data/train/t")


def test_missing_folder_names_the_notebook(home):
    with pytest.raises(InputError, match="01_data_prep"):
        features.pack(home / "data/train/none")


def header(text):
    """A .npy file of version 1.0 with this header and 512 bytes of data."""
    text = text.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(512)


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


FLOATS = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        header("("),
        header("{'descr': ["),
        header("[]"),
        header("\x00"),
        header("1 +"),
        header("{1: 2}"),
        header(FLOATS % "'ab'"),
        header(FLOATS % "(10**12, 128)"),
        header(FLOATS % "None"),
        header(FLOATS % "(1000000000000, 128)"),
        header(FLOATS % "(-1, 128)"),
        header(FLOATS % "(2, 128)"),
        header("{'descr': None, 'fortran_order': False, 'shape': (1, 128)}"),
        header("{'descr': 'O', 'fortran_order': False, 'shape': (1, 128)}"),
        header("(" * 100),
        npy(np.array([{}])),
        npy(np.zeros((0, 128), np.float32)),
        npy(np.zeros(128, np.float32)),
        npy(np.full((2, 128), 1e300)),
        npy(np.full((2, 128), 1j)),
        npy(np.float32(1)),
        npy(np.ones((3, 1), np.float32)),
    ],
)
def test_malformed_arrays_end_in_one_sentence(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(InputError, match="x.npy (is not a readable|has )") as error:
        features.load(tmp_path / "x.npy")
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_whatever_bytes_an_array_file_holds(tmp_path):
    """One byte of its header changed: the array, or a sentence; both come about."""
    whole, rng = npy(unit_rows(np.random.default_rng(0), 3, 128)), np.random.default_rng(1)
    ended = []
    for _ in range(400):
        raw = bytearray(whole)
        raw[rng.integers(128)] = rng.integers(256)
        (tmp_path / "x.npy").write_bytes(raw)
        try:
            assert features.load(tmp_path / "x.npy").ndim == 2
            ended.append("array")
        except InputError as error:
            assert str(error).count("x.npy") == 1
            ended.append("sentence")
    assert set(ended) == {"array", "sentence"}


def test_checkpoint_round_trip_and_no_pickle(tmp_path):
    tensors = {"model.w": torch.arange(3.0)}
    checkpoint.save(tmp_path / "c.safetensors", tensors, {"epoch": 2})
    loaded, record = checkpoint.load(tmp_path / "c.safetensors")
    assert torch.equal(loaded["model.w"], tensors["model.w"]) and record == {"epoch": 2}
    (tmp_path / "p.safetensors").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="not a readable checkpoint"):
        checkpoint.load(tmp_path / "p.safetensors")


@pytest.mark.parametrize(
    "record, weights, message",
    [
        ({"size": "lite"}, [1.0], "no such checkpoint of this kit"),
        (None, [1.0], "no such checkpoint"),
        ({"epoch": 1}, [float("nan")], "infinite weights or NaN"),
        ({"epoch": 1}, [float("-inf")], "infinite weights or NaN"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path, record, weights, message):
    safetensors.torch.save_file(
        {"model.w": torch.tensor(weights)},
        tmp_path / "c.safetensors",
        {"record": json.dumps(record)} if record else None,
    )
    with pytest.raises(InputError, match=f"c.safetensors .*{message}"):
        checkpoint.load(tmp_path / "c.safetensors", "epoch")


@pytest.mark.parametrize("record", ["[]", "3", "{", '"a"'])
def test_records_that_are_no_records(tmp_path, record):
    safetensors.torch.save_file(
        {"w": torch.zeros(1)}, tmp_path / "c.safetensors", {"record": record}
    )
    with pytest.raises(InputError, match="c.safetensors is"):
        checkpoint.load(tmp_path / "c.safetensors")


def test_damaged_checkpoints_are_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"w": torch.zeros(100)}, {})
    whole = path.read_bytes()
    for content in (b"", whole[:9], whole[:-1], whole[8:], b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a readable checkpoint"):
            checkpoint.load(path)
    with pytest.raises(InputError, match="not a readable checkpoint"):
        checkpoint.load(tmp_path)
