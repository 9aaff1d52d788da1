"""Tolerances against loops, their invariants, and the same sound elsewhere."""

import numpy as np
import pandas as pd
import pytest
from conftest import hearing, unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from amg.fingerprint import nafp
from amg.retrieval import databases, evaluate, hits, search
from amg.sound.audio import SAME, likeness


def random_case(seed):
    """A database of five songs of two recordings and one of three, trials, answers of both
    kinds."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 40, 5)
    base = databases.Database.of([unit_rows(rng, n, 128) for n in lengths])
    database = databases.Database(**vars(base) | {"recordings": list("aabbc")})
    segments = search.Segments.of(database.sequences, 9)
    song = rng.integers(0, 5, 60)
    asked = pd.DataFrame(
        {"song": song, "start": rng.integers(0, lengths[song] - 2), "query_frames": 3}
    )
    begin = database.sequences.bounds[song] + asked.start.to_numpy()
    answers = np.clip(begin[:, None] + rng.integers(-3, 4, (60, 10)), -1, lengths.sum() - 1)
    answers[rng.random((60, 10)) < 0.2] = -1
    chosen = rng.integers(-1, len(segments.song), (60, 10))
    return database, segments, asked, begin, answers, chosen


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_tolerances_against_loops(seed):
    database, segments, asked, begin, answers, chosen = random_case(seed)
    sequences = database.sequences
    exact, near = (hits.within(answers, begin, frames, sequences) for frames in (0.5, 1))
    held = hits.segment(chosen, begin, segments)
    song = hits.same_recording(
        hits.song_of(answers, sequences), begin, sequences, database.recordings
    )
    rank = hits.rank(near)
    for i, truth in enumerate(begin):
        of_truth = sequences.song_of(truth)
        for j, answer in enumerate(answers[i]):
            same = answer >= 0 and sequences.song_of(answer) == of_truth
            assert exact[i, j] == (same and answer == truth)
            assert near[i, j] == (same and abs(answer - truth) <= 1)
            assert song[i, j] == (
                answer >= 0
                and database.recordings[sequences.song_of(answer)] == database.recordings[of_truth]
            )
            chose, right = chosen[i, j], False
            for candidate in (chose, chose - 1):  # the one in which the query begins, or the next
                if (
                    chose >= 0
                    and candidate >= 0
                    and segments.song[candidate] == segments.song[chose]
                ):
                    right |= segments.start[candidate] <= truth < segments.start[candidate] + 9
            assert held[i, j] == right
        assert rank[i] == next((j + 1 for j in range(10) if near[i, j]), 0)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_wider_tolerances_hold_narrower_ones(seed):
    database, segments, asked, begin, answers, chosen = random_case(seed)

    def alike(begin, place, query_frames, before=1, after=1):
        return place % 3 == begin % 3

    found = evaluate.score(asked, answers, database, alike)
    of_segments = evaluate.score_segments(asked, chosen, segments, database, alike)
    for scored, order in (
        (found, ("exact", "near", "song")),
        (found, ("exact", "same_audio")),
        (of_segments, ("segment", "song")),
        (of_segments, ("segment", "same_audio")),
    ):
        for narrow, wide in zip(order, order[1:]):
            for n in (1, 10):

                def hit(name, scored=scored, n=n):
                    return scored[f"{name}_rank"].between(1, n)

                assert (hit(narrow) <= hit(wide)).all(), (narrow, wide)


def test_a_perfect_answer_is_right_at_every_tolerance():
    database, segments, asked, begin, answers, chosen = random_case(0)
    answers[:, 0] = begin
    scored = evaluate.score(asked, answers, database, lambda *_: np.zeros(len(_[0]), bool))
    ranks = scored[[f"{name}_rank" for name in ("exact", "near", "same_audio", "song")]]
    assert (ranks == 1).all(axis=None)
    truth = np.searchsorted(segments.start, begin, "right") - 1
    inside = np.flatnonzero((truth >= 0) & (begin < segments.start[truth] + 9))
    chosen[inside, 0] = truth[inside]
    scored = evaluate.score_segments(asked, chosen, segments, database).iloc[inside]
    assert (scored[["segment_rank", "song_rank"]] == 1).all(axis=None) and len(inside)
    assert "same_audio_rank" not in scored  # no sound is at hand: not measured


def test_no_credit_to_a_neighbour_song():
    """A one-frame query's near hit, a query of a song too short for segments, one in a tail."""
    rng = np.random.default_rng(0)
    database = databases.Database.of([unit_rows(rng, n, 128) for n in (18, 5, 20)])
    segments = search.Segments.of(database.sequences, 9)  # two of song 0, none, two of song 2
    begin = np.array([18, 18, 23, 23 + 19, 9])
    assert not hits.within(np.array([[17]]), begin[:1], 1, database.sequences).any()
    right = hits.segment(np.tile(np.arange(4), (5, 1)), begin, segments)
    assert right.astype(int).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 1],
        [0, 0, 0, 0],
        [0, 1, 0, 0],
    ]


def test_between_two_frames_the_nearer_one_is_exact():
    database = databases.Database.of([unit_rows(np.random.default_rng(0), 20, 128)] * 2)
    asked = pd.DataFrame({"song": 1, "start": 4, "query_frames": 5}, index=range(5))
    answers = np.array([[24], [25], [24.375], [25.5], [-1]])
    scored = evaluate.score(asked, answers, database, late=0.4)
    assert scored.exact_rank.tolist() == [1, 0, 1, 0, 0]
    assert scored.near_rank.tolist() == [1, 1, 1, 0, 0]
    assert scored.answers.tolist() == ["1:4", "1:5", "1:4", "1:6", ""]


@pytest.fixture(scope="module")
def repeating():
    """Four songs of real fingerprints; song 1 plays the end of song 0 a quarter of a second late,
    with half its level; in song 2, seven seconds come again; song 3 is like none. (Database,
    samples.)"""
    rng = np.random.default_rng(0)
    sounds = [_melody(rng, 20) for _ in range(4)]
    sounds[1][8000 * 2 + 2000 : 8000 * 9 + 2000] = 0.5 * sounds[0][8000 * 12 : 8000 * 19]
    sounds[2][8000 * 12 : 8000 * 19] = sounds[2][8000 * 3 : 8000 * 10]
    encoder = nafp.load(nafp.shipped())
    database = databases.Database.of([np.asarray(nafp.extract(encoder, sound)) for sound in sounds])
    return database, hearing(sounds, database.sequences)


def _melody(rng, seconds):
    """Notes of 0.2 s with three partials, float32."""
    pitch = np.repeat(rng.uniform(300, 1000, 5 * seconds), 1600) / 8000
    phase = 2 * np.pi * np.cumsum(pitch)
    sound = sum(np.sin(k * phase) / k for k in (1, 2, 3)) + 0.01 * rng.standard_normal(len(phase))
    return (0.2 * sound).astype(np.float32)


def correlation(a, b):
    return abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9)


def test_the_same_sound_elsewhere_against_a_loop(repeating):
    """All places of all songs, with and without the filter on fingerprints: it loses none."""
    database, hear = repeating
    sequences, length, begin = database.sequences, 7, 24  # 12 s into song 0
    places = np.arange(sequences.bounds[-1] - length + 1)
    places = places[sequences.song_of(places) == sequences.song_of(places + length - 1)]
    sound = hear(begin, length)
    expected = []
    for place in places:
        low, high = sequences.bounds[sequences.song_of(place) + np.arange(2)]
        first = max(place - 1, low)
        heard = hear(first, min(place + 1 + length, high) - first)
        shifts = range(0, len(heard) - len(sound) + 1, 400)  # where songs were joined is among them
        expected.append(
            max(correlation(sound, heard[at : at + len(sound)]) for at in shifts) >= SAME
        )
    alike = hits.Alike(sequences, hear)
    found = alike(np.full(len(places), begin), places, np.full(len(places), length))
    assert found.tolist() == expected
    assert set(places[found] - begin) == {-1, 0, 1, 19, 20}  # song 1 has it at 43.5
    listened = sum(alike._likely([(begin, place, length, 1, 1) for place in places], 1, 1))
    assert found.sum() <= listened < len(places) / 3


def test_a_segment_with_the_sound_anywhere_in_it(repeating):
    """Song 2 plays frames 6 to 18 again from frame 24 on."""
    database, hear = repeating
    sequences = database.sequences
    segments = search.Segments.of(sequences, 9)
    asked = pd.DataFrame({"song": 2, "start": [8], "query_frames": [5]})
    number = int(np.searchsorted(segments.start, sequences.bounds[2] + 26, "right")) - 1
    answers = np.array([[0, number, number + 1] + 7 * [-1]])
    alike = hits.Alike(sequences, hear)
    scored = evaluate.score_segments(asked, answers, segments, database, alike)
    assert scored.segment_rank.tolist() == [0] and scored.same_audio_rank.tolist() == [2]
    assert scored.song_rank.tolist() == [2]
    assert set(alike.known.values()) == {False, True}  # listened to once
    alike.hear = None
    assert evaluate.score_segments(asked, answers, segments, database, alike).equals(scored)


def test_a_song_that_ends_too_early_does_not_hold_the_sound(repeating):
    database, hear = repeating
    end = int(database.sequences.bounds[1])
    assert hits.Alike(database.sequences, hear).likeness(end - 5, end - 3, 5) == 0
    assert hits.Alike(database.sequences, hear).likeness(end - 5, end - 4, 5) > 0.99


def test_only_answers_before_a_right_one_are_listened_to():
    right = np.array([[False, True, False], [True, False, False], [False, False, False]])
    places = np.array([[3, 4, 5], [6, 7, 8], [9, -1, 10]])
    asked = []

    def alike(begin, place, query_frames):
        asked.extend(place.tolist())
        return place == 10

    found = hits.same_audio(right, places, np.array([0, 1, 2]), np.array([5, 5, 5]), alike)
    assert asked == [3, 9, 10] and hits.rank(found).tolist() == [2, 1, 3]


def test_likeness_against_a_loop():
    rng = np.random.default_rng(0)
    sound, place = rng.standard_normal(40), rng.standard_normal(60)
    naive = [correlation(sound, place[k : k + 40]) for k in range(21)]
    assert likeness(sound, place) == pytest.approx(max(naive), rel=1e-6)
    place[7:47] = -0.01 * sound  # quieter, and of other polarity
    assert likeness(sound, place) == pytest.approx(1, abs=1e-4)
    assert likeness(sound, np.zeros(60)) == 0
