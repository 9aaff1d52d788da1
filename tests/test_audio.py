"""Decoding, framing and the log-mel front end."""

import shutil
import subprocess

import log_mel
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from amg.check import InputError
from amg.sound import audio


@given(st.integers(8000, 60000), st.sampled_from([audio.HOP, 500]))
def test_frame_is_its_indexing_equation(n_samples, hop):
    x = np.arange(n_samples, dtype=np.float32)
    frames = audio.frame(x, hop)
    assert frames.shape == ((n_samples - 8000) // hop + 1, 8000)
    t, i = len(frames) - 1, 7999
    assert frames[t, i] == x[hop * t + i] and frames[0, 0] == x[0]


def test_frames_and_seconds():
    assert audio.n_frames(30) == 59 and audio.seconds(59) == 30 and audio.seconds(1) == 1
    assert len(audio.frame(np.zeros(30 * 8000))) == audio.n_frames(30)


@pytest.mark.parametrize("shape", [(7999,), (2, 8000)])
def test_frame_refuses(shape):
    with pytest.raises(InputError, match="8000 samples"):
        audio.frame(np.zeros(shape))


def test_log_mel_against_a_naive_loop():
    rng = np.random.default_rng(0)
    window = rng.standard_normal(8000).astype(np.float32)
    ours = audio.LogMel(16)(torch.from_numpy(window)[None])[0, 0].numpy()
    padded = np.pad(window, 512)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    filters = audio.mel_filters(16)
    naive = np.empty((16, 32))
    for column in range(32):
        power = np.abs(np.fft.rfft(padded[column * 256 :][:1024] * hann)) ** 2
        naive[:, column] = 10 * np.log10(filters @ power)
    naive = 1 + np.maximum(naive - naive.max(), -80) / 40
    assert ours.shape == (16, 32)
    np.testing.assert_allclose(ours, naive, atol=1e-3)


@pytest.mark.parametrize("n_mels", log_mel.SIZES)
def test_log_mel_against_librosa(n_mels):
    """Filters, frames and decibels of somebody else's code."""
    with np.load(log_mel.FILE) as librosa:
        filters, decibel = (librosa[f"{name}_{n_mels}"] for name in ("filters", "decibel"))
    np.testing.assert_allclose(audio.mel_filters(n_mels), filters, atol=1e-7)
    ours = audio.LogMel(n_mels)(torch.from_numpy(log_mel.window())[None])[0, 0].numpy()
    np.testing.assert_allclose(ours, 1 + decibel / 40, atol=1e-4)


def test_log_mel_ignores_level_and_survives_silence():
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 8000)).astype(np.float32))
    mel = audio.LogMel(128)
    torch.testing.assert_close(mel(x), mel(0.01 * x), atol=1e-3, rtol=0)
    assert torch.equal(mel(torch.zeros(1, 8000)), torch.ones(1, 1, 128, 32))


def test_mel_filters_cover_300_to_4000_hz():
    edges = audio.mel_frequencies(128)
    assert edges[0] == pytest.approx(300) and edges[-1] == pytest.approx(4000)
    assert (np.diff(edges) > 0).all() and (audio.mel_filters(128).sum(axis=1) > 0).all()


@pytest.mark.parametrize(
    "suffix, rate, channels", [(".wav", 44100, 2), (".flac", 8000, 1), (".ogg", 22050, 2)]
)
def test_any_format_is_decoded(tmp_path, suffix, rate, channels):
    t = np.arange(2 * rate) / rate
    sound = np.repeat(0.5 * np.sin(2 * np.pi * 440 * t)[:, None], channels, axis=1)
    soundfile.write(tmp_path / f"x{suffix}", sound, rate)
    loaded = np.concatenate(list(audio.blocks(tmp_path / f"x{suffix}")))
    assert loaded.dtype == np.float32 and abs(len(loaded) - 16000) <= 2
    peak = np.abs(np.fft.rfft(loaded[:16000])).argmax() / 2
    assert peak == pytest.approx(440, abs=1)


@pytest.mark.parametrize(
    "name, why",
    [
        ("no.wav", "not an audio file"),
        ("absent.wav", "No such file"),
        ("no.raw", "not an audio file"),
    ],
)
def test_what_cannot_be_decoded_is_refused(tmp_path, name, why):
    if name != "absent.wav":
        (tmp_path / name).write_bytes(bytes(20000))
    with pytest.raises(InputError, match=why):
        next(audio.blocks(tmp_path / name))


@pytest.mark.parametrize("block", [700, 8000, 30000])
def test_frames_of_blocks_are_those_of_the_whole(block):
    x = np.arange(60500, dtype=np.float32)
    pieces = (x[at : at + block] for at in range(0, len(x), block))
    assert np.array_equal(np.concatenate(list(audio.frames(pieces, 500))), audio.frame(x, 500))
    with pytest.raises(InputError, match="8000 samples"):
        list(audio.frames([x[:7999]]))


def test_what_libsndfile_lacks_needs_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (tmp_path / "a.m4a").write_bytes(bytes(20000))
    with pytest.raises(InputError, match="needs ffmpeg to be decoded, which is not installed"):
        list(audio.blocks(tmp_path / "a.m4a"))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
@pytest.mark.parametrize("suffix", [".m4a", ".wma", ".aac", ".wv"])
def test_ffmpeg_decodes_to_the_same_sound(tmp_path, suffix):
    t = np.arange(3 * 44100) / 44100
    both = 0.3 * np.stack([np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 1000 * t)], 1)
    soundfile.write(tmp_path / "a.wav", both, 44100)
    file = tmp_path / f"a{suffix}"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-b:a", "256k", file], check=True
    )
    found, sound = (np.concatenate(list(audio.blocks(path))) for path in (file, tmp_path / "a.wav"))
    middle = slice(8000, 16000)
    assert audio.likeness(sound[middle], found) > 0.95  # all but one are lossy
    assert 0.95 < np.std(found[middle]) / np.std(sound[middle]) < 1.05


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_ffmpeg_refuses_and_keeps_what_it_read(tmp_path):
    (tmp_path / "no.m4a").write_bytes(bytes(20000))
    with pytest.raises(InputError, match="no.m4a is not an audio file"):
        list(audio.blocks(tmp_path / "no.m4a"))
    soundfile.write(tmp_path / "a.wav", np.zeros((44100 * 2, 1)), 44100)
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", tmp_path / "a.aac"], check=True
    )
    data = (tmp_path / "a.aac").read_bytes()
    (tmp_path / "cut.aac").write_bytes(data[: len(data) // 2])
    assert 0 < sum(map(len, audio.blocks(tmp_path / "cut.aac"))) < 2 * 8000


def test_absurd_headers_and_samples_are_named(tmp_path):
    """A rate that no memory holds, samples that no spectrogram does."""
    sound = np.random.default_rng(0).uniform(-1, 1, 20000).astype(np.float32)
    soundfile.write(tmp_path / "loud.wav", sound * np.float32(1e30), 8000, "FLOAT")
    soundfile.write(tmp_path / "integers.wav", sound * np.float32(2**31), 8000, "FLOAT")
    soundfile.write(tmp_path / "fast.wav", sound, 8000)
    with (tmp_path / "fast.wav").open("r+b") as file:
        file.seek(24)
        file.write((2**31 - 1).to_bytes(4, "little"))
    for name, message in (("loud", "samples beyond"), ("fast", "claims 2,147,483,647 samples")):
        with pytest.raises(InputError, match=message):
            list(audio.blocks(tmp_path / f"{name}.wav"))
    decoded = np.concatenate(list(audio.blocks(tmp_path / "integers.wav")))
    assert np.allclose(decoded / 2**31, sound, atol=1e-3)
