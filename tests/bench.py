"""Benchmarks: our way against the published way, same data and weights, in one run.

`make bench` prints a table and writes `reports/bench/bench.json`. Only the ratios travel
between machines; run it on an idle one.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode

from amg import audio, crops, features, losses, machine, nafp, paths, train

N_SONGS, N_CLIPS, BATCH = 100, 10, 320


def random_training_set(folder):
    """Fingerprints of unit norm in the published layout; their values do not matter for time."""
    rng = np.random.default_rng(0)
    for song in range(1, N_SONGS + 1):
        for clip in range(N_CLIPS):
            rows = rng.standard_normal((59, 128)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            features.save(features.song_file(folder, song, clip), rows)
    return folder


def median_seconds(function, repeats=3):
    function()  # warm-up
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def published_step(run, folder, batch, rng):
    """One update the published way: a file opened per sample, one batch padded to M frames."""
    config, padded = run.config, crops.PADDED_FRAMES[run.config.duration_max]
    song, clip = np.divmod(batch, N_CLIPS)
    x = torch.zeros(len(batch), padded, 128)
    mask = torch.ones(len(batch), padded, dtype=torch.bool)
    margin = torch.zeros(len(batch))
    for i, (s, c) in enumerate(zip(song, clip)):
        rows = np.load(features.song_file(folder, s + 1, c), allow_pickle=False)
        crop = crops.draw(rng, [len(rows)], np.array([c == 0]), config.duration_max)
        start, length = crop.start[0], crop.length[0]
        x[i, :length] = torch.from_numpy(rows[start : start + length])
        mask[i, :length] = False
        margin[i] = float(crop.margin[0])
    run.encoder.train()
    run.optimiser.zero_grad(set_to_none=True)
    loss = losses.amg(run.encoder(x, mask), run.centres, torch.from_numpy(song), margin,
                      torch.from_numpy(clip == 0))
    loss.backward()
    run.optimiser.step()


def bench_training(duration_max, folder, workspace):
    """Samples per second of one update, Transformer of the published size."""
    config = train.Config(duration_max=duration_max, n_valid=0, batch_size=BATCH)
    run = train.Run(config, features.pack(folder), workspace / f"run-{duration_max}")
    batch = np.random.default_rng(1).permutation(N_SONGS * N_CLIPS)[:BATCH]
    ours = median_seconds(lambda: run._update(batch, np.random.default_rng(2), 1e-3))
    theirs = median_seconds(lambda: published_step(run, folder, batch, np.random.default_rng(2)), 1)
    return row(f"train_{duration_max}", BATCH / ours, BATCH / theirs, "samples/s")


def bench_extraction(workspace, seconds=120):
    """Seconds of music fingerprinted per second on one core, from an Ogg file of 44.1 kHz stereo.

    The published way takes one window at a time. Decoding, log-mel and encoder are timed apart,
    and the encoder's share of the rate of a large matrix product is given.
    """
    file, encoder = workspace / "noise.ogg", nafp.load()
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(file, "w", 44100, 2) as out:
        for _ in range(seconds):  # the library's encoder does not take minutes at once
            out.write(0.1 * rng.standard_normal((44100, 2)))
    windows = torch.from_numpy(audio.frame(audio.load(file))[: nafp.BATCH].copy())
    spectrograms = encoder.log_mel(windows)
    a = torch.randn(1024, 1024)

    def whole():
        return list(nafp.extract_all(encoder, [audio.blocks(file)]))

    def one_by_one():
        for window in audio.frame(audio.load(file)).copy():
            encoder(torch.from_numpy(window)[None])

    torch.set_num_threads(1)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        encoder.encode(spectrograms)
    with torch.inference_mode():
        encode_s = median_seconds(lambda: encoder.encode(spectrograms), 9)
        product_s = median_seconds(lambda: a @ a, 9)
        per_core = {"extract": row("extract_lite", seconds / median_seconds(whole),
                                   seconds / median_seconds(one_by_one, 1), "x real time, 1 core")}
        for name, function, length_s in (
                ("decode", lambda: audio.load(file), seconds),
                ("mel", lambda: encoder.log_mel(windows), nafp.BATCH / 2),
                ("encoder", lambda: encoder.encode(spectrograms), nafp.BATCH / 2)):
            per_core[name] = row(f"extract_{name}", length_s / median_seconds(function, 5), None,
                                 "x real time, 1 core")
    torch.set_num_threads(os.cpu_count())
    share = counter.get_total_flops() / encode_s / (2 * 1024**3 / product_s)
    return [*per_core.values(), row("extract_encoder_flops", 100 * share, None, "% of matmul rate")]


def bench_memory(workspace):
    """Highest memory of a process that fingerprints a recording of ten minutes, and of two hours."""
    code = ("import sys; from amg import audio, nafp; "
            "next(nafp.extract_all(nafp.load(), [audio.blocks(sys.argv[1])]))")
    rows, rng = [], np.random.default_rng(0)
    for minutes in (10, 120):
        file = workspace / f"{minutes}.wav"
        with soundfile.SoundFile(file, "w", audio.SAMPLE_RATE, 1) as out:
            for _ in range(minutes):
                out.write(0.1 * rng.standard_normal(60 * audio.SAMPLE_RATE))
        with machine.PeakMemory() as memory:
            subprocess.run([sys.executable, "-c", code, file], check=True)
        rows.append(row(f"extract_memory_{minutes}_min", memory.peak_mb, None, "MB"))
    return rows


def row(name, ours, published_way, unit):
    """One row of bench.json; `published_way` None where there is nothing to compare with."""
    compared = published_way is not None
    return {"name": name, "ours": round(ours, 2),
            "published_way": round(published_way, 2) if compared else None,
            "ratio": round(ours / published_way, 2) if compared else None, "unit": unit}


def main():
    with tempfile.TemporaryDirectory() as temporary:
        folder = random_training_set(Path(temporary) / "train")
        rows = [bench_training(d, folder, Path(temporary)) for d in (10, 30)]
        rows += bench_extraction(Path(temporary)) + bench_memory(Path(temporary))
    print(pd.DataFrame(rows).to_string(index=False, na_rep=""))
    described = machine.describe()["machine"]
    print(f"{described['processor']}, {described['cores']} cores; batch {BATCH}")
    with paths.atomic(paths.resolve("reports/bench/bench.json")) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
