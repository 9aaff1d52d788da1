"""The fingerprinter: its size, its loss, its training, its shipped weights."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import unit_rows

from amg import checkpoint, files, provenance
from amg.check import InputError
from amg.fingerprint import nafp, nafp_train, pairs
from amg.retrieval import search
from amg.sound import audio, degrade, pools


def test_full_network_has_the_published_size_and_runs():
    network = nafp.NAFP(nafp.FULL)
    assert sum(p.numel() for p in network.parameters()) == 19_224_576
    assert network(torch.randn(2, 8000)).shape == (2, 128)


def test_extract_gives_unit_rows():
    samples = np.random.default_rng(0).standard_normal(5 * 8000).astype(np.float32)
    rows = nafp.extract(nafp.load(), samples)
    assert rows.shape == (9, 128) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    one = nafp.extract(nafp.load(), samples[4000:12000])  # a frame does not see its neighbours
    np.testing.assert_allclose(one[0], rows[1], atol=1e-4)


def test_a_shorter_hop_interleaves_later_starts():
    samples = np.random.default_rng(0).standard_normal(5 * 8000).astype(np.float32)
    encoder = nafp.load()
    dense = next(nafp.extract_all(encoder, [[samples]], hop=1000))
    assert len(dense) == 4 * 8 + 1
    for k in range(4):
        np.testing.assert_allclose(
            dense[k::4], nafp.extract(encoder, samples[1000 * k :]), atol=1e-4
        )


def in_blocks(rng, seconds):
    """Clips of noise, and the same in five blocks of any length each."""
    clips = [rng.standard_normal(int(s * 8000)).astype(np.float32) for s in seconds]
    return clips, [np.split(clip, np.sort(rng.integers(0, len(clip), 4))) for clip in clips]


@pytest.mark.parametrize("seconds", [(1, 1.4, 3), (40, 2), (35.5,)])
def test_recordings_in_blocks_equal_whole_clips(seconds):
    """Whatever the blocks, and whatever else shares the batch: the same rows."""
    encoder, (clips, blocks) = nafp.load(), in_blocks(np.random.default_rng(0), seconds)
    found = list(nafp.extract_all(encoder, blocks))
    assert [len(rows) for rows in found] == [len(audio.frame(clip)) for clip in clips]
    for rows, clip in zip(found, clips, strict=True):
        np.testing.assert_allclose(rows, nafp.extract(encoder, clip), atol=1e-5)


def test_blocks_of_less_than_a_second_are_refused():
    _, blocks = in_blocks(np.random.default_rng(0), (0.6, 5))
    with pytest.raises(InputError, match="8000 samples"):
        list(nafp.extract_all(nafp.load(), blocks))


def test_a_long_recording_is_read_as_it_is_encoded():
    """Extraction asks for a block when it needs one: it never holds more than a few."""
    ahead = []

    def blocks():
        for number in range(6):
            ahead.append(number)
            yield np.zeros(30 * 8000, np.float32)

    class Counting(torch.nn.Linear):
        dimension, seen = 128, 0

        def forward(self, windows):
            self.seen += len(windows)
            assert len(ahead) * 60 - self.seen <= 2 * 60
            return torch.ones(len(windows), 128)

    rows = next(nafp.extract_all(Counting(1, 1), [blocks()]))
    assert len(rows) == audio.n_frames(180)


def test_shipped_weights_are_small_and_described():
    path = nafp.shipped()
    card = json.loads(path.with_suffix(".json").read_text())
    assert path.stat().st_size <= 6_000_000 and card["sha256"] == files.sha256(path)
    assert {"music_hours", "noise", "steps", "training_hours", "seed", "validation"} <= set(card)
    assert card["test"]["weaknesses"] and card["test"]["queries_per_length"] >= 400


def test_changed_weights_are_refused(tmp_path):
    for suffix in (".safetensors", ".json"):
        shutil.copy(nafp.shipped().with_suffix(suffix), tmp_path / f"w{suffix}")
    raw = bytearray((tmp_path / "w.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "w.safetensors").write_bytes(raw)
    with pytest.raises(InputError, match="SHA-256"):
        nafp.load(tmp_path / "w.safetensors")


def test_missing_or_foreign_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match="00_fingerprinter"):
        nafp.load(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        nafp.load(tmp_path / "text.safetensors")


@pytest.mark.parametrize(
    "record", [{}, {"size": "huge"}, {"size": ["lite"]}, {"config": {"layers": 2}}]
)
def test_checkpoints_of_other_things_are_no_weights(tmp_path, record):
    checkpoint.save(tmp_path / "w.safetensors", {"model.w": torch.zeros(3)}, record)
    with pytest.raises(InputError, match="not a NAFP checkpoint"):
        nafp.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("card", ["", "[]", "{}", '{"sha256": 3}'])
def test_weights_with_a_damaged_card_are_refused(tmp_path, card):
    shutil.copy(nafp.shipped(), tmp_path / "w.safetensors")
    (tmp_path / "w.json").write_text(card)
    with pytest.raises(InputError, match="SHA-256"):
        nafp.load(tmp_path / "w.safetensors")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    encoder = nafp.NAFP()
    encoder.head.b2.data[3] = float("nan")
    with pytest.raises(InputError, match="infinite weights or NaN"):
        nafp.load(nafp_train.save(encoder, tmp_path / "w.safetensors", "lite"))


def test_weights_of_another_network_are_refused(tmp_path):
    other = nafp.NAFP(nafp.Config(128, (8,) * 7 + (128,), nafp.LITE.time_strides))
    nafp_train.save(other, tmp_path / "w.safetensors", "lite")
    with pytest.raises(InputError, match="not a NAFP checkpoint of this version"):
        nafp.load(tmp_path / "w.safetensors")


def test_whitening_decorrelates():
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((4000, nafp.DIM)) * np.linspace(0.1, 1, nafp.DIM)
    vectors = (mixed @ rng.standard_normal((nafp.DIM, nafp.DIM)) + 3).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whitening = nafp.Whitening()
    unchanged = whitening(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(unchanged, vectors, atol=1e-6)
    whitening.fit(vectors, floor=0)
    white = whitening(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(np.linalg.norm(white, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.cov(white.T) * nafp.DIM, np.eye(nafp.DIM), atol=0.15)


def test_shipping_keeps_the_vectors_and_describes_them(noise, tmp_path, monkeypatch):
    monkeypatch.setattr(nafp, "shipped", lambda name="lite": tmp_path / f"nafp_{name}.safetensors")
    torch.manual_seed(0)
    encoder = nafp.NAFP().eval()
    nafp_train.whiten(encoder, noise[0], n_windows=400)
    path = nafp_train.ship(encoder, {"steps": 3}, "lite")
    sound = noise[0][0].astype(np.float32) / 32768
    kept = nafp.extract(nafp.load(path), sound)
    assert (kept * nafp.extract(encoder, sound)).sum(axis=1).min() > 0.99
    card = json.loads(nafp_train.add_to_card("test", {"top1": 50.0}).read_text())
    assert card == {"sha256": files.sha256(path), "steps": 3, "test": {"top1": 50.0}}


def test_nt_xent_against_a_naive_loop():
    rng = np.random.default_rng(0)
    a, b = unit_rows(rng, 5, 16), unit_rows(rng, 5, 16)
    rows, total = np.concatenate([a, b]).astype(float), 0.0
    for i in range(10):
        others = [math.exp(rows[i] @ rows[j] / 0.05) for j in range(10) if j != i]
        total -= math.log(math.exp(rows[i] @ rows[(i + 5) % 10] / 0.05) / sum(others))
    ours = nafp_train.nt_xent(torch.from_numpy(a), torch.from_numpy(b)).item()
    assert ours == pytest.approx(total / 10, rel=1e-5)


def test_windows_of_a_visit_come_from_one_place(noise):
    tracks = [np.full(20 * 8000, 1000 * (i + 1), np.int16) for i in range(9)]
    config = nafp_train.Config(pairs=8, per_visit=4)
    anchors, replicas = pairs.Pairs(tracks, ["a"] * len(tracks), noise[1], config)[3]
    level = (anchors[:, 0] * 32768 / 1000).round().int().tolist()
    assert len(set(level[:4])) == len(set(level[4:])) == 1
    assert anchors.shape == replicas.shape == (8, 8000)


def test_a_long_track_is_visited_more_often(noise):
    tracks = [np.full(n * 8000, 1000 * (i + 1), np.int16) for i, n in enumerate((3, 27))]
    batches = pairs.Pairs(tracks, ["a"] * len(tracks), noise[1], nafp_train.Config(pairs=50))
    levels = torch.cat([batches[i][0][:, 0] for i in range(8)]) * 32768 / 1000
    assert 0.85 < (levels.round() == 2).float().mean() < 0.95


def test_half_of_the_places_belong_to_one_source(noise):
    """Of ten tracks as long as each other, two are of each source: a fifth by chance."""
    tracks = [np.full(20 * 8000, 1000 * (i + 1), np.int16) for i in range(10)]
    config = nafp_train.Config(pairs=60, per_visit=1)
    batches = pairs.Pairs(tracks, [*"aabbccddee"], noise[1], config)
    counts = []
    for i in range(10):
        track = (batches[i][0][:, 0] * 32768 / 1000).round().int().numpy() - 1
        counts.append(np.bincount(track // 2, minlength=5))
    assert all(29 <= max(of_batch) <= 48 for of_batch in counts)
    assert len({np.argmax(of_batch) for of_batch in counts}) > 1


@pytest.mark.parametrize("tempo", [0.97, 1.0, 1.03])
def test_a_replica_at_another_tempo_keeps_the_middle_and_moves_the_pitch(tempo):
    seconds = np.arange(4 * 8000) / 8000
    tone = np.sin(2 * np.pi * 440 * seconds) * np.exp(-(((seconds - 2) / 0.2) ** 2))
    part = pairs._excerpt(tone.astype(np.float32), 2 * 8000 - 4000, tempo)
    assert len(part) == pairs.LEAD + 8000
    window = part[pairs.LEAD :]
    assert abs(np.sum(window**2 * np.arange(8000)) / np.sum(window**2) - 4000) < 10
    pitch = np.abs(np.fft.rfft(window)).argmax()
    assert pitch == pytest.approx(440 * tempo, abs=1.5)


def test_quiet_places_are_left_out(noise):
    track = np.zeros(60 * 8000, np.int16)
    track[: 30 * 8000] = 1000
    anchors, _ = pairs.Pairs([track], ["a"], noise[1], nafp_train.Config(pairs=40, per_visit=1))[0]
    assert (anchors.abs().amax(dim=1) > 0).float().mean() > 0.9


@pytest.mark.parametrize(
    "wrong", [{"size": "huge"}, {"steps": 0}, {"seed": -1}, {"peak_lr": "fast"}, {"per_visit": 1.5}]
)
def test_a_wrong_configuration_is_refused(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is"):
        nafp_train.Config(**wrong)


def test_cut_out_blanks_one_rectangle():
    spectrograms = torch.zeros(20, 1, 64, 32)
    blank = pairs.cut_out(spectrograms, torch.Generator().manual_seed(0))[:, 0] == -1
    assert blank.any()
    for picture in blank:
        rows, columns = picture.any(1).sum(), picture.any(0).sum()
        assert picture.sum() == rows * columns and rows <= 33 and columns <= 17


@pytest.fixture
def noise():
    """Four clips of noise and a pool that only adds more of it: (clips, pool)."""
    rng = np.random.default_rng(0)
    clips = [(rng.standard_normal(24000) * 3000).astype(np.int16) for _ in range(4)]
    ones = np.ones((1, 1), np.float32)
    return clips, pools.Pool(
        rng.standard_normal((2, 24000)).astype(np.float32),
        np.array(["coloured", "coloured"]),
        ones,
        ones,
        ones,
        np.array(["a"]),
    )


def fit(noise, config, validate=lambda _: {}, name="mine", every=2):
    """A training on four clips, validated by whatever is given."""
    clips, pool = noise
    return nafp_train.fit(
        config,
        {"train": clips, "valid": clips[:1]},
        ["a"] * len(clips),
        {"train": pool, "valid": pool},
        name,
        validate,
        every,
    )


class Stop(Exception):
    pass


def stop_at(call):
    """A validation that fails at this call of it."""
    calls = iter(range(1, 100))

    def validate(_):
        if next(calls) == call:
            raise Stop
        return {}

    return validate


def test_training_resumes_exactly(noise, home):
    """Stopped after its first checkpoint and started again: the same weights as undisturbed."""
    config = nafp_train.Config(steps=3, pairs=4)
    whole = fit(noise, config, name="a")
    with pytest.raises(Stop):
        fit(noise, config, stop_at(2), name="b")
    with pytest.raises(InputError, match="not finished; run notebook 00"):
        provenance.find(home / "data/models/b", "00_fingerprinter")
    resumed = fit(noise, config, name="b")
    for name, value in whole.encoder.state_dict().items():
        assert torch.equal(value, resumed.encoder.state_dict()[name]), name
    assert [row["step"] for row in whole.history] == [2, 3]
    for part in ("best", "final"):
        file, other = (run.folder / f"{part}.safetensors" for run in (whole, resumed))
        assert files.sha256(file) == files.sha256(other)


def test_the_last_of_the_weights_that_validate_best_are_kept(noise, home):
    scores, seen = iter([1.0, 3.0, 3.0, 2.0]), []

    def validate(encoder):
        seen.append({name: value.clone() for name, value in encoder.state_dict().items()})
        return {"top1": next(scores)}

    run = fit(noise, nafp_train.Config(steps=4, pairs=4), validate, every=1)
    assert [row["score"] for row in run.history] == [1.0, 3.0, 3.0, 2.0]
    assert nafp_train.kept(run.history)["step"] == 3
    for file in (run.folder / "best.safetensors", home / "data/models/mine/final.safetensors"):
        weights = nafp.load(file).state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in seen[2].items())
    assert not torch.equal(seen[1]["head.w1"], seen[2]["head.w1"])
    assert isinstance(run.encoder.whitening, nafp.Whitening)


def test_another_training_goes_elsewhere_and_the_first_is_found_again(noise, home):
    config = nafp_train.Config(steps=1, pairs=2)

    def validate(_):
        with pytest.raises(InputError, match="another process is working on"):
            fit(noise, config)
        return {}

    first = fit(noise, config, validate)
    assert first.record["kind"] == "fingerprinter" and first.record["parameters"]["steps"] == 1
    assert first.record["computed"] == {"device": "cpu", "precision": nafp_train.precision("cpu")}
    assert set(first.record["inputs"]) == {"train", "valid", "sources"}
    kept = {path: path.read_bytes() for path in first.folder.iterdir()}
    others = [
        fit((noise[0][:2], noise[1]), config),
        fit(noise, replace(config, seed=1)),
        fit(noise, config, every=1),
    ]
    assert len({run.folder for run in [first, *others]}) == 4
    assert (home / "data/models/mine").resolve() == others[-1].folder
    again = fit(noise, config, lambda _: pytest.fail("it was trained again"))
    assert again.history == first.history and again.folder == first.folder
    assert kept == {path: path.read_bytes() for path in first.folder.iterdir()}
    assert (home / "data/models/mine").resolve() == first.folder


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_training_and_extraction_on_a_gpu(noise, home):
    clips, pool = noise
    music, pool_of = {"train": clips, "valid": clips[:1]}, {"train": pool, "valid": pool}
    config = nafp_train.Config(steps=4, pairs=4)
    run = nafp_train.fit(config, music, ["a"] * 4, pool_of, "mine", lambda _: {}, 2, "cuda")
    assert [row["step"] for row in run.history] == [2, 4]
    assert run.record["computed"] == {"device": "cuda", "precision": "bfloat16"}
    sound = clips[0].astype(np.float32) / 32768
    one, other = (nafp.extract(nafp.load(device=name), sound) for name in ("cpu", "cuda"))
    assert (one * other).sum(axis=1).min() > 0.999  # cuDNN multiplies in TF32


def tune(rng, seconds=30):
    """Music of sorts: chords of a few harmonics that change every half second, and a beat."""
    t = np.arange(4000) / 8000
    sound = []
    for _ in range(2 * seconds):
        notes = (
            110
            * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12, 14, 16], 3) / 12)
            * 2 ** rng.integers(0, 3)
        )
        partials = [
            np.sin(2 * np.pi * k * note * t + rng.uniform(0, 6)) / k
            for note in notes
            for k in range(1, 6)
            if k * note < 4000
        ]
        beat = rng.standard_normal(4000) * np.exp(-t * rng.uniform(20, 80))
        sound.append(sum(partials) * np.exp(-t * rng.uniform(1, 6)) + rng.uniform(0, 2) * beat)
    return (0.05 * np.concatenate(sound)).astype(np.float32)


def top1(encoder, clean, heard, n_frames=5):
    """Exact Top-1 in % of every third excerpt of 3 s of the degraded tunes, among the clean
    ones."""
    stored = search.Sequences.of([nafp.extract(encoder, clip) for clip in clean])
    asked = [nafp.extract(encoder, clip) for clip in heard]
    starts = np.arange(0, len(asked[0]) - n_frames + 1, 3)
    queries = np.stack([rows[s : s + n_frames] for rows in asked for s in starts])
    truth = (stored.bounds[:-1, None] + starts).ravel()
    neighbours = search.flat_index(stored.frames).search(queries.reshape(-1, 128), 20)[1]
    found = search.sequence_search(queries, neighbours.reshape(len(queries), n_frames, 20), stored)[
        0
    ]
    return 100 * np.mean(found[:, 0] == truth)


def test_the_shipped_weights_recognise_degraded_sound():
    """Twelve tunes of 30 s, after noise, a room and a microphone; random weights do not."""
    rng = np.random.default_rng(0)
    taps = np.pad(rng.standard_normal((3, 1600)) * np.exp(-np.arange(1600) / 300), ((0, 0), (1, 0)))
    taps[:, 0] = 3.0  # direct sound, and an echo of 0.2 s
    ones = np.ones((1, 1), np.float32)
    noises = np.stack([pools.coloured_noise(rng) for _ in range(4)])
    pool = pools.Pool(
        noises,
        np.array(["coloured"] * 4),
        taps.astype(np.float32),
        np.stack([pools.device_response(rng, *pools.MICROPHONE) for _ in range(4)]),
        ones,
        np.array(["a"]),
    )
    clean = [tune(rng) for _ in range(12)]
    heard = [
        degrade.degrade(lambda _, clip=clip: clip, [1, i], pool) for i, clip in enumerate(clean)
    ]
    assert top1(nafp.load(), clean, heard) > 80
    torch.manual_seed(0)
    assert top1(nafp.NAFP().eval(), clean, heard) < 50


@pytest.mark.parametrize("config", nafp.CONFIGS.values())
def test_taps_that_meet_padding_alone_add_nothing(config):
    x = torch.rand(2, 1, config.n_mels, 32)
    with torch.inference_mode():
        for block in nafp.NAFP(config).blocks:
            for layer in (block.over_time, block.over_freq):
                exact = layer(x)
                torch.testing.assert_close(nafp.convolve(layer, x), exact, atol=1e-5, rtol=1e-4)
                x = torch.tanh(exact)


def test_the_precision_of_training_computes_what_float32_does():
    """Vectors, and gradients."""
    encoder, random = nafp.NAFP(), torch.Generator().manual_seed(0)
    spectrograms = torch.rand(16, 1, nafp.LITE.n_mels, 32, generator=random)
    half = nafp_train.precision("cpu") == "bfloat16"
    wanted = torch.nn.functional.normalize(torch.randn(16, nafp.DIM, generator=random))

    def computed(enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            vectors = encoder.encode(spectrograms).float()
        loss = (vectors * wanted).sum()
        return vectors.detach(), torch.autograd.grad(loss, [*encoder.parameters()])

    exact, slopes = computed(False)
    for _ in range(10):  # what is wrong is not wrong each time
        found, found_slopes = computed(half)
        assert (found * exact).sum(1).min() > 0.99
        for slope, found_slope in zip(slopes, found_slopes):
            assert (found_slope - slope).norm() < 0.1 * slope.norm()
