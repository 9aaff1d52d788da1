"""Cost of a search, and the base system's coded index: sizes are those on disk, times medians of
calls in turn, and codes find what the exhaustive index finds."""

from dataclasses import replace

import faiss
import numpy as np
import pandas as pd
import pytest
from conftest import unit_rows, write_training_set

from amg.embedding import encoders
from amg.fingerprint import features
from amg.retrieval import cost, databases, evaluate, nafp_search, search
from amg.retrieval import trials as trials_
from amg.studies import lifts, unknown_songs


@pytest.fixture(scope="module")
def task():
    """30 distractors and 10 test songs of 59 frames, noisy queries, and their trials."""
    rng = np.random.default_rng(0)
    database = databases.Database.of(list(unit_rows(rng, 40, 59, 128)), first_test=30)
    queries = [song + 0.05 * unit_rows(rng, 59, 128) for song in database.sequences.songs(30)]
    drawn = trials_.recorded(trials_.draw([59] * 10, [9, 19], 4, seed=0), database)
    return database, queries, drawn


@pytest.fixture(scope="module")
def coded(task):
    sequences, first_test = task[0].sequences, task[0].first_test
    return nafp_search.coded_index(
        sequences.frames, sequences.frames[: sequences.bounds[first_test]]
    )


def test_codes_find_what_the_exhaustive_index_finds(task, coded):
    database, queries, trials = task
    flat, _ = nafp_search.find(trials, queries, database.sequences)
    found, _ = nafp_search.find(trials, queries, database.sequences, coded)
    assert (found[:, 0] == flat[:, 0]).mean() > 0.95
    begin = trials_.first_rows(trials, database.sequences, database.first_test)
    assert (found[:, 0] == begin).mean() > 0.95


def test_codes_take_64_bytes_a_frame(task, coded):
    assert coded.code_size == 64 and coded.nlist == 30 * 59 // 39 == 45 and coded.nprobe == 40
    more = faiss.clone_index(coded)
    more.add(task[0].sequences.frames)
    per_frame = (cost.n_bytes(more) - cost.n_bytes(coded)) / coded.ntotal
    assert per_frame == pytest.approx(64 + 8, abs=0.1)  # a code, and the number of the frame
    assert "2,360 frames in 45 lists (its authors have 256" in nafp_search.describe(coded)


def test_a_decimated_index_holds_one_frame_in_so_many_of_each_song(task):
    database, queries, trials = task
    sequences = database.sequences
    index = nafp_search.decimated_index(sequences, 9)
    kept = [position for low in sequences.bounds[:-1] for position in range(low, low + 59, 9)]
    assert index.ntotal == len(kept) == 40 * 7
    assert index.search(sequences.frames[kept], 1)[1][:, 0].tolist() == kept
    every = nafp_search.decimated_index(sequences, 1)
    of_every, of_flat = (nafp_search.find(trials, queries, sequences, of) for of in (every, None))
    assert np.array_equal(of_every[0], of_flat[0])
    begin = trials_.first_rows(trials, sequences, database.first_test)
    found, _ = nafp_search.find(
        trials, queries, sequences, index
    )  # 9 frames or more hold one that is indexed
    assert (found[:, 0] == begin).mean() > 0.95


def test_sizes_are_those_of_the_files(task, coded, tmp_path):
    database = task[0]
    for index in (search.flat_index(database.sequences.frames), coded):
        faiss.write_index(index, str(tmp_path / "index"))
        assert cost.n_bytes(index) == (tmp_path / "index").stat().st_size


@pytest.mark.parametrize("n_frames", [1, 59, 300])
def test_a_coded_index_of_few_frames(n_frames):
    frames = unit_rows(np.random.default_rng(1), n_frames, 128)
    index = nafp_search.coded_index(frames, frames[: n_frames // 2 + 1])
    assert index.search(frames, 1)[1][:, 0].tolist() == list(range(n_frames))


def test_no_more_lists_than_its_authors_have(monkeypatch):
    assert nafp_search.N_LISTS == 256
    monkeypatch.setattr(nafp_search, "N_LISTS", 3)
    frames = unit_rows(np.random.default_rng(2), 39 * 5, 128)
    index = nafp_search.coded_index(frames, frames)
    assert index.nlist == 3 and "authors" not in nafp_search.describe(index)


def test_methods_are_called_in_turn():
    calls = []
    methods = [
        cost.Method(
            name,
            1,
            2,
            3,
            search=lambda query, embedded, name=name: calls.append(
                (name, int(query[0, 0]), embedded)
            ),
            embed=lambda query: len(query),
        )
        for name in "ab"
    ]
    table = cost.measure(methods, [np.full((2, 1), i) for i in range(12)])
    for i, query in enumerate((0, *range(12))):  # the first warms up
        assert sorted(calls[2 * i : 2 * i + 2]) == [("a", query, 2), ("b", query, 2)]
    assert {name for name, *_ in calls[::2]} == {"a", "b"}  # either may come first
    assert list(table.columns) == cost.COLUMNS and table.method.tolist() == ["a", "b"]


def test_medians_and_quartiles(monkeypatch):
    """Without the first query, which warms up; a slow moment changes none of them."""
    ticks = iter(
        np.cumsum([step for search_s in (9, 5, 1, 2, 100, 3) for step in (0, 1, search_s)])
    )
    monkeypatch.setattr(cost.time, "perf_counter", lambda: float(next(ticks)))
    row = cost.measure([cost.Method("a", 1, 1, 0, lambda *_: None)], [np.zeros((1, 1))] * 5).iloc[0]
    assert (row.embed_ms, row.embed_ms_q1, row.embed_ms_q3) == (1000, 1000, 1000)
    assert (row.search_ms, row.search_ms_q1, row.search_ms_q3) == (3000, 2000, 5000)


def test_the_cost_of_every_method(task, coded):
    database, queries, trials = task
    segments = search.Segments.of(database.sequences, 9)
    encoder = encoders.Mean()
    labels = {
        "method": "amg",
        "encoder": "mt",
        "duration_max": 5,
        "run": "a-run",
        "finished": False,
    }
    indexed = evaluate.Indexed.of(encoder, database, segments, labels)
    methods = [
        cost.base_method(
            "nafp", search.flat_index(database.sequences.frames), database.sequences, top1=90.0
        ),
        cost.base_method("nafp ivf-pq", coded, database.sequences, top1=80.0),
        *cost.amg_methods(indexed, top1=70.0),
    ]
    asked = cost.excerpts(trials, queries, 19, n=5)
    table = cost.measure(methods, asked).set_index("method")
    frames = database.sequences.frames.nbytes
    assert len(asked) == 5 and all(query.shape == (19, 128) for query in asked)
    assert frames < table.index_bytes["nafp"] < frames + 100 and table.refine_bytes["nafp"] == 0
    assert table.refine_bytes["nafp ivf-pq"] == table.refine_bytes["amg two-stage"] == frames
    assert table.index_bytes["amg single-stage"] < frames / 8
    assert table.refine_bytes["amg single-stage"] == 0
    assert table.n_vectors["amg two-stage"] == len(segments.start) == 40 * 6
    assert table.top1.fillna(0).tolist() == [90, 80, 0, 70]
    assert table.run.tolist() == ["", "", "a-run", "a-run"]
    assert table.finished.tolist() == [True, True, False, False]
    for part in ("embed_ms", "search_ms"):
        assert table[part].between(table[f"{part}_q1"], table[f"{part}_q3"]).all()


def test_codes_are_the_only_fingerprints_that_are_counted(task):
    database, small = task[0], task[0].coded("SQ4", task[0].distractors)
    frames, n_bytes = small.sequences.frames, 64 * len(database.sequences.frames)
    base = cost.base_method("nafp SQ4", frames.index(), small.sequences)
    assert n_bytes < base.index_bytes < n_bytes + 2000 and base.refine_bytes == 0
    labels = evaluate.labels("lift", "none", 5) | {"method": "amg SQ4"}
    lift = encoders.untrained("lift", database.distractors)
    segments = search.Segments.of(database.sequences, 9)
    indexed = replace(evaluate.Indexed.of(lift, database, segments, labels), database=small)
    _, two = cost.amg_methods(indexed)
    assert (two.method, two.refine_bytes) == ("lift two-stage SQ4", n_bytes)


def test_shortlists_are_those_searches(task):
    database, queries, trials = task
    segments, encoder = search.Segments.of(database.sequences, 9), encoders.Mean()
    labels = {"method": "amg", "encoder": "mean", "duration_max": 5, "run": "", "finished": True}
    indexed = evaluate.Indexed.of(encoder, database, segments, labels)
    table = lifts.measure_shortlists([indexed], trials, queries, (1, 10))
    assert table.encoder.tolist() == ["nafp", "mean", "mean"] * 2
    assert table.query_frames.tolist() == [9] * 3 + [19] * 3
    assert table.shortlist.fillna(0).tolist() == [0, 1, 10] * 2
    for row in table.dropna(subset="shortlist").itertuples():
        asked = trials[trials.query_frames == row.query_frames]
        two = evaluate.amg(asked, queries, indexed, shortlist=int(row.shortlist))[1]
        assert row.top1 == pytest.approx(100 * (two.exact_rank == 1).mean())
        assert row.top1_low <= row.top1 <= row.top1_high and row.n_queries == len(asked)
    assert (table.search_ms > 0).all()


def test_timed_queries_are_trials_spread_over_the_songs():
    queries = list(np.arange(8)[:, None, None] + np.arange(30)[:, None] / 100)  # song.frame
    trials = pd.DataFrame({"song": range(8), "start": range(8), "query_frames": [3, 5] * 4})
    asked = cost.excerpts(trials, queries, 5, n=3)
    assert [query[0, 0] for query in asked] == pytest.approx([1.01, 3.03, 7.07])
    assert len(cost.excerpts(trials, queries, 3)) == 4


def test_shortlists_and_codes_are_chosen_on_validation_songs(home, monkeypatch):
    """Clean versions are found by both; a list of one segment loses what a list of all does not:
    the distractors' segments are the songs', half a segment later and backwards."""
    data = features.pack(write_training_set(home / "data/train/t", n_songs=9, n_frames=40))
    late = [np.array(data.clip(song, 0))[4:40].reshape(4, 9, 128) for song in (6, 7, 8)]
    distractors = [segments[:, ::-1].reshape(-1, 128) for segments in late]
    other = unit_rows(np.random.default_rng(1), 60, 128)
    database = databases.Database.of([*distractors, other], first_test=3)
    labels = {"encoder": "mean", "duration_max": 5}
    valid = unknown_songs.validation(data, list("aabbccdde"), 3, 2, database)
    table = lifts.choose_shortlist(encoders.Mean(), labels, valid, [3, 9], sizes=(1, 40))
    assert table.shortlist.tolist() == [1, 1, 40, 40] and table.query_frames.tolist() == [3, 9] * 2
    assert (table.n_queries == 6).all() and (table.n_recordings == 2).all()
    assert (table.base_top1 == 100).all() and (table.top1[2:] == 100).all()
    assert (table.difference == table.top1 - table.base_top1).all()
    assert (table.top1[:2] < 100).all()
    monkeypatch.setattr(lifts, "CODES", ("SQ8", "PQ64x4"))
    learnt = np.concatenate([data.clip(song, 0) for song in range(6)])
    table = lifts.choose_code(encoders.Mean(), labels, valid, [3, 9], learnt)
    assert table.bytes.tolist() == [128, 128, 32, 32] and (table.frames_top1 == 100).all()
    assert (table.difference[:2] == 0).all() and (table.top1 > 50).all()
