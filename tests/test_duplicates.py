"""Sound that two roles share is left out; what is alike only to the fingerprinter stays."""

import faiss
import numpy as np
import pytest
import soundfile
from conftest import unit_rows

from amg.fingerprint import extraction, features, fingerprinters
from amg.sound import clips, duplicates

RATE = 8000
NAFP = fingerprinters.find()


def test_places_against_a_naive_loop(monkeypatch):
    """Self-similar songs too: their own frames must not hide the others'."""
    monkeypatch.setattr(duplicates, "ALIKE", 0.8)
    rng = np.random.default_rng(0)
    chord = unit_rows(rng, 128)
    songs = [unit_rows(rng, n, 128) for n in (40, 9, 33, 5, 20)]
    other = unit_rows(rng, 50, 128)
    for song in (songs[0][:25], other[20:]):  # one chord for long, a little different each time
        song[:] = chord + 0.02 * rng.standard_normal(song.shape)
        song /= np.linalg.norm(song, axis=1, keepdims=True)
    songs[2][10:20] = other[3:13]
    songs[1][:] = other[8:17]
    songs[3][:] = other[:5]  # too short to share 5 s
    songs[4][7] = other[3]  # one frame alone
    for number, song in enumerate(songs):
        means = {
            (s, t): np.mean(np.sum(song[s : s + 9] * other[t : t + 9], axis=1))
            for s in range(len(song) - 8)
            for t in range(len(other) - 8)
        }
        best = max(means.values(), default=0)
        places = duplicates.alike_places(song, other)
        assert bool(places) == (best >= 0.8) == (number in (0, 1, 2))
        found = [means[place] for place in places]
        assert found[:1] == pytest.approx([best] if places else [], abs=1e-5)
        assert found == pytest.approx(sorted(found, reverse=True), abs=1e-5)
        assert len({there - at for at, there in places}) == len(places) <= duplicates.N_PLACES
    assert duplicates.alike_places(songs[2], other)[0] in ((10, 3), (11, 4))
    assert duplicates.alike_places(songs[1], other) == [(0, 8)]


def test_range_search_finds_every_near_song(monkeypatch):
    rng = np.random.default_rng(1)
    songs = [unit_rows(rng, 20, 128) for _ in range(6)]
    other = np.concatenate([unit_rows(rng, 31, 128), songs[2][4:9], unit_rows(rng, 7, 128)])
    index = faiss.IndexFlatIP(128)
    index.add(np.concatenate(songs))
    song_of = np.repeat(np.arange(6), 20)
    monkeypatch.setattr(duplicates, "BLOCK_FRAMES", 5)
    for threshold in (0.9, 0.3, -1):
        naive = [i for i, song in enumerate(songs) if (song @ other.T).max() >= threshold]
        monkeypatch.setattr(duplicates, "ALIKE", threshold)
        assert duplicates.near(index, song_of, other) == naive
    assert naive == list(range(6))


@pytest.fixture
def music(home):
    """Function (name, role, samples) -> the clip that has them."""

    def write(name, role, sound):
        soundfile.write(home / f"{name}.flac", 0.1 * sound, RATE)
        file, seconds = f"{name}.flac", len(sound) / RATE
        return clips.Clip(name, name, ".", "", file, 0.0, seconds, 0, 0, "", role).measured()

    return write


def melody(rng, seconds=12):
    """A sound that changes every quarter of a second."""
    pitches = rng.uniform(300, 3000, (4 * seconds, 3))
    phase = 2 * np.pi * np.cumsum(np.repeat(pitches, RATE // 4, axis=0) / RATE, axis=0)
    return np.sin(phase).sum(axis=1)


def apart(found):
    """The clips told apart by the shipped fingerprinter."""
    heard = {role: extraction.originals(of_role, NAFP, 1) for role, of_role in found.items()}
    return duplicates.apart(found, {role: map(features.load, heard[role]) for role in heard})


def test_a_waveform_that_a_test_clip_shares_is_left_out_of_other_roles(music):
    """At other levels and times; a test clip stays, but for music that was trained on."""
    rng = np.random.default_rng(0)
    tunes = [melody(rng) for _ in range(7)]
    late = np.concatenate([melody(rng, 5), 0.3 * tunes[0][2 * RATE : 9 * RATE + 100]])[700:]
    found = {
        "fingerprinter": [
            music("f0", "fingerprinter", tunes[3]),
            music("f1", "fingerprinter", tunes[5]),
        ],
        "test": [
            music("t0", "test", tunes[0]),
            music("t1", "test", tunes[1]),
            music("t1 again", "test", np.roll(tunes[1], 4000)),
            music("t3", "test", tunes[3]),
        ],
        "train": [music("r2", "train", tunes[2]), music("r1", "train", -tunes[1])],
        "valid": [music("v3", "valid", tunes[3])],
        "dummy": [music("d4", "dummy", tunes[4]), music("d0", "dummy", late)],
    }
    kept, left_out = apart(found)
    assert {role: [clip.piece for clip in of_role] for role, of_role in kept.items()} == {
        "fingerprinter": ["f0", "f1"],
        "test": ["t0", "t1", "t1 again"],
        "train": ["r2"],
        "valid": ["v3"],
        "dummy": ["d4"],
    }
    assert sorted((clip.piece, clip.refused) for clip in left_out) == [
        ("d0", "same sound as t0 (test)"),
        ("r1", "same sound as t1 (test)"),
        ("t3", "same sound as f0 (fingerprinter)"),
    ]
    table = clips.to_table([clip for of_role in kept.values() for clip in of_role] + left_out)
    assert duplicates.counts(table) == {"test": 1, "train": 1, "dummy": 1}
    assert duplicates.counts(table.assign(refused="silent")) == {}
    assert duplicates.counts(table.assign(refused=np.nan)) == {}


def test_what_is_alike_only_to_the_fingerprinter_stays(music, monkeypatch):
    """The same tune, each tone with another phase: alike by ear, another waveform."""
    rng = np.random.default_rng(0)
    tune = melody(rng)
    bins = np.fft.rfft(tune.reshape(-1, RATE // 4), axis=1)
    other = np.fft.irfft(bins * np.exp(2j * np.pi * rng.random(bins.shape)), axis=1).ravel()
    found = {"test": [music("t", "test", tune)], "dummy": [music("d", "dummy", other)]}
    asked = []
    agree = duplicates.agree
    monkeypatch.setattr(duplicates, "agree", lambda *a: asked.extend(a[2]) or agree(*a))
    monkeypatch.setattr(duplicates, "ALIKE", 0.2)  # so short tones are less alike than music
    kept, left_out = apart(found)
    assert asked and left_out == [] and kept == found


def test_overlaps_count_what_two_roles_share():
    table = duplicates.overlaps({"train": ["a", "b", "b"], "test": iter("cb"), "dummy": []})
    assert table.loc["train"].tolist() == [2, 1, 0] and np.trace(table) == 4
    assert (table == table.T).all(axis=None)
