"""Files: fingerprints, training sets, split trees, checkpoints."""

import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from amg import checkpoint, features, index, paths, prepare
from amg.check import InputError
from conftest import unit_rows, write_training_set


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


@pytest.mark.parametrize("spoil, message", [
    (lambda f: features.song_file(f, 2, 1).unlink(), "lacks 1 files, the first 2-01.npy"),
    (lambda f: np.save(f / "hello.npy", np.ones((3, 128))), "not named songId-clipId"),
    (lambda f: np.save(features.song_file(f, 1, 1), np.ones((3, 64))), "shape"),
    (lambda f: np.save(features.song_file(f, 1, 1), np.full((3, 128), np.nan)), "NaN"),
    (lambda f: features.song_file(f, 1, 1).write_text("x"), "not a readable"),
    (lambda f: np.save(features.song_file(f, 1, 1), np.array([{}]), allow_pickle=True),
     "not a readable")])
def test_bad_training_sets_are_refused(home, spoil, message):
    folder = write_training_set(home / "data/train/t")
    spoil(folder)
    with pytest.raises(InputError, match=message):
        features.pack(folder)


def test_missing_folder_names_the_notebook(home):
    with pytest.raises(InputError, match="01_data_prep"):
        features.pack(home / "data/train/none")


@given(st.lists(st.integers(1, 70), min_size=1, max_size=4), st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_split_pieces_are_the_beginning_of_their_song(tmp_path_factory, lengths, max_len):
    root = tmp_path_factory.mktemp("split")
    songs = [unit_rows(np.random.default_rng(i), n, 128) for i, n in enumerate(lengths)]
    for i, song in enumerate(songs):
        features.save(root / "whole" / f"{i}.npy", song)
    count = index.split_database(root / "whole", root / "cut", max_len)
    assert count == sum(n // max_len for n in lengths) == len(list((root / "cut").glob("*.npy")))
    for i, song in enumerate(songs):
        for j in range(len(song) // max_len):
            piece = features.load(root / "cut" / f"{i}_{j}.npy")
            assert np.array_equal(piece, song[j * max_len : (j + 1) * max_len])


def test_split_keeps_strangers_and_says_so(tmp_path):
    features.save(tmp_path / "whole/a.npy", unit_rows(np.random.default_rng(0), 20, 128))
    features.save(tmp_path / "cut/mine.npy", unit_rows(np.random.default_rng(1), 9, 128))
    with pytest.raises(InputError, match="mine.npy"):
        index.split_database(tmp_path / "whole", tmp_path / "cut", 9)
    assert (tmp_path / "cut/mine.npy").exists()


def test_recipes_are_never_mixed(tmp_path):
    prepare.claim(tmp_path / "a", {"seed": 0})
    prepare.claim(tmp_path / "a", {"seed": 0})
    with pytest.raises(InputError, match="seed 0 there, 1 here"):
        prepare.claim(tmp_path / "a", {"seed": 1})
    features.save(tmp_path / "b/1-00.npy", np.ones((3, 128)))
    with pytest.raises(InputError, match="did not make"):
        prepare.claim(tmp_path / "b", {"seed": 0})


def test_near_duplicates_are_found():
    rng = np.random.default_rng(0)
    songs = [unit_rows(rng, 59, 128) for _ in range(4)]
    songs[3][10:30] = songs[1][40 - 20 : 40]
    (first, second, score), = prepare.near_duplicates(songs)
    assert (first, second) == (1, 3) and score > 0.99


def test_queries_must_match_their_songs(tmp_path):
    for folder, name in ((index.DUMMY, "0"), (index.TEST, "0"), (index.QUERY, "1")):
        features.save(tmp_path / folder / f"{name}.npy", unit_rows(np.random.default_rng(0), 9, 128))
    with pytest.raises(InputError, match="same names"):
        index.load_database(tmp_path)


def test_natural_order():
    names = ["10_1", "2_0", "10_0", "1_0"]
    ordered = sorted((paths.Path(n + ".npy") for n in names), key=features.natural_key)
    assert [p.stem for p in ordered] == ["1_0", "2_0", "10_0", "10_1"]


def test_checkpoint_round_trip_and_no_pickle(tmp_path):
    tensors = {"model.w": torch.arange(3.0)}
    checkpoint.save(tmp_path / "c.safetensors", tensors, {"epoch": 2})
    loaded, record = checkpoint.load(tmp_path / "c.safetensors")
    assert torch.equal(loaded["model.w"], tensors["model.w"]) and record == {"epoch": 2}
    (tmp_path / "p.safetensors").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="not a readable checkpoint"):
        checkpoint.load(tmp_path / "p.safetensors")


def test_atomic_leaves_the_old_file_when_interrupted(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        with paths.atomic(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]
