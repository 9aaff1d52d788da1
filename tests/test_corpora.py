"""Recordings: a user's folder, and packages from a (played) archive."""

import os
import stat
import zipfile

import numpy as np
import pytest
import soundfile

from amg import paths
from amg.sound import audio, corpora, open_music, recordings, sheet_music
from amg.check import InputError

RATE = 8000


def tone(seconds, pitch=440.0, rate=RATE):
    return 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)


@pytest.fixture
def folder(tmp_path):
    """Five good files in four formats, and one of each kind that cannot be used."""
    root = tmp_path / "my music"
    (root / "deep").mkdir(parents=True)
    for i, name in enumerate(("a.wav", "b.flac", "c.ogg", "deep/d.mp3", "deep/e.WAV")):
        soundfile.write(root / name, tone(65.08, 200 + 40 * i, 22050), 22050)
    soundfile.write(root / "z-again.flac", *soundfile.read(root / "b.flac"))
    soundfile.write(root / "short.wav", tone(4), RATE)
    soundfile.write(root / "silent.wav", np.zeros(40 * RATE), RATE)
    soundfile.write(root / "empty.wav", np.zeros(0), RATE)
    (root / "broken.mp3").write_text("not sound")
    (root / "notes.txt").write_text("no audio at all")
    return root


def test_folder_lists_what_it_cannot_use(home, folder):
    table = corpora.manifest("folder", 1, str(folder)).set_index("track")
    assert len(table) == 10
    assert (table.refused == "").sum() == 5
    for track, reason in (("broken.mp3", "cannot be decoded"), ("empty.wav", "holds no sound"),
                          ("short.wav", "lasts 4.0 s"), ("silent.wav", "silent"),
                          ("z-again.flac", "same samples as b.flac")):
        assert reason in table.refused[track]
        assert str(folder) not in table.refused[track]
    assert abs(table.seconds["c.ogg"] - 65.08) < 0.01 and table.level_db["a.wav"] > -20


def test_folder_decodes_once_and_continues(home, folder, monkeypatch):
    first = corpora.manifest("folder", 1, str(folder))
    lost = paths.resolve(first.file[0])
    kept = paths.resolve(first.file[1])
    before, stamp = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()  # as if interrupted before it
    assert corpora.manifest("folder", 1, str(folder)).equals(first)
    assert lost.read_bytes() == before and kept.stat().st_mtime_ns == stamp


def test_a_changed_file_is_decoded_again(home, folder):
    before = corpora.manifest("folder", 1, str(folder)).set_index("track").sha256["a.wav"]
    soundfile.write(folder / "a.wav", tone(50, 333), RATE)
    table = corpora.manifest("folder", 1, str(folder)).set_index("track")
    assert table.sha256["a.wav"] != before and table.seconds["a.wav"] == 50


def test_clips_of_a_recording(home, folder, monkeypatch):
    monkeypatch.setattr(sheet_music, "role_of", lambda name: "test")
    tracks = corpora.manifest("folder", 1, str(folder))
    clips = corpora.build("folder", "test", 10, 0, tracks=tracks)
    assert len({clip["piece"] for clip in clips}) == 10
    for clip in clips:  # two of 30 s in 65.08 s, whole ones
        assert clip["start_s"] in (0.0, 35.0) and len(corpora.read(clip)) == 30 * RATE
        assert -14 < clip["level_db"] < -13 and clip["refused"] == ""
    whole, = corpora.build("folder", "test", 1, 0, whole=True, tracks=tracks)
    assert abs(len(corpora.read(whole)) - 65.08 * RATE) < 100 and whole["seconds"] < 65.2
    assert len(list(corpora.blocks(whole))) == 3
    assert len(corpora.build("folder", "test", None, 0, tracks=tracks)) == 10
    for role, n_clips in (("test", 11), ("valid", None)):
        with pytest.raises(InputError, match="has only"):
            corpora.build("folder", role, n_clips, 0, tracks=tracks)


def test_a_clip_that_is_silent_for_long_is_listed_and_not_drawn(home, tmp_path, monkeypatch):
    monkeypatch.setattr(sheet_music, "role_of", lambda name: "test")
    (tmp_path / "in").mkdir()
    pause = np.concatenate([tone(32), np.zeros(4 * RATE), tone(30)])
    soundfile.write(tmp_path / "in/pause.wav", pause, RATE)
    tracks = corpora.manifest("folder", 1, str(tmp_path / "in"))
    first, second = corpora.clips_of(tracks, "test")
    assert first["refused"] == "" and second["start_s"] == 36.0
    pause[: 20 * RATE] = 0.0
    soundfile.write(tmp_path / "in/pause.wav", pause, RATE)
    tracks = corpora.manifest("folder", 1, str(tmp_path / "in"))
    assert corpora.clips_of(tracks, "test")[0]["refused"] == "is silent for 20.0 s"
    drawn, = corpora.build("folder", "test", None, 0, tracks=tracks)
    assert drawn["piece"] == "pause.wav@36.0"


def test_a_folder_has_a_manifest_and_no_noise(home, folder, monkeypatch):
    monkeypatch.setattr(sheet_music, "role_of", lambda name: "noise_test")
    table = corpora.manifest("folder", 1, str(folder))
    assert set(table.role) == {"train"}
    written, = (home / "data/audio/folder").glob("*/manifest.csv")
    assert len(written.read_text().splitlines()) == 1 + len(table)


def test_samples_that_are_no_numbers_are_refused(home, tmp_path):
    (tmp_path / "in").mkdir()
    broken = np.r_[tone(40), np.nan]
    soundfile.write(tmp_path / "in/nan.wav", broken, RATE, subtype="FLOAT")
    assert corpora.manifest("folder", 1, str(tmp_path / "in")).refused[0] == (
        "holds samples that are no numbers; export it again.")


@pytest.mark.parametrize("name", ["", "none"])
def test_no_folder_is_refused(home, name):
    with pytest.raises(InputError, match="directory with audio files"):
        corpora.manifest("folder", 1, name)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A package archive of two packages, `one` and `two`: apt-get and dpkg-deb are played."""
    for name, seconds in (("one", (40, 3)), ("two", (35,))):
        sounds = tmp_path / "archive" / name / "usr" / "share" / "games"
        licence = tmp_path / "archive" / name / "usr" / "share" / "doc" / name
        sounds.mkdir(parents=True)
        licence.mkdir(parents=True)
        (licence / "copyright").write_text("free")
        for i, length in enumerate(seconds):
            soundfile.write(sounds / f"{i}.ogg", tone(length, 300 + 50 * i + ord(name[0]), 44100),
                            44100)
    tools = tmp_path / "tools"
    tools.mkdir()
    scripts = {"apt-get": f'[ -d "{tmp_path}/archive/$2" ] || '
                          '{ echo "E: Unable to locate package $2" >&2; exit 100; }\n'
                          'echo "$2" > "$2_1%3a2.0-1_all.deb"\n',
               "dpkg-deb": f'mkdir -p "$3"; cp -r "{tmp_path}/archive/$(cat "$2")/." "$3"\n'}
    for name, body in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}")
        (tools / name).chmod((tools / name).stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return tools


def test_packages_are_fetched_once_and_the_missing_named(home, archive, capsys):
    table = open_music.fetch(["one", "two", "three"], 1)
    assert "package three is skipped: Unable to locate package three" in capsys.readouterr().out
    assert list(table.package) == ["one", "one", "two"] and set(table.version) == {"1:2.0-1"}
    assert all(paths.resolve(path).read_text() == "free" for path in table.licence)
    assert sorted(table.seconds.round()) == [3, 35, 40] and (table.refused == "").all()
    (archive / "apt-get").write_text("#!/bin/sh\nexit 1\n")
    assert open_music.fetch(["one", "two"], 1).equals(table)
    assert not list((home / "data/audio/open_music").glob(".*/*.deb"))


def test_corpus_of_packages(home, archive, tmp_path, monkeypatch):
    """Music by role, shorter sounds as noise, sounds of a zip archive as well."""
    with zipfile.ZipFile(tmp_path / "archive/two/usr/share/games/sounds.pk3", "w") as inner:
        inner.write(tmp_path / "archive/one/usr/share/games/0.ogg", "deep/music.ogg")
        inner.writestr("readme.txt", "no sound")
    monkeypatch.setattr(open_music, "PACKAGES", {"train": ("one",), "test": ("two",)})
    monkeypatch.setattr(open_music, "NOISES", {"test": {"music": ("one",), "speech": ("one",)}})
    tracks = corpora.manifest("open_music", 1, roles=("train", "test"))
    assert list(tracks.role) == ["train", "test", "test"] and tracks.seconds.min() > 30
    clips = corpora.build("open_music", "test", None, 0, tracks=tracks)
    assert sorted(clip["piece"].split("/")[-1] for clip in clips) == [
        "0.ogg@0.0", "music.ogg@0.0"]
    assert clips[0]["package"] == "two" and len(clips[0]["sha256"]) == 64
    noises = corpora.noises("open_music", "test", 0, 1)
    assert [round(len(sound) / RATE) for sound in noises["music"]] == [40]
    assert [round(len(sound) / RATE) for sound in noises["speech"]] == [3]
    assert corpora.noise_sources("open_music", "test") == {
        "music": ["one 1:2.0-1"], "speech": ["one 1:2.0-1"]}


def test_a_package_that_cannot_be_unpacked_is_named(home, archive, tmp_path, capsys):
    (tmp_path / "archive/two/usr/share/doc/two/copyright").unlink()
    assert set(open_music.fetch(["one", "two"], 1).package) == {"one"}
    assert "package two is skipped: it states no licence" in capsys.readouterr().out
    (archive / "dpkg-deb").write_text("#!/bin/sh\nexit 2\n")
    open_music.fetch(["one", "two"], 1)
    assert "package two is skipped: Command" in capsys.readouterr().out


def test_an_interrupted_fetch_continues(home, archive, monkeypatch):
    whole = open_music.fetch(["one"], 1)
    folder = home / "data/audio/open_music"
    (folder / "one/manifest.csv").unlink()  # killed before its end ...
    (folder / ".one/part").mkdir(parents=True)
    (folder / ".one/part/one_1%3a2.0-1_all.deb").write_text("half")  # ... while it downloaded
    assert open_music.fetch(["one"], 1).equals(whole)


def test_open_music_needs_apt(home, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="apt-get.*use corpus 'folder'"):
        open_music.fetch(["one"], 1)


def test_no_package_and_no_noise_stands_on_two_sides():
    music = [name for names in open_music.PACKAGES.values() for name in names]
    assert len(music) == len(set(music))
    sides = {side: {name for names in kinds.values() for name in names}
             for side, kinds in open_music.NOISES.items()}
    assert not sides["train"] & sides["test"] and not sides["train"] & sides["valid"]
    assert not sides["valid"] & sides["test"]
    # nobody is asked for under a noise that is its own music
    assert not sides["test"] & set(open_music.PACKAGES["test"])
    assert not sides["test"] & {*open_music.PACKAGES["train"], *open_music.PACKAGES["valid"]}


def test_a_recording_of_one_hour_is_never_held_whole(home, tmp_path, monkeypatch):
    with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 1) as file:
        for minute in range(60):
            file.write(tone(60, 200 + minute))
    lengths = []

    def watched(path, blocks=audio.blocks):
        for block in blocks(path):
            lengths.append(len(block))
            yield block

    monkeypatch.setattr(audio, "blocks", watched)
    row = recordings.decode(tmp_path / "long.wav", paths.Path("long.wav"), tmp_path / "out", 30)
    assert row["seconds"] == 3600 and sum(lengths) == 3600 * RATE and max(lengths) <= 31 * RATE
    lengths = list(map(len, corpora.blocks({**row, "start_s": 0.0})))
    assert sum(lengths) == 3600 * RATE and max(lengths) <= 30 * RATE
