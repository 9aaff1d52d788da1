"""What a larger database would do: scores against loops, the forecast against songs that are
drawn."""

import numpy as np
import pytest
from conftest import unit_rows

from amg.embedding import encoders
from amg.report import sentences
from amg.retrieval import databases, evaluate, search
from amg.retrieval import trials as trials_
from amg.studies import scale_forecast


def test_scores_are_those_of_loops():
    rng = np.random.default_rng(0)
    songs = [unit_rows(rng, n, 128) for n in (30, 22, 27, 30, 40)]
    database = databases.Database.of(songs, first_test=3)
    segments = search.Segments.of(database.sequences, 9)
    asked = trials_.recorded(trials_.draw([26, 36], [5], 2, 0, [9]), database)
    encoder, queries = encoders.Mean(), songs[3:]
    indexed = evaluate.Indexed.of(encoder, database, segments)
    found = scale_forecast.scores(indexed, asked, queries)
    assert found.wrong.shape == (4, 3) and found.others.shape == (4, 2)
    for i, trial in enumerate(asked.itertuples()):
        (query,) = encoders.embed(encoder, [queries[trial.song][trial.start : trial.start + 5]])
        right, others = -np.inf, dict.fromkeys(range(5), -np.inf)
        for start, song in zip(segments.start, segments.song):
            (vector,) = encoders.embed(encoder, [database.sequences.frames[start : start + 9]])
            u, inside = -np.log(1 - query @ vector), start - database.sequences.bounds[song]
            if (
                song == 3 + trial.song
                and -9 < trial.start - inside < 9
                and inside // 9 in (trial.start // 9, trial.start // 9 + 1)
            ):
                right = max(right, u)
            else:
                others[song] = max(others[song], u)
        assert found.right[i] == pytest.approx(right, abs=1e-4)
        assert [*found.wrong[i], *found.others[i]] == pytest.approx([*others.values()], abs=1e-4)


def drawn(n_songs, n_queries=4000, seed=0):
    """Scores whose u is exponential, as the tail is taken to be."""
    rng = np.random.default_rng(seed)
    right = rng.normal(6, 2, n_queries)
    return scale_forecast.Scores(
        right, np.full((n_queries, 1), -np.inf), rng.exponential(1, (n_queries, n_songs))
    )


def test_the_tail_tells_how_many_songs_lie_above():
    """With many songs to learn from: n exp(-u) of n."""
    found = drawn(4000, n_queries=300)
    right = np.full(300, 9.0)
    counted = scale_forecast.above(right, found.wrong, most=400)
    tail_only = counted[found.wrong.max(axis=1) < 9]
    assert np.median(tail_only) == pytest.approx(4000 * np.exp(-9), rel=0.1)


def test_a_part_of_the_songs_foretells_all():
    found = drawn(320)
    table = scale_forecast.check(found)
    assert table.part.tolist() == [2, 4, 8, 16] and table.n_songs.tolist() == [160, 80, 40, 20]
    # five songs tell of a tail roughly; each query errs, and on the whole the errors are kind
    assert (table.forecast - table.top1).between(-1, 6).all()
    assert (table.top1_there - table.top1 > 2 * (table.forecast - table.top1)).all()
    assert (table.top1_there.diff().dropna() > 0).all()
    assert (
        scale_forecast.expected_top1(found, 1)
        > scale_forecast.expected_top1(found, 4)
        > scale_forecast.expected_top1(found, 16)
    )
    assert len(scale_forecast.check(drawn(20))) == 1  # parts with no tail to speak of are left out
    (said,) = sentences.forecast(table.assign(encoder="lift"))
    assert said.startswith("one-bit lift: 1/2 foretells ") and said.endswith(
        f"which are {table.top1.iloc[0]:.1f} %."
    )


def test_songs_above_the_right_one_are_counted():
    wrong = np.array([[5.0, 4, 3, 2, 1, 0]] * 2)
    assert scale_forecast.above(np.array([3.5, -1.0]), wrong, most=2)[1] == 6
    assert scale_forecast.above(np.array([2.0, 0.0]), wrong, most=3).tolist() == [4, 6]
    assert scale_forecast.above(np.array([100.0, 100.0]), wrong)[0] < 1e-9
