"""Benchmarks: our way against the published way, same data and weights, in one run.

`make bench` prints a table and writes `reports/bench/bench.json`. Only the ratios travel
between machines; run it on an idle one.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode

import naive
from amg import files, machine, paths
from amg.sound import audio
from amg.fingerprint import features, nafp
from amg.embedding import batches, crops, encoders, runs, training
from amg.retrieval import evaluate, search
from amg.report import tables

N_SONGS, N_CLIPS, BATCH = 100, 10, 640


def fingerprints(rng, n_frames):
    """Random unit rows; their values do not matter for time."""
    rows = rng.standard_normal((n_frames, 128), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_training_set(folder):
    """N_SONGS songs in the published layout."""
    rng = np.random.default_rng(0)
    for song in range(1, N_SONGS + 1):
        for clip in range(N_CLIPS):
            features.save(features.song_file(folder, song, clip), fingerprints(rng, 59))
    return folder


def medians(*functions, repeats=5):
    """Median seconds of each function after a warm-up. They are called in turn, so that a slow
    moment of the machine meets them all."""
    times = [[] for _ in functions]
    for _ in range(1 + repeats):
        for function, its in zip(functions, times):
            began = time.perf_counter()
            function()
            its.append(time.perf_counter() - began)
    return [float(np.median(its[1:])) for its in times]


def median_seconds(function, repeats=5):
    return medians(function, repeats=repeats)[0]


def medians_alone(*ways, repeats=5):
    """The same of functions that live in a process each, for what one leaves of the heap would slow
    the others. A way is (prepare, *arguments), and `prepare(*arguments)` the function.

    Returns for each the medians of its seconds, and of those of them that the system's kernel took.
    """
    times = [[] for _ in ways]
    with ExitStack() as stack:
        pools = [stack.enter_context(alone(way)) for way in ways]
        for _ in range(1 + repeats):
            for pool, its in zip(pools, times):
                its.append(pool.submit(_time_held).result())
    return [np.median(its[1:], axis=0).tolist() for its in times]


def peak_memory(*way):
    """Highest memory (MB) of a way's process over two calls; not timed, for watching slows it."""
    with machine.PeakMemory() as memory, alone(way) as pool:
        for _ in range(2):
            pool.submit(_time_held).result()
    return memory.peak_mb


def alone(way):
    """A process of its own that holds the function of a way."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _hold, way)


def _hold(prepare, *arguments):
    global held
    held = prepare(*arguments)


def _time_held():
    began, kernel_s = time.perf_counter(), os.times().system
    held()
    return time.perf_counter() - began, os.times().system - kernel_s


def prepare_product(size=2048):
    """A large float32 matrix product, on all cores."""
    a = torch.randn(size, size)
    return lambda: a @ a


def first_batch(config, data):
    return batches.epoch(np.random.default_rng(1), data.length, BATCH, config.batches,
                         config.duration_max)[0]


def published_step(run, folder, batch):
    """One update the published way: a file opened per sample, one batch padded to M frames."""
    crops_ = []
    for song, clip, start, length in zip(batch.song, batch.clip, batch.crop.start, batch.crop.length):
        rows = np.load(features.song_file(folder, song + 1, clip), allow_pickle=False)
        crops_.append(rows[start : start + length])
    x, mask = naive.pad(crops_, crops.PADDED_FRAMES[run.config.duration_max])
    run.encoder.train()
    run.optimiser.zero_grad(set_to_none=True)
    vectors = run.encoder(x, mask)  # the padded module
    loss = naive.published_loss(
        vectors, run.loss.centres, *map(torch.from_numpy, (
            batch.song, crops.margin(batch.crop.share), batch.clip == 0)))
    loss.backward()
    run.optimiser.step()


def prepare_step(duration_max, folder, workspace, ours):
    """A function that does one update of the published Transformer, ours or the published way."""
    config = runs.Config(duration_max=duration_max, n_valid=0, batch_size=BATCH)
    data = features.pack(folder)
    run = training.Run(config, data, "bench")
    batch = first_batch(config, data)
    if ours:
        return lambda: run._update(batch, 1e-3)
    return lambda: published_step(run, folder, batch)


def useful_flops(lengths, layers=10, width=256, feedforward=256):
    """Multiplications and additions that an update of a `Transformer` cannot do without: forward
    and backward (twice the forward) of every frame of every crop, attention included."""
    per_frame = 2 * width * (4 * width + 2 * feedforward)
    forward = layers * (per_frame * lengths.sum() + 4 * width * (lengths**2).sum())
    return 3 * (forward + 2 * 128 * width * lengths.sum())


def share_of_matmul_rate(flops, seconds, product_s, size=2048):
    """Percent of what the machine does in a large product (`prepare_product`)."""
    return 100 * flops / seconds / (2 * size**3 / product_s)


def bench_training(duration_max, folder, workspace):
    """Samples per second of one update, Transformer of the published size, AMG loss."""
    ways = [(prepare_step, duration_max, folder, workspace, ours) for ours in (True, False)]
    (ours, kernel), (theirs, their_kernel), (product, _) = medians_alone(*ways, (prepare_product,))
    config = runs.Config(duration_max=duration_max, n_valid=0, batch_size=BATCH)
    flops = useful_flops(first_batch(config, features.pack(folder)).crop.length)
    name, memory = f"train_{duration_max}", [peak_memory(*way) for way in ways]
    return [row(name, BATCH / ours, BATCH / theirs, "samples/s"),
            row(f"{name}_kernel", kernel, their_kernel, "s of an update in the system's kernel"),
            row(f"{name}_flops", share_of_matmul_rate(flops, ours, product), None,
                "% of matmul rate, useful only"),
            row(f"{name}_memory", *memory, "MB")]


def many_songs(n_songs, workspace):
    """A training set of `n_songs` songs whose clips share 100,000 frames on disk: the largest set
    would need 30 GB."""
    file, n_frames = workspace / "shared.f32", 100_000
    if not file.exists():
        fingerprints(np.random.default_rng(0), n_frames).tofile(file)
    first = np.random.default_rng(1).integers(0, n_frames - 59, (n_songs, N_CLIPS))
    return features.TrainingSet(np.memmap(file, np.float32, "r").reshape(-1, 128), first,
                                np.full((n_songs, N_CLIPS), 59), str(n_songs), [])


def prepare_step_of_many(n_songs, duration_max, workspace):
    """A function that does our update with `n_songs` songs, a class centre each."""
    config = runs.Config(duration_max=duration_max, n_valid=0, batch_size=BATCH)
    data = many_songs(n_songs, workspace)
    run = training.Run(config, data, "bench")
    batch = first_batch(config, data)
    return lambda: run._update(batch, 1e-3)


def bench_sizes(workspace, duration_max=10):
    """Our update with more and more songs. The loss compares each sample with every class centre:
    useful work that grows with their number."""
    sizes, rows = (1_000, 10_000, 100_000), []
    ways = [(prepare_step_of_many, n_songs, duration_max, workspace) for n_songs in sizes]
    *times, (product, _) = medians_alone(*ways, (prepare_product,))
    config = runs.Config(duration_max=duration_max, n_valid=0, batch_size=BATCH)
    for n_songs, way, (seconds, _) in zip(sizes, ways, times):
        lengths = first_batch(config, many_songs(n_songs, workspace)).crop.length
        flops = useful_flops(lengths) + 3 * 2 * BATCH * n_songs * nafp.DIM
        name = f"train_{duration_max}_{n_songs}_songs"
        rows += [row(name, BATCH / seconds, None, "samples/s"),
                 row(f"{name}_flops", share_of_matmul_rate(flops, seconds, product), None,
                     "% of matmul rate, useful only"),
                 row(f"{name}_memory", peak_memory(*way), None, "MB")]
    return rows


def search_task(seed=0):
    """6,000 queries of 10 s (500 songs x 12 starts) and 6,000 segments of 10 s: all that both ways
    are given. Queries are the songs with noise."""
    rng = np.random.default_rng(seed)
    sequences = search.Sequences.of([fingerprints(rng, 59) for _ in range(2000)])
    queries = [song + 0.05 * rng.standard_normal(song.shape, dtype=np.float32)
               for song in sequences.songs(1500)]
    queries = [query / np.linalg.norm(query, axis=1, keepdims=True) for query in queries]
    segments = search.Segments.of(sequences, crops.segment_frames(10))
    encoder = encoders.build(runs.Config()).eval()
    vectors = evaluate.segment_vectors(encoder, segments, sequences)
    return (evaluate.trials(queries, [19], 12, [19]), queries, encoder, vectors, segments, sequences)


def published_search(trials, queries, encoder, vectors, segments, sequences, stages):
    """The published way: query by query, each padded to M frames, embedded and searched alone."""
    index = search.flat_index(vectors)
    arrays = [sequences.frames[s : s + segments.length] for s in segments.start]
    single, two = [], []
    for trial in trials.itertuples():
        query = queries[trial.song][trial.start : trial.start + trial.query_frames]
        pieces = [query[i : i + segments.length] for i in range(0, len(query), segments.length)]
        with torch.inference_mode():
            x, mask = naive.pad(pieces, crops.PADDED_FRAMES[10])
            embedded = naive.published_forward(encoder, x, mask).numpy()
        scores, neighbours = index.search(embedded, search.SEGMENT_NEIGHBOURS)
        single.append(naive.vote(neighbours, scores))
        if stages == 2:
            two.append(naive.published_second_stage(query, single[-1], arrays))
    return single, two


def bench_search():
    """Queries per second of the whole evaluation and of the second stage alone, at 10 s."""
    task = search_task()
    trials, queries, encoder, vectors, segments, sequences = task
    few = trials.groupby("song").head(1)  # the published way takes minutes for all: a twelfth of them
    rows = []

    def first():
        return evaluate.first_stage(*task[:-1])

    def both():
        return evaluate.second_stage(trials, queries, first(), segments, sequences)

    for name, function, stages in (("single", first, 1), ("two", both, 2)):
        ours, theirs = medians(function, lambda: published_search(few, *task[1:], stages))
        rows.append(row(f"evaluate_{name}_10", len(trials) / ours, len(few) / theirs, "queries/s"))
    candidates = first()
    arrays = [sequences.frames[s : s + segments.length] for s in segments.start]
    ours, theirs = medians(
        lambda: evaluate.second_stage(trials, queries, candidates, segments, sequences),
        lambda: [naive.published_second_stage(queries[t.song][t.start : t.start + 19], ids, arrays)
                 for t, ids in zip(few.itertuples(), candidates[few.index])])
    rows.append(row("second_stage_10", len(trials) / ours, len(few) / theirs, "queries/s"))
    memory = [peak_memory(prepare_search, ours) for ours in (True, False)]
    return [*rows, row("evaluate_two_10_memory", *memory, "MB")]


def prepare_search(ours):
    """A function that searches all queries in two stages, ours or the published way."""
    task = search_task()
    trials, queries, _, _, segments, sequences = task
    if ours:
        return lambda: evaluate.second_stage(trials, queries, evaluate.first_stage(*task[:-1]),
                                             segments, sequences)
    return lambda: published_search(*task, stages=2)


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
    code = ("import sys; from amg.sound import audio; from amg.fingerprint import nafp; "
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


def markdown(rows, described):
    """The table of the README, and how it was made."""
    table = pd.DataFrame({"": [r["name"] for r in rows], "ours": [f"{r['ours']:,g}" for r in rows],
                          "published way": [f"{r['published_way']:,g}" if r["ratio"] else "" for r in rows],
                          "ratio": [f"{r['ratio']:.3g}" if r["ratio"] else "" for r in rows],
                          "unit": [r["unit"] for r in rows]})
    where = described["machine"]
    return (f"{tables.markdown(table.set_index(''))}\n\n`make bench`, batches of {BATCH}, published "
            f"Transformer, seed 0, commit {described['commit']}; {where['processor']}, "
            f"{where['cores']} cores, {where['memory_gb']} GB.\n")


def main():
    described, report = machine.describe(), paths.resolve("reports/bench")
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Path(temporary)
        os.environ["AMG_HOME"] = temporary  # packed copies go there, too
        folder = random_training_set(workspace / "train")
        rows = bench_training(30, folder, workspace) + bench_training(10, folder, workspace)
        rows += bench_search() + bench_sizes(workspace)
        rows += bench_extraction(workspace) + bench_memory(workspace)
    texts = {"bench.json": json.dumps(rows, indent=1) + "\n", "bench.md": markdown(rows, described)}
    for name, text in texts.items():
        with files.atomic(report / name) as temporary:
            temporary.write_text(text)
    print(texts["bench.md"])


if __name__ == "__main__":
    main()
