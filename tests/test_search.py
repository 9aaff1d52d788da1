"""Searches against exhaustive loops, and their invariants."""

import doctest

import naive
import numpy as np
import pytest
from conftest import unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from amg.retrieval import published, search


def test_worked_examples_give_what_they_say():
    tried = doctest.testmod(search)
    assert tried.attempted == 7 and tried.failed == 0


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
    for first in (0, 2):
        for song, stored in zip(songs[first:], sequences.songs(first), strict=True):
            assert np.array_equal(song, stored)


@pytest.mark.parametrize("n_bits", [16, 512])
def test_nearest_bits_are_those_of_their_signs_and_ties_go_to_the_lower(n_bits):
    """Few bits and doubled rows: ties abound, within the k and at their end."""
    rng, k = np.random.default_rng(n_bits), 12
    bits = np.packbits(np.repeat(rng.random((150, n_bits)) < 0.5, 3, axis=0), axis=1)
    asked = np.packbits(rng.random((40, n_bits)) < 0.5, axis=1)
    signs = [2.0 * np.unpackbits(table, axis=1) - 1 for table in (asked, bits)]
    products = signs[0] @ signs[1].T / n_bits
    order = np.argsort(-products, axis=1, kind="stable")[:, :k]
    scores, ids = search.nearest(search.flat_index(bits), asked, k)
    assert np.array_equal(ids, order)
    np.testing.assert_allclose(scores, np.take_along_axis(products, order, 1), atol=1e-6)
    one_by_one = [search.nearest(search.flat_index(bits), row[None], k)[1][0] for row in asked]
    assert np.array_equal(one_by_one, order)


def test_sequence_search_is_exhaustive_over_its_candidates(songs):
    """With every frame a neighbour, the base system is a search over all whole places."""
    sequences = search.Sequences.of(songs)
    query = noisy(np.random.default_rng(1), songs[1][5:12], 0.1)
    everything = np.tile(np.arange(83), (1, len(query), 1))
    starts, scores = search.sequence_search(query[None], everything, sequences)
    whole = {
        start: naive.diagonal(query, sequences.frames, start)
        for low, high in zip(sequences.bounds, sequences.bounds[1:])
        for start in range(low, high - len(query) + 1)
    }
    assert starts[0].tolist() == naive.ranked(whole) and starts[0, 0] == 25
    np.testing.assert_allclose(scores[0], sorted(whole.values())[:-11:-1], rtol=1e-4)


def test_sequence_search_never_crosses_a_song(songs):
    sequences = search.Sequences.of(songs)
    query = np.concatenate([songs[0][-3:], songs[1][:3]])  # runs over the border at 20
    starts, _ = search.sequence_search(query[None], np.tile(np.arange(83), (1, 6, 1)), sequences)
    assert len(set(starts[0].tolist())) == 10
    for start in starts[0]:
        assert start >= 0 and sequences.song_of(start) == sequences.song_of(start + 5)


def padded(ids):
    return ids + [-1] * (10 - len(ids))


@given(st.integers(0, 10**6), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_searches_of_many_queries_against_loops(seed, length):
    """Random songs, neighbours and candidates: all four searches, a query at a time in loops."""
    rng = np.random.default_rng(seed)
    songs = [unit_rows(rng, n, 128) for n in rng.integers(9, 40, 5)]
    sequences = search.Sequences.of(songs)
    segments = search.Segments.of(sequences, 9)
    n_queries, n_frames, n_segments = 6, len(sequences.frames), len(segments.song)
    queries = unit_rows(rng, n_queries, length, 128)
    neighbours = rng.integers(-1, n_frames, (n_queries, length, 4))
    found = search.sequence_search(queries, neighbours, sequences)[0]
    for query, near, ids in zip(queries, neighbours, found):
        assert ids.tolist() == padded(naive.sequence_search(query, near, sequences))
    neighbours = rng.integers(-1, n_segments, (n_queries, 3, 5))
    products = rng.random(neighbours.shape).astype(np.float32)
    for stage, song in ((search.single_stage, segments.song), (published.single_stage, None)):
        found = stage(neighbours, products, segments.song)[0]
        for near, scores, ids in zip(neighbours, products, found):
            assert ids.tolist() == padded(naive.vote(near, scores, song))
    candidates = np.array([rng.permutation(np.r_[[-1, -1], :n_segments])[:5] for _ in queries])
    found = search.two_stage(queries, candidates, segments, sequences)[0]
    for query, of_query, ids in zip(queries, candidates, found):
        assert ids.tolist() == padded(naive.two_stage(query, of_query, segments, sequences))
    arrays = [sequences.frames[s : s + 9] for s in segments.start]
    found = published.two_stage(queries, candidates, segments, sequences)[0]
    for query, of_query, ids in zip(queries, candidates, found):
        expected = naive.published_second_stage(query, of_query, arrays)
        assert ids.tolist() == padded([segments.start[c] + frame for c, frame in expected])


def test_small_blocks_change_nothing(songs, monkeypatch):
    sequences = search.Sequences.of(songs)
    segments = search.Segments.of(sequences, 5)
    rng = np.random.default_rng(3)
    queries = unit_rows(rng, 7, 8, 128)
    candidates = np.array([rng.permutation(len(segments.song))[:10] for _ in queries])
    for function in (search.two_stage, published.two_stage):
        whole = function(queries, candidates, segments, sequences)
        monkeypatch.setattr(search, "BLOCK", 1)
        parts = function(queries, candidates, segments, sequences)
        monkeypatch.undo()
        assert np.array_equal(whole[0], parts[0])
        np.testing.assert_allclose(whole[1], parts[1], atol=1e-6)


def test_two_stage_finds_a_start_over_a_border(songs):
    sequences = search.Sequences.of(songs)
    segments = search.Segments.of(sequences, 5)
    query = noisy(np.random.default_rng(2), songs[1][7:15], 0.1)  # over the border at 10
    segment = int(np.searchsorted(segments.start, 27, side="right")) - 1
    for candidate in (segment, segment + 1):
        assert (
            search.two_stage(query[None], np.array([[candidate]]), segments, sequences)[0][0, 0]
            == 27
        )


def test_segments_drop_tails(songs):
    segments = search.Segments.of(search.Sequences.of(songs), 9)
    assert segments.song.tolist() == [0, 0, 1, 1, 1, 3, 3]
    assert segments.start.tolist() == [0, 9, 20, 29, 38, 58, 67]


@given(st.integers(1, 80), st.sampled_from([9, 19, 29, 59]))
def test_pieces_of_a_query(n_frames, segment):
    pieces = search.cut_pieces(n_frames, segment, 3)
    assert [low for low, _ in pieces] == [segment * i for i in range(len(pieces))]
    assert all(high - low == segment for low, high in pieces[:-1])
    low, high = pieces[-1]
    assert min(3, n_frames) <= high - low <= segment
    assert 0 <= n_frames - high < 3


def test_ties_go_to_the_lower_position():
    ids, scores = search.best(
        np.array([1, 1, 1, 0]), np.array([5, 2, 9, 4]), np.array([1.0, 1.0, 2.0, 3.0]), 3
    )
    assert ids[:, :3].tolist() == [[4, -1, -1], [9, 2, 5], [-1, -1, -1]]
    assert scores[1, :3].tolist() == [2, 1, 1]
