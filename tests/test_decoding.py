"""Files that are not what their names and headers say: joined, cut, damaged, or of another kind."""

import io
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from amg.check import InputError
from amg.sound import audio, decoding, libsndfile

needs_ffmpeg = pytest.mark.skipif(not decoding.ffmpeg(), reason="ffmpeg is not installed")


@pytest.fixture
def alone(monkeypatch):
    """Without ffmpeg."""
    monkeypatch.setattr(decoding, "ffmpeg", lambda: None)


def melody(seed, seconds):
    """Notes of a quarter of a second; float64 (44100 * seconds,)."""
    rng, t = np.random.default_rng(seed), np.arange(11025) / 44100
    tones = [np.sin(2 * np.pi * rng.uniform(200, 2000) * t) for _ in range(4 * seconds)]
    return 0.3 * np.concatenate(tones) + 0.01 * rng.standard_normal(44100 * seconds)


def encoded(kind, sound, rate=44100, channels=1, **options):
    """The bytes of a file of 44.1 kHz samples, as if of another rate, in MP3, OGG, FLAC or WAV."""
    held = io.BytesIO()
    samples = np.repeat(sound[:: 44100 // rate, None], channels, 1)
    soundfile.write(held, samples, rate, format=kind, **options)
    return held.getvalue()


def plain_mp3(sound, **options):
    """An MP3 without its first frame, which would tell the number of samples."""
    data = encoded("MP3", sound, **options)
    assert b"Xing" in data[:200] or b"Info" in data[:200]
    return data[data.index(data[:2], 100) :]


def decoded(path):
    return np.concatenate([*audio.blocks(path), np.zeros(0, np.float32)])


def heard_at(sound, part):
    """Where in `sound`, in seconds, three seconds from the middle of a part of 44.1 kHz lie."""
    wanted = np.concatenate([*audio.resampled([part.astype(np.float32)], 44100)])
    middle = len(wanted) // 2
    excerpt = wanted[middle : middle + 24000]
    assert audio.likeness(excerpt, sound) > 0.9
    products = np.correlate(sound, excerpt, "valid")
    return (np.abs(products).argmax() - middle) / 8000


A, B = melody(1, 15), melody(2, 35)


@pytest.mark.parametrize(
    "kind, options",
    [
        ("MP3", {}),
        ("OGG", {"subtype": "VORBIS"}),
        ("FLAC", {}),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_joined_files_are_heard_to_their_end(tmp_path, alone, capfd, kind, options, order):
    """Of other rate and channels, in order, the same each time, without a note of the decoder."""
    songs = [(A, encoded(kind, A, 22050, 1, **options)), (B, encoded(kind, B, 44100, 2, **options))]
    (first, head), (second, tail) = songs[::order]
    (tmp_path / "a").write_bytes(head + tail)
    sound = decoded(tmp_path / "a")
    assert abs(len(sound) / 8000 - 50) < 0.2
    assert abs(heard_at(sound, first)) < 0.1
    assert abs(heard_at(sound, second) - len(first) / 44100) < 0.2
    assert np.array_equal(decoded(tmp_path / "a"), sound)
    assert capfd.readouterr() == ("", "")


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["MP3", "OGG"])
def test_both_decoders_hear_the_same(tmp_path, kind):
    data = [encoded(kind, A, 22050, 1), encoded(kind, B, 44100, 2)]
    for name, content in (("joined", data[0] + data[1]), ("one", data[1])):
        path = tmp_path / name
        path.write_bytes(content)
        with path.open("rb", buffering=0) as file:
            blocks = [(rate, block.mean(axis=1)) for rate, block in decoding.by_ffmpeg(file)]
        theirs = np.concatenate([*audio.resampled([b for _, b in blocks], blocks[0][0])])
        ours = decoded(path)
        assert abs(len(ours) - len(theirs)) < 0.2 * 8000
        for at in (3, 20, 33):  # in seconds
            near = theirs[(at - 1) * 8000 : (at + 4) * 8000]
            assert audio.likeness(ours[at * 8000 :][:16000], near) > 0.9


def test_seams_of_blocks_are_not_heard(tmp_path):
    """Where one block of an MP3 ends, the next goes on: its frames depend on those before."""
    (tmp_path / "a.mp3").write_bytes(encoded("MP3", melody(3, 65), 11025))
    with (tmp_path / "a.mp3").open("rb", buffering=0) as file:
        blocks = [block for _, block in libsndfile.decode(file)]
    whole = soundfile.read(tmp_path / "a.mp3", dtype="float32", always_2d=True)[0]
    assert len(blocks) == 3 and np.allclose(np.concatenate(blocks), whole, atol=1e-5)


def test_without_a_count_an_mp3_is_as_long_as_it_is(tmp_path, alone):
    """A cover is no sound, nor what memory held; a bit rate that changes loses nothing."""
    quiet = np.concatenate([melody(4, 3), np.zeros(44100 * 30), melody(5, 7)])
    cover = b"ID3\x03\0\0" + bytes([0, 60, 0, 0]) + bytes(60 << 14)
    songs = {
        "cover": (cover + plain_mp3(A), 15),
        "variable": (plain_mp3(quiet, bitrate_mode="VARIABLE", compression_level=0.1), 40),
        "tag": (plain_mp3(A) + b"TAG" + bytes(125), 15),
    }
    for name, (content, seconds) in songs.items():
        (tmp_path / name).write_bytes(content)
        assert abs(len(decoded(tmp_path / name)) / 8000 - seconds) < 0.3, name


@pytest.mark.parametrize("kind", ["MP3", "OGG", "WAV"])
def test_a_cut_file_is_its_beginning(tmp_path, alone, kind):
    content = encoded(kind, B)
    for name, size in (("whole", len(content)), ("cut", len(content) // 2)):
        (tmp_path / name).write_bytes(content[:size])
    whole, cut = decoded(tmp_path / "whole"), decoded(tmp_path / "cut")
    assert 0.35 < len(cut) / len(whole) < 0.65
    assert np.allclose(cut[:-2000], whole[: len(cut) - 2000], atol=1e-4)


@pytest.mark.parametrize("before", [b"\0" * 70000, b"\x12\x34\x56" * 1000])
def test_what_lies_before_the_first_frame_is_passed_over(tmp_path, alone, capfd, before):
    (tmp_path / "a.mp3").write_bytes(before + encoded("MP3", A))
    sound = decoded(tmp_path / "a.mp3")
    assert abs(len(sound) / 8000 - 15) < 0.2 and abs(heard_at(sound, A)) < 0.1
    assert capfd.readouterr().err == ""


def test_the_name_does_not_decide(tmp_path, alone):
    for name, kind in (("a.m4a", "FLAC"), ("b.wav", "MP3"), ("c", "WAV"), ("d.mp3", "OGG")):
        (tmp_path / name).write_bytes(encoded(kind, A))
        assert abs(len(decoded(tmp_path / name)) / 8000 - 15) < 0.1
    for name in ("a.au", "a.gsm", "a.mp3", "a.snd", "a.vox", "a.wav"):
        (tmp_path / name).write_text("Dear Sir\n" * 1000)
        with pytest.raises(InputError, match=f"{name} is not an audio file"):
            decoded(tmp_path / name)


@needs_ffmpeg
def test_ffmpeg_reads_what_libsndfile_does_not_whatever_its_name(tmp_path, capfd):
    (tmp_path / "a.wav").write_bytes(encoded("WAV", A))
    for name, kind in (("a.mp3", "adts"), ("b.wav", "ipod"), ("c.ogg", "webm"), ("d.oga", "oga")):
        codec = {"webm": "libopus", "oga": "flac"}.get(kind, "aac")
        command = ["ffmpeg", "-v", "error", "-y", "-i", tmp_path / "a.wav", "-c:a", codec]
        subprocess.run([*command, "-f", kind, tmp_path / name], check=True)
        sound = decoded(tmp_path / name)
        assert abs(len(sound) / 8000 - 15) < 0.2 and abs(heard_at(sound, A)) < 0.2
    playlist = tmp_path / "list.wav"
    playlist.write_text("ffconcat version 1.0\nfile a.wav\n")
    with pytest.raises(InputError, match="not an audio file"):
        decoded(playlist)
    assert capfd.readouterr().err == ""


def spoilt(content):
    """A FLAC file of which a part in the second half was overwritten."""
    at = int(len(content) * 0.95)
    return content[:at] + bytes(3000) + content[at + 3000 :]


def test_where_libsndfile_fails_ffmpeg_goes_on(tmp_path, monkeypatch):
    """With the sample that follows; without ffmpeg, half a song is none."""
    content = encoded("FLAC", B)
    whole = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]
    (tmp_path / "a.flac").write_bytes(spoilt(content))
    monkeypatch.setattr(
        decoding, "by_ffmpeg", lambda file: ((44100, part) for part in (whole[:9], whole[9:]))
    )
    (tmp_path / "whole.flac").write_bytes(content)
    assert np.allclose(decoded(tmp_path / "a.flac"), decoded(tmp_path / "whole.flac"), atol=1e-6)
    monkeypatch.undo()
    monkeypatch.setattr(decoding, "ffmpeg", lambda: None)
    with pytest.raises(InputError, match="goes on after 30.0 s.* install ffmpeg, or export"):
        decoded(tmp_path / "a.flac")


@needs_ffmpeg
def test_damage_costs_no_more_than_itself(tmp_path):
    (tmp_path / "a.flac").write_bytes(spoilt(encoded("FLAC", B)))
    assert 34 < len(decoded(tmp_path / "a.flac")) / 8000 < 35.01


@pytest.mark.parametrize("size", [0, 2**32 - 1])
def test_a_wave_file_whose_size_was_never_written(tmp_path, alone, monkeypatch, size):
    content = bytearray(encoded("WAV", A))
    at = content.index(b"data") + 4
    content[4:8] = content[at : at + 4] = struct.pack("<I", size)
    (tmp_path / "a.wav").write_bytes(content)
    if not size:
        with pytest.raises(InputError, match="goes on after 0.0 s, where libsndfile stops"):
            decoded(tmp_path / "a.wav")
        monkeypatch.undo()
    if size or decoding.ffmpeg():
        assert abs(len(decoded(tmp_path / "a.wav")) - 15 * 8000) <= 2


def test_a_stream_of_unknown_length(tmp_path, alone):
    """FLAC that was made of a stream counts no samples."""
    content = bytearray(encoded("FLAC", A))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert abs(len(decoded(tmp_path / "a.flac")) - 15 * 8000) <= 2


def test_what_cannot_be_read(tmp_path):
    for path, why in ((tmp_path / "none.wav", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=f"cannot be read .{why}"):
            decoded(path)


def test_a_header_reserves_no_memory(tmp_path, alone):
    """A million samples a second in a thousand channels would be 120 GB a block."""
    assert libsndfile.block_length(10**6, 1000) * 1000 <= 2**26
    assert (
        libsndfile.block_length(44100, 2) == 30 * 44100 and libsndfile.block_length(1, 2**30) == 1
    )


@pytest.mark.skipif(not shutil.which("sh"), reason="there is no shell")
def test_a_closed_standard_error(tmp_path):
    """Its number may be the sound's own: nothing is opened in its place."""
    (tmp_path / "a.mp3").write_bytes(encoded("MP3", A) * 2)
    code = (
        "import os, sys; from amg.sound import audio, decoding; os.closerange(2, 3); "
        "decoding.ffmpeg = lambda: None; "
        "print(sum(map(len, audio.blocks(sys.argv[1]))))"
    )
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", code, tmp_path / "a.mp3"]
    done = subprocess.run(command, stdout=subprocess.PIPE)
    assert abs(int(done.stdout) / 8000 - 30) < 0.3
