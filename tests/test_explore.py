"""Notebook 10: one query explored, named as people would, and shown."""

from dataclasses import replace

import numpy as np
import pytest
from test_catalogue import tune

from amg import paths
from amg.catalogue import models, significance
from amg.check import InputError
from amg.report import figures, query_charts
from amg.retrieval import databases
from amg.sound import pools, recordings
from amg.sound.audio import SAMPLE_RATE
from amg.sound.clips import Clip
from amg.studies import explore

NAMES = ["bach/bwv1.6.mxl", "mozart/k80/movement2.mxl", "ryansMammoth/RakesOfMallowReel.abc"]


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    """Three songs of 30 s, of which the first is nobody's, a noise of each kind and two rooms."""
    rng = np.random.default_rng(0)
    decay = np.exp(-np.arange(4000)[None] / SAMPLE_RATE * np.array([[30.0], [10.0]]))
    rooms = (decay * rng.standard_normal((2, 4000)))[::-1].astype(np.float32)  # the wet one first
    noises = rng.standard_normal((3, 30 * SAMPLE_RATE)).astype(np.float16)
    kinds = np.array(["coloured", "coloured", "music"])
    pool = pools.Pool(noises, kinds, rooms, rooms, rooms, np.array([]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMG_HOME", str(tmp_path_factory.mktemp("explored")))
        clips, sounds = [], []
        for number, name in enumerate(NAMES):
            file = paths.resolve(f"{number}.flac")
            recordings.write(file, [tune(number, 30).astype(np.float32)])
            clips.append(Clip(name, name, name.split("/")[0]).whole(file))
            sounds.append([clips[-1].read()])
        songs = list(models.load().fingerprinter.load().extract(sounds))
        database = databases.Database.of(songs, 1, NAMES)
        yield explore.Explorer(replace(database, clips=clips), pool)


def test_a_right_answer_says_so(explorer):
    seen = explorer.ask(0, begin_s=3.1)
    assert seen.verdicts == ["right"] and seen.score > seen.enough
    assert str(seen).splitlines()[:2] == [
        "asked: Mozart: K 80, movement 2 at 3.1 s",
        "heard: Mozart: K 80, movement 2 at 3.0 s ✓ right",
    ]
    assert str(seen).splitlines()[2] == f"The query lasts 8.0 s: {seen.through}."
    assert "by chance" in str(seen) and f"at most {significance.ALLOWED:g} times" in str(seen)
    right = seen.neighbours[seen.neighbours.right]
    assert len(right) and set(right.title) == {"Mozart: K 80, movement 2"}
    assert (right.from_s < 11.1).all() and (right.from_s > 3.1 - 10).all()
    assert seen.neighbours.right.iloc[0] and not seen.neighbours.right.all()
    fit = seen.fits[0][1]
    best = fit.loc[fit.score.idxmax()]
    assert abs(best.at_s - 3.1) < 0.26 and best.score == pytest.approx(seen.score)
    assert best.score == pytest.approx(seen.answer.matches[0].score, abs=1e-4)


def test_what_is_missed_is_said_to_be_there_and_what_would_have_been_enough(explorer):
    seen = explorer.ask(1, begin_s=10, snr_db=-20, noise=0, room=0)
    assert not seen.answer.matches and seen.score < seen.enough < 1
    assert seen.headline.splitlines()[1] == (
        f"heard: not here ✗ although it is (score {seen.score:.2f}; about {seen.enough:.2f} would "
        "have been enough)"
    )
    # a score that is enough in this window is so with less noise, too
    better = explorer.ask(1, begin_s=10, snr_db=0, noise=0, room=0)
    assert better.verdicts == ["right"] and better.score > seen.enough


def test_from_the_score_on_that_is_enough_a_match_counts(explorer):
    sides = set()
    for snr_db in range(-20, 0, 2):
        seen = explorer.ask(1, snr_db=snr_db, noise=2)
        for match in seen.answer.candidates:
            whole = match.speed == 1 and match.end_s - match.begin_s > 7
            if whole and abs(match.score - seen.enough) > 0.02:  # that of the other grid may differ
                counts = match.score > seen.enough
                assert counts == (match.chance <= significance.ALLOWED)
                sides.add(counts)
    assert sides == {True, False}


def test_wrong_answers_are_told_from_right_ones(explorer):
    seen = explorer.ask(0, begin_s=3.0, noise=-1, room=-1)
    (match,) = seen.answer.matches
    of = explorer.number
    assert explorer._verdict(match, of[NAMES[1]], 3.0) == "right"
    assert explorer._verdict(match, of[NAMES[1]], 12.0) == "wrong place"
    assert explorer._verdict(match, of[NAMES[2]], 3.0) == "wrong song"
    wrong = replace(
        seen, verdicts=["wrong song"], enough=1.0, asked="X", fits=[("X", seen.fits[0][1])]
    )
    assert "✗ wrong song" in wrong.headline and "about 1.00 would have been enough" in str(wrong)
    other = replace(wrong, enough=0.1)
    assert "which is enough, but another place fits better" in str(other)


def test_an_excerpt_cannot_leave_the_song(explorer):
    for excerpt, begin_s, length_s in (
        ((3.0, 11.0), 3.0, 8.0),
        ((30.0, 30.0), 28.5, 1.5),
        ((0.0, 0.5), 0.0, 1.5),
        ((0.0, 30.0), 0.0, 30.0),
    ):
        seen = explorer.between(excerpt, song=1, snr_db=20, noise=-1, room=-1)
        assert seen.begin_s == begin_s and len(seen.query) == length_s * SAMPLE_RATE
        assert seen.verdicts[0] == "right"
    for wrong, said in (
        ({"begin_s": 25}, "begin_s is 25, but must be a number from 0 to 22"),
        ({"length_s": 31}, "length_s is 31, but must be a number from 1.5 to 30"),
        ({"song": 2}, "song is 2, but must be a whole number from 0 to 1"),
        ({"noise": 3}, "noise is 3, but must be a whole number from -1 to 2"),
        ({"room": -2}, "room is -2, but must be a whole number from -1 to 1"),
        ({"snr_db": 99}, "snr_db is 99, but must be"),
    ):
        with pytest.raises(InputError, match=said):
            explorer.ask(**wrong)


def test_noises_rooms_and_songs_have_names(explorer):
    assert list(explorer.noises) == ["no noise", "hiss 1", "hiss 2", "music 1"]
    assert explorer.noises["music 1"] == 2 and explorer.noises["no noise"] == -1
    names = list(explorer.rooms)
    assert names[0] == "no room" and [explorer.rooms[name] for name in names] == [-1, 1, 0]
    assert list(explorer.songs) == [
        "0: Mozart: K 80, movement 2",
        "1: Ryans Mammoth: Rakes Of Mallow Reel",
    ]
    through = explorer.ask(noise=2, room=1, snr_db=7).through
    assert through == f"music 1 at 7 dB SNR, {names[1]}"


@pytest.mark.parametrize(
    "piece, source, title",
    [
        ("bach/bwv248.33-3.mxl", "bach", "Bach: BWV 248.33 3"),
        ("beethoven/opus59no1/movement2.mxl", "beethoven", "Beethoven: Opus 59 no 1, movement 2"),
        ("ryansMammoth/StPatricksDayJig.abc", "ryansMammoth", "Ryans Mammoth: St Patricks Day Jig"),
        ("palestrina/Agnus_II_06.krn", "palestrina", "Palestrina: Agnus II 06"),
        ("monteverdi/madrigal.3.10.mxl", "monteverdi", "Monteverdi: Madrigal 3.10"),
        ("夜に駆ける.mp3", ".", "夜に駆ける"),
        ("A/B/01 One vol. 2.mp3", "A", "A: 01 One vol. 2"),
        ("A/a\nb.wav", "A", r"A: a\nb"),
        ("game/usr/share/game/boss.ogg x0.94", "game", "game: boss x0.94"),
    ],
)
def test_titles_are_as_people_write_them(piece, source, title):
    assert explore.title(Clip(piece, piece, source)) == title
    if source == "A":
        assert explore.title(Clip(f"{piece}@30.5", piece, source)) == f"{title} (from 30.5 s)"


def test_the_chart_marks_what_is_right(explorer):
    figures.begin()
    seen = explorer.ask(0)
    left, right = query_charts.stages(seen).axes
    assert [bar.get_facecolor()[1] > bar.get_facecolor()[0] for bar in left.patches] == list(
        seen.neighbours.right
    )  # green or grey
    assert {text.get_text() for text in right.get_legend().get_texts()} == {
        "Mozart: K 80, movement 2",
        "where it was asked for",
        "about enough to count",
    }
    missed = explorer.ask(1, snr_db=-20)
    assert "not here ✗ although it is" in query_charts.stages(missed).get_suptitle()


def test_any_title_can_be_drawn(explorer):
    seen, title = explorer.ask(0, snr_db=-20), "$\\frac{ <b>&amp; $_^ " + 60 * "x"
    seen.neighbours["title"] = title
    fits = [(title, seen.fits[0][1])]
    figure = query_charts.stages(replace(seen, asked=title, fits=fits))
    assert figures.image(figure).data
    assert title in figure.get_suptitle()
    assert title[:30] in figure.axes[0].get_yticklabels()[0].get_text()
