"""The embedded corpus."""

import pickle

import numpy as np
import pytest

from amg import files, paths
from amg.check import InputError
from amg.sound import audio, clips, sheet_music

ROLES = ("fingerprinter", *sheet_music.SHARES)


def test_every_piece_is_in_one_role_whatever_the_seed():
    first, second = ({role: sorted(sheet_music.pieces(role, n)) for role in ROLES} for n in (0, 1))
    assert first == second and all(first.values())
    every = [piece for pieces in first.values() for piece in pieces]
    assert len(every) == len(set(every))
    assert sheet_music.pieces("test", 0) != sheet_music.pieces("test", 1)


def test_further_arrangements_come_after_all_works_and_are_of_the_same_recording(home):
    names = sheet_music.pieces("train", 0)
    works = names[: len(names) // sheet_music.TAKES["train"]]
    assert not any("@" in name for name in works)
    assert names[len(works) :][: len(works)] == [f"{name}@2" for name in works]
    assert len({sheet_music._slug(name) for name in names}) == len(names)
    first, second = (sheet_music._build_one(name, 0, home) for name in (works[0], f"{works[0]}@2"))
    assert first.recording == second.recording == first.piece != second.piece
    assert first.sha256 != second.sha256 and first.source == second.source


def test_pieces_that_were_heard_are_the_fingerprinters():
    listed = (paths.checkout() / "amg/sound/fingerprinter_pieces.txt").read_text().splitlines()
    pieces = sheet_music.pieces("fingerprinter", 0)
    assert sorted(sheet_music._slug(name) for name in pieces) == sorted(listed)
    assert all(sheet_music.role_by_hash(slug) == "train" for slug in listed)


def test_rendering_follows_from_piece_and_seed():
    piece = sheet_music.pieces("test", 0)[0]
    sound, again, other = (sheet_music.render(piece, seed) for seed in (0, 0, 1))
    assert np.array_equal(sound, again) and not np.allclose(sound, other)
    assert sound.shape == (248000,) and sound.dtype == np.float32 and np.abs(sound).max() < 1
    assert -26 <= 20 * np.log10(np.sqrt(np.mean(sound**2))) <= -16
    # two arrangements share no waveform: 5 s of one are nowhere in the other
    likest = max(audio.likeness(sound[start:][:40000], other) for start in range(0, 200000, 40000))
    assert likest < audio.SAME


def test_no_pickle_is_read(tmp_path, monkeypatch):
    """music21 keeps parsed music in a folder that anybody may write to."""
    from music21 import converter, corpus, environment

    piece = sheet_music.pieces("test", 0)[0]
    monkeypatch.setattr(environment.Environment, "getRootTempDir", lambda _: tmp_path)
    converter.parseFile(corpus.getWork(piece))
    (kept,) = tmp_path.iterdir()
    before = kept.stat().st_mtime_ns
    monkeypatch.setattr(pickle, "load", lambda *_: pytest.fail("a pickle was read"))
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("a pickle was read"))
    sheet_music._notes(piece)
    assert list(tmp_path.iterdir()) == [kept] and kept.stat().st_mtime_ns == before
    kept.unlink()
    sheet_music._notes(piece)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError, MemoryError])
def test_what_says_nothing_of_a_piece_is_no_lasting_refusal(home, monkeypatch, error):
    def fails(*_):
        raise error("no room")

    monkeypatch.setattr("music21.converter.parseFile", lambda *_, **__: fails())
    with pytest.raises(error):
        sheet_music.build("test", 1, 0, 1)
    assert not list((home / "data").rglob("*.json"))


def test_longest_silence():
    tone = np.sin(np.arange(80000)).astype(np.float32)
    tone[16000:36000] = 0
    assert clips.longest_silence(tone) == pytest.approx(2.5, abs=0.1)
    assert clips.longest_silence(np.ones(8000)) == 0


def test_build_continues_and_repeats(home):
    found = sheet_music.build("noise_test", 3, seed=5)
    flacs = [home / clip.file for clip in found]
    before = [f.read_bytes() for f in flacs]
    flacs[1].unlink()  # as if interrupted
    flacs[2].unlink()
    files.write_json(flacs[2].with_suffix(".json"), {"refused": ""})  # as if lost, of an older kit
    again = sheet_music.build("noise_test", 3, seed=5)
    assert again == found and [f.read_bytes() for f in flacs] == before
    assert len(sheet_music.build("noise_test", 3, seed=5, spare=1)) == 4
    clip = found[0]
    assert clip.source == clip.piece.split("/")[0]
    assert (clip.role, clip.refused, len(clip.read())) == ("noise_test", "", 240000)
    assert len(clip.read(0.5)) == 248000 and len(clip.sha256) == 64
    flacs[0].write_bytes(before[1])  # replaced
    assert sheet_music.build("noise_test", 3, seed=5)[0].sha256 == found[1].sha256


def test_build_refuses_more_than_there_are(home, monkeypatch):
    monkeypatch.setattr(sheet_music, "pieces", lambda role, seed: ["nobody/Nothing.krn"])
    for _ in range(2):
        with pytest.raises(InputError, match="only 0 usable pieces"):
            sheet_music.build("test", 2, seed=0, workers=1)
        monkeypatch.setattr(sheet_music, "render", lambda *_: pytest.fail("tried again"))
    (note,) = home.rglob("*.json")
    assert files.read_json(note)["refused"].startswith("is not readable")
