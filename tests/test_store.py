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


@pytest.mark.parametrize("spoil, file, problem, done", [
    (lambda f: features.song_file(f, 2, 1).unlink(), "2-01.npy", "is missing", "trained without"),
    (lambda f: features.song_file(f, 2, 0).unlink(), "2-00.npy", "is missing", "song is left out"),
    (lambda f: np.save(f / "hello.npy", ROWS), "hello.npy", "is not named songId-clipId", "left out"),
    (one(3 * ROWS), "2-01.npy", "rows of norm 3 to 3", "rescaled to norm 1"),
    (one(np.full((3, 128), "x")), "2-01.npy", "type <U1", "trained without it"),
    (one(ROWS[:, :64]), "2-01.npy", "shape", "trained without it"),
    (one(np.where(np.arange(30)[:, None] == 4, np.nan, ROWS)), "2-01.npy", "NaN", "trained without"),
    (one(np.where(np.arange(30)[:, None] == 4, 0, ROWS)), "2-01.npy", "zeros", "trained without"),
    (lambda f: features.song_file(f, 2, 1).write_text("x"), "2-01.npy", "not a readable",
     "trained without it"),
    (one(np.array([{}])), "2-01.npy", "not a readable", "trained without it"),
    (lambda f: [features.song_file(f, 2, clip).unlink() for clip in range(3)], "songs 2",
     "1 numbers without a file", "classes are numbered without them")])
def test_what_is_wrong_with_a_training_set_is_listed_by_file(home, spoil, file, problem, done):
    folder = write_training_set(home / "data/train/t")
    spoil(folder)
    data = features.pack(folder)
    (found,) = data.problems
    assert found["file"] == file and problem in found["problem"] and done in found["done"]
    assert len(data.length) == (6 if "song" not in done and "classes" not in done else 5)
    assert (data.length == 0).sum() == ("trained without" in done)
    assert np.allclose(np.linalg.norm(data.frames, axis=1), 1, atol=1e-3)
    assert np.array_equal(data.clip(len(data.length) - 1, 2),
                          features.load(features.song_file(folder, 6, 2)))
    for n_valid in (0, 3):
        history = training.Run(runs.Config(layers=1, epochs=1, batch_size=8, n_valid=n_valid), data,
                            home / "run").fit()
        assert np.isfinite(history[0]["loss"])


def test_a_training_set_without_any_original_is_refused(home):
    features.save(home / "data/train/t/1-01.npy", ROWS)
    with pytest.raises(InputError, match="no song whose original.* 1-00.npy is missing"):
        features.pack(home / "data/train/t")


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


def test_recipes_are_never_mixed(tmp_path):
    features.claim(tmp_path / "a", {"seed": 0})
    features.save(tmp_path / "a/1-00.npy", unit_rows(np.random.default_rng(0), 3, 128))
    features.claim(tmp_path / "a", {"seed": 0})
    assert (tmp_path / "a/1-00.npy").exists()
    features.claim(tmp_path / "a", {"seed": 1})
    assert not (tmp_path / "a/1-00.npy").exists() and (tmp_path / "a.old-1/1-00.npy").exists()
    (tmp_path / "a.old-1.recipe.json").unlink()
    with pytest.raises(InputError, match="did not make"):
        features.claim(tmp_path / "a.old-1", {"seed": 0})


def test_a_folder_of_audio_becomes_fingerprints(home, tmp_path):
    source, target = tmp_path / "in", home / "database/mine/dummy_db/fma_part"
    (source / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, seconds in (("a.wav", 3), ("a.ogg", 2), ("deep/b.flac", 45), ("short.ogg", 0.5)):
        soundfile.write(source / name, 0.1 * rng.standard_normal(int(22050 * seconds)), 22050)
    (source / "broken.wav").write_text("not sound")
    n_written, refused = extraction.folder(source, target, nafp.shipped(), 1)
    assert n_written == 3 and len(refused) == 2
    assert "broken.wav cannot be decoded" in refused[0] and "short.ogg: audio has" in refused[1]
    names = [path.name for path in features.find(target, "01_data_prep")]
    assert names == ["a.ogg.npy", "a.wav.npy", "deep__b.flac.npy"]
    assert len(features.load(target / "deep__b.flac.npy")) == 89
    direct = nafp.extract(nafp.load(), audio.load(source / "a.wav"))
    np.testing.assert_allclose(features.load(target / "a.wav.npy"), direct, atol=1e-5)
    before = (target / "deep__b.flac.npy").stat().st_mtime_ns
    (target / "a.wav.npy").unlink()  # as if interrupted
    soundfile.write(source / "a.ogg", 0.1 * rng.standard_normal(88200), 22050)  # changed since
    assert extraction.folder(source, target, nafp.shipped(), 1)[0] == 3
    assert (target / "a.wav.npy").exists() and len(features.load(target / "a.ogg.npy")) == 7
    assert (target / "deep__b.flac.npy").stat().st_mtime_ns == before
    (source / "a.ogg").write_text("no sound any more")
    n_written, refused = extraction.folder(source, target, nafp.shipped(), 1)
    assert n_written == 2 and len(refused) == 3 and not (target / "a.ogg.npy").exists()
    with pytest.raises(InputError, match="directory with audio files"):
        extraction.folder(target, source, nafp.shipped(), 1)
    with pytest.raises(InputError, match="workers is 0"):
        extraction.folder(source, target, nafp.shipped(), 0)


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
        with files.atomic(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]
