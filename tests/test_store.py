"""Files: fingerprints, training sets, split trees, checkpoints."""

import os
import pickle

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings, strategies as st

from amg import checkpoint, files, paths
from amg.sound import audio
from amg.fingerprint import extraction, features, nafp
from amg.embedding import runs, training
from amg.retrieval import databases
from amg.check import InputError
from conftest import unit_rows, write_training_set


def test_our_training_set_is_in_the_published_layout(smoke):
    """What code that lists the folder finds: songs from 1 on without gaps, the same clips of each,
    float32 of whole clips, and nothing else."""
    names = sorted(path.name for path in (smoke / "data/train/smoke").iterdir())
    assert names == sorted(f"{song}-{clip:02d}.npy" for song in range(1, 9) for clip in range(3))
    for name in names:
        array = np.load(smoke / "data/train/smoke" / name)
        assert array.dtype == np.float32 and array.shape == (59, 128)


@pytest.mark.parametrize("content, message", [
    (b"no pickle", "no pickle of start positions"),
    (pickle.dumps({5: {9: [0.5]}}), "must hold start positions"),
    (pickle.dumps({5: {9: [1]}}), "for duration_max"),
    (pickle.dumps([1]), "must hold start positions"),
    (pickle.dumps(np.arange(3)), "it asks for numpy")])
def test_other_pickles_than_test_ids_are_refused(tmp_path, content, message):
    (tmp_path / "ids.pkl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        databases.load_test_ids(tmp_path / "ids.pkl")


def test_a_pickle_is_never_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    for file, read in (("ids.pkl", databases.load_test_ids), ("x.pth", runs.load_published)):
        (tmp_path / file).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(InputError):
            read(tmp_path / file)
        assert not (tmp_path / "exploded").exists()


def test_other_checkpoints_than_published_ones_are_refused(tmp_path):
    torch.save({"model": {"linear1.weight": torch.zeros(256, 64)}}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="no published checkpoint of mt"):
        runs.load_published(tmp_path / "a.pth")
    torch.save({"model": torch.zeros(3)}, tmp_path / "b.pth")
    for encoder in ("mt", "mlstm"):
        with pytest.raises(InputError, match="no published checkpoint"):
            runs.load_published(tmp_path / "b.pth", encoder)
    with pytest.raises(InputError, match="is missing; give the path"):
        runs.load_published(tmp_path / "none.pth")
    with pytest.raises(InputError, match="must be one of: mt, mlstm, if a published"):
        runs.load_published(tmp_path / "a.pth", "mcnn")


@given(st.lists(st.integers(1, 70), min_size=1, max_size=4), st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_split_pieces_are_the_beginning_of_their_song(tmp_path_factory, lengths, max_len):
    root = tmp_path_factory.mktemp("split")
    songs = [unit_rows(np.random.default_rng(i), n, 128) for i, n in enumerate(lengths)]
    for i, song in enumerate(songs):
        features.save(root / "whole" / f"{i}.npy", song)
    count = databases.split_database(root / "whole", root / "cut", max_len)
    assert count == sum(n // max_len for n in lengths) == len(list((root / "cut").glob("*.npy")))
    for i, song in enumerate(songs):
        for j in range(len(song) // max_len):
            piece = features.load(root / "cut" / f"{i}_{j}.npy")
            assert np.array_equal(piece, song[j * max_len : (j + 1) * max_len])


@pytest.mark.parametrize("name", ["mine.npy", "a_0.npy"])
def test_split_keeps_files_that_it_did_not_make(tmp_path, name):
    features.save(tmp_path / "whole/a.npy", unit_rows(np.random.default_rng(0), 20, 128))
    features.save(tmp_path / "cut" / name, unit_rows(np.random.default_rng(1), 9, 128))
    before = (tmp_path / "cut" / name).read_bytes()
    with pytest.raises(InputError, match=name):
        databases.split_database(tmp_path / "whole", tmp_path / "cut", 9)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [name]
    assert (tmp_path / "cut" / name).read_bytes() == before


def test_unpacked_segments_are_kept_and_completed(tmp_path):
    song = unit_rows(np.random.default_rng(0), 20, 128)
    features.save(tmp_path / "whole/a.npy", song)
    features.save(tmp_path / "cut/a_1.npy", song[9:18])
    os.utime(tmp_path / "cut/a_1.npy", ns=(1, 1))
    assert databases.split_database(tmp_path / "whole", tmp_path / "cut", 9) == 2
    assert (tmp_path / "cut/a_1.npy").stat().st_mtime_ns == 1
    assert np.array_equal(features.load(tmp_path / "cut/a_0.npy"), song[:9])


def test_split_of_other_songs_is_put_aside(tmp_path):
    for seed in (0, 1):
        features.save(tmp_path / "whole/a.npy", unit_rows(np.random.default_rng(seed), 20 - seed, 128))
        databases.split_database(tmp_path / "whole", tmp_path / "cut", 9)
    whole = features.load(tmp_path / "whole/a.npy")
    assert np.array_equal(features.load(tmp_path / "cut/a_1.npy"), whole[9:18])
    assert (tmp_path / "cut.old-1" / "a_1.npy").exists()


def test_segments_of_other_songs_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    for folder in (databases.DUMMY, databases.TEST, databases.QUERY):
        features.save(tmp_path / folder / "0.npy", unit_rows(rng, 59, 128))
    database, _ = databases.load_database(tmp_path)
    for folder in (databases.DUMMY, databases.TEST):
        databases.split_database(tmp_path / folder, databases.split_folder(tmp_path / folder, 10), 19)
    assert len(databases.load_segments(tmp_path, database, 10, 19).start) == 6
    cut = databases.split_folder(tmp_path / databases.TEST, 10)
    (cut / "0_2.npy").rename(cut / "7_2.npy")
    with pytest.raises(InputError, match="does not hold the segments of 19 frames"):
        databases.load_segments(tmp_path, database, 10, 19)


def test_queries_must_match_their_songs(tmp_path):
    for folder, name in ((databases.DUMMY, "0"), (databases.TEST, "0"), (databases.QUERY, "1")):
        features.save(tmp_path / folder / f"{name}.npy", unit_rows(np.random.default_rng(0), 9, 128))
    with pytest.raises(InputError, match="same names"):
        databases.load_database(tmp_path)


def test_atomic_leaves_the_old_file_when_interrupted(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        with files.atomic(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]
