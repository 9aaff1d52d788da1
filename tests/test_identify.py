"""What is named and what is not: silence, parts of a stream, other speeds and fingerprinters."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soxr
from conftest import unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from test_catalogue import RATE, tune, write

import amg
from amg import files
from amg.catalogue import calibration, indexing, listening, models, significance, windows
from amg.catalogue.catalogue import Catalogue
from amg.check import InputError
from amg.embedding import crops, runs
from amg.fingerprint import features, fingerprinters
from amg.retrieval import databases


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """Four tunes of half a minute, and three of 4, 6 and 9 s."""
    folder = tmp_path_factory.mktemp("music")
    for seed, seconds in ((1, 30), (2, 30), (3, 30), (4, 30), (11, 4), (12, 6), (13, 9)):
        write(folder / f"{seed}.wav", tune(seed, seconds))
    indexing.index([folder], folder / ".catalogue")
    return Catalogue.load(folder / ".catalogue")


def named(sound, catalogue, method="two_stage"):
    """(name of the tune, where it begins in the query) of each match."""
    matches = amg.identify((sound.astype(np.float32), RATE), catalogue, method).matches
    return [(match.name.removesuffix(".wav"), match.begin_s) for match in matches]


def around(sound, seconds, level):
    """The sound with so much noise of a level before and behind it; 0: digital silence."""
    noise = level * np.random.default_rng(0).standard_normal((2, int(seconds * RATE)))
    return np.concatenate([noise[0], sound, noise[1]])


@pytest.mark.parametrize("level", [0, 1e-6, 1e-4])
@pytest.mark.parametrize("seconds", [0.4, 3, 6, 30])
def test_silence_around_a_clip_does_not_hide_it(catalogue, seconds, level):
    for length in (3, 5, 8):
        clip = tune(2, 30)[12 * RATE : (12 + length) * RATE]
        ((name, begin_s),) = named(around(clip, seconds, level), catalogue)
        assert name == "2" and abs(begin_s - seconds) < 2


def test_a_jingle_is_heard_within_a_stream(catalogue):
    parts = [tune(21, 40), tune(11, 4), tune(22, 40), tune(12, 6), tune(23, 40), tune(13, 9)]
    due = np.cumsum([0, *map(len, parts)])[1::2] / RATE
    answers = named(np.concatenate(parts), catalogue)
    assert [name for name, _ in answers] == ["11", "12", "13"]
    assert np.abs(np.array([begin_s for _, begin_s in answers]) - due).max() < 2


@pytest.mark.parametrize("percent", [-4, -3, -2, -1, 1, 2, 3, 4])
def test_at_another_speed_the_right_one_is_named_or_none(catalogue, percent):
    """Half of the right ones at least, and where they are."""
    speed, right = 1 + percent / 100, 0
    for seed in (1, 2, 3, 4):
        clip = tune(seed, 30)[8 * RATE : 18 * RATE]
        played = soxr.resample(clip, speed * RATE, RATE)
        answer = amg.identify((played.astype(np.float32), RATE), catalogue)
        assert [match.path for match in answer.matches if f"/{seed}.wav" not in match.path] == []
        for match in answer.matches[:1]:
            right += 1
            assert abs(match.position_s - match.begin_s * speed - 8) < 0.5
            assert abs(match.speed - speed) < 0.025
    assert right >= 2


@pytest.mark.parametrize("seed", range(30, 34))
def test_a_speed_lends_no_name_to_other_music(catalogue, seed):
    for speed in (0.97, 1.03):
        played = soxr.resample(tune(seed, 12), speed * RATE, RATE)
        assert named(played, catalogue) == []


@pytest.mark.parametrize("decibel", [-140, -110, -95])
def test_near_silence_is_no_music(catalogue, decibel):
    noise = 10 ** (decibel / 20) * np.random.default_rng(0).standard_normal(5 * RATE)
    with pytest.raises(InputError, match="nothing but silence"):
        amg.identify((noise, RATE), catalogue)


def test_levels_against_a_naive_loop():
    """Whatever the blocks that the sound comes in."""
    rng, size = np.random.default_rng(0), round(listening.LEVEL_S * RATE)
    sound = (rng.uniform(0, 1, 3 * RATE + 7) * 0.1).astype(np.float32)
    blocks = np.split(sound, [1, 1999, 2001, 9000])
    _, level = listening.listen("it", blocks, fingerprinters.find())
    quarters = [sound[at : at + size] for at in range(0, len(sound) - size + 1, size)]
    naive = [10 * np.log10(np.mean(quarter.astype(float) ** 2)) for quarter in quarters]
    np.testing.assert_allclose(level, naive)


def test_a_frame_sounds_if_every_quarter_of_its_second_does():
    level = np.array([-20.0, -20, -20, -20, -85, -20, -20, -20, -20, -20])
    assert listening.sounding(level).tolist() == [True, False, False, False, False, True, True]
    assert not listening.sounding(np.full(8, -95.0)).any()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=8), st.sampled_from([9, 19]))
def test_windows_lie_within_what_sounds_and_leave_nothing_out(runs_of, longest):
    sounding = np.concatenate([np.zeros(0, bool), *(np.full(n, on) for on, n in runs_of)])
    covered = np.zeros(len(sounding) + 1, bool)
    for length, first in windows.laid(sounding, longest).items():
        assert length <= longest
        for at in first:
            window = sounding[at : at + windows.GRIDS * length]
            assert window.mean() >= 0.5
            covered[at : at + windows.GRIDS * length] = True
    for begin, end in windows.parts(sounding):
        assert sounding[begin] and sounding[end - 1]
        if sounding[begin:end].all():  # but for an odd one at the end
            assert covered[begin : end - 1].all() or end - begin == 1
        covered[begin : max(end, begin + windows.GRIDS)] = False
    assert not covered.any()


def test_what_fits_in_a_window_is_not_heard_in_shorter_ones():
    part = np.ones(2 * 19, bool)
    assert windows.laid(part, 19) == {19: [0]} and windows.laid(part, 9, beyond=19) == {}
    assert windows.laid(np.ones(2 * 20, bool), 9, beyond=19).keys() == {9}


def test_a_trained_encoder_hears_each_grid():
    rng = np.random.default_rng(0)
    songs = [unit_rows(rng, 40, 128) for _ in range(3)]
    catalogue = Catalogue.of(songs, models.load("mt"))
    window = np.stack([unit_rows(rng, 19, 128), songs[1][19:38]])[None]  # the second grid has it
    for method in ("single_stage", "two_stage"):
        places, scores = windows.find(window, catalogue, method)
        assert places.shape[:2] == scores.shape[:2] == (1, 2)
        assert places[0, 1, 0] == 40 + 19 and scores[0, 1, 0] > 0.99


def test_every_shipped_encoder_is_calibrated():
    for encoder in models.ENCODERS:
        for duration_max in crops.DURATIONS:
            laws = significance.load(models.load(encoder, duration_max)).laws
            assert laws.keys() == set(windows.METHODS)
            for method in laws:
                length, rate = laws[method]["frames"], laws[method]["rate"]
                assert length == sorted(set(length)) and min(rate) > 0
            assert max(laws["single_stage"]["frames"]) == crops.segment_frames(duration_max)


class Folded:
    """A fingerprinter of one's own: as the shipped one, its values in reverse."""

    hop, window, dimension = 4000, 8000, 128

    def __init__(self):
        self.shipped = fingerprinters.find().load()

    def extract(self, recordings, hop=4000):
        for frames in self.shipped.extract(recordings, hop):
            yield np.ascontiguousarray(frames[:, ::-1])


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(fingerprinters, "SOURCES", dict(fingerprinters.SOURCES))
    fingerprinters.register("folded")(lambda weights, device: Folded())
    return fingerprinters.find("folded")


def test_a_fingerprinter_of_ones_own_names_nothing_before_it_is_calibrated(own, tmp_path):
    write(tmp_path / "music/a.wav", tune(1))
    with pytest.raises(InputError, match="is not calibrated.*amg calibrate"):
        models.load(fingerprinter="folded")
    made_by = models.load("mean", fingerprinter="folded")  # needs no usual energies
    indexing.index([tmp_path / "music"], tmp_path / "catalogue", made_by, workers=1)
    with pytest.raises(InputError, match="is not calibrated"):
        amg.identify((tune(1, 8), RATE), Catalogue.load(tmp_path / "catalogue", "folded"))


def test_calibrating_it_helps(own, tmp_path, monkeypatch):
    """On tunes; the music is named, other music is not, and the kit's own files are untouched."""
    monkeypatch.setenv("AMG_HOME", str(tmp_path))
    monkeypatch.setattr(calibration, "LENGTHS", (9, 19))
    monkeypatch.setattr(models, "ENCODERS", ("lift",))
    monkeypatch.setattr(crops, "DURATIONS", (10,))
    shipped = {path: files.sha256(path) for path in runs.shipped("").parent.iterdir()}
    data, database = prepared(own)
    table = calibration.calibrate(data, database, 8, "folded")
    assert len(significance.background(own)) == 20  # in tune and out of tune
    assert {*table.frames} == {9, 19} and table.n_fitted.min() > 20
    for seed in range(3):
        write(tmp_path / f"music/{seed}.wav", tune(seed))
    made_by = models.load(fingerprinter="folded")
    indexing.index([tmp_path / "music"], tmp_path / "catalogue", made_by, workers=1)
    catalogue = Catalogue.load(tmp_path / "catalogue", "folded")
    assert named(tune(1)[8 * RATE : 16 * RATE], catalogue)[0][0] == "1"
    assert named(tune(99, 8), catalogue) == []
    assert shipped == {path: files.sha256(path) for path in runs.shipped("").parent.iterdir()}
    with pytest.raises(InputError, match="made with the fingerprinter"):
        calibration.calibrate(data, database, 8)


class Tune:
    """A clip of a tune."""

    def __init__(self, seed):
        self.seed = seed

    def blocks(self):
        return [tune(self.seed, 30).astype(np.float32)]


def prepared(source):
    """Training songs in two versions, and a database of distractors, as notebook 01 makes them."""
    extract = source.load().extract
    clean = [tune(seed, 10).astype(np.float32) for seed in range(200, 236)]
    noisy = [sound + np.float32(0.02) * np.sign(sound) for sound in clean]
    frames = [*extract([[sound] for pair in zip(clean, noisy) for sound in pair])]
    length = np.array([len(of) for of in frames])
    first = (np.cumsum(length) - length).reshape(-1, 2)
    data = features.TrainingSet(
        np.concatenate(frames), first, length.reshape(-1, 2), "tunes", [], source.digest
    )
    clips = [Tune(seed) for seed in range(300, 340)]
    songs = [*extract(clip.blocks() for clip in clips)]
    database = databases.Database.of(songs, len(songs))
    return data, replace(database, clips=clips, fingerprinter=source.digest)


def test_the_speed_is_in_the_json(catalogue):
    clip = tune(1, 30)[8 * RATE : 18 * RATE].astype(np.float32)
    match = amg.identify((clip, RATE), catalogue).to_dict()["matches"][0]
    assert json.loads(json.dumps(match))["speed"] == 1
