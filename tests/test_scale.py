"""Growing databases: modelled distractors, indexes against loops, and what is kept of a
measurement."""

import numpy as np
import pandas as pd
import pytest

from amg.check import InputError
from amg.embedding import encoders
from amg.report import scale_charts, sentences, tables
from amg.retrieval import databases, evaluate, hits, search
from amg.retrieval import trials as trials_
from amg.studies import scale, scale_distractors


@pytest.fixture(scope="module")
def task():
    """20 distractors and 6 test songs of 40 frames, whose frames have unequal variances."""
    rng = np.random.default_rng(0)
    songs = rng.standard_normal((26, 40, 128)) * np.linspace(0.2, 1.5, 128) + 0.1
    songs = (songs / np.linalg.norm(songs, axis=2, keepdims=True)).astype(np.float32)
    database = databases.Database.of(list(songs), first_test=20)
    drawn = trials_.recorded(trials_.draw([36] * 6, [5], 2, 0, [9]), database)
    return database, database.sequences.songs(20), drawn, search.Segments.of(database.sequences, 9)


def indexed(task, encoder=None):
    labels = {"encoder": "mean", "duration_max": 5}
    return evaluate.Indexed.of(encoder or encoders.Mean(), task[0], task[3], labels)


def test_a_mirrored_song_moves_as_the_song_does(task):
    frames = task[0].distractors
    mirror, song = scale_distractors.Mirror(frames), task[0].sequences.songs()[3]
    found = mirror(song, scale_distractors.signs(3, 0))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(mirror(song, np.ones(128, np.float32)), song, atol=1e-5)
    about, mirrored = (
        song - mirror.mean,
        found
        * np.linalg.norm(
            ((song - mirror.mean) @ mirror.axes * scale_distractors.signs(3, 0)) @ mirror.axes.T
            + mirror.mean,
            axis=1,
            keepdims=True,
        )
        - mirror.mean,
    )
    np.testing.assert_allclose(mirrored @ mirrored.T, about @ about.T, atol=1e-4)
    assert np.abs((found * song).sum(1)).mean() < 0.5


def test_mirrored_frames_vary_as_frames_do(task):
    frames = task[0].distractors
    mirror = scale_distractors.Mirror(frames)
    every = np.concatenate(
        [mirror(frames, scale_distractors.signs(0, copy)) for copy in range(200)]
    )
    real, of_mirrored = np.cov(frames.T), np.cov(every.T)
    assert np.linalg.norm(real - of_mirrored) < 0.2 * np.linalg.norm(real)


def test_signs_follow_from_the_seed():
    assert np.array_equal(scale_distractors.signs(1, 2, 3), scale_distractors.signs(1, 2, 3))
    assert (
        len(
            {
                tuple(scale_distractors.signs(*of))
                for of in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4))
            }
        )
        == 4
    )
    assert set(scale_distractors.signs(0, 0)) == {-1, 1}


def test_a_grown_database_is_the_same_with_more_distractors(task):
    database, *_ = task
    large = scale_distractors.grown(database, 3000, seed=1)
    assert 3000 <= len(large.sequences.frames) < 3040
    n_more = large.first_test - database.first_test
    for old, new in zip(database.sequences.songs(), large.sequences.songs(n_more)):
        assert np.array_equal(old, new)
    assert len(large.names) == len(large.recordings) == n_more + 26
    mirror = scale_distractors.Mirror(database.distractors)
    np.testing.assert_array_equal(
        large.sequences.songs()[21],
        mirror(database.sequences.songs()[1], scale_distractors.signs(1, 1, 1)),
    )
    assert scale_distractors.grown(database, 10).names == database.names


def test_vectors_come_in_blocks_and_test_songs_first(task, monkeypatch):
    database, _, _, segments = task
    encoder, first, mean = encoders.Mean(), 20 * 4, indexed(task)
    whole = scale.vectors_of(mean, 400)
    monkeypatch.setattr(scale_distractors, "BLOCK", 7)
    np.testing.assert_allclose(scale.vectors_of(mean, 400), whole, atol=1e-6)
    starts = np.concatenate([segments.start[first:], segments.start[:first]])
    for vector, start in zip(whole, starts):
        alone = encoders.embed(encoder, [database.sequences.frames[start : start + 9]])[0]
        np.testing.assert_allclose(vector, alone, atol=1e-6)
    mirror, song = scale_distractors.Mirror(database.distractors), segments.song[5]
    number = len(starts) + first + 5  # the second copy of segment 5
    frames = mirror(
        database.sequences.frames[segments.start[5] :][:9], scale_distractors.signs(song, 1)
    )
    np.testing.assert_allclose(whole[number], encoders.embed(encoder, [frames])[0], atol=1e-5)
    assert np.array_equal(scale.vectors_of(mean, 30), whole[:30])
    with pytest.raises(InputError, match="the number of vectors is 23, but must be"):
        scale.vectors_of(mean, 23)


@pytest.mark.parametrize("encoder", [encoders.Mean(), encoders.registry.build("lift1024", {})])
def test_every_index_finds_what_an_exhaustive_loop_finds(task, encoder, tmp_path):
    database, queries, trials, segments = task
    if hasattr(encoder, "fit"):
        encoder.fit(database.distractors)
    vectors = scale.vectors_of(indexed(task, encoder), 600)
    rows = scale.measure(tmp_path, indexed(task, encoder), 600, trials, queries)
    rows = pd.DataFrame(rows)
    unit, right = encoders.floats(vectors), []
    begin = trials_.first_rows(trials, database.sequences, 20)
    for trial, at in zip(trials.itertuples(), begin):
        query = queries[trial.song][trial.start :][:5]
        score = unit @ encoders.floats(encoders.embed(encoder, [query]))[0]
        best = int(np.argsort(-score, kind="stable")[0])
        number = np.array([[best + 80 if best < 24 else -1]])
        right.append(hits.segment(number, np.array([at]), segments)[0, 0])
    bits = vectors.dtype == np.uint8
    assert rows["index"].tolist() == list(scale.BITS if bits else scale.FLOATS)
    coarse = rows["index"] == "IVF-PQ, 16 bytes"
    assert rows.top1[~coarse].tolist() == pytest.approx([100 * np.mean(right)] * (~coarse).sum())
    assert (rows.top1[coarse] >= 75).all() and (rows.listed > 90).all()
    assert (rows.top1 <= rows.top10).all() and (rows.n_vectors == 600).all()
    assert (rows.search_ms > 0).all()


def test_a_segment_asked_for_itself_is_found(task):
    database, _, trials, segments = task
    vectors = scale.vectors_of(indexed(task), 500)
    ids = search.nearest(scale.build(vectors, "flat", vectors[24:])[0], vectors[:24], 1)[1]
    assert ids[:, 0].tolist() == list(range(24))


def test_real_and_modelled_distractors_are_compared(task):
    database, queries, trials, segments = task
    found = scale.confusable(indexed(task), trials, queries)
    assert found.distractors.tolist() == ["real", "modelled"] and set(found.n_distractors) == {80}
    easier = found.assign(encoder="mean", wrong_score_50=[0.5, 0.4], top1=[60.0, 70.0])
    (said,) = sentences.confusable(easier)
    assert "Top-1 is 70.0 %, among as many real ones 60.0 %" in said and "upper bounds" in said
    assert "upper bounds" not in sentences.confusable(easier.assign(wrong_score_50=[0.4, 0.5]))[0]
    for row in found.itertuples():
        assert row.wrong_score_5 <= row.wrong_score_50 <= row.wrong_score_95 < 1


def test_what_was_measured_is_kept(task, tmp_path, monkeypatch):
    database, queries, trials, segments = task
    arguments = tmp_path, indexed(task), 200, trials, queries
    whole, build, built = scale.measure(*arguments), scale.build, []
    monkeypatch.setattr(scale, "build", lambda *of: built.append(of[1]) or build(*of))
    assert scale.measure(*arguments) == whole and not built
    (tmp_path / "mean-200-HNSW.json").write_text("")  # interrupted: this one alone again
    again = scale.measure(*arguments)
    assert built == ["HNSW"] and [row["index"] for row in again] == list(scale.FLOATS)
    assert again[0] == whole[0] and again[2]["top1"] == whole[2]["top1"]


def test_an_index_learns_from_distractors_alone(task, monkeypatch):
    database, queries, trials, segments = task
    vectors = scale.vectors_of(indexed(task), 300)
    seen, build = [], scale.build
    monkeypatch.setattr(scale, "build", lambda *of: seen.append(of[2]) or build(*of))
    asked = scale.excerpts(trials, queries)
    scale._row(indexed(task), vectors, "IVF-PQ, 16 bytes", trials, asked)
    assert np.array_equal(seen[0], vectors[24:])  # the first 24 are test songs'


def test_a_query_longer_than_a_segment_is_refused(task, tmp_path):
    database, queries, trials, segments = task
    with pytest.raises(
        InputError, match="query_frames is 10, but must be a whole number from 3 to 9"
    ):
        scale.measure(tmp_path, indexed(task), 200, trials.assign(query_frames=10), queries)


def test_growth_in_words_and_charts():
    table = pd.DataFrame(
        {
            "n_vectors": [10, 100, 100],
            "bytes_per_vector": [512.0, 512.0, 128.0],
            "duration_max": 10,
            "encoder": "lift",
            "index": "flat",
            "embed_ms": 1.0,
            "search_ms": 2.0,
            "top1": 50.0,
            "query_s": 5.0,
            "query_frames": 9,
            "n_queries": 213,
            "search_ms_q1": 1.0,
            "search_ms_q3": 3.0,
            "top10": 60.0,
            "listed": 70.0,
            "build_s": 1.0,
            "batched_ms": 0.5,
            "forecast": [40.0, 30.0, np.nan],
        }
    )
    whole = pd.DataFrame(
        {
            "method": ["nafp", "nafp ivf-pq", "lift two-stage"],
            "embed_ms": [0, 0, 1.0],
            "search_ms": [30.0, 15.0, 2.0],
            "n_frames": 1000,
            "top1": [90.0, 89.0, 88.0],
            "top1_low": 80.0,
            "index_bytes": [512000, 64000, 13000],
            "refine_bytes": [0, 512000, 512000],
            "top1_high": 95.0,
        }
    )
    said = sentences.scale(table, whole)
    assert said[0].startswith("one-bit lift, exhaustive, single-stage Top-1 at 5 s: 50.0 % of 10")
    assert "its time is 1/10.0 and 1/5.0 of theirs" in said[-1]
    assert len(tables.scale(table)) == 3
    assert len(scale_charts.growth(table).axes) == 3
    figure = scale_charts.pareto(table)
    of = "213 queries of 5 s, vectors of 10 s"
    assert figure.get_suptitle() == f"100 vectors; {of}"
    (single,) = sentences.scale_compared({"scale": table})
    assert single.startswith(
        f"Single-stage: {of}. Compared are one-bit lift: encoders that need no"
    )
    (single,) = sentences.scale_compared({"scale": table.assign(encoder="mt")})
    assert single.endswith("Compared are AMG.")
    left, right = figure.axes
    assert left.lines[-1].get_xdata().tolist() == [128.0]  # as good, and smaller
