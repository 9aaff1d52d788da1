"""The catalogue of one's own music: indexed, kept up to date, and asked."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from bench.catalogue import content
from conftest import CHECKOUT, unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st

import amg
from amg import provenance
from amg.catalogue import calibration, indexing, models, significance, store, windows, writing
from amg.catalogue.catalogue import Catalogue
from amg.check import InputError
from amg.embedding import crops
from amg.retrieval import search

RATE = 8000


def tune(seed, seconds=24):
    """A melody of random notes with harmonics, and some noise: float (n,)."""
    rng = np.random.default_rng(seed)
    notes = []
    while sum(map(len, notes)) < seconds * RATE:
        t = np.arange(int(rng.uniform(0.15, 0.5) * RATE)) / RATE
        pitch = 220 * 2 ** (rng.integers(0, 30) / 12)
        tone = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in range(1, rng.integers(2, 6)))
        notes.append(tone * np.exp(-3 * t))
    sound = np.concatenate(notes)[: seconds * RATE]
    return 0.2 * sound + 0.005 * rng.standard_normal(len(sound))


def write(path, sound):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, RATE)
    return path


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    for number, name in enumerate(("a.wav", "b/c.flac", "b/d.ogg", "e.wav")):
        write(folder / name, tune(number))
    return folder


@pytest.fixture(scope="module")
def indexed(music, tmp_path_factory):
    """A catalogue of that music, which tests only read."""
    folder = tmp_path_factory.mktemp("indexed") / "catalogue"
    assert indexing.index([music], folder).heard == 4
    return folder


@pytest.mark.parametrize("method", windows.METHODS)
def test_an_excerpt_is_named_and_placed(music, indexed, method):
    catalogue = Catalogue.load(indexed)
    for number, name in enumerate(("a.wav", "b/c.flac", "b/d.ogg", "e.wav")):
        excerpt = tune(number)[int(7.3 * RATE) : int(15.3 * RATE)]
        (match,) = amg.identify((excerpt, RATE), catalogue, method).matches
        assert match.path == str(music / name)
        assert abs(match.position_s - match.begin_s - 7.3) < (
            0.25 if method != "single_stage" else 9.5
        )
        assert match.chance < significance.ALLOWED


def test_other_music_is_not_here(indexed):
    answers = [
        amg.identify((tune(seed, 8), RATE), Catalogue.load(indexed)) for seed in range(50, 60)
    ]
    assert sum(len(answer.matches) for answer in answers) == 0
    assert all(answer.candidates for answer in answers)


def test_a_long_recording_has_several_matches(music, indexed):
    mix = np.concatenate([tune(0)[: 20 * RATE], tune(9, 30), tune(3)[4 * RATE :]])
    first, second = amg.identify((mix, RATE), indexed).matches
    assert (first.path, second.path) == (str(music / "a.wav"), str(music / "e.wav"))
    for match, begin, end, position in ((first, 0, 20, 0), (second, 50, 70, 4)):
        assert abs(match.begin_s - begin) < 2 and abs(match.end_s - end) < 2
        assert abs(match.position_s - match.begin_s - (position - begin)) < 0.3


def test_the_command_line_answers(music, indexed, tmp_path):
    write(tmp_path / "clip.wav", tune(2)[3 * RATE : 10 * RATE])
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    run = subprocess.run(
        [sys.executable, "-m", "amg", "identify", tmp_path, "-", "--json", "--catalogue", indexed],
        cwd=CHECKOUT,
        capture_output=True,
        input=(music / "a.wav").read_bytes(),
    )
    clip, stdin = map(json.loads, run.stdout.splitlines())
    assert run.returncode == 0 and b"broken.wav is not an audio file" in run.stderr
    assert clip["matches"][0]["path"] == str(music / "b/d.ogg")
    assert stdin["query"] == "standard input" and stdin["matches"][0]["path"] == str(
        music / "a.wav"
    )


def test_what_has_changed_is_seen(tmp_path):
    music, folder = tmp_path / "music", tmp_path / "catalogue"
    for number, name in enumerate(("a.wav", "b.wav", "c.wav", "d.wav")):
        write(music / name, tune(number, 12))
    indexing.index([music], folder)
    report = indexing.index([music], folder)
    assert (report.unchanged, report.heard, report.moved, report.removed) == (4, 0, 0, 0)
    (music / "a.wav").rename(music / "z.wav")  # renamed
    write(music / "b.wav", tune(7, 12))  # changed
    (music / "c.wav").unlink()  # removed
    write(music / "copy.wav", tune(3, 12))  # the same as d.wav
    os.utime(music / "d.wav", ns=(1, 1))  # touched
    report = indexing.index([music], folder)
    assert (report.unchanged, report.heard, report.moved, report.removed) == (0, 1, 3, 2)
    assert len(store.Store(folder).sounds()) == 3
    catalogue = Catalogue.load(folder)
    for number, name in ((0, "z.wav"), (7, "b.wav"), (3, "copy.wav")):
        (match,) = amg.identify((tune(number, 12), RATE), catalogue).matches
        assert match.path == str(music / name)
    assert not amg.identify((tune(2, 12), RATE), catalogue).matches
    # other folders are left alone
    write(tmp_path / "more" / "m.wav", tune(8, 12))
    assert indexing.index([tmp_path / "more"], folder).removed == 0
    assert len(store.Store(folder).sounds()) == 4


def states(folder, call):
    """What a process that is killed during `call` may leave: the files of a folder, {name: bytes},
    after each line of the catalogue's own code, each once."""
    seen, before = [], sys.gettrace()

    def look(frame, *_):
        if frame.f_code.co_filename not in (store.__file__, writing.__file__, indexing.__file__):
            return None
        there = {path.name: path.read_bytes() for path in folder.iterdir()}
        if there not in seen:
            seen.append(there)
        return look

    sys.settrace(look)
    try:
        call()
    finally:
        sys.settrace(before)
    return seen


def test_interrupted_anywhere_it_ends_the_same(tmp_path):
    """A new catalogue; then one sound has gone and two are new: a row is taken out, rows are added,
    and the arrays are written anew."""
    music, folder = tmp_path / "music", tmp_path / "catalogue"
    folder.mkdir()

    def index():
        return states(folder, lambda: indexing.index([music], folder, workers=1))

    def check_that_each_is_continued(left):
        for number, there in enumerate(left):
            again = tmp_path / f"state {number}"
            again.mkdir()
            for name, raw in there.items():
                (again / name).write_bytes(raw)
            indexing.index([music], again, workers=1)
            sizes = {name: len(raw) for name, raw in there.items()}
            assert content(again) == content(folder), f"after state {number}: {sizes}"
            shutil.rmtree(again)

    for number in (0, 1):
        write(music / f"{number}.wav", tune(number, 3))
    left = index()
    assert {} in left and any("catalogue.sqlite-journal" in there for there in left)
    check_that_each_is_continued(left)
    (music / "0.wav").unlink()
    for number in (2, 3):
        write(music / f"{number}.wav", tune(number, 3))
    left = index()
    assert any({"frames-1.f32", "frames-2.f32"} <= there.keys() for there in left)
    check_that_each_is_continued(left)
    assert [held for *_, held in store.Store(folder).sounds()] == [True] * 3


def test_bad_files_are_named_and_left_out(tmp_path):
    music = tmp_path / "music"
    write(music / "good.wav", tune(1, 5))
    write(music / "short.wav", tune(1, 5)[:4000])
    write(music / "silent.wav", np.zeros(5 * RATE))
    write(music / "nan.wav", tune(1, 5))
    soundfile.write(music / "nan.wav", np.full(5 * RATE, np.nan, np.float32), RATE, "FLOAT")
    (music / "text.mp3").write_text("no music")
    (music / "loose.wav").symlink_to("nowhere")
    write(music / "$a\nb.wav", tune(2, 5))
    os.rename(write(music / "odd.wav", tune(3, 5)), os.fsencode(music) + b"/\xff.wav")
    report = indexing.index([music], tmp_path / "catalogue", workers=1)
    assert report.heard == 3 and len(report.refused) == 4  # a name need not be UTF-8
    said = "\n".join(report.refused)
    for part in (
        "short.wav holds 0.50 s",
        "silent.wav holds nothing but silence",
        "nan.wav holds samples that are no numbers",
        "text.mp3 is not an audio file",
    ):
        assert part in said
    (match,) = amg.identify((tune(2, 5), RATE), tmp_path / "catalogue").matches
    assert match.path == str(music / "$a\nb.wav")


def test_linked_folders_are_followed_once(tmp_path):
    write(tmp_path / "music" / "a.wav", tune(0, 5))
    write(tmp_path / "elsewhere" / "b.wav", tune(1, 5))
    for name, target in (("one", "../elsewhere"), ("two", "../elsewhere"), ("loop", ".")):
        (tmp_path / "music" / name).symlink_to(target)
    report = indexing.index([tmp_path / "music"], tmp_path / "catalogue", workers=1)
    assert (report.heard, report.refused) == (2, [])


def test_refusals(music, indexed, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / store.DATABASE).write_bytes(b"no database" * 100)
    for match, call in (
        ("holds no catalogue", lambda: amg.identify("x.wav", tmp_path / "none")),
        ("no such file", lambda: amg.identify(tmp_path / "none.wav", indexed)),
        ("method is 'best'", lambda: amg.identify("x.wav", indexed, "best")),
        ("it has letter.txt", lambda: amg.index([music], tmp_path / "other")),
        ("is damaged", lambda: amg.identify("x.wav", tmp_path / "damaged")),
        (
            "made with encoder lift, not mean",
            lambda: amg.index([music], indexed, models.load("mean")),
        ),
        ("encoder is 'mlstm'", lambda: models.load("mlstm")),
        ("nothing but silence", lambda: amg.identify((np.zeros(20000), RATE), indexed)),
        ("finite numbers", lambda: amg.identify((np.full(20000, np.nan), RATE), indexed)),
        (
            "none: no such folder",
            lambda: amg.index([tmp_path / "none"], tmp_path / "new"),
        ),
    ):
        with pytest.raises(InputError, match=match):
            call()
    assert (tmp_path / "other" / "letter.txt").read_text() == "mine"


def test_what_other_code_has_made_is_told_and_can_be_kept(music, tmp_path, monkeypatch, capsys):
    folder, earlier = tmp_path / "catalogue", models.load()
    earlier.about["code"]["amg.embedding.crops"] = "another"
    indexing.index([music], folder, earlier, workers=1)
    told = "was made by other code (amg.embedding.crops changed)"
    with pytest.raises(InputError, match=re.escape(told)):
        indexing.index([music], folder, workers=1)
    excerpt = tune(0)[: 8 * RATE], RATE
    assert not capsys.readouterr().err
    assert amg.identify(excerpt, folder).matches and told in capsys.readouterr().err
    monkeypatch.setenv(provenance.KEEP, "1")
    assert indexing.index([music], folder, workers=1).unchanged == 4
    assert f"{told}; kept." in capsys.readouterr().out
    on_disk = store.Store(folder)
    assert on_disk.about["code"] == earlier.about["code"]
    with on_disk.tables:  # as it was before a catalogue knew its code
        on_disk.tables.execute("DELETE FROM about WHERE name = 'code'")
    monkeypatch.delenv(provenance.KEEP)
    with pytest.raises(InputError, match="was made by other code .it does not tell which.; index"):
        indexing.index([music], folder, workers=1)


def test_tables_of_another_kind_are_refused(music, indexed, tmp_path):
    shutil.copytree(indexed, tmp_path / "catalogue")
    with sqlite3.connect(tmp_path / "catalogue" / store.DATABASE) as tables:
        tables.execute("ALTER TABLE places ADD COLUMN album TEXT")
    for call in (Catalogue.load, lambda folder: indexing.index([music], folder)):
        with pytest.raises(
            InputError, match="is of another version of amg, with other tables; use"
        ):
            call(tmp_path / "catalogue")


def test_damaged_arrays_are_refused(music, tmp_path):
    indexing.index([music], tmp_path / "catalogue", workers=1)
    frames, _ = store.Store(tmp_path / "catalogue").files()
    with frames.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(InputError, match="is damaged"):
        Catalogue.load(tmp_path / "catalogue")


def test_vectors_are_the_same_of_all_songs_at_once(indexed):
    one_by_one = Catalogue.load(indexed)
    at_once = Catalogue.of(one_by_one.sequences.songs(), models.load())
    assert np.array_equal(at_once.vectors, one_by_one.vectors)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=5))
def test_segments_hold_every_frame(lengths):
    bounds = np.cumsum([0, *lengths])
    segments = models.load().segments(search.Sequences(np.zeros((bounds[-1], 128)), bounds))
    held = np.concatenate(
        [
            np.arange(start, min(start + segments.length, bounds[song + 1]))
            for start, song in zip(segments.start, segments.song)
        ]
    )
    assert np.array_equal(np.unique(held), np.arange(bounds[-1]))
    assert (segments.start >= bounds[segments.song]).all() and (np.diff(segments.start) > 0).all()


@pytest.fixture(scope="module")
def overlapping():
    """Songs whose last segment overlaps the one before it; queries, and for each the score of every
    start of one song."""
    rng = np.random.default_rng(0)
    songs = [unit_rows(rng, n, 128) for n in (7, 19, 20, 45, 60)]
    catalogue = Catalogue.of(songs, models.load())
    bounds, frames, asked = catalogue.sequences.bounds, catalogue.sequences.frames, []
    for length in (3, 9, 19):
        query = unit_rows(rng, length, 128)
        starts = [at for low, high in pairwise(bounds) for at in range(low, high - length + 1)]
        scores = {at: float(np.mean(np.sum(query * frames[at : at + length], 1))) for at in starts}
        asked.append((query, scores))
    return catalogue, asked


def second_stage(catalogue, query):
    """The second stage over all segments: places and their scores, best first."""
    everything = np.arange(len(catalogue.vectors))[None]
    places, scores = search.two_stage(
        query[None], everything, catalogue.segments, catalogue.sequences
    )
    return places[0].tolist(), scores[0].tolist()


def test_no_start_is_missed_or_of_another_song(overlapping):
    """The second stage is exhaustive search."""
    catalogue, asked = overlapping
    for query, exact in asked:
        places, scores = second_stage(catalogue, query)
        assert scores == pytest.approx([exact[at] for at in places], abs=1e-6)
        distinct = list(dict.fromkeys(places))
        assert len(distinct) >= 5
        assert distinct == sorted(exact, key=exact.get, reverse=True)[: len(distinct)]


def test_no_start_is_answered_twice(overlapping):
    catalogue, asked = overlapping
    for query, _ in asked:
        places, _ = second_stage(catalogue, query)
        assert len(set(places)) == len(places) == 10


@pytest.mark.parametrize("duration_max", [5, 10, 15, 30])
def test_windows_hold_every_frame(duration_max):
    """A window is as long as a segment, or as the query if that is shorter."""
    for n_frames in range(1, 200):
        length = min(crops.segment_frames(duration_max), n_frames)
        found = windows.begins(n_frames, length)
        assert sorted({at + i for at in found for i in range(length)}) == list(range(n_frames))
        assert found == sorted(set(found))


def test_what_is_shorter_than_a_window_has_none():
    assert windows.begins(8, 9) == [] and windows.begins(9, 9) == [0]


def test_chance_is_fitted():
    """Scores of the law that is assumed give its numbers back, and false accepts as foretold."""
    rng, n_frames, middle, rate = np.random.default_rng(0), 10**5, -0.3, 12.0
    u = middle + (np.log(n_frames) + rng.gumbel(size=200000)) / rate
    found = calibration.fit(u, n_frames)
    assert np.allclose(found, (middle, rate), rtol=0.03)
    for n in (n_frames, 10 * n_frames):
        u = middle + (np.log(n) + rng.gumbel(size=200000)) / rate
        accepted = significance.law(u, n, *found) <= 0.01
        assert 0.008 < accepted.mean() < 0.012


@pytest.mark.parametrize("method", windows.METHODS)
def test_the_score_that_would_be_enough_has_the_chance_that_is_allowed(method):
    """In whatever catalogue, and of however many windows."""
    score, ordinary, chances = np.array([0.2, 0.4, 0.7, 0.9]), 0.3, significance.load(models.load())
    for length, n_frames, n_windows in ((3, 10**5, 1), (12, 10**6, 2), (19, 10**7, 8)):
        law = {"ordinary": ordinary, "length": length, "n_frames": n_frames, "method": method}
        chance = n_windows * chances.expected(score, **law)
        enough = chances.enough(score, chance, length, method)
        assert enough == pytest.approx(enough[0]) and 0 < enough[0] < 1
        allowed = n_windows * chances.expected(enough, **law)
        assert allowed == pytest.approx(significance.ALLOWED)


def test_ordinary_against_a_naive_loop():
    rng = np.random.default_rng(0)
    songs, window = unit_rows(rng, 15, 12, 128), unit_rows(rng, 1, 4, 128)
    scores = [
        max(np.sum(window[0] * song[start : start + 4]) / 4 for start in range(9)) for song in songs
    ]
    assert significance.ordinary(window, songs) == pytest.approx(
        np.mean(sorted(scores)[-significance.ALIKE :]), abs=1e-6
    )


def test_many_threads_have_the_answers_of_one(indexed):
    from concurrent.futures import ThreadPoolExecutor

    catalogue = Catalogue.load(indexed)
    clips = [
        (tune(number % 4)[start * RATE : (start + 6) * RATE], RATE)
        for number in range(4)
        for start in (0, 3, 9)
    ]
    alone = [amg.identify(clip, catalogue) for clip in clips]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda clip: amg.identify(clip, catalogue), clips)) == alone
