"""The AMG search and the base system over trials: perfect queries, queries between frames,
labels."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import unit_rows, write_training_set

from amg.check import InputError
from amg.embedding import encoders, runs, training
from amg.fingerprint import features
from amg.report import charts, tables
from amg.retrieval import (
    databases,
    evaluate,
    hits,
    intervals,
    nafp_search,
    published,
    search,
    trials,
)
from amg.studies import trace


@pytest.fixture
def database():
    rng = np.random.default_rng(0)
    return databases.Database.of([unit_rows(rng, n, 128) for n in (20, 31, 25)])


def test_perfect_queries_score_100_percent(database):
    """Songs asked for as they are: every method hits in every trial, at every tolerance."""
    songs = database.sequences.songs()
    asked = trials.recorded(trials.draw([20, 31, 25], (1, 5, 9), 6, 0, [9]), database)
    answers, _ = nafp_search.find(asked, songs, database.sequences)
    scored = evaluate.score(asked, answers, database)
    assert len(scored) == len(asked) == 3 * 3 * 6
    assert (scored[["exact_rank", "near_rank", "song_rank"]] == 1).all(axis=None)
    segments = search.Segments.of(database.sequences, 9)
    aligned = trials.at(database, songs, {9: [0, 9]})
    indexed = evaluate.Indexed.of(encoders.Mean(), database, segments)
    for protocol in evaluate.PROTOCOLS:
        single, two = evaluate.amg(aligned, songs, indexed, protocol=protocol)
        assert len(single) == len(two) == len(aligned) == 3 * 2
        assert (single.segment_rank == 1).all() and (two.exact_rank == 1).all()
        assert (single.song_rank == 1).all() and (two.song_rank == 1).all()
        assert ("near_rank" in two) == (protocol == "contiguous")
        assert list(two.stage.unique()) == ["two"] and list(two.protocol.unique()) == [protocol]
        first = [f"{song}:{start}" for song, start in zip(aligned.song, aligned.start)]
        assert [text.split()[0] for text in two.answers] == first


def test_another_index_serves_the_base_system(database):
    songs = database.sequences.songs()
    asked = trials.recorded(trials.draw([20, 31, 25], (5,), 3, 0), database)
    half = search.flat_index(database.sequences.frames[:40])  # knows the first 40 frames only
    found, _ = nafp_search.find(asked, songs, database.sequences, half)
    begin = trials.first_rows(asked, database.sequences)
    known = begin < 40 - 5
    assert (found[known, 0] == begin[known]).all() and known.any()
    assert not (found[begin >= 40, 0] == begin[begin >= 40]).any() and (begin >= 40).any()


@pytest.mark.parametrize("late", [0, 1, 2, 3])
def test_queries_between_two_frames_are_found_on_one_of_the_grids(late):
    """Sound that changes wholly every quarter of a hop: one grid alone can match."""
    songs = [unit_rows(np.random.default_rng(song), 4 * 20, 128) for song in range(3)]
    database = databases.Database.of([song[::4] for song in songs])
    sequences = database.sequences
    queries = [song[late : late + 4 * 18 + 1] for song in songs]  # 19 frames on the first grid
    on_first = [query[::4] for query in queries]
    asked = trials.draw(trials.shared_frames(database, on_first), (1, 5), 4, 0)
    index = search.flat_index(sequences.frames)

    def find(trials, heard):
        return nafp_search.find(trials, heard, sequences, index)

    found = nafp_search.best_grid(*nafp_search.find_on_grids(asked, queries, find, 4))
    whole = asked.query_frames.to_numpy() == 5
    assert whole.sum() == (~whole).sum() == 12
    truth = trials.first_rows(asked, sequences) + late / 4
    np.testing.assert_array_equal(found[whole, 0], truth[whole])
    one, _ = nafp_search.find(asked, on_first, sequences)
    first = nafp_search.best_grid(*nafp_search.find_on_grids(asked, on_first, find, 1))
    np.testing.assert_array_equal(first, one)
    np.testing.assert_array_equal(found[~whole], one[~whole])  # a single frame has one grid only


def test_published_hits_give_no_credit_for_a_song_without_segments():
    """Songs of 18, 5 and 20 frames in segments of 9: the second has none."""
    rng = np.random.default_rng(0)
    database = databases.Database.of([unit_rows(rng, n, 128) for n in (20, 18, 5, 20)], 1)
    segments = search.Segments.of(database.sequences, 9)
    asked = trials.at(database, database.sequences.songs(1), {3: [0, 2]})
    every = np.tile(np.arange(6), (len(asked), 1))
    single, two = published.right(asked, every, segments.start[every], segments, database)
    assert single["segment"].any(axis=1).tolist() == [True, True, False, False, True, True]
    assert single["segment"][0].astype(int).tolist() == [0, 0, 1, 1, 0, 0]  # the truth and the next
    assert two["exact"].any(axis=1).tolist() == [True, False, False, False, True, False]


def test_every_row_names_its_run(database):
    songs = database.sequences.songs()
    asked = trials.at(database, songs, {9: [0, 3]})
    answers, _ = nafp_search.find(asked, songs, database.sequences)
    scored = evaluate.score(asked, answers, database)
    run = {"run": "mt-amg-10s-1a2b3c4d", "finished": False}
    table = intervals.table(
        [scored.assign(**nafp_search.LABELS), scored.assign(**nafp_search.LABELS | run)]
    )
    assert list(table.run.unique()) == ["", "mt-amg-10s-1a2b3c4d"]
    assert table.groupby("run").finished.first().tolist() == [True, False]


def test_an_unfinished_run_is_evaluated_only_if_asked_for(home):
    data = features.pack(write_training_set(home / "data/train/t"))
    run = training.Run(
        runs.Config(epochs=2, batch_size=8, n_valid=2, settings={"layers": 1}), data, "t", "cpu"
    )
    with pytest.raises(KeyboardInterrupt):  # after the first epoch, whose checkpoint is kept
        run.fit(lambda history: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(InputError, match="is not finished; run notebook 03_train again"):
        evaluate.trained("t", "mt", "amg", [10])
    found = evaluate.trained("t", "mt", "amg", [10], unfinished=True)[10]
    labels = evaluate.labels("mt", "amg", 10, found)
    assert not labels["finished"] and labels["run"] == run.folder.name
    assert "not finished" in tables.ablation_label(pd.Series(labels))


def test_an_encoder_of_another_fingerprinter_is_refused():
    database = databases.Database.of([unit_rows(np.random.default_rng(0), 20, 128)])
    run = runs.Trained(encoders.Mean(), None, [], "mt-amg-10s", True, "abc")
    evaluate.check_fingerprinter(run, database)  # the database's is not known
    evaluate.check_fingerprinter(run, replace(database, fingerprinter="abc"))
    with pytest.raises(
        InputError, match="mt-amg-10s was trained on another fingerprinter's output"
    ):
        evaluate.check_fingerprinter(run, replace(database, fingerprinter="def"))


def test_a_followed_query_is_that_of_the_stages(database):
    db, queries = database, database.sequences.songs(database.first_test)
    segments = search.Segments.of(db.sequences, 19)
    asked = trials.recorded(trials.draw([len(q) for q in queries], (9,), 2, 0, [19]), db).iloc[3:]
    indexed = evaluate.Indexed.of(encoders.Mean(), db, segments)
    found = trace.follow(asked, queries, indexed, 10, margin=4)
    single, two = evaluate.amg(asked.iloc[:1], queries, indexed, shortlist=10)
    assert len(found.score) == len(indexed.vectors) and (np.diff(found.score) <= 0).all()
    begin = trials.first_rows(asked.iloc[:1], db.sequences)
    right = hits.segment(np.arange(len(indexed.vectors))[None], begin, segments)[0]
    assert found.right.sum() == right.sum() and found.right[0] and single.segment_rank.iloc[0] == 1
    assert found.start[0] == found.begin and two.exact_rank.iloc[0] == 1
    assert found.mean[0] == pytest.approx(1, abs=1e-5)
    assert found.products.shape == (9, 9 + 2 * 4)
    assert np.diag(found.products, 4) == pytest.approx(np.ones(9), abs=1e-5)
    assert len(charts.trace(found, "mean").axes) == 4
