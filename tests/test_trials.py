"""Trials: drawn once, whole inside what every method indexes, written down."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from amg import provenance
from amg.check import InputError
from amg.retrieval import databases, trials

SONGS = [unit_rows(np.random.default_rng(n), n, 128) for n in (40, 59, 59, 8)]


def make(
    root, songs=SONGS, query_frames=(1, 9), n_starts=4, seed=0, durations=(5, 10), identity="a"
):
    root.mkdir(exist_ok=True)
    database = databases.Database(**vars(databases.Database.of(songs, 1)) | {"identity": identity})
    drawn = trials.make(root, database, songs[1:], list(query_frames), n_starts, seed, durations)
    return drawn, database


def test_a_copy_that_followed_links_is_read_and_drawn_again(tmp_path):
    drawn, database = make(tmp_path / "db")
    make(tmp_path / "db", seed=1)
    drawn, _ = make(tmp_path / "db")
    shutil.copytree(tmp_path / "db", tmp_path / "copy")
    assert not any(path.is_symlink() for path in (tmp_path / "copy").rglob("*"))
    pd.testing.assert_frame_equal(trials.read(tmp_path / "copy", database), drawn)
    again, _ = make(tmp_path / "copy")
    pd.testing.assert_frame_equal(again, drawn)
    assert (tmp_path / "copy/trials.csv").is_symlink() and (tmp_path / "copy/trials").is_symlink()
    (tmp_path / "copy/trials.csv").unlink()
    (tmp_path / "copy/trials.csv").write_text("mine")
    with pytest.raises(InputError, match="was not made by this kit"):
        make(tmp_path / "copy")


@given(
    st.lists(st.integers(1, 130), min_size=1, max_size=5),
    st.lists(st.sampled_from([1, 3, 9, 19, 29, 59]), min_size=1, unique=True),
    st.integers(1, 9),
    st.integers(0, 5),
    st.lists(st.sampled_from([9, 19, 29, 59]), unique=True),
)
@settings(max_examples=60, deadline=None)
def test_trials_are_whole_in_every_segmentation(n_frames, lengths, n_starts, seed, segments):
    held = {song: min([n] + [n // s * s for s in segments]) for song, n in enumerate(n_frames)}
    n_places = {
        (song, length): max(held[song] - length + 1, 0) for song in held for length in lengths
    }
    if not any(n_places.values()):
        with pytest.raises(InputError, match="no query of"):
            trials.draw(n_frames, lengths, n_starts, seed, segments)
        return
    drawn = trials.draw(n_frames, lengths, n_starts, seed, segments)
    assert list(drawn) == trials.COLUMNS and not drawn.duplicated().any()
    for (song, length), places in n_places.items():
        start = drawn[(drawn.song == song) & (drawn.query_frames == length)].start
        assert len(start) == min(n_starts, places)
        assert (start >= 0).all() and (start + length <= held[song]).all()


def test_a_trial_depends_on_its_own_seed_song_and_length_alone():
    one = trials.draw([59, 59], [3, 9], 6, 0, [9])
    other = trials.draw([59, 59, 30], [9], 6, 0, [9])
    both = one.merge(other)
    assert len(both) == (one.query_frames == 9).sum() == 12
    assert one[one.song == 0].start.tolist() != one[one.song == 1].start.tolist()
    assert len(one.merge(trials.draw([59, 59], [3, 9], 6, 1, [9]))) < len(one)


def test_starts_are_spread_over_all_places():
    counts = np.bincount(np.concatenate([trials.starts(20, 5, 4, 0, song) for song in range(2000)]))
    assert len(counts) == 16 and (abs(counts - 500) < 120).all()  # five standard deviations


def test_trials_are_drawn_once_read_again_and_never_displaced(tmp_path):
    drawn, database = make(tmp_path / "db")
    file = (tmp_path / "db/trials.csv").resolve()
    before = file.stat().st_mtime_ns
    assert trials.read(tmp_path / "db", database, [5]).equals(drawn)
    some = trials.read(tmp_path / "db", database, [5], [9])
    assert some.equals(drawn[drawn.query_frames == 9].reset_index(drop=True)) and len(some)
    assert drawn.recording.tolist() == [str(1 + song) for song in drawn.song]
    assert set(drawn.song) == {0, 1}  # the last song is shorter than a segment
    other, _ = make(tmp_path / "db", seed=1)
    assert not other.equals(drawn) and trials.read(tmp_path / "db", database).equals(other)
    assert make(tmp_path / "db")[0].equals(drawn) and trials.read(tmp_path / "db", database).equals(
        drawn
    )
    assert (tmp_path / "db/trials.csv").resolve() == file and file.stat().st_mtime_ns == before
    record = json.loads(provenance.record_of(file.parent).read_text())
    assert record["kind"] == "trials" and record["finished"] and record["inputs"] == {"songs": "a"}


def test_an_interrupted_or_damaged_draw_is_drawn_again(tmp_path):
    drawn, database = make(tmp_path / "db")
    file = (tmp_path / "db/trials.csv").resolve()
    file.unlink()
    with pytest.raises(
        InputError, match="trials.csv is missing, or .*; run notebook 02_split again"
    ):
        trials.read(tmp_path / "db", database)
    assert make(tmp_path / "db")[0].equals(drawn)
    note = provenance.record_of(file.parent)
    note.write_text(note.read_text().replace("true", "false"))
    with pytest.raises(InputError, match="not finished; run notebook 02_split again"):
        trials.read(tmp_path / "db", database)
    assert make(tmp_path / "db")[0].equals(drawn) and trials.read(tmp_path / "db", database).equals(
        drawn
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"query_frames": ()}, "query_frames is"),
        ({"query_frames": (0,)}, "an item of query_frames is 0"),
        ({"n_starts": 0}, "n_starts is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"query_frames": (60,)}, "no query of 60 frames or more"),
    ],
)
def test_bad_trials_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        make(tmp_path / "db", **change)


def test_other_songs_durations_and_files_are_refused(tmp_path):
    _, database = make(tmp_path / "db")
    with pytest.raises(InputError, match=r"durations \[5, 10\], without \[15\]"):
        trials.read(tmp_path / "db", database, [10, 15])
    message = "item of query_frames is 4, but must be one of: 1, 9 (the lengths that notebook 02"
    with pytest.raises(InputError, match=re.escape(message)):
        trials.read(tmp_path / "db", database, [], [9, 4])
    other = databases.Database(**vars(database) | {"identity": "b"})
    with pytest.raises(InputError, match="drawn for other songs"):
        trials.read(tmp_path / "db", other)
    (tmp_path / "none/trials").mkdir(parents=True)  # from elsewhere
    for root in (tmp_path / "none", tmp_path / "nothing"):
        with pytest.raises(InputError, match="is missing.*run notebook 02_split"):
            trials.read(root, database)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/trials.csv").write_text("mine")
    with pytest.raises(InputError, match="was not made by this kit"):
        make(tmp_path / "mine")
    assert (tmp_path / "mine/trials.csv").read_text() == "mine"


def test_trials_at_given_starts():
    songs = [unit_rows(np.random.default_rng(0), 12, 128)] * 2
    database = databases.Database.of(songs)
    drawn = trials.at(database, songs, {5: [0, 7], 9: [3]})
    assert drawn[trials.COLUMNS].values.tolist() == [
        [0, 0, 5],
        [0, 7, 5],
        [1, 0, 5],
        [1, 7, 5],
        [0, 3, 9],
        [1, 3, 9],
    ]
    for queries in (songs, [np.tile(song, (2, 1)) for song in songs]):  # longer than their songs
        with pytest.raises(InputError, match="0 to 8 are asked for with queries of 5 frames"):
            trials.at(database, queries, {5: [0, 8]})
