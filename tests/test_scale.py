"""Growing databases: modelled distractors, indexes against loops, and what is kept of a measurement."""

import numpy as np
import pandas as pd
import pytest

from amg.check import InputError
from amg.embedding import encoders
from amg.report import scale_charts, sentences, tables
from amg.retrieval import databases, hits, scale, search, trials as trials_
from conftest import unit_rows


@pytest.fixture(scope="module")
def task():
    """20 distractors and 6 test songs of 40 frames, whose frames have unequal variances."""
    rng = np.random.default_rng(0)
    songs = rng.standard_normal((26, 40, 128)) * np.linspace(0.2, 1.5, 128) + 0.1
    songs = (songs / np.linalg.norm(songs, axis=2, keepdims=True)).astype(np.float32)
    database = databases.Database.of(list(songs), first_test=20)
    drawn = trials_.recorded(trials_.draw([36] * 6, [5], 2, 0, [9]), database)
    return database, database.sequences.songs(20), drawn, search.Segments.of(database.sequences, 9)


def test_a_mirrored_song_moves_as_the_song_does(task):
    frames = task[0].distractors
    mirror, song = scale.Mirror(frames), task[0].sequences.songs()[3]
    found = mirror(song, scale.signs(3, 0))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(mirror(song, np.ones(128, np.float32)), song, atol=1e-5)
    about, mirrored = song - mirror.mean, found * np.linalg.norm(
        ((song - mirror.mean) @ mirror.axes * scale.signs(3, 0)) @ mirror.axes.T + mirror.mean,
        axis=1, keepdims=True) - mirror.mean
    np.testing.assert_allclose(mirrored @ mirrored.T, about @ about.T, atol=1e-4)
    assert np.abs((found * song).sum(1)).mean() < 0.5


def test_mirrored_frames_vary_as_frames_do(task):
    frames = task[0].distractors
    mirror = scale.Mirror(frames)
    every = np.concatenate([mirror(frames, scale.signs(0, copy)) for copy in range(200)])
    real, modelled = np.cov(frames.T), np.cov(every.T)
    assert np.linalg.norm(real - modelled) < 0.2 * np.linalg.norm(real)


def test_signs_follow_from_the_seed():
    assert np.array_equal(scale.signs(1, 2, 3), scale.signs(1, 2, 3))
    assert len({tuple(scale.signs(*of)) for of in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4))}) == 4
    assert set(scale.signs(0, 0)) == {-1, 1}


def test_a_grown_database_is_the_same_with_more_distractors(task):
    database, *_ = task
    large = scale.grown(database, 3000, seed=1)
    assert 3000 <= len(large.sequences.frames) < 3040
    n_more = large.first_test - database.first_test
    for old, new in zip(database.sequences.songs(), large.sequences.songs(n_more)):
        assert np.array_equal(old, new)
    assert len(large.names) == len(large.recordings) == n_more + 26
    mirror = scale.Mirror(database.distractors)
    np.testing.assert_array_equal(
        large.sequences.songs()[21], mirror(database.sequences.songs()[1], scale.signs(1, 1, 1)))
    assert scale.grown(database, 10).names == database.names


def test_vectors_come_in_blocks_and_test_songs_first(task, monkeypatch):
    database, _, _, segments = task
    encoder, first = encoders.Mean(), 20 * 4
    whole = scale.vectors_of(encoder, database, segments, 400)
    monkeypatch.setattr(scale, "BLOCK", 7)
    np.testing.assert_allclose(scale.vectors_of(encoder, database, segments, 400), whole, atol=1e-6)
    starts = np.concatenate([segments.start[first:], segments.start[:first]])
    for vector, start in zip(whole, starts):
        alone = encoders.embed(encoder, [database.sequences.frames[start : start + 9]])[0]
        np.testing.assert_allclose(vector, alone, atol=1e-6)
    mirror, song = scale.Mirror(database.distractors), segments.song[5]
    number = len(starts) + first + 5  # the second copy of segment 5
    frames = mirror(database.sequences.frames[segments.start[5] :][:9], scale.signs(song, 1))
    np.testing.assert_allclose(whole[number], encoders.embed(encoder, [frames])[0], atol=1e-5)
    assert np.array_equal(scale.vectors_of(encoder, database, segments, 30), whole[:30])
    with pytest.raises(InputError, match="the number of vectors is 23, but must be"):
        scale.vectors_of(encoder, database, segments, 23)


@pytest.mark.parametrize("encoder", [encoders.Mean(), encoders.registry.build("lift1024", {})])
def test_every_index_finds_what_an_exhaustive_loop_finds(task, encoder):
    database, queries, trials, segments = task
    if hasattr(encoder, "fit"):
        encoder.fit(database.distractors)
    vectors = scale.vectors_of(encoder, database, segments, 600)
    kinds = scale.BITS if vectors.dtype == np.uint8 else scale.FLOATS
    rows = pd.DataFrame(scale.measure(encoder, vectors, [k for k in kinds if k != "IVF-PQ"], trials,
                                      queries, database, segments, {"encoder": "x", "duration_max": 5}))
    unit, right = encoders.floats(vectors), []
    begin = trials_.first_rows(trials, database.sequences, 20)
    for trial, at in zip(trials.itertuples(), begin):
        query = queries[trial.song][trial.start :][:5]
        score = unit @ encoders.floats(encoders.embed(encoder, [query]))[0]
        best = int(np.argsort(-score, kind="stable")[0])
        number = np.array([[best + 80 if best < 24 else -1]])
        right.append(hits.segment(number, np.array([at]), segments)[0, 0])
    assert rows.top1[0] == pytest.approx(100 * np.mean(right)) and rows.top100.min() > 90
    assert (rows.top1 <= rows.top10).all() and (rows.n_vectors == 600).all()
    assert (rows.search_ms > 0).all() and rows["index"].tolist()[0] == "flat"


def test_a_segment_asked_for_itself_is_found(task):
    database, _, trials, segments = task
    vectors = scale.vectors_of(encoders.Mean(), database, segments, 500)
    ids = search.nearest(scale.build(vectors, "flat")[0], vectors[:24], 1)[1]
    assert ids[:, 0].tolist() == list(range(24))


def test_real_and_modelled_distractors_are_compared(task):
    database, queries, trials, segments = task
    found = scale.confusable(encoders.Mean(), trials, queries, database, segments)
    assert found.distractors.tolist() == ["real", "modelled"] and set(found.n_distractors) == {80}
    for row in found.itertuples():
        assert row.wrong_score_5 <= row.wrong_score_50 <= row.wrong_score_95 < 1


def test_what_was_measured_is_kept(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return [{"a": 1.5}]

    assert scale.kept(tmp_path / "rows.json", make) == scale.kept(tmp_path / "rows.json", make)
    assert len(calls) == 1
    (tmp_path / "rows.json").write_text("")  # broken: measured again
    assert scale.kept(tmp_path / "rows.json", make) == [{"a": 1.5}] and len(calls) == 2


def test_hours_of_music_on_a_laptop():
    table = pd.DataFrame({"n_vectors": [10, 100, 100], "bytes_per_vector": [512.0, 512.0, 128.0],
                          "duration_max": 10, "encoder": "lift", "index": "flat", "embed_ms": 1.0,
                          "search_ms": 2.0, "top1": 50.0, "query_s": 5.0, "search_ms_q1": 1.0,
                          "search_ms_q3": 3.0, "top10": 60.0, "top100": 70.0, "build_s": 1.0,
                          "batched_ms": 0.5})
    found = scale.laptop(table)
    assert found.hours.tolist() == pytest.approx([12e9 / 512 * 9.5 / 3600, 12e9 / 128 * 9.5 / 3600])
    whole = pd.DataFrame({"method": ["nafp", "nafp ivf-pq", "lift two-stage"], "embed_ms": [0, 0, 1.0],
                          "search_ms": [30.0, 15.0, 2.0], "n_frames": 1000, "top1": [90.0, 89.0, 88.0],
                          "top1_low": 80.0, "top1_high": 95.0})
    said = sentences.scale(table, found, whole, 12e9)
    assert "12 GB" in said[1] and "61,849 hours" in said[1]
    assert "its time is 1/10.0 and 1/5.0 of theirs" in said[-1]
    assert len(tables.scale(table)) == 3
    assert len(scale_charts.growth(table).axes) == 3
    left, right = scale_charts.pareto(table).axes
    assert left.lines[-1].get_xdata().tolist() == [128.0]  # as good, and smaller
