"""Benchmarks: our way against the published way, same data and weights, in one run.

`make bench` prints a table and writes `reports/bench/bench.json`. Only the ratios travel
between machines; run it on an idle one.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

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


def bench_extraction():
    """Seconds of audio fingerprinted per second: windows together against one at a time."""
    clip = np.random.default_rng(0).standard_normal(30 * audio.SAMPLE_RATE).astype(np.float32)
    encoder = nafp.load()

    def one_by_one():
        with torch.inference_mode():
            for window in audio.frame(clip).copy():
                encoder(torch.from_numpy(window)[None])

    ours, theirs = median_seconds(lambda: nafp.extract(encoder, clip)), median_seconds(one_by_one)
    return row("extract_lite", 30 / ours, 30 / theirs, "x real time")


def row(name, ours, published_way, unit):
    return {"name": name, "ours": round(ours, 2), "published_way": round(published_way, 2),
            "ratio": round(ours / published_way, 2), "unit": unit}


def main():
    with tempfile.TemporaryDirectory() as temporary:
        folder = random_training_set(Path(temporary) / "train")
        rows = [bench_training(d, folder, Path(temporary)) for d in (10, 30)]
    rows.append(bench_extraction())
    print(pd.DataFrame(rows).to_string(index=False))
    described = machine.describe()["machine"]
    print(f"{described['processor']}, {described['cores']} cores; batch {BATCH}, medians of 3")
    with paths.atomic(paths.resolve("reports/bench/bench.json")) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
