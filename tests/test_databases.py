"""Databases: split trees, songs and queries that belong together, published start positions."""

import json
import os
import pickle

import numpy as np
import pytest
import soundfile
from conftest import unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from amg import provenance
from amg.check import InputError
from amg.fingerprint import features
from amg.retrieval import databases, published
from amg.sound import clips

FOLDERS = (databases.DUMMY, databases.TEST, databases.QUERY)


def write(root, names=("0", "1"), n_frames=(59, 59), folders=FOLDERS, seed=0):
    """A database tree as unpacked: the same names in every folder."""
    rng = np.random.default_rng(seed)
    for folder in folders:
        for name, n in zip(names, n_frames):
            features.save(root / folder / f"{name}.npy", unit_rows(rng, n, 128))


def split(root, duration_max=10):
    return [
        databases.split_database(
            root / whole, databases.split_folder(root / whole, duration_max), 2 * duration_max - 1
        )
        for whole in FOLDERS[:2]
    ]


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


def test_split_as_the_published_readme_calls_it(home):
    write(home / "database", folders=FOLDERS[:1])
    whole = "database/dummy_db/fma_part"
    assert databases.split_database(whole, f"{whole}_10s", 19) == 6
    assert len(list((home / "database/dummy_db/fma_part_10s").glob("*.npy"))) == 6
    with pytest.raises(InputError, match="max_len is 0"):
        databases.split_database("database/dummy_db/fma_part", "database/x", 0)
    with pytest.raises(InputError, match="run notebook 01_data_prep first"):
        databases.split_database("database/none", "database/x", 19)


def test_a_split_is_continued_reused_and_never_displaced(tmp_path):
    write(tmp_path)
    split(tmp_path)
    cut = tmp_path / databases.split_folder(tmp_path / databases.TEST, 10)
    first, file = cut.resolve(), cut / "0_1.npy"
    made_at = file.stat().st_mtime_ns
    record = provenance.record_of(first)
    record.write_text(json.dumps({**json.loads(record.read_text()), "finished": False}))
    (cut / "0_2.npy").unlink()  # as if interrupted
    with pytest.raises(InputError, match="not finished; run notebook 02_split again"):
        databases.load_segments(tmp_path, databases.load(tmp_path)[0], 10)
    split(tmp_path)
    assert file.stat().st_mtime_ns == made_at and (cut / "0_2.npy").exists()
    song = features.load(tmp_path / databases.TEST / "0.npy")
    features.save(tmp_path / databases.TEST / "0.npy", song[::-1])
    split(tmp_path)
    assert cut.resolve() != first and (first / "0_1.npy").stat().st_mtime_ns == made_at
    assert np.array_equal(features.load(cut / "0_1.npy"), song[::-1][19:38])


@pytest.mark.parametrize("name, n_frames", [("mine", 9), ("a_0", 9), ("a_2", 9)])
def test_an_unpacked_split_of_something_else_is_left_alone(tmp_path, name, n_frames):
    write(tmp_path, "a", [20], ["whole"])
    features.save(tmp_path / f"cut/{name}.npy", unit_rows(np.random.default_rng(1), n_frames, 128))
    before = (tmp_path / f"cut/{name}.npy").read_bytes()
    with pytest.raises(InputError, match=f"{name}.npy is no segment of the songs beside"):
        databases.split_database(tmp_path / "whole", tmp_path / "cut", 9)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [f"{name}.npy"]
    assert (tmp_path / f"cut/{name}.npy").read_bytes() == before


def test_an_unpacked_split_is_verified_and_never_written_into(tmp_path):
    write(tmp_path, "a", [20], ["whole"])
    song = features.load(tmp_path / "whole/a.npy")
    features.save(tmp_path / "cut/a_1.npy", song[9:18])
    with pytest.raises(InputError, match="holds 1 of 2 segments of the songs beside it; unpack"):
        databases.split_database(tmp_path / "whole", tmp_path / "cut", 9)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["a_1.npy"]
    features.save(tmp_path / "cut/a_0.npy", song[:9])
    assert databases.split_database(tmp_path / "whole", tmp_path / "cut", 9) == 2
    assert {path.name for path in tmp_path.iterdir()} == {
        "whole",
        "cut",
    }  # no record, no other folder


@pytest.mark.parametrize(
    "names",
    [("song", "song2", "song10"), ("a", "a_0", "a_1"), ("1", "01", "001"), ("x²", "x2", "x")],
)
def test_segments_are_known_by_name_whatever_it_is(tmp_path, names):
    write(tmp_path, names, (59, 40, 20))
    assert split(tmp_path) == [3 + 2 + 1] * 2
    database, queries = databases.load(tmp_path)
    assert sorted(database.names) == sorted(2 * names) and len(queries) == database.first_test == 3
    segments = databases.load_segments(tmp_path, database, 10)
    assert len(segments.start) == 12 and np.bincount(segments.song).tolist().count(3) == 2


def test_segments_of_other_songs_are_refused(tmp_path):
    write(tmp_path)
    split(tmp_path)
    database, _ = databases.load(tmp_path)
    assert len(databases.load_segments(tmp_path, database, 10).start) == 12
    with pytest.raises(InputError, match="fma_part_5s is missing; run notebook 02_split first"):
        databases.load_segments(tmp_path, database, 5)
    cut = databases.split_folder(tmp_path / databases.TEST, 10)
    features.save(cut / "0_2.npy", features.load(cut / "0_1.npy"))
    with pytest.raises(InputError, match="0_2.npy is no segment of the songs"):
        databases.load_segments(tmp_path, database, 10)
    (cut / "0_2.npy").rename(cut / "7_2.npy")
    with pytest.raises(InputError, match="7_2.npy is no segment of the songs"):
        databases.load_segments(tmp_path, database, 10)


def test_songs_shorter_than_a_segment(tmp_path):
    """Some of them have none and are left out; if all test songs are, a sentence says so."""
    write(tmp_path, n_frames=(59, 10))
    assert split(tmp_path) == [3, 3]
    database, _ = databases.load(tmp_path)
    assert databases.load_segments(tmp_path, database, 10).song.tolist() == [0, 0, 0, 2, 2, 2]
    write(tmp_path, n_frames=(18, 10), folders=FOLDERS[1:])
    assert split(tmp_path) == [3, 0]
    with pytest.raises(InputError, match="no test song in .* is as long as a segment of 19 frames"):
        databases.load_segments(tmp_path, databases.load(tmp_path)[0], 10)


def test_queries_must_match_their_songs(tmp_path):
    write(tmp_path)
    (tmp_path / databases.QUERY / "1.npy").rename(tmp_path / databases.QUERY / "2.npy")
    with pytest.raises(InputError, match="same names"):
        databases.load(tmp_path)
    with pytest.raises(InputError, match="none is missing; run notebook 01_data_prep first"):
        databases.load(tmp_path / "none")


def test_what_an_unpacked_database_tells(tmp_path):
    write(tmp_path)
    database, queries = databases.load(tmp_path)
    assert database.clips is None and database.fingerprinter is None and database.first_test == 2
    assert database.names == database.recordings == ["0", "1", "0", "1"] and len(queries) == 2
    for path in tmp_path.rglob("*.npy"):  # content decides, as where a copy has other dates
        os.utime(path, (0, 0))
    assert databases.load(tmp_path)[0].identity == database.identity
    features.save(tmp_path / databases.QUERY / "1.npy", queries[0])
    os.utime(tmp_path / databases.QUERY / "1.npy", ns=(1, 1))  # replaced by an older file
    assert databases.load(tmp_path)[0].identity != database.identity


def made_by(fingerprinter, root, folder):
    recipe = provenance.Recipe("fingerprints", {}, {"fingerprinter": fingerprinter})
    with provenance.making(root / folder, recipe) as place:
        write(place.folder, folders=["."], seed=len(folder))


def test_fingerprints_of_two_fingerprinters_are_refused(tmp_path):
    for folder in FOLDERS:
        (tmp_path / folder).parent.mkdir(exist_ok=True, parents=True)
        made_by("abc", tmp_path, folder)
    database, _ = databases.load(tmp_path)
    assert database.fingerprinter == "abc"
    (tmp_path / "conditions").mkdir()
    made_by("abc", tmp_path, "conditions/clean")
    assert len(databases.load_queries(tmp_path / "conditions/clean", database)) == 2
    made_by("other", tmp_path, "conditions/clean")
    with pytest.raises(InputError, match="another fingerprinter than the database"):
        databases.load_queries(tmp_path / "conditions/clean", database)
    made_by("other", tmp_path, databases.QUERY)
    with pytest.raises(
        InputError, match="different fingerprinters; make songs and queries with one"
    ):
        databases.load(tmp_path)


def test_songs_are_in_the_order_of_their_names_as_published(tmp_path):
    write(tmp_path, ("2", "10", "1"), (59, 50, 40))
    database, queries = databases.load(tmp_path)
    assert database.names == ["1", "10", "2"] * 2 and list(map(len, queries)) == [40, 50, 59]


def test_everything_odd_in_a_database_is_listed_at_once(tmp_path):
    write(tmp_path, ("0", "1", "2", "3", "4"), (59,) * 5)
    dummies, tests, queries = (tmp_path / folder for folder in FOLDERS)
    (dummies / "0.npy").write_bytes(b"damaged")
    features.save(dummies / "1.npy", unit_rows(np.random.default_rng(0), 59, 64))
    np.save(tests / "2.npy", np.zeros((59, 128), np.float32))
    features.save(queries / "3.npy", unit_rows(np.random.default_rng(0), 61, 128))
    features.save(tests / "4.npy", features.load(dummies / "4.npy"))
    with pytest.raises(InputError) as error:
        databases.load(tmp_path)
    sentences = str(error.value).splitlines()
    for sentence, words in zip(
        sentences,
        (
            "fma_part/0.npy is not a readable .npy array",
            "fma_part/1.npy is 64, but must be one of: 128",
            "test_30s/2.npy has rows of zeros",
            "query/3.npy holds 61 fingerprints and its song 59",
            "test_30s/4.npy and ",
        ),
        strict=True,
    ):
        assert words in sentence


def test_an_unfinished_database_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with provenance.making(
            tmp_path / "db", provenance.Recipe("database", {}, {"fingerprinter": "a"})
        ) as place:
            write(place.folder)
            raise KeyboardInterrupt
    with pytest.raises(InputError, match="not finished; run notebook 01_data_prep again"):
        databases.load(tmp_path / "db")


def test_songs_of_another_dimension_are_refused(tmp_path):
    write(tmp_path)
    features.save(tmp_path / databases.TEST / "1.npy", unit_rows(np.random.default_rng(0), 59, 64))
    with pytest.raises(InputError, match="test_30s/1.npy is 64, but must be one of: 128"):
        databases.load(tmp_path)


def test_a_songs_csv_of_something_else_is_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "songs.csv").write_text("artist,title\na,b\n")
    with pytest.raises(InputError, match="must list the songs beside it"):
        databases.load(tmp_path)


def test_songs_csv_tells_what_was_recorded(home):
    """Names of digits stay texts; a place of the database is heard; other songs are refused."""
    write(home / "db", ("00", "01"))
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 8000 * 40).astype(np.float32)
    soundfile.write(home / "a.flac", sound, 8000)
    found = [
        clips.Clip(f"a@{n}", f"r{n // 2}", "x", "", "a.flac", 1.0 + n, 30.0, -9.0, 0.5, "", role)
        for n, role in enumerate(("dummy", "dummy", "test", "test"))
    ]
    table = clips.to_table(found).assign(name=["00", "01", "00", "01"])
    table.to_csv(home / "db/songs.csv", index=False)
    database, _ = databases.load(home / "db")
    assert database.clips == found and database.recordings == ["r0", "r0", "r1", "r1"]
    heard = database.hear(
        59 + 4, 3
    )  # frame 4 of the second song, which begins at 2 s: 2 s from 4 s on
    np.testing.assert_allclose(heard, sound[8000 * 4 : 8000 * 6], atol=1e-4)
    table[:3].to_csv(home / "db/songs.csv", index=False)
    with pytest.raises(InputError, match="must list the songs beside it"):
        databases.load(home / "db")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"no pickle", "no pickle of start positions"),
        (pickle.dumps({5: {9: [0.5]}}), "no pickle of start positions"),
        (pickle.dumps({5: {9: [1]}}), "it holds something else"),
        (pickle.dumps({d: {9: []} for d in (5, 10, 15, 30)}), "no pickle of start positions"),
        (pickle.dumps({d: {} for d in (5, 10, 15, 30)}), "no pickle of start positions"),
        (pickle.dumps({d: {0: [1]} for d in (5, 10, 15, 30)}), "no pickle of start positions"),
        (pickle.dumps({d: {9: [-1]} for d in (5, 10, 15, 30)}), "no pickle of start positions"),
        (pickle.dumps([1]), "no pickle of start positions"),
        (pickle.dumps(np.arange(3)), "it asks for numpy"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "no pickle of start positions"),
    ],
)
def test_other_pickles_than_test_ids_are_refused(tmp_path, content, message):
    (tmp_path / "ids.pkl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        published.load_test_ids(tmp_path / "ids.pkl")
