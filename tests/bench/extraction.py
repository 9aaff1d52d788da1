"""Rows of fingerprinting: seconds of music per second on one core, from an Ogg file of 44.1 kHz,
stereo.

The published way takes windows in batches of 125. Decoding, log-mel and encoder are also timed
apart, and the encoder's share of the rate of a large matrix product is given.
"""

import os
import subprocess
import sys

import numpy as np
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode

from amg import machine
from amg.fingerprint import nafp
from amg.sound import audio
from bench import published
from bench.timing import medians, row

SECONDS, SIZE = 120, 1024


def rows(workspace):
    file = noise(workspace / "noise.ogg")
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return _rows(file, nafp.load())
    finally:
        torch.set_num_threads(os.cpu_count())


def noise(file):
    """An Ogg file of noise."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(file, "w", 44100, 2) as out:
        for _ in range(SECONDS):  # the library's encoder does not take minutes at once
            out.write(0.1 * rng.standard_normal((44100, 2)))
    return file


def _decoded(file):
    return np.concatenate(list(audio.blocks(file)))


def _rows(file, encoder):
    windows = torch.from_numpy(audio.frame(_decoded(file))[: nafp.BATCH].copy())
    spectrograms, a = encoder.log_mel(windows), torch.randn(SIZE, SIZE)

    def ours():
        return next(nafp.extract_all(encoder, [audio.blocks(file)]))

    def theirs():
        return published.extract(encoder, audio.frame(_decoded(file)).copy())

    np.testing.assert_allclose(ours(), theirs(), atol=1e-4)
    whole_s, their_s = medians(ours, theirs)
    decode_s, mel_s, encode_s, product_s = medians(
        lambda: _decoded(file),
        lambda: encoder.log_mel(windows),
        lambda: encoder.encode(spectrograms),
        lambda: a @ a,
    )
    with FlopCounterMode(display=False) as counter:
        encoder.encode(spectrograms)
    share = counter.get_total_flops() / encode_s / (2 * SIZE**3 / product_s)
    unit, batch_s = "x real time, 1 core", nafp.BATCH / 2
    return [
        row("extract_lite", SECONDS / whole_s, SECONDS / their_s, unit),
        row("extract_decode", SECONDS / decode_s, None, unit),
        row("extract_mel", batch_s / mel_s, None, unit),
        row("extract_encoder", batch_s / encode_s, None, unit),
        row("extract_encoder_flops", 100 * share, None, "% of matmul rate"),
    ]


def rows_of_memory(workspace):
    """Highest memory of a process that fingerprints ten minutes in a piece, and two hours."""
    code = (
        "import sys; from amg.sound import audio; from amg.fingerprint import nafp; "
        "next(nafp.extract_all(nafp.load(), [audio.blocks(sys.argv[1])]))"
    )
    found, rng = [], np.random.default_rng(0)
    for minutes in (10, 120):
        file = workspace / f"{minutes}.wav"
        with soundfile.SoundFile(file, "w", audio.SAMPLE_RATE, 1) as out:
            for _ in range(minutes):
                out.write(0.1 * rng.standard_normal(60 * audio.SAMPLE_RATE))
        with machine.PeakMemory() as memory:
            subprocess.run([sys.executable, "-c", code, file], check=True)
        found.append(row(f"extract_memory_{minutes}_min", memory.peak_mb, None, "MB"))
    return found
