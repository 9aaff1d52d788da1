"""The plan of a profile: its arithmetic against naive sums, what it says of archives, and that it
writes nothing."""

import math

import numpy as np
import pytest
from conftest import unit_rows, write_training_set

from amg.__main__ import main
from amg.embedding import crops
from amg.fingerprint import features
from amg.report.running import forecast, pipeline, plan
from amg.retrieval import archives, databases, trials

SWEEP = """# Why?
profile: smoke
all: {duration_max: 10, query_frames: [5], batch_size: 6}
seeds: [0]
"""


@pytest.fixture
def unmeasured(home, monkeypatch):
    """A workspace in which any unit of work takes half a second."""
    monkeypatch.setattr(forecast, "measure", lambda kinds, *_: dict.fromkeys(kinds, 0.5))
    return home


def works_of(profile):
    """Step -> name of a kind of work -> amount; and the sizes."""
    steps = pipeline.load_profile(profile)
    sizes, *_ = forecast.sizes_of(steps)
    works, amounts = plan.works_of(steps, sizes), {}
    for label, of_step in works.items():
        amounts[label] = dict.fromkeys((" ".join(kind[:2]) for kind, _ in of_step), 0)
        for kind, n in of_step:
            amounts[label][" ".join(kind[:2])] += n
    return amounts, sizes


def test_the_work_of_the_smoke_profile_is_that_of_loops(home):
    """Counted one by one."""
    of, sizes = works_of("smoke")
    songs, versions, tests, dummies = 8 + 2, 3, 4, 6
    files = [(song, version) for song in range(songs) for version in range(versions)]
    assert sizes.n_files == len(files) and sizes.n_frames == (tests + dummies) * 59
    assert of["01_data_prep"] == {
        "start": 1,
        "decode": 0,
        "degrade": sum(version > 0 for _, version in files) + tests,
        "fingerprint": songs + tests + dummies,
        "render": songs + tests + dummies + 2 * 16,
        "noise or room": 240 + 80 + 2 * 3,
    }
    updates = 2 * (1 + 1 / 9)  # epochs of one batch; of 24 crops 8 are originals, a third forward
    assert of["03_train-5"] == {"start": 1, "update mt": pytest.approx(updates)}
    n_trials = len(trials.draw([59] * tests, (1, 5, 19), 2, 0, [9, 19, 29, 59]))
    assert sizes.n_trials == n_trials == 4 * 3 * 2
    asked = {"search AMG": 2 * 4 * 2 * n_trials, "search NAFP": n_trials * (2 + 2 * 0.5)}
    assert of["04_evaluate"] == {"start": 1, **asked}  # durations, encoders, protocols
    assert of["05_ablations"]["update mt"] == pytest.approx(updates)
    assert not of.keys() & {"00_fingerprinter", "06_robustness", "08_scale", "10_explore"}


@pytest.mark.parametrize(
    "budget, kind, n",
    [
        ("{updates: 6}", "update mt", 6),
        ("{crops: 30}", "update mt", 4),  # two epochs and a half
        ("{epochs: 5, patience: 2}", "update mt", 10),
        ("{patience: 2, epochs: 5}", "update mt", 10),
        ("{}", "update mt", 4),  # two epochs by its profile
        ("{minutes: 3}", "minute", 3),
    ],
)
def test_a_sweep_is_planned_by_its_own_budget_and_sizes(home, tmp_path, budget, kind, n):
    """Six songs with one version: an epoch is two updates of six crops."""
    text = f"""{SWEEP}budget: {budget}
cells: {{a: {{songs: 6, versions: 1}}, b: {{encoder: mean}}}}
"""
    (tmp_path / "mine.yaml").write_text(text)
    steps = pipeline.parse_profile("p", f"05_ablations: {{sweep: {tmp_path}/mine.yaml}}")
    (found,) = plan.works_of(steps, plan.Sizes(8, 2, 3, 4, 6, n_starts=2)).values()
    amounts = [(" ".join(kind[:2]), n) for kind, n in found]
    evaluated = [("start", 1), ("search AMG", 4 * 1 * 2)]
    trained = [("start", 1), (kind, pytest.approx(n * (1 + (kind != "minute") / 6)))]
    assert amounts == [("start", 1), *evaluated, *trained, *evaluated]


def test_an_encoder_of_a_sweep_is_timed_with_its_own_settings(home, tmp_path, rivals):
    """A dimension for which class centres can only begin at random."""
    learnt = "{own_module: rivals, encoder: learnt_lift, bits: 64, centres: random}"
    (tmp_path / "mine.yaml").write_text(f"{SWEEP}cells: {{learnt: {learnt}}}\n")
    steps = pipeline.parse_profile("p", f"05_ablations: {{sweep: {tmp_path}/mine.yaml}}")
    (found,) = plan.works_of(steps, plan.Sizes(8, 2, 3, 4, 6, n_starts=2)).values()
    (kind,) = (kind for kind, _ in found if kind[0] == "update")
    assert kind[:3] == ("update", "learnt_lift", (("bits", 64), ("centres", "random")))
    assert forecast.measure([kind], 1)[kind] > 0


def test_a_table_sums_naively_and_workers_share_what_they_can():
    works = {"a": [(("start",), 1), (("decode",), 6)], "b": [(("decode",), 0), (("start",), 2)]}
    found = plan.table(works, {("start",): 3.0, ("decode",): 2.0}, 4)
    rows = [("a", "start", 1, 3, 3), ("a", "decode", 6, 12, 3), ("b", "start", 2, 6, 6)]
    assert list(found.itertuples(index=False, name=None)) == rows
    hours = 21 / 3600, 15 / 3600, 11 / 3600, 9 / 3600
    assert [plan.workers_for(one, found) for one in hours] == [1, 2, 6, None]


def test_the_size_of_the_paper(home):
    of, sizes = works_of("fma")
    assert sizes.n_files == 100_100 * 10 and sizes.n_test == 500
    assert sizes.n_frames == 500 * 59 + 10_000 * 539
    assert of["03_train-10"]["update mt"] == 50 * math.ceil(1_000_000 / 640) * (1 + 2000 / 3e6)
    space = plan.space(sizes, ["01_data_prep", "03_train"], 2, 1e9)
    assert space["disk", "training set, packed"] == 1_001_000 * 59 * 128 * 4
    assert space["memory", "03_train"] == 1e9 + 5 * 2000 * 100 * 10
    assert "sound (8 kHz FLAC)" not in plan.space(sizes, ["03_train"], 2, 1e9)["disk"]


def test_a_plan_is_printed_and_nothing_is_written(unmeasured, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["amg", "plan", "open_music", "--hours", "1e5"])
    main()
    said = capsys.readouterr().out
    assert "for 100000 h: workers: 1" in said and "memory  01_data_prep" in said
    assert "not counted: 08_scale; it says of itself: 80 minutes on `open_music`" in said
    assert "assumed: 5000 MB" in said and list(unmeasured.iterdir()) == []


def test_the_archives_are_looked_at_and_the_cost_of_the_larger_one_is_told(
    unmeasured, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["amg", "plan", "published"])
    main()
    said = capsys.readouterr().out
    assert "data/train/data-1k holds no fingerprints" in said and "database is missing" in said
    assert "planned for: 1000 songs x 10; 500 tests among 10000 distractors" in said
    smaller, larger = said.split("with data-10w in place of data-1k:")
    assert "update mcnn" in smaller and "training set, packed       30.21" in larger
    assert "memory  03_train" in smaller and "sound (8 kHz FLAC)" not in said
    write_training_set(unmeasured / "data/train/data-1k", 4, 3)
    sizes, *_ = forecast.sizes_of(pipeline.load_profile("published"))
    assert (sizes.n_songs, sizes.n_clips) == (4, 3)


def test_every_profile_has_a_plan(unmeasured):
    for profile in pipeline.profiles():
        steps = pipeline.load_profile(profile)
        found, *_ = forecast.forecast(steps, forecast.sizes_of(steps)[0])
        assert found.seconds.sum() > 0


def test_a_checker_names_what_is_missing_or_broken(home):
    folder = write_training_set(home / "data/train/mine", n_songs=4, n_clips=3)
    assert archives.training_set(folder) == [
        "data/train/mine: 4 songs x 3 clips, complete; arrays: 12 of shape (30, 128)."
    ]
    features.song_file(folder, 2, 1).unlink()
    features.song_file(folder, 3, 0).write_bytes(b"none")
    features.save(features.song_file(folder, 4, 2), np.full((30, 128), 0.5, np.float32))
    features.save(folder / "more.npy", unit_rows(np.random.default_rng(0), 59, 128))
    before = sorted(folder.iterdir())
    first, *said = archives.training_set(folder)
    assert "1 missing, 3 wrong; arrays: 9 of shape (30, 128), 1 of shape (59, 128)" in first
    assert said[0].endswith("without them: 2-01.npy")
    assert ["3-00.npy is not a readable" in said[1], "4-02.npy has rows of norm" in said[2]] == [
        True
    ] * 2
    assert "more.npy is not named" in said[3] and sorted(folder.iterdir()) == before
    many = [str(n) for n in range(12)]
    assert archives._some(many) == [*many[:10], "... and 2 more"]


def test_a_checker_reads_a_database(home):
    rng = np.random.default_rng(0)
    for part, n in ((databases.DUMMY, 3), (databases.TEST, 2), (databases.QUERY, 2)):
        for i in range(n):
            features.save(home / part / f"{i}.npy", unit_rows(rng, 59, 128))
    target = databases.split_folder(home / databases.DUMMY, 10)
    databases.split_database(home / databases.DUMMY, target, crops.segment_frames(10))
    databases.split_database(home / databases.TEST, home / "db/test_10s", crops.segment_frames(10))
    first, *said = archives.database(home)
    assert "3 distractors, 2 test songs" in first and "295 frames" in first
    assert said[0].startswith("segments of 5 s: dummy_db/fma_part_5s is missing")
    assert said[1] == "segments of 10 s: whole."
    (home / databases.QUERY / "1.npy").write_bytes(b"none")
    (home / databases.DUMMY / "0.npy").write_bytes(b"none")
    assert [sentence.split(" is ")[0] for sentence in archives.database(home)] == [
        "dummy_db/fma_part/0.npy",
        "query/1.npy",
    ]


@pytest.mark.slow
def test_a_minute_measures_what_is_asked(home, monkeypatch):
    """Every kind of work takes time, in a workspace that is gone afterwards."""
    monkeypatch.setattr(forecast, "N_RENDERED", 3)
    monkeypatch.setattr(forecast, "MOST_FRAMES", 2000)
    of = "01_data_prep", "02_split", "03_train-5", "04_evaluate"
    steps = [step for step in pipeline.load_profile("smoke") if step.label in of]
    sizes, files, _ = forecast.sizes_of(steps)
    found, peak, workers = forecast.forecast(steps, sizes, files)
    assert (found.seconds > 0).all() and peak > 1e8 and workers in (1, 2)
    assert {*found.step} == {*of} and list(home.iterdir()) == []


def test_more_frames_than_are_measured_take_longer_as_it_grows(home, monkeypatch):
    """Of a trial that takes a second, and one more per 59,000 frames."""
    monkeypatch.setattr(forecast, "MOST_FRAMES", 4000)
    sizes = []
    of = databases.Database.of
    monkeypatch.setattr(
        databases.Database, "of", lambda songs, n: sizes.append(59 * len(songs)) or of(songs, n)
    )
    monkeypatch.setattr(forecast, "_timed", lambda ask: 5 * 12 * (1 + sizes[-1] / 59000))
    for n_frames in (2950, 59000):
        found = forecast._search("NAFP", 0, n_frames, 5)
        assert found == pytest.approx(1 + n_frames / 59000, abs=0.03)
