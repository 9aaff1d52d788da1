"""Searches against exhaustive loops, and their invariants."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from amg import encoders, evaluate, search
from conftest import unit_rows


@pytest.fixture
def songs():
    rng = np.random.default_rng(0)
    return [unit_rows(rng, n, 128) for n in (20, 31, 7, 25)]


def noisy(rng, array, level):
    array = array + level * rng.standard_normal(array.shape)
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


def test_sequences_know_their_songs(songs):
    sequences = search.Sequences.of(songs)
    assert sequences.bounds.tolist() == [0, 20, 51, 58, 83]
    assert sequences.song_of(np.array([0, 19, 20, 57, 58])).tolist() == [0, 0, 1, 2, 3]
    assert all(np.array_equal(a, b) for a, b in zip(songs, sequences.songs()))


def test_sequence_search_is_exhaustive_over_its_candidates(songs):
    """With every frame a neighbour, the base system is a search over all whole places."""
    sequences = search.Sequences.of(songs)
    query = noisy(np.random.default_rng(1), songs[1][5:12], 0.1)
    everything = np.tile(np.arange(83), (len(query), 1))
    starts, scores = search.sequence_search(query, everything, sequences)
    naive = []
    for low, high in zip(sequences.bounds, sequences.bounds[1:]):
        for start in range(low, high - len(query) + 1):
            score = sum(float(query[i] @ sequences.frames[start + i]) for i in range(len(query)))
            naive.append((-score / len(query), start))
    naive.sort()
    assert starts.tolist() == [start for _, start in naive[:10]] and starts[0] == 25
    np.testing.assert_allclose(scores, [-score for score, _ in naive[:10]], rtol=1e-4)


def test_sequence_search_never_crosses_a_song(songs):
    sequences = search.Sequences.of(songs)
    query = np.concatenate([songs[0][-3:], songs[1][:3]])  # runs over the border at 20
    starts, _ = search.sequence_search(query, np.tile(np.arange(83), (6, 1)), sequences)
    assert 17 not in starts


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_single_stage_against_a_naive_vote(seed):
    rng = np.random.default_rng(seed)
    song = np.sort(rng.integers(0, 4, 15))
    neighbours = np.stack([rng.permutation(15)[:5] for _ in range(3)])
    scores = rng.random((3, 5)).astype(np.float32)
    votes = {}
    for piece in range(3):
        for n, s in zip(neighbours[piece], scores[piece]):
            if n - piece >= 0 and song[n - piece] == song[n]:
                votes[n - piece] = votes.get(n - piece, 0.0) + float(s)
    expected = sorted(votes, key=lambda c: (-votes[c], c))[:10]
    ids, totals = search.single_stage(neighbours, scores, song)
    assert ids.tolist() == expected
    np.testing.assert_allclose(totals, [votes[c] for c in expected], rtol=1e-6)


def test_two_stage_looks_at_every_start_of_its_segments(songs):
    sequences = search.Sequences.of(songs)
    segments = search.Segments.of(sequences, 5)
    query = noisy(np.random.default_rng(2), songs[1][7:15], 0.1)  # over the border at 10
    truth = 27
    segment = int(np.searchsorted(segments.start, truth, side="right")) - 1
    for candidate in (segment, segment + 1):
        starts, scores = search.two_stage(query, np.array([candidate]), segments, sequences)
        assert starts[0] == truth
        inside = [s for s in range(segments.start[candidate] - 4, segments.start[candidate] + 5)
                  if 20 <= s <= 51 - len(query)]
        naive = {s: np.mean([query[i] @ sequences.frames[s + i] for i in range(8)]) for s in inside}
        assert starts.tolist() == sorted(naive, key=lambda s: -naive[s])[:10]


def test_segments_drop_tails(songs):
    segments = search.Segments.of(search.Sequences.of(songs), 9)
    assert segments.song.tolist() == [0, 0, 1, 1, 1, 3, 3]
    assert segments.start.tolist() == [0, 9, 20, 29, 38, 58, 67]


@given(st.integers(1, 80), st.sampled_from([9, 19, 29, 59]))
def test_pieces_of_a_query(length, segment):
    query = np.arange(length * 128, dtype=np.float32).reshape(length, 128)
    pieces = search.cut_pieces(query, segment, 3)
    assert np.array_equal(np.concatenate(pieces), query[: sum(map(len, pieces))])
    assert all(len(p) == segment for p in pieces[:-1])
    assert len(pieces) == 1 or len(pieces[-1]) >= 3
    assert length - sum(map(len, pieces)) < 3


def test_ties_go_to_the_lower_position():
    ids, _ = search.best(np.array([5, 2, 9]), np.array([1.0, 1.0, 2.0]))
    assert ids.tolist() == [9, 2, 5]


def test_perfect_queries_score_100_percent(songs):
    """Songs asked for as they are: every method hits in every trial."""
    songs = [s for s in songs if len(s) > 9]
    sequences = search.Sequences.of(songs)
    trials = evaluate.trials(songs, (5, 9), 4, [9])
    assert evaluate.base_system(trials, songs, sequences, 0).exact1.all()
    segments = search.Segments.of(sequences, 9)
    aligned = trials[(trials.start % 9 == 0) & (trials.query_frames == 9)].reset_index(drop=True)
    vectors = encoders.embed(encoders.Mean(), [sequences.frames[s : s + 9] for s in segments.start])
    single, two = evaluate.embedding_search(aligned, songs, encoders.Mean(), vectors, segments,
                                            sequences, 0)
    assert single.segment1.all() and two.exact1.all()
