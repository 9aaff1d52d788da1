"""Songs that are not there: folds, what is asked of them, thresholds and curves, against loops."""

import itertools

import numpy as np
import pytest
from conftest import unit_rows

from amg.check import InputError
from amg.embedding import encoders
from amg.fingerprint.features import TrainingSet
from amg.report import charts, figures, sentences, tables
from amg.retrieval import databases, evaluate, search
from amg.retrieval import trials as trials_
from amg.studies import unknown_songs


@pytest.fixture(scope="module")
def task():
    """20 distractors and 12 test songs of 6 recordings, noisy queries, and their trials."""
    rng = np.random.default_rng(0)
    songs = list(unit_rows(rng, 32, 59, 128))
    names = [str(n) for n in range(32)]
    recordings = names[:20] + [f"r{n // 2}" for n in range(12)]
    database = databases.Database(search.Sequences.of(songs), names, 20, recordings)
    queries = [song + 0.1 * unit_rows(rng, 59, 128) for song in songs[20:]]
    queries = [query / np.linalg.norm(query, axis=1, keepdims=True) for query in queries]
    drawn = trials_.recorded(trials_.draw([57] * 12, [5, 9], 3, 0, [9]), database)
    background = unit_rows(rng, 15, 59, 128)
    return database, queries, unknown_songs.with_ordinary(drawn, queries, background), background


def test_folds_are_halves_of_the_recordings():
    recordings = [f"r{n // 3}" for n in range(33)]
    fold = unknown_songs.folds(recordings)
    of_recording = {name: set(fold[[r == name for r in recordings]]) for name in set(recordings)}
    assert all(len(sides) == 1 for sides in of_recording.values())
    assert abs(sum(sides == {0} for sides in of_recording.values()) - 5.5) == 0.5
    assert np.array_equal(fold, unknown_songs.folds(recordings))
    assert any(
        not np.array_equal(fold, unknown_songs.folds(recordings, seed)) for seed in range(1, 5)
    )
    with pytest.raises(InputError, match="1 recording cannot be split"):
        unknown_songs.folds(["a", "a"])


def test_a_part_of_a_database_is_one(task):
    database = task[0]
    kept = np.arange(32) % 3 != 0
    half = unknown_songs.part(database, kept)
    assert half.names == [name for name, of in zip(database.names, kept) if of]
    assert half.first_test == kept[:20].sum() and half.names[half.first_test] == "20"
    for song, name in zip(half.sequences.songs(), half.names):
        assert np.array_equal(song, database.sequences.songs()[int(name)])


@pytest.mark.parametrize("of", ["base", "mean"])
def test_every_trial_is_asked_with_and_without_its_song(task, of):
    """Against a search of each trial alone, in a database that is put together song by song."""
    database, queries, trials, background = task
    encoder = encoders.Mean()
    labels = {"method": "amg", "encoder": "mean", "duration_max": 5}
    method = (
        unknown_songs.base_method()
        if of == "base"
        else unknown_songs.amg_method(encoder, labels, 10)
    )
    found = unknown_songs.ask(method, database, trials, queries)
    assert [table.stage.iloc[0] for table in found] == [of["stage"] for of in method.labels]
    fold, songs = unknown_songs.folds(database.recordings[20:]), database.sequences.songs()
    for row in range(0, len(trials), 7):
        trial = trials.iloc[row : row + 1].reset_index(drop=True)
        own = fold[trial.song[0]]
        for side, column in ((own, "known"), (1 - own, "unknown")):
            kept = [*range(20), *(20 + np.flatnonzero(fold == side))]
            part = databases.Database(
                search.Sequences.of([songs[n] for n in kept]),
                [str(n) for n in kept],
                20,
                [database.recordings[n] for n in kept],
            )
            assert (trial.recording[0] in part.recordings) == (column == "known")
            for table, (places, scores) in zip(found, method.search(part, trial, queries)):
                assert table[column][row] == pytest.approx(scores[0, 0], abs=1e-5)
                if column == "known":
                    song = part.sequences.song_of(places[0, 0])
                    assert table.right[row] == (part.recordings[song] == trial.recording[0])
        query = queries[trial.song[0]][trial.start[0] :][: trial.query_frames[0]]
        ordinary = naive_ordinary(query, background)
        for table, column in itertools.product(found, ("known", "unknown")):
            score = min(max(table[column][row], 1e-3), 1 - 1e-6)
            relative = np.log(score / (1 - score)) - np.log(ordinary / (1 - ordinary))
            assert table[f"{column}_relative"][row] == pytest.approx(relative, abs=1e-4)


def naive_ordinary(query, songs):
    """The mean of the best scores in the ten songs where they are highest."""
    best = [
        max((query * song[at : at + len(query)]).sum() for at in range(len(song) - len(query) + 1))
        for song in songs
    ]
    return np.mean(sorted(best)[-10:]) / len(query)


def test_the_background_is_long_enough_and_of_no_held_out_song():
    length = np.array([[59, 59]] * 900 + [[7, 7]] * 60 + [[59, 59]] * 40)
    first = np.cumsum(length).reshape(length.shape) - length
    frames = np.repeat(np.arange(1000, dtype=np.float32), length.sum(1))[:, None]
    songs = unknown_songs.background(TrainingSet(frames, first, length, "", []), 40)
    assert songs.shape == (unknown_songs.BACKGROUND, 59, 1)
    numbers = songs[:, 0, 0]
    assert (songs == numbers[:, None, None]).all() and (np.diff(numbers) > 0).all()
    assert (numbers[0], numbers[-1]) == (0, 899)


def test_a_background_must_be_as_long_as_the_queries(task):
    _, queries, trials, background = task
    with pytest.raises(InputError, match="have 8 frames, too few for queries of 9"):
        unknown_songs.with_ordinary(trials, queries, background[:, :8])


@pytest.mark.parametrize(
    "model",
    [encoders.Mean(), encoders.untrained("lift", np.eye(128, dtype=np.float32))],
    ids=["floats", "bits"],
)
def test_no_song_is_embedded_twice(task, model, monkeypatch):
    """Vectors are those of embedding every database anew; what is embedded are the new songs."""
    database, _, _, background = task
    background = databases.Database.of([*background])
    segments_of, embedded, known = search.Segments.of, [], {}
    plain = evaluate.segment_vectors
    monkeypatch.setattr(
        evaluate,
        "segment_vectors",
        lambda model, segments, sequences: (
            embedded.append(len(segments.start)),
            plain(model, segments, sequences),
        )[1],
    )
    halves = [
        unknown_songs.part(database, (np.arange(32) < 20) | (np.arange(32) % 2 == side))
        for side in (0, 1)
    ]
    for stored in (*halves, background, database, halves[0]):
        segments = segments_of(stored.sequences, 9)
        found = evaluate.new_vectors(model, segments, stored.sequences, known)
        expected = plain(model, segments, stored.sequences)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(encoders.floats(found), encoders.floats(expected), atol=1e-6)
    assert embedded == [6 * n for n in (26, 6, 15, 0, 0)]


def test_known_songs_are_told_from_unknown_ones(task):
    database, queries, trials, _ = task
    (base,) = unknown_songs.ask(unknown_songs.base_method(), database, trials, queries)
    assert base.right.mean() > 0.95 and base.known.min() > base.unknown.max()
    found, roc = unknown_songs.summary([base], [base])
    assert found.recall_at_1.min() > 95 and (found.false_accepts == 0).all()
    assert set(roc.score) == {"raw", "relative"} and roc.recall.max() > 95


def naive_rates(known, right, unknown_, level):
    recall = sum(k >= level and r for k, r in zip(known, right)) / len(known)
    return recall, sum(u >= level for u in unknown_) / len(unknown_)


def test_a_curve_is_that_of_counting():
    rng = np.random.default_rng(1)
    known, other = rng.integers(3, 9, 40) / 10, rng.integers(0, 6, 30) / 10  # with ties
    right = rng.random(40) < 0.9
    points = unknown_songs.curve(known, right, other)
    for row in points.itertuples():
        recall, far = naive_rates(known, right, other, row.threshold)
        assert (row.recall, row.false_accepts) == pytest.approx((recall, far))
    assert points.threshold.tolist() == sorted({*known, *other}, reverse=True)
    assert unknown_songs.recall_at(points, 0.2) == pytest.approx(
        max(
            recall
            for recall, far in (
                naive_rates(known, right, other, level) for level in points.threshold
            )
            if far <= 0.2
        )
    )


@pytest.mark.parametrize("n", [100, 300, 1300])
def test_one_in_a_hundred_is_one_percent(n):
    """Exactly as many false accepts as are allowed: no rounding makes them one too many."""
    other = np.append(np.full(n // 100, 0.9), np.full(n - n // 100, 0.1))
    known = np.full(n, 0.5)
    points = unknown_songs.curve(known, np.ones(n, bool), other)
    assert (known >= unknown_songs.threshold(other)).all()
    assert unknown_songs.recall_at(points, unknown_songs.FALSE_ACCEPTS) == 1


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5])
def test_at_most_the_asked_share_reaches_a_threshold(share):
    scores = np.random.default_rng(2).integers(0, 40, 250) / 40  # ties
    level = unknown_songs.threshold(scores, share)
    assert (scores >= level).mean() <= share
    lower = scores[scores < level].max()
    assert (scores >= lower).mean() > share


def test_separated_scores_and_equal_ones():
    right = np.ones(50, bool)
    apart = unknown_songs.curve(np.linspace(0.6, 1, 50), right, np.linspace(0, 0.5, 50))
    assert unknown_songs.recall_at(apart, 0) == 1
    same = np.random.default_rng(3).random(4000)
    alike = unknown_songs.curve(same, np.ones(4000, bool), same)
    assert np.allclose(alike.recall, alike.false_accepts)
    assert np.isnan(
        unknown_songs.recall_at(unknown_songs.curve(np.ones(3), np.ones(3, bool), np.ones(3)), 0.5)
    )


def test_rates_at_the_threshold_of_the_validation(task):
    trials = task[2]
    rng = np.random.default_rng(4)
    table = trials.assign(
        method="amg",
        encoder="mean",
        stage="two",
        duration_max=5,
        known=rng.random(len(trials)),
        unknown=rng.random(len(trials)),
        right=rng.random(len(trials)) < 0.8,
    )
    table = table.assign(known_relative=table.known, unknown_relative=table.unknown)
    valid = table.assign(unknown=0.4)
    found, _ = unknown_songs.summary([table], [valid])
    row = found[(found.query_frames == 5) & (found.score == "raw")].iloc[0]
    asked = table[table.query_frames == 5]
    level = np.nextafter(0.4, 1)
    assert row.threshold == pytest.approx(0.4, abs=1e-3)
    recall, far = naive_rates(asked.known, asked.right, asked.unknown, level)
    assert (row.recall, row.false_accepts) == pytest.approx((100 * recall, 100 * far), abs=1e-3)
    wrong = ((asked.known >= level) & ~asked.right).mean()
    assert row.misidentified == pytest.approx(100 * wrong, abs=1e-3)
    assert row.recall_low <= row.recall <= row.recall_high and row.n_recordings == 6


def test_a_thinned_curve_keeps_its_corners():
    rng = np.random.default_rng(7)
    known, other = rng.normal(2, 1, 900), rng.normal(0, 1, 700)
    points = unknown_songs.curve(known, np.ones(900, bool), other)
    shown = unknown_songs.thinned(points)
    assert len(shown) <= unknown_songs.CURVE_POINTS and shown.recall.iloc[-1] == 1
    for row in shown.itertuples():
        assert row.recall == pytest.approx(unknown_songs.recall_at(points, row.false_accepts))
    apart = unknown_songs.thinned(
        unknown_songs.curve(np.arange(5.0) + 9, np.ones(5, bool), np.arange(5.0))
    )
    assert apart.recall.iloc[0] == 1 and apart.false_accepts.iloc[0] == 0


def test_validation_songs_stand_where_the_test_songs_stood(task):
    database, *_ = task
    rng = np.random.default_rng(6)
    frames = unit_rows(rng, 8 * 3 * 20, 128)
    first = np.arange(8 * 3).reshape(8, 3) * 20
    length = np.full((8, 3), 20)
    length[7, 2] = 0  # a version is missing
    data = TrainingSet(frames, first, length, "", [])
    recordings = [f"t{n // 2}" for n in range(8)]
    stored, queries, song = unknown_songs.validation(data, recordings, 4, 2, database)
    assert stored.names[:20] == database.names[:20] and stored.first_test == 20
    assert stored.recordings[20:] == ["t2", "t2", "t3", "t3"]
    assert song.tolist() == [0, 0, 1, 1, 2, 2, 3] and len(queries) == 7
    assert np.array_equal(queries[3], data.clip(5, 2))
    assert np.array_equal(stored.sequences.songs(20)[3], data.clip(7, 0))
    drawn = unknown_songs.draw(stored, queries, song, [5], 9, seed=0)
    assert drawn.recording.tolist() == ["t2"] * 4 + ["t3"] * 3
    assert (drawn.start + drawn.query_frames <= 18).all()
    for n_valid, n_versions, said in (
        (1, 2, "n_valid is 1"),
        (7, 2, "n_valid is 7"),
        (4, 3, "n_versions is 3"),
    ):
        with pytest.raises(InputError, match=said):
            unknown_songs.validation(data, recordings, n_valid, n_versions, database)
    with pytest.raises(InputError, match="the training set's table is 7, but must be .* 8 to 8"):
        unknown_songs.validation(data, recordings[1:], 4, 2, database)


def test_tables_and_sentences_say_it(task):
    database, queries, trials, background = task
    labels = {"method": "amg", "encoder": "mean", "duration_max": 5}
    asked = [
        table
        for method in (
            unknown_songs.base_method(),
            unknown_songs.amg_method(encoders.Mean(), labels, 10),
        )
        for table in unknown_songs.ask(method, database, trials, queries)
    ]
    found, roc = unknown_songs.summary(asked, asked)
    shown = tables.unknown(found)
    assert shown.index.get_level_values("method").unique().tolist() == [
        "NAFP (every fingerprint indexed)",
        "mean pooling, single-stage",
        "mean pooling, two-stage",
    ]
    said = sentences.unknown(found)
    assert len(said) == 6 and all("false accepts" in one and "6 recordings" in one for one in said)
    figures.begin()
    figure = charts.roc(roc)
    assert [axis.get_title("left") for axis in figure.axes] == [
        f"{stage}-stage, {length}" for stage in ("two", "single") for length in ("3 s", "5 s")
    ]


def test_stages_keep_the_scores_of_their_answers(task):
    database, queries, trials, _ = task
    segments, encoder = search.Segments.of(database.sequences, 9), encoders.Mean()
    indexed = evaluate.Indexed.of(encoder, database, segments)
    short = trials[trials.query_frames == 5].reset_index(drop=True)
    listed, votes = evaluate.first_stage(short, queries, indexed)
    places, scores = evaluate.second_stage(short, queries, listed, indexed)
    for row, trial in enumerate(short.itertuples()):
        query = queries[trial.song][trial.start :][:5]
        vector = encoders.embed(encoder, [query])[0]
        assert votes[row, 0] == pytest.approx(
            float(vector @ indexed.vectors[listed[row, 0]]), abs=1e-5
        )
        match = database.sequences.frames[places[row, 0] :][:5]
        assert scores[row, 0] == pytest.approx(float((query * match).sum() / 5), abs=1e-5)
