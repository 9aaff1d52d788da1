"""Clips; recordings of a user's folder, and of packages from a (played) archive."""

import json
import os
import stat
import zipfile

import numpy as np
import pytest
import soundfile

from amg import paths
from amg.check import InputError
from amg.sound import audio, clips, corpora, open_music, pools, recordings, sheet_music

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


@pytest.fixture
def all_test(monkeypatch):
    """Every track of a folder plays the role `test`."""
    monkeypatch.setattr(corpora, "_role_in_folder", lambda name: "test")


def chosen(corpus, role, folder="", **more):
    """All usable clips of one role."""
    return corpora.choose(corpus, {role: None}, 0, 1, folder, **more)[0][role]


def manifest(folder):
    found = corpora.manifest("folder", 1, str(folder))
    by_piece = {clip.piece: clip for clip in found}
    assert len(by_piece) == len(found)
    return by_piece


def test_folder_lists_what_it_cannot_use(home, folder):
    found = manifest(folder)
    assert len(found) == 10
    assert sum(not clip.refused for clip in found.values()) == 5
    for track, reason in (
        ("broken.mp3", "is not an audio file"),
        ("empty.wav", "holds no sound"),
        ("short.wav", "lasts 4.00 s"),
        ("silent.wav", "silent"),
        ("z-again.flac", "same samples as b.flac"),
    ):
        assert reason in found[track].refused and str(folder) not in found[track].refused
    assert abs(found["c.ogg"].seconds - 65.08) < 0.01 and found["a.wav"].level_db > -20
    assert found["deep/d.mp3"].source == "deep" and found["a.wav"].source == "."
    assert {clip.role for clip in found.values()} <= set(clips.ROLES) - {"fingerprinter"}


def test_folder_decodes_once_and_continues(home, folder):
    first = manifest(folder)
    lost, kept = (paths.resolve(first[name].file) for name in ("a.wav", "b.flac"))
    before, stamp = lost.read_bytes(), kept.stat().st_ctime_ns
    lost.unlink()  # as if interrupted before it
    again = manifest(folder)
    assert str(again) == str(first)
    assert lost.read_bytes() == before and kept.stat().st_ctime_ns == stamp


@pytest.mark.parametrize("moved_s", [-86400, 1])
def test_a_replaced_file_is_decoded_again(home, folder, moved_s):
    """Older or newer: an unpacked archive bears old dates."""
    before, time = manifest(folder)["a.wav"].sha256, os.stat(folder / "a.wav").st_mtime
    soundfile.write(folder / "a.wav", tone(50, 333), RATE)
    os.utime(folder / "a.wav", (time + moved_s, time + moved_s))
    found = manifest(folder)["a.wav"]
    assert found.sha256 != before and found.seconds == 50


def of_one_file(folder, sound):
    """What is found and refused in a folder of one file."""
    folder.mkdir()
    soundfile.write(folder / "1.wav", sound, RATE)
    return corpora.choose("folder", {"test": None}, 0, 1, str(folder))


def test_clips_of_data_sets_that_lack_more_than_a_tenth_are_refused(home, tmp_path, all_test):
    found, refused = of_one_file(tmp_path / "fma", tone(29.8))
    assert found == {"test": []}
    assert [clip.refused for clip in refused] == ["lasts 29.80 s, shorter than 30 s"]


@pytest.mark.parametrize("seconds", [29.9, 30.2, 30.59])
def test_clips_of_data_sets_count_as_30_s(home, tmp_path, all_test, seconds):
    """They have no margins, and may lack a tenth of a second."""
    sound = tone(seconds)
    found, refused = of_one_file(tmp_path / "fma", sound)
    assert refused == []
    [clip] = found["test"]
    n = min(len(sound), 30 * RATE)
    np.testing.assert_allclose(clip.read()[:n], sound[:n], atol=1e-3)
    assert not clip.read()[n:].any() and len(clip.read(clips.MARGIN_S)) == 30.6 * RATE


def test_a_recording_too_short_to_be_cut_is_told(home, folder, all_test, monkeypatch):
    """One that nothing is put around, as of a package."""
    monkeypatch.setattr(recordings, "completed", iter)
    soundfile.write(folder / "short.wav", tone(30.2), RATE)
    _, refused = corpora.choose("folder", {"test": None}, 0, 1, str(folder))
    assert "too short to be cut" in {clip.piece: clip.refused for clip in refused}["short.wav"]


def test_integers_written_as_floats_are_scaled(home, tmp_path):
    """Clipped, they would be another sound."""
    (tmp_path / "floats").mkdir()
    for name, scale in (("as usual", 1), ("as integers", 32768)):
        soundfile.write(tmp_path / "floats" / f"{name}.wav", scale * tone(40), RATE, "FLOAT")
    usual, integers = (
        soundfile.read(paths.resolve(clip.file))[0]
        for _, clip in sorted(manifest(tmp_path / "floats").items(), reverse=True)
    )
    np.testing.assert_allclose(
        integers / np.abs(integers).max(), usual / np.abs(usual).max(), atol=1e-3
    )


def test_clips_of_a_recording(home, folder, all_test):
    cut = chosen("folder", "test", folder)
    assert len({clip.piece for clip in cut}) == 10 and len({clip.recording for clip in cut}) == 5
    for clip in cut:  # two of 30 s in 65.08 s, whole ones, with something before and after
        assert clip.start_s in (0.3, 34.7) and len(clip.read()) == 30 * RATE
        assert len(clip.read(clips.MARGIN_S)) == 30.6 * RATE
        assert -14 < clip.level_db < -13 and clip.refused == ""
    whole = chosen("folder", "test", folder, whole=("test",))[0]
    assert abs(len(whole.read()) - 65.08 * RATE) < 100 and whole.seconds < 65.2
    assert len(list(whole.blocks())) == 3
    for role, n_clips in (("test", 11), ("valid", 1)):
        with pytest.raises(InputError, match=f"{n_clips - 1} of {n_clips}; lower n_{role}, or"):
            corpora.choose("folder", {role: n_clips}, 0, 1, folder)
    other, _ = corpora.choose("folder", {"test": 3}, 1, 1, folder)  # spare ones after them
    assert other["test"] != cut
    assert sorted(other["test"], key=repr) == sorted(cut, key=repr)


def test_a_clip_goes_through_a_table_and_back(home, folder, all_test):
    found = corpora.manifest("folder", 1, str(folder))
    found = [clip for clip in found if not clip.refused] + [
        clips.Clip("007", "1e5", "NA", "1.10", "x.flac", 0.3, 30.0, -20.5, 0.25, "0" * 64, "test")
    ]
    clips.to_table(found).assign(name="00001").to_csv(home / "songs.csv", index=False)
    table = clips.read_csv(home / "songs.csv")
    assert clips.from_table(table) == found and set(table.name) == {"00001"}
    assert clips.from_table(clips.to_table([])) == []


def test_sound_that_is_gone_or_replaced_is_refused(home, folder, all_test):
    clip = chosen("folder", "test", folder)[0]
    clip.check()
    with pytest.raises(InputError, match="ends within 5 s of the clip"):
        clip.read(5.0)
    soundfile.write(paths.resolve(clip.file), tone(65.08, 900), RATE)
    with pytest.raises(InputError, match="was replaced since .* run notebook 01"):
        clip.check()
    paths.resolve(clip.file).unlink()
    with pytest.raises(InputError, match="is missing or damaged"):
        clip.read()


def test_a_clip_that_is_silent_for_long_is_listed_and_not_drawn(home, tmp_path, all_test):
    (tmp_path / "in").mkdir()
    pause = np.concatenate([tone(32), np.zeros(4 * RATE), tone(30)])
    soundfile.write(tmp_path / "in/pause.wav", pause, RATE)
    cut = chosen("folder", "test", tmp_path / "in")
    assert {clip.start_s for clip in cut} == {0.3, 35.7}
    pause[: 20 * RATE] = 0.0
    soundfile.write(tmp_path / "in/pause.wav", pause, RATE)
    sizes = {"test": 1, "train": None}
    found, refused = corpora.choose("folder", sizes, 0, 1, tmp_path / "in")
    assert [clip.piece for clip in found["test"]] == ["pause.wav@35.7"]
    assert found["train"] == []
    assert [clip.refused for clip in refused] == ["is silent for 19.7 s"]


def test_too_many_clips_are_refused_before_any_work(home, folder, all_test, monkeypatch):
    monkeypatch.setattr(clips.Clip, "read", lambda *_: pytest.fail("listened to"))
    monkeypatch.setattr(sheet_music, "render", lambda *_: pytest.fail("rendered"))
    for corpus, sizes, message in (
        (
            "folder",
            {"test": 11},
            "'folder' has too few usable clips: test 10 of 11; lower n_test, or",
        ),
        (
            "folder",
            {"train": 2, "test": 11, "dummy": 1},
            "training 0 of 2, test 10 of 11, distractors 0 of 1; lower n_train, n_test, n_dummy",
        ),
        ("sheet_music", {"test": 1, "fingerprinter": 451}, "clips: fingerprinter 450 of 451"),
    ):
        with pytest.raises(InputError, match=message):
            corpora.choose(corpus, sizes, 0, 1, folder)


def test_nothing_of_a_folder_is_noise(home, folder, monkeypatch):
    monkeypatch.setattr(sheet_music, "role_by_hash", lambda name: "noise_test")
    assert {clip.role for clip in manifest(folder).values()} == {"train"}


def test_samples_that_are_no_numbers_are_refused(home, tmp_path):
    (tmp_path / "in").mkdir()
    broken = np.r_[tone(40), np.nan]
    soundfile.write(tmp_path / "in/nan.wav", broken, RATE, subtype="FLOAT")
    assert manifest(tmp_path / "in")["nan.wav"].refused == (
        "holds samples that are no numbers; export it again."
    )


def test_another_speed_is_another_sound(home, tmp_path, all_test):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", tone(40, 1000), RATE)
    (track,) = corpora.manifest("folder", 1, str(tmp_path / "in"))
    slow, fast = recordings.at_speeds([track], 1)
    for clip, factor in ((slow, 0.94), (fast, 1.06)):
        spectrum = np.abs(np.fft.rfft(clip.read()[:80000]))
        assert spectrum.argmax() / 10 == pytest.approx(1000 * factor, abs=1)
        assert clip.seconds == pytest.approx(40 / factor, abs=0.01) and clip.role == "test"
        assert clip.recording == f"a.wav x{factor}"
        assert len(clip.read()) == round(clip.seconds * RATE)
    assert recordings.at_speeds([track], 1) == [slow, fast]


@pytest.mark.parametrize("name", ["", "none"])
def test_no_folder_is_refused(home, name):
    with pytest.raises(InputError, match="no such folder|folder is ''"):
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
            soundfile.write(
                sounds / f"{i}.ogg", tone(length, 300 + 50 * i + ord(name[0]), 44100), 44100
            )
    tools = tmp_path / "tools"
    tools.mkdir()
    scripts = {
        "apt-get": f'[ -d "{tmp_path}/archive/$2" ] || '
        '{ echo "E: Unable to locate package $2" >&2; exit 100; }\n'
        'echo "$2" > "$2_1%3a2.0-1_all.deb"\n',
        "dpkg-deb": f'mkdir -p "$3"; cp -rp "{tmp_path}/archive/$(cat "$2")/." "$3"\n',
    }
    for name, body in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}")
        (tools / name).chmod((tools / name).stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return tools


def test_packages_are_fetched_once_and_the_missing_named(home, archive, capsys):
    found = open_music.fetch(["one", "two", "three"], 1)
    assert "package three is skipped: Unable to locate package three" in capsys.readouterr().out
    assert [clip.source for clip in found] == ["one", "one", "two"]
    assert [clip.piece for clip in found][::2] == [
        "one/usr/share/games/0.ogg",
        "two/usr/share/games/0.ogg",
    ]
    assert {(clip.version, clip.refused) for clip in found} == {("1:2.0-1", "")}
    assert [round(clip.seconds) for clip in found] == [40, 3, 35]
    folder = home / "data/audio/open_music"
    assert (folder / "one/copyright").read_text() == "free"
    (archive / "apt-get").write_text("#!/bin/sh\nexit 1\n")
    assert open_music.fetch(["one", "two"], 1) == found
    assert not list(folder.glob(".*/*.deb"))


def test_corpus_of_packages(home, archive, tmp_path, monkeypatch):
    """Music by role, shorter sounds as noise, sounds of a zip archive as well."""
    with zipfile.ZipFile(tmp_path / "archive/two/usr/share/games/sounds.pk3", "w") as inner:
        inner.write(tmp_path / "archive/one/usr/share/games/0.ogg", "deep/music.ogg")
        inner.writestr("readme.txt", "no sound")
    monkeypatch.setattr(open_music, "PACKAGES", {"train": ("one",), "test": ("two",)})
    monkeypatch.setattr(open_music, "NOISES", {"test": {"music": ("one",), "speech": ("one",)}})
    tracks = corpora.manifest("open_music", 1, roles=("train", "test"))
    assert [track.role for track in tracks] == ["train", "test", "test"]
    assert min(track.seconds for track in tracks) > 30
    cut = chosen("open_music", "test")
    assert sorted(clip.piece.split("/")[-1] for clip in cut) == ["0.ogg@0.3", "music.ogg@0.3"]
    assert cut[0].source == "two" and len(cut[0].sha256) == 64
    assert clips.hours(cut) == {"two 1:2.0-1": 0.02}
    noises = corpora.noises("open_music", "test", 0, 1)
    assert [round(len(sound) / RATE) for sound in noises["music"]] == [40]
    assert [round(len(sound) / RATE) for sound in noises["speech"]] == [3]


def test_distractors_are_joined_by_other_speeds_and_renderings(home, archive, monkeypatch):
    monkeypatch.setattr(open_music, "PACKAGES", {"dummy": ("one",)})
    monkeypatch.setattr(corpora, "N_RENDERED", 1)
    found = chosen("open_music", "dummy")
    assert len({clip.recording for clip in found}) == len(found) == 4
    assert {clip.role for clip in found} == {"dummy"}


def test_a_lost_or_replaced_sound_of_a_package_is_noticed(home, archive, monkeypatch):
    monkeypatch.setattr(open_music, "PACKAGES", {"test": ("one",)})
    (track,) = corpora.manifest("open_music", 1, roles=("test",))
    (clip,) = chosen("open_music", "test")
    paths.resolve(track.file).unlink()
    (again,) = corpora.manifest("open_music", 1, roles=("test",))
    assert again == track and chosen("open_music", "test") == [clip]
    time = os.stat(paths.resolve(track.file)).st_mtime - 9
    soundfile.write(paths.resolve(track.file), tone(40, 999), RATE)
    os.utime(paths.resolve(track.file), (time, time))
    (replaced,) = chosen("open_music", "test")
    assert replaced.piece == clip.piece and replaced.sha256 != clip.sha256


def test_a_package_that_cannot_be_unpacked_is_named(home, archive, tmp_path, capsys):
    (tmp_path / "archive/two/usr/share/doc/two/copyright").unlink()
    assert {clip.source for clip in open_music.fetch(["one", "two"], 1)} == {"one"}
    assert "package two is skipped: it states no licence" in capsys.readouterr().out
    (archive / "dpkg-deb").write_text("#!/bin/sh\nexit 2\n")
    open_music.fetch(["one", "two"], 1)
    assert "package two is skipped: Command" in capsys.readouterr().out


def test_an_interrupted_fetch_continues(home, archive, monkeypatch):
    whole = open_music.fetch(["one"], 1)
    decoded, folder = paths.resolve(whole[0].file), home / "data/audio/open_music"
    before = decoded.stat().st_ctime_ns
    (folder / "one/recordings.csv").rename(folder / "one/manifest.csv")  # killed before its end ...
    (folder / ".one/part").mkdir(parents=True)
    (folder / ".one/part/one_1%3a2.0-1_all.deb").write_text("half")  # ... while it downloaded
    assert open_music.fetch(["one"], 1) == whole and decoded.stat().st_ctime_ns == before


def test_open_music_needs_apt(home, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="apt-get.*use corpus 'folder'"):
        open_music.fetch(["one"], 1)


def test_no_package_and_no_noise_stands_on_two_sides():
    music = [name for names in open_music.PACKAGES.values() for name in names]
    assert len(music) == len(set(music))
    sides = {
        side: {name for names in kinds.values() for name in names}
        for side, kinds in open_music.NOISES.items()
    }
    assert set(sides) == set(pools.SIDES) and all(sides.values())
    assert not sides["train"] & sides["test"] and not sides["train"] & sides["valid"]
    assert not sides["valid"] & sides["test"]
    # nobody is asked for under a noise that is its own music
    assert not sides["test"] & set(open_music.PACKAGES["test"])
    assert not sides["test"] & {
        *open_music.PACKAGES["train"],
        *open_music.PACKAGES["valid"],
        *open_music.PACKAGES["fingerprinter"],
    }


def test_packages_that_trained_the_fingerprinter_are_those_of_its_card():
    card = json.loads((paths.checkout() / "amg/weights/nafp_lite.json").read_text())
    listed = {name.split()[0] for name in card["music_hours"]["train"]} - {"scores", "sheet_music"}
    collections = set(sheet_music.COLLECTIONS)  # a card of later weights names those
    assert listed - collections == set(open_music.PACKAGES["fingerprinter"])
    assert set(open_music.PACKAGES) == set(clips.ROLES)


@pytest.mark.parametrize("corpus", ["sheet_music", "folder"])
def test_noise_of_two_sides_is_made_of_different_sounds(home, corpus, monkeypatch):
    """What is reserved for one side is heard on no other, and pools tell what they are made of."""
    monkeypatch.setattr(corpora, "N_NOISE", 2)
    monkeypatch.setattr(pools, "N_NOISES", dict.fromkeys(pools.SIDES, 1))
    made = [pools.make(side, corpora.noises(corpus, side, 0, 1), 1, 0, 1) for side in pools.SIDES]
    sounds = [sound for pool in made for sound in pool.sounds]
    assert len(sounds) == 6 == len(set(sounds))


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
    clip = recordings.decode(tmp_path / "long.wav", tmp_path, tmp_path / "out", 30)
    assert clip.seconds == 3600 and sum(lengths) == 3600 * RATE and max(lengths) <= 31 * RATE
    lengths = list(map(len, clip.blocks()))
    assert sum(lengths) == 3600 * RATE and max(lengths) <= 30 * RATE


def test_further_songs_are_cut_alike_and_told_apart(home, folder, monkeypatch):
    """Music that trained the fingerprinter keeps that role; copies are recordings of their own."""
    roles = {"a.wav": "train", "b.flac": "fingerprinter", "c.ogg": "valid"}
    monkeypatch.setattr(corpora, "_role_in_folder", lambda name: roles.get(name, "test"))
    assert corpora.further([], "folder", 0, 1, str(folder)) == []
    heard = corpora.further(["heard"], "folder", 0, 1, str(folder))
    assert [(clip.recording, clip.role) for clip in heard] == 2 * [("b.flac", "fingerprinter")]
    both = corpora.further(["heard", "speeds"], "folder", 0, 1, str(folder))
    assert both[:2] == heard and {clip.seconds for clip in both} == {30.0}
    copies = {(clip.recording, clip.role) for clip in both[2:]}
    assert copies == {
        (f"{name} x{speed}", role)
        for name, role in (("a.wav", "train"), ("b.flac", "fingerprinter"))
        for speed in recordings.SPEEDS
    }
    only = corpora.further(["speeds"], "folder", 0, 1, str(folder))
    assert {clip.recording for clip in only} == {f"a.wav x{speed}" for speed in recordings.SPEEDS}


@pytest.mark.parametrize("corpus, kinds", [("folder", ["louder"]), ("sheet_music", ["heard"])])
def test_further_songs_that_there_are_not(corpus, kinds):
    with pytest.raises(InputError, match="further"):
        corpora.further(kinds, corpus, 0)
