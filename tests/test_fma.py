"""The corpus fma: a small tree of real MP3 files, laid out as FMA's, with its table of metadata."""

import numpy as np
import pandas as pd
import papermill
import pytest
import soundfile
from conftest import CHECKOUT

from amg import paths
from amg.check import InputError
from amg.report.running import reads
from amg.retrieval import databases
from amg.sound import clips, corpora, fma

RATE = 22050
HEADINGS = [",album,artist,artist,track", ",title,id,name,title", "track_id,,,,"]
TRACKS = {track: track // 2 for track in range(2, 402)}  # of 201 artists


def name_of(track):
    return f"{track // 1000:03d}/{track:06d}.mp3"


def write_table(folder, artist_of, headings=HEADINGS):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f'{t},"One, two\nthree",{a},"A ""B"" C",Unnamed' for t, a in artist_of.items()]
    (folder / "tracks.csv").write_text("\n".join([*headings, *rows]) + "\n")


def write_track(tree, track, seconds=29.98):
    """Notes of the track's own."""
    rng, file = np.random.default_rng(track), tree / name_of(track)
    file.parent.mkdir(parents=True, exist_ok=True)
    notes = np.repeat(rng.uniform(300, 3000, 1000), RATE // 3)[: round(seconds * RATE)]
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * np.cumsum(notes) / RATE), RATE)
    return file


@pytest.fixture
def tree(tmp_path):
    """A tree of one track, beside its table."""
    write_table(tmp_path / "fma/fma_metadata", TRACKS)
    write_track(tmp_path / "fma/fma_large", 2)
    return tmp_path / "fma/fma_large"


def by_role(tree):
    """Role -> numbers of all its tracks."""
    of = fma.roles(tree)
    return {role: sorted(of.index[of == role]) for role in fma.SHARES}


def test_no_artist_has_two_roles_and_missing_files_change_none(home, tree):
    of_role = by_role(tree)
    assert {role: len(of) for role, of in of_role.items()} == {
        "test": 4,
        "valid": 4,
        "dummy": 44,
        "train": 348,
    }
    artists = {role: {TRACKS[track] for track in of} for role, of in of_role.items()}
    assert sum(map(len, artists.values())) == len(set(TRACKS.values()))
    (tree / name_of(2)).unlink()
    write_track(tree, 401)
    assert by_role(tree) == of_role
    (tree.parent / "fma_metadata").rename(tree / "fma_metadata")  # inside, as well
    assert by_role(tree) == of_role


def test_what_a_tree_holds(home, tree, capsys):
    of_role = by_role(tree)
    (tree / name_of(2)).unlink()
    long, first, again, broken, short = of_role["train"][:5]
    write_track(tree, long, 75)
    source = write_track(tree, first)
    (tree / name_of(again)).parent.mkdir(exist_ok=True)
    (tree / name_of(again)).write_bytes(source.read_bytes())
    (tree / name_of(broken)).write_bytes(source.read_bytes()[:40])
    write_track(tree, short, 10)
    write_track(tree, 9999)
    write_track(tree, of_role["test"][0], 75)
    write_track(tree, of_role["dummy"][0], 75)
    sizes = {"train": 3, "test": None, "dummy": 1}
    chosen, refused = corpora.choose("fma", sizes, 0, 1, str(tree))
    assert "389 tracks of fma_metadata/tracks.csv have no file in" in capsys.readouterr().out
    reasons = {clip.piece: clip.refused for clip in refused}
    assert reasons.keys() == {name_of(track) for track in (again, broken, short, 9999)}
    assert reasons[name_of(again)] == f"same samples as {name_of(first)}"
    assert reasons[name_of(short)].startswith("lasts 10.0")
    assert reasons[name_of(9999)] == "is not in fma_metadata/tracks.csv"
    assert reasons[name_of(broken)] and str(tree) not in reasons[name_of(broken)]
    assert [clip.start_s for clip in chosen["train"]] == [0.3, 0.3, 30.3]  # second ones last
    assert chosen["train"][2].recording == name_of(long)
    assert {clip.recording for clip in chosen["train"][:2]} == {name_of(long), name_of(first)}
    assert {clip.seconds for role in ("train", "test") for clip in chosen[role]} == {30}
    [whole] = chosen["dummy"]
    assert whole.seconds == pytest.approx(75, abs=0.1)
    assert len(chosen["test"][0].read(clips.MARGIN_S)) == 30.6 * 8000
    with pytest.raises(InputError, match="training 3 of 4; lower n_train, or add music"):
        corpora.choose("fma", {"train": 4}, 0, 1, str(tree))


@pytest.mark.parametrize(
    "seconds, n_clips", [(29.95, 1), (30.6, 1), (60.59, 1), (60.6, 2), (99, 2)]
)
def test_clips_are_cut_from_the_middle(seconds, n_clips):
    sound = np.arange(round(seconds * 8000), dtype=np.float32)
    cut = np.concatenate(fma.middle(np.array_split(sound, 7), 2))
    assert len(cut) == round((n_clips * 30 + 0.6) * 8000)
    if seconds > 30.6:
        assert abs((cut[0] - sound[0]) - (sound[-1] - cut[-1])) <= 1


@pytest.mark.parametrize(
    "spoil, said",
    [
        (
            lambda tree: (tree.parent / "fma_metadata/tracks.csv").unlink(),
            "no table of tracks .looked for: .*fma_large/fma_metadata/.* and .*fma/fma_metadata/tr",
        ),
        (lambda tree: (tree / "000").rename(tree / "music"), "holds no tracks, as 000/000002.mp3"),
        (
            lambda tree: (tree.parent / "fma_metadata/tracks.csv").write_bytes(b"\x89PNG\xff"),
            "is no table of FMA's tracks",
        ),
        (
            lambda tree: write_table(
                tree.parent / "fma_metadata", TRACKS, ["track_id,album,artist,name,title"]
            ),
            "is no table of FMA's tracks",
        ),
        (
            lambda tree: write_table(tree.parent / "fma_metadata", {2: "nobody"}),
            "is no table of FMA's tracks",
        ),
    ],
    ids=[
        "no metadata",
        "no tracks",
        "no text",
        "one row of headings",
        "an artist without a number",
    ],
)
def test_what_is_no_data_set_is_refused(home, tree, spoil, said):
    spoil(tree)
    with pytest.raises(InputError, match=said) as refused:
        corpora.check_source("fma", str(tree))
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_from_files_to_tables(home, tree):
    """Notebooks 01 to 04."""
    of_role = by_role(tree)
    (tree / name_of(2)).unlink()
    for role, n in (("train", 4), ("valid", 1), ("test", 2), ("dummy", 3)):
        for track in of_role[role][:n]:
            write_track(tree, track)
    broken = name_of(of_role["train"][0])
    (tree / broken).write_bytes(b"ID3" + bytes(500))
    sizes = {"n_train": 3, "n_valid": 1, "n_test": 2, "n_dummy": 3, "n_versions": 2, "n_rooms": 2}
    of_set, report = {"train_set": "fma"}, {"report": "fma"}
    where = {"database": "database/fma", **report}
    given = {"corpus": "fma", "folder": str(tree), "workers": 1, **sizes}
    for notebook, parameters in (
        ("01_data_prep", given | of_set | where),
        ("02_split", where | {"query_frames": [5], "n_starts": 1, "durations": [10]}),
        ("03_train", of_set | report | {"epochs": 1, "batch_size": 4, "layers": 1, "n_valid": 1}),
        ("04_evaluate", of_set | where | {"durations": [10], "cost_frames": 5}),
    ):
        source = CHECKOUT / f"notebooks/{notebook}.ipynb"
        papermill.execute_notebook(
            source,
            home / "out.ipynb",
            parameters,
            kernel_name="python3",
            cwd=source.parent,
            progress_bar=False,
        )
    table = pd.read_csv(home / "reports/fma/tables/clips.csv")
    assert table.piece[table.refused.notna()].tolist() == [broken]
    assert table[table.refused.isna()].role.value_counts().to_dict() == {
        "train": 3,
        "dummy": 3,
        "test": 2,
        "valid": 1,
    }
    for role, of in table[table.refused.isna()].groupby("role"):
        assert {int(name[4:10]) for name in of.recording} <= set(of_role[role])
    assert len(list((home / "data/train/fma").glob("*.npy"))) == 8
    db, queries = databases.load(paths.resolve("database/fma"))
    assert db.first_test == 3 and len(queries) == 2 and set(db.recordings) <= set(table.recording)
    assert (home / "reports/fma/tables/split.csv").exists()
    rates = pd.read_csv(home / "reports/fma/tables/retrieval.csv")
    assert {"nafp", "mt", "mean"} <= set(rates.encoder) and (rates.n_queries == 2).all()


def test_a_changed_table_is_read_again(home, tree):
    read = reads.READS["01_data_prep"][1]({"corpus": "fma", "folder": str(tree)})
    assert [paths.resolve(place).resolve() for place in read] == [
        tree,
        tree.parent / "fma_metadata",
    ]
