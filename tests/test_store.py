"""Files: fingerprints, training sets, checkpoints."""

import os
import pickle

import numpy as np
import pytest
import soundfile
import torch

from amg import checkpoint, files, paths
from amg.sound import audio
from amg.fingerprint import extraction, features, nafp
from amg.embedding import runs, training
from amg.retrieval import duplicates, published
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
        config = runs.Config(epochs=1, batch_size=8, n_valid=n_valid, settings={"layers": 1})
        history = training.Run(config, data, "t", "cpu").fit()
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


def test_a_pickle_is_never_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    for file, read in (("ids.pkl", published.load_test_ids), ("x.pth", runs.load_published)):
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


def test_near_duplicates_against_a_naive_loop():
    """Self-similar songs too: their own frames must not hide the others'."""
    rng = np.random.default_rng(0)
    chord = unit_rows(rng, 128)
    songs = [unit_rows(rng, 40, 128) for _ in range(4)]
    for song in (songs[0], songs[3]):  # one chord all along, a little different each time
        song[:] = chord + 0.02 * rng.standard_normal((40, 128))
        song /= np.linalg.norm(song, axis=1, keepdims=True)
    songs[2][10:30] = songs[1][20:40]
    naive = {}
    for a in range(4):
        for b in range(a + 1, 4):
            naive[a, b] = max(np.mean(np.sum(songs[a][s : s + 9] * songs[b][t : t + 9], axis=1))
                              for s in range(0, 32, 9) for t in range(32))
    found = {(a, b): score for a, b, score in duplicates.near_duplicates(songs, 0.8)}
    assert set(found) == {pair for pair in naive if naive[pair] >= 0.8} == {(0, 3), (1, 2)}
    for pair, score in found.items():
        assert score == pytest.approx(naive[pair], abs=1e-5)


def test_clips_that_sound_alike_are_left_out(home):
    rng = np.random.default_rng(0)
    sounds = [rng.standard_normal(80000) * np.repeat(rng.random(20), 4000) for _ in range(3)]
    for name, sound in zip("abc", [sounds[0], sounds[1], 0.5 * sounds[0]]):
        soundfile.write(home / f"{name}.wav", 0.1 * sound, 8000)
    rows = [{"file": f"{name}.wav", "piece": name, "start_s": 0.0, "seconds": 10.0} for name in "abc"]
    clips = {"test": rows[:1], "train": rows[1:]}
    kept, left_out, pairs = duplicates.distinct(clips, {"test": 1, "train": 1}, nafp.shipped(), 1, 0.99)
    assert [row["piece"] for row in kept["test"] + kept["train"]] == ["a", "b"]
    assert left_out == {"c": "a"} and pairs[0][:2] == ("a", "c") and pairs[0][2] > 0.99
    with pytest.raises(InputError, match="n_train is 2, but only 1"):
        duplicates.distinct(clips, {"test": 1, "train": 2}, nafp.shipped(), 1, 0.99)


def test_a_clip_is_not_left_out_for_one_that_is_left_out(home, monkeypatch):
    """b is like a, c is like b but not like a: c stays."""
    monkeypatch.setattr(duplicates, "near_duplicates", lambda *_: [(0, 1, 0.95), (1, 2, 0.95)])
    monkeypatch.setattr(duplicates, "_original", lambda row, weights: None)
    rows = [{"piece": name} for name in "abcd"]
    kept, left_out, _ = duplicates.distinct({"test": rows[:3], "dummy": rows[3:]},
                                         {"test": 2, "dummy": 1}, nafp.shipped(), 1)
    assert [row["piece"] for row in kept["test"]] == ["a", "c"] and left_out == {"b": "a"}


def test_near_duplicates_of_the_first_songs_only():
    rng = np.random.default_rng(0)
    songs = [unit_rows(rng, 12, 128) for _ in range(2)]
    pairs = duplicates.near_duplicates([songs[0], songs[1], songs[1], songs[0]], 0.9, n_compared=1)
    assert [(a, b) for a, b, _ in pairs] == [(0, 3)]


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
