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


def test_atomic_leaves_the_old_file_when_interrupted(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        with files.atomic(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]
