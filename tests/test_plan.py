"""The plan of a profile: its arithmetic against naive sums, what it says of archives, and that it
writes nothing."""

import math

import numpy as np
import pandas as pd
import pytest
from conftest import unit_rows, write_training_set

from amg.__main__ import main
from amg.embedding import crops
from amg.fingerprint import features
from amg.report import forecast, pipeline, plan, rates
from amg.retrieval import archives, databases, trials


class Same(dict):
    """Any unit takes as long."""

    def __missing__(self, key):
        return 0.5


def works_of(profile):
    steps = pipeline.load_profile(profile)
    sizes, _, _ = forecast.sizes_of(steps)
    return forecast.works_of(steps, sizes), sizes


def named(works, what):
    return sum(work.n for work in works if work.what.startswith(what))


def test_the_work_of_the_smoke_profile_is_that_of_loops():
    """Counted one by one."""
    of, sizes = works_of("smoke")
    songs, versions, tests, dummies = 8 + 2, 3, 4, 6
    files = [(song, version) for song in range(songs) for version in range(versions)]
    assert sizes.n_files == len(files) and sizes.n_frames == (tests + dummies) * 59
    assert named(of["01_data_prep"], "degrade") == sum(v > 0 for _, v in files) + tests
    assert named(of["01_data_prep"], "fingerprint") == songs + tests + dummies
    assert named(of["01_data_prep"], "render") == songs + tests + dummies + 2 * 16
    assert named(of["01_data_prep"], "rooms") == 2 * 3
    pieces = [song for song in range(10) for length in (9, 19, 29) for _ in range(59 // length)]
    assert named(of["02_split"], "write") == len(pieces) + dummies  # test songs are cut already
    assert named(of["03_train-5"], "updates") == 2  # epochs of one batch of 24 rows
    assert named(of["03_train-5"], "validate") == 2 * (10 * 12 + 2 * 2 * 6)
    n_trials = len(trials.draw([59] * tests, (1, 5, 19), 2, 0, [9, 19, 29, 59]))
    assert sizes.n_trials() == n_trials == 4 * 3 * 2
    answered = 2 * 4 * 2 * n_trials  # durations, encoders, protocols
    assert named(of["04_evaluate"], "answer") == answered
    assert named(of["04_evaluate"], "base") == n_trials * (2 + 2 * 0.5)
    assert named(of["05_ablations"], "updates") == 3 * 2  # cells that train
    assert not of.keys() & {"00_fingerprinter", "06_robustness", "08_scale"}
    assert of["10_explore"] == [plan.Work("start", ("start",), 1)]


def test_a_table_sums_naively_and_workers_share_what_they_can():
    of, _ = works_of("demo")
    found = plan.table(of, Same(), 4)
    alone, shared = 0.0, 0.0
    for works in of.values():
        for work in works:
            alone += 0.5 * work.n
            shared += 0.5 * work.n / (4 if work.spread else 1)
    assert found.alone_s.sum() == pytest.approx(alone)
    assert found.seconds.sum() == pytest.approx(shared)
    assert shared < alone


def test_workers_for_a_time():
    found = pd.DataFrame({"alone_s": [7200.0, 1800.0], "spread": [True, False]})
    assert [plan.workers_for(hours, found) for hours in (2.5, 1.5, 0.6, 0.5, 0.4)] == [
        1,
        2,
        20,
        None,
        None,
    ]


def test_the_size_of_the_paper():
    of, sizes = works_of("fma")
    assert sizes.n_files == 100_100 * 10 and sizes.n_test == 500
    assert sizes.n_frames == 500 * 59 + 10_000 * 539
    updates = [work for work in of["03_train-10"] if work.what.startswith("updates")]
    assert updates[0].n == 50 * math.ceil(1_000_000 / 640)
    steps = pipeline.load_profile("fma")
    bytes_of = plan.disk(sizes, steps[0].resolved, 4)
    assert bytes_of["training set, packed"] == 1_001_000 * 59 * 128 * 4


def test_a_plan_is_printed_and_nothing_is_written(home, monkeypatch, capsys):
    monkeypatch.setattr(
        rates, "measure", lambda keys, *_: dict.fromkeys(keys, 1e-3) | {"peak": 1e9}
    )
    monkeypatch.setattr("sys.argv", ["amg", "plan", "open_music", "--hours", "1e5"])
    main()
    said = capsys.readouterr().out
    assert "for 100000 h workers: 1" in said and "memory: 01_data_prep" in said
    assert "not counted: 08_scale; it says of itself: 80 minutes on `open_music`" in said
    assert list(home.iterdir()) == []


def test_the_archives_are_looked_at_and_the_cost_of_the_larger_one_is_told(
    home, monkeypatch, capsys
):
    monkeypatch.setattr(rates, "measure", lambda keys, *_: Same(peak=1e9))
    monkeypatch.setattr("sys.argv", ["amg", "plan", "published"])
    main()
    said = capsys.readouterr().out
    assert "data/train/data-1k holds no fingerprints" in said and "database is missing" in said
    assert "1000 songs x 10 are assumed" in said
    smaller, larger = said.split("with data-10w in place of data-1k:")
    assert "updates, mcnn" in smaller and "training set, packed 30.2" in larger
    assert "memory: 03_train" in smaller and "memory: 01_data_prep" not in said
    write_training_set(home / "data/train/data-1k", 4, 3)
    assert forecast.sizes_of(pipeline.load_profile("published"))[0].n_songs == 4


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
    assert said[0].startswith("missing: 2-01.npy;")
    assert ["3-00.npy is not a readable" in said[1], "4-02.npy has rows of norm" in said[2]] == [
        True
    ] * 2
    assert "more.npy is not named" in said[3] and sorted(folder.iterdir()) == before
    many = [str(n) for n in range(12)]
    assert archives._some(many) == [*many[:10], "... and 2 more."]


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
    assert said[1] == "segments of 10 s: whole." and "5 s: none" in said[0]
    (home / databases.QUERY / "1.npy").write_bytes(b"none")
    (home / databases.DUMMY / "0.npy").write_bytes(b"none")
    assert [sentence.split(" is ")[0] for sentence in archives.database(home)] == [
        "dummy_db/fma_part/0.npy",
        "query/1.npy",
    ]


@pytest.mark.slow
def test_a_minute_measures_what_is_asked(home, monkeypatch):
    """Every kind of key gives a time, from a workspace that is gone afterwards."""
    monkeypatch.setattr(rates, "N_RENDERED", 3)
    monkeypatch.setattr(rates, "MOST_FRAMES", 2000)
    of = "01_data_prep", "02_split", "03_train-5", "04_evaluate"
    steps = [step for step in pipeline.load_profile("smoke") if step.label in of]
    sizes, files, _ = forecast.sizes_of(steps)
    found, peak, workers = forecast.forecast(steps, sizes, files)
    assert (found.seconds > 0).all() and peak > 1e8 and workers in (1, 2)
    assert set(found.step) == {step.label for step in steps}
    assert list(home.iterdir()) == []


def test_more_frames_than_are_measured_take_longer_as_it_grows(monkeypatch):
    """Of a trial that takes a second, and one more per 1,000 songs of 59 frames."""
    monkeypatch.setattr(rates, "MOST_FRAMES", 4000)
    monkeypatch.setattr(rates, "_timed", lambda ask, *given: (ask(*given), None))

    def ask(database, queries, asked):
        return len(asked) * (1 + len(database.sequences.frames) / 59000)

    for n_frames in (2950, 59000):
        found = rates._per_trial(n_frames, 5, ask)
        assert found == pytest.approx(1 + n_frames / 59000, abs=0.03)


def test_every_profile_has_a_plan(home, monkeypatch):
    monkeypatch.setattr(rates, "measure", lambda keys, *_: Same(peak=1e9))
    for profile in pipeline.profiles():
        steps = pipeline.load_profile(profile)
        found, *_ = forecast.forecast(steps, forecast.sizes_of(steps)[0])
        assert found.seconds.sum() > 0
