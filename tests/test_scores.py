"""The embedded corpus."""

import numpy as np
import pytest

from amg.sound import sheet_music
from amg.check import InputError


def test_roles_share_no_piece_whatever_the_seed():
    first = {role: set(sheet_music.pieces(role, 0)) for role in sheet_music.ROLES}
    second = {role: set(sheet_music.pieces(role, 1)) for role in sheet_music.ROLES}
    assert first == second and all(first.values())
    assert sum(map(len, first.values())) == len(set.union(*first.values()))
    assert sheet_music.pieces("test", 0) != sheet_music.pieces("test", 1)


def test_rendering_follows_from_piece_and_seed():
    piece = sheet_music.pieces("test", 0)[0]
    clip, arrangement = sheet_music.render(piece, 0)
    again, same = sheet_music.render(piece, 0)
    assert np.array_equal(clip, again) and arrangement == same
    other, different = sheet_music.render(piece, 1)
    assert arrangement != different and not np.allclose(clip, other)
    assert clip.shape == (240000,) and clip.dtype == np.float32 and np.abs(clip).max() < 1
    rms_db = 20 * np.log10(np.sqrt(np.mean(clip**2)))
    assert rms_db == pytest.approx(arrangement.level_db, abs=0.1)


def test_longest_silence():
    tone = np.sin(np.arange(80000)).astype(np.float32)
    tone[16000:36000] = 0
    assert sheet_music.longest_silence(tone) == pytest.approx(2.5, abs=0.1)
    assert sheet_music.longest_silence(np.ones(8000)) == 0


def test_build_continues_and_repeats(home):
    rows = sheet_music.build("noise_test", 3, seed=5)
    files = [home / row["file"] for row in rows]
    before = [f.read_bytes() for f in files]
    files[1].with_suffix(".csv").unlink()  # as if interrupted
    files[1].unlink()
    files[2].unlink()  # as if lost
    again = sheet_music.build("noise_test", 3, seed=5)
    assert [row["piece"] for row in again] == [row["piece"] for row in rows]
    assert [f.read_bytes() for f in files] == before
    assert len(sheet_music.build("noise_test", 3, seed=5, spare=1)) == 4


def test_build_refuses_more_than_there_are(home, monkeypatch):
    monkeypatch.setattr(sheet_music, "pieces", lambda role, seed: ["nobody/Nothing.krn"])
    with pytest.raises(InputError, match="only 0 usable pieces"):
        sheet_music.build("test", 2, seed=0)
