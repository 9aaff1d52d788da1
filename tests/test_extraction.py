"""Clips become stored fingerprints."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from amg import provenance
from amg.check import InputError
from amg.fingerprint import extraction, features, fingerprinters, nafp
from amg.sound import clips, degrade, pools

RATE = 8000


@pytest.fixture
def music(home):
    """Two clips of 4 s, out of recordings of 6 s."""
    rng = np.random.default_rng(0)
    for name in "ab":
        soundfile.write(home / f"{name}.flac", 0.1 * rng.standard_normal(6 * RATE), RATE)
    return [
        clips.Clip(name, name, ".", "1.0", f"{name}.flac", 1.0, 4.0, 0, 0, "", role).measured()
        for name, role in (("a", "dummy"), ("b", "test"))
    ]


@pytest.fixture
def pool(home, monkeypatch):
    monkeypatch.setattr(pools, "N_NOISES", dict.fromkeys(pools.SIDES, 1))
    return pools.make("test", {}, 1, 0, 1)


def test_training_set_in_the_published_layout(home, music, pool):
    prints, folder = fingerprinters.find(), home / "t"
    extraction.training_set(music, folder, 3, pool, prints, 0, 1)
    assert clips.from_table(clips.read_csv(home / "t.songs.csv")) == music
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{song}-{version:02d}.npy" for song in (1, 2) for version in range(3)]
    encoder = nafp.load()
    for song, clip in enumerate(music, 1):
        original = nafp.extract(encoder, clip.read())
        np.testing.assert_allclose(features.load(folder / f"{song}-00.npy"), original, atol=1e-5)
        sound = degrade.degrade(clip.read, [0, extraction.TRAIN, song, 2], pool)
        np.testing.assert_allclose(
            features.load(folder / f"{song}-02.npy"), nafp.extract(encoder, sound), atol=1e-5
        )
    before = {name: features.load(folder / name) for name in names}
    (folder / "2-01.npy").unlink()  # as if interrupted
    kept = (folder / "1-01.npy").stat().st_mtime_ns
    extraction.training_set(music, folder, 3, pool, prints, 0, 1)
    for name in names:  # of 4 s: in a batch of other windows a last bit may differ
        np.testing.assert_allclose(features.load(folder / name), before[name], atol=1e-6)
    assert (folder / "1-01.npy").stat().st_mtime_ns == kept


def test_originals_are_kept_by_their_sound(home, music):
    prints = fingerprinters.find()
    first, second = extraction.originals(music, prints, 1)
    extraction.songs(music, home / "s", prints, 0, 1)
    assert (home / "s/00001.npy").read_bytes() == second.read_bytes() != first.read_bytes()
    soundfile.write(home / "a.flac", *soundfile.read(home / "b.flac"))  # replaced
    assert extraction.originals([music[0].measured()], prints, 1) == [second]
    with pytest.raises(InputError, match="a.flac was replaced since a was listened to"):
        extraction.songs(music, home / "other", prints, 0, 1)


@pytest.mark.parametrize("kinds", [("offset",), degrade.KINDS])
def test_queries_at_any_offset_are_excerpts_of_the_recording(home, music, pool, kinds):
    extraction.condition(music, home / "c", fingerprinters.find(), 0, 1, pool, kinds, 2, snr_db=3.0)
    late = extraction.late_frames(2, 0, pool)
    for i, clip in enumerate(music):
        setting = replace(extraction.drawn(0, i, pool, kinds), snr_db=3.0)
        assert setting.offset_s * 2 == pytest.approx(late[i]) and abs(late[i]) <= 0.5
        sound = degrade.apply(clip.read(0.25), setting, pool, 0.25)
        if kinds == ("offset",):
            late_s = round(setting.offset_s * RATE) / RATE
            excerpt = replace(clip, start_s=1 + late_s).read() * 10 ** (setting.gain_db / 20)
            np.testing.assert_allclose(sound, excerpt, atol=1e-6)
        expected = next(nafp.extract_all(nafp.load(), [[sound]], 2000))
        np.testing.assert_allclose(features.load(home / f"c/{i:05d}.npy"), expected, atol=1e-4)


def test_whatever_decides_a_thing_makes_another_one(home, music, pool, tmp_path):
    prints, (dummy, test) = fingerprinters.find(), music
    (tmp_path / "w").write_text("other weights")
    other = replace(prints, weights=tmp_path / "w")
    louder = replace(test, sha256="0" * 64)

    def database(tests=(test,), dummies=(dummy,), prints=prints, seed=0, pool=pool, device="cpu"):
        clips_of = {"test": tests, "dummy": dummies}
        return extraction.recipe("database", clips_of, prints, seed, pool, device).digest

    def training(train=(test,), valid=(dummy,), n_versions=2, prints=prints, seed=0, pool=pool):
        return extraction.recipe(
            "training set",
            {"train": train, "valid": valid},
            prints,
            seed,
            pool,
            "cpu",
            n_versions=n_versions,
        ).digest

    more = replace(pool, digest="more")
    digests = [
        database(),
        database(tests=(louder,)),
        database(dummies=(louder,)),
        database(dummies=()),
        database(prints=other),
        database(seed=1),
        database(pool=more),
        database(device="cuda"),
        training(),
        training(train=(louder,)),
        training(valid=(louder,)),
        training(valid=()),
        training(n_versions=3),
        training(prints=other),
        training(seed=1),
        training(pool=more),
    ]
    assert len(set(digests)) == len(digests)
    assert database() == digests[0]
    recipe = extraction.recipe("database", {"test": [test, test]}, prints, 0, pool, "cpu")
    assert recipe.parameters["n_test"] == 2 and recipe.inputs["fingerprinter"] == prints.digest


def test_a_database_tells_its_songs_and_who_made_its_queries(home, music, pool):
    prints, (dummy, test) = fingerprinters.find(), music
    recipe = extraction.recipe(
        "database", {"test": [test], "dummy": [dummy]}, prints, 0, pool, "cpu"
    )
    with provenance.making(home / "db", recipe) as place:
        extraction.write_songs([dummy, test], place.folder)
    table = clips.read_csv(home / "db/songs.csv")
    assert list(table.name) == ["00000", "00000"] and clips.from_table(table) == [dummy, test]
    extraction.check_queries(home / "db", [test], [dummy], prints, 0, pool)
    for seed, of_pool in ((1, pool), (0, replace(pool, digest="other"))):
        with pytest.raises(InputError, match="db was made with other parameters than these"):
            extraction.check_queries(home / "db", [test], [dummy], prints, seed, of_pool)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_extraction_on_cuda(home, music, pool):
    for device in ("cpu", "cuda"):
        extraction.songs(music, home / device, fingerprinters.find(), 0, 1, pool, device=device)
    for name in ("00000.npy", "00001.npy"):
        np.testing.assert_allclose(
            features.load(home / "cuda" / name), features.load(home / "cpu" / name), atol=2e-3
        )
