"""`python -m amg extract`: a folder of audio becomes fingerprints, and follows its changes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch

from amg import files, provenance
from amg.check import InputError
from amg.fingerprint import features, fingerprinters, folder, nafp
from amg.sound import audio

RNG = np.random.default_rng(0)
NAFP = fingerprinters.find()


class Projection(torch.nn.Module):
    """A toy: log-mel, projected at random to 64 values."""

    dimension, hop, window = 64, audio.HOP, audio.WINDOW

    def __init__(self, hop=audio.HOP):
        super().__init__()
        self.hop, self.log_mel = hop, audio.LogMel(16)
        matrix = torch.randn(16 * 32, 64, generator=torch.Generator().manual_seed(0))
        self.register_buffer("matrix", matrix)

    def forward(self, windows):
        return torch.nn.functional.normalize(self.log_mel(windows).flatten(1) @ self.matrix)

    def extract(self, recordings, hop=audio.HOP):
        return nafp.extract_all(self, recordings, hop)


def load_toy(weights, device):
    return Projection().to(device)


@pytest.fixture
def toy(monkeypatch):
    """The toy fingerprinter, registered."""
    monkeypatch.setattr(fingerprinters, "SOURCES", dict(fingerprinters.SOURCES))
    fingerprinters.register("toy")(load_toy)
    return fingerprinters.find("toy")


def write(path, seconds=2, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * RNG.standard_normal(int(rate * seconds)), rate)


@pytest.fixture
def music(tmp_path):
    """Three recordings: a.wav, b.wav of 2 s and deep/c.flac of 3 s."""
    for name, seconds in (("a.wav", 2), ("b.wav", 2), ("deep/c.flac", 3)):
        write(tmp_path / "in" / name, seconds)
    return tmp_path / "in"


def lengths(target):
    return {path.name: len(features.load(path)) for path in features.find(target)}


WHOLE = {"a.wav.npy": 3, "b.wav.npy": 3, "deep__c.flac.npy": 5}


def test_a_folder_of_audio_becomes_fingerprints(tmp_path):
    source, target = tmp_path / "in", tmp_path / "mine/dummy_db/fma_part"
    for name, seconds in (("a.wav", 3), ("a.ogg", 2), ("deep/b.flac", 45), ("short.ogg", 0.5)):
        write(source / name, seconds, 22050)
    (source / "broken.wav").write_text("not sound")
    n_written, refused = folder.extract(source, target, NAFP, 1)
    assert n_written == 3 and len(refused) == 2
    assert "broken.wav is not an audio file" in refused[0] and "short.ogg: audio has" in refused[1]
    assert lengths(target) == {"a.ogg.npy": 3, "a.wav.npy": 5, "deep__b.flac.npy": 89}
    direct = next(nafp.extract_all(nafp.load(), [audio.blocks(source / "a.wav")]))
    np.testing.assert_allclose(features.load(target / "a.wav.npy"), direct, atol=1e-5)


def test_a_registered_fingerprinter_is_extracted_packed_and_read(toy, home):
    """Another dimension flows through: 64 values all the way."""
    for name in ("1-00", "1-01", "2-00"):
        write(home / "in" / f"{name}.wav", 3)
    assert folder.extract(home / "in", home / "out", toy, 1) == (3, [])
    for file in features.find(home / "out"):
        file.rename(home / "out" / file.name.replace(".wav", ""))
    data = features.pack(home / "out")
    assert data.frames.shape == (15, 64) and data.length.tolist() == [[5, 5], [5, 0]]
    stored = features.load(home / "out/1-01.npy")
    assert np.array_equal(data.clip(0, 1), stored)
    direct = next(Projection().extract([audio.blocks(home / "in/1-01.wav")]))
    np.testing.assert_allclose(stored, direct, atol=1e-5)


def test_another_hop_than_half_a_second_is_refused(toy, music, tmp_path):
    fingerprinters.register("dense")(lambda weights, device: Projection(hop=2000))
    with pytest.raises(
        InputError, match=r"'dense' has a frame of 8000 samples every 2000, but d seco"
    ):
        folder.extract(music, tmp_path / "out", fingerprinters.find("dense"), 1)


def test_a_source_tells_fingerprinters_apart(toy, tmp_path):
    assert fingerprinters.find("nafp") == NAFP and NAFP.weights == nafp.shipped()
    assert files.sha256(nafp.shipped()).startswith(NAFP.digest) and toy.digest != NAFP.digest
    assert NAFP.load() is NAFP.load()
    with pytest.raises(InputError, match="none.safetensors is missing"):
        fingerprinters.find(str(tmp_path / "none.safetensors")).load()


def add(music):
    write(music / "d.wav")


def delete(music):
    (music / "a.wav").unlink()


def rename(music):
    (music / "a.wav").rename(music / "d.wav")


def replace_by_an_older_one(music):
    write(music / "a.wav", 4)
    os.utime(music / "a.wav", ns=(1, 1))


def replace_by_one_of_equal_size(music):
    before = (music / "a.wav").stat().st_size
    write(music / "a.wav")
    assert (music / "a.wav").stat().st_size == before


def spoil(music):
    (music / "a.wav").write_text("no sound any more")


@pytest.mark.parametrize(
    "change", [add, delete, rename, replace_by_an_older_one, replace_by_one_of_equal_size, spoil]
)
def test_a_changed_folder_is_brought_up_to_date(music, tmp_path, toy, change):
    """The target is that of a fresh extraction, and what did not change is kept."""
    target, fresh = tmp_path / "out", tmp_path / "fresh"
    folder.extract(music, target, toy, 1)
    kept = (target / "deep__c.flac.npy").stat().st_mtime_ns
    change(music)
    assert folder.extract(music, target, toy, 1) == folder.extract(music, fresh, toy, 1)
    assert lengths(target) == lengths(fresh)
    for name in lengths(fresh):
        np.testing.assert_allclose(
            features.load(target / name), features.load(fresh / name), atol=1e-5
        )
    assert (target / "deep__c.flac.npy").stat().st_mtime_ns == kept


def test_what_the_kit_did_not_make_is_left_alone(music, tmp_path, toy):
    target = tmp_path / "out"
    folder.extract(music, target, toy, 1)
    (target / "mine.npy").write_text("mine")
    with pytest.raises(InputError, match="out has mine.npy, which this command did not make"):
        folder.extract(music, target, toy, 1)
    (target / "mine.npy").unlink()
    (tmp_path / "out.json").unlink()  # without its record the target is as good as somebody else's
    with pytest.raises(InputError, match="out has a.wav.npy"):
        folder.extract(music, target, toy, 1)
    assert lengths(target) == WHOLE
    with pytest.raises(InputError, match="in has a.wav"):
        folder.extract(music, music, toy, 1)
    (tmp_path / "new.json").write_text('{"my": "notes"}')
    with pytest.raises(InputError, match="new has new.json"):
        folder.extract(music, tmp_path / "new", toy, 1)
    assert (tmp_path / "new.json").read_text() == '{"my": "notes"}'


def test_two_folders_and_two_fingerprinters_are_never_mixed(music, tmp_path, toy):
    target, other = tmp_path / "out", tmp_path / "other"
    folder.extract(music, target, toy, 1)
    write(other / "a.wav", 5)
    with pytest.raises(
        InputError, match="has a.wav.npy, which this command did not make of .*/other"
    ):
        folder.extract(other, target, toy, 1)
    with pytest.raises(InputError, match=f"did not make .* by fingerprinter {NAFP.digest}"):
        folder.extract(music, target, NAFP, 1)
    assert lengths(target) == WHOLE
    for file in target.iterdir():
        file.unlink()
    assert folder.extract(other, target, toy, 1) == (1, []) and lengths(target) == {"a.wav.npy": 9}


def test_names_that_join_alike_have_targets_of_their_own(tmp_path, toy):
    names = ("a/b.wav", "a__b.wav", "a/_b.wav", "a_/b.wav", "a___b.wav")
    for seconds, name in enumerate(names, 2):
        write(tmp_path / "in" / name, seconds)
    assert folder.extract(tmp_path / "in", tmp_path / "out", toy, 1) == (5, [])
    assert sorted(lengths(tmp_path / "out").values()) == [3, 5, 7, 9, 11]
    assert lengths(tmp_path / "out")["a__b.wav.npy"] == 3  # the published layout's way to join


@pytest.mark.parametrize(
    "name, message",
    [
        (b"\xff.wav", r"in/\udcff.wav"),
        (b".hidden.wav", "in/.hidden.wav"),
        (b"d" * 200 + b"/" + b"e" * 60 + b".wav", "eeee.wav"),
    ],
)
def test_names_that_cannot_be_written(music, tmp_path, toy, name, message):
    path = os.path.join(os.fsencode(music), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.rename(os.fsencode(music / "a.wav"), path)
    n_written, (sentence,) = folder.extract(music, tmp_path / "out", toy, 1)
    assert n_written == 2 and f"{message}: its name, with its folders', must be UTF-8" in sentence
    assert sentence.encode()


def test_a_target_that_is_no_folder(music, tmp_path, toy):
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file", tmp_path / "file/below", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="cannot be written"):
            folder.extract(music, target, toy, 1)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(InputError, match="file holds no audio files"):
        folder.extract(tmp_path / "file", tmp_path / "out", toy, 1)
    with pytest.raises(InputError, match="workers is 0"):
        folder.extract(music, tmp_path / "out", toy, 0)


def test_the_second_of_two_is_told(music, tmp_path, toy):
    with provenance.lock(tmp_path / "out"):
        with pytest.raises(InputError, match="another process is working on"):
            folder.extract(music, tmp_path / "out", toy, 1)


def test_killed_and_started_again(tmp_path, toy):
    """Killed while it writes the fourth file, half a file left behind: the same command completes
    the target."""
    source, target = tmp_path / "in", tmp_path / "out"
    for number in range(15):
        write(source / f"{number}.wav", 2)
    code = (
        "import sys, threading; sys.path.insert(0, sys.argv[3]); import test_folder as t; "
        "save, left, hang = t.features.save, [1, 2, 3], threading.Event().wait; "
        "t.features.save = lambda *a: save(*a) if left and left.pop() else hang(); "
        "t.fingerprinters.register('toy')(t.load_toy); "
        "t.folder.extract(sys.argv[1], sys.argv[2], t.fingerprinters.find('toy'), 1)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, source, target, os.path.dirname(__file__)],
        stdout=subprocess.DEVNULL,
    )
    while len(list(target.glob("[!.]*"))) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(target.glob("[!.]*.npy"))) == 3
    assert not files.read_json(provenance.record_of(target))["finished"]
    (target / ".7.wav.123.tmp.npy").write_text("half")
    assert folder.extract(source, target, toy, 1) == (15, [])
    assert set(lengths(target).values()) == {3} and len(list(target.iterdir())) == 15
    assert files.read_json(provenance.record_of(target))["finished"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_extraction_on_a_gpu(music, tmp_path):
    assert folder.extract(music, tmp_path / "cpu", NAFP, 1, "cpu") == (3, [])
    assert folder.extract(music, tmp_path / "cuda", NAFP, 1, "cuda") == (3, [])
    for name in WHOLE:
        one, other = (features.load(tmp_path / device / name) for device in ("cpu", "cuda"))
        assert (one * other).sum(axis=1).min() > 0.999  # cuDNN multiplies in TF32
    with pytest.raises(InputError, match="did not make .* on cpu"):
        folder.extract(music, tmp_path / "cuda", NAFP, 1, "cpu")
