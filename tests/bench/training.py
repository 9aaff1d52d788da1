"""Rows of training: one update of the Transformer of the published size, AMG loss, batch of 640."""

import numpy as np

from amg.embedding import batches, runs, training
from amg.embedding.fast import softmax
from amg.fingerprint import features
from bench import data, published
from bench.timing import (
    forward_flops,
    matmul_rate,
    medians_alone,
    peak_memory,
    prepare_product,
    row,
)

BATCH = published.BATCH


def config_of(duration_max):
    return runs.Config(duration_max=duration_max, n_valid=0, batch_size=BATCH)


def first_batch(config, songs):
    return batches.epoch(
        np.random.default_rng(1), songs.length, BATCH, config.batches, config.duration_max
    )[0]


def prepare_step(duration_max, folder, ours):
    """A function that does one update, ours or the published way, on the CPU."""
    config, songs = config_of(duration_max), features.pack(folder)
    run = training.Run(config, songs, "bench", "cpu")
    batch = first_batch(config, songs)
    if ours:
        return lambda: run._update(batch, 1e-3)
    return lambda: published.step(run, folder, batch)


def prepare_step_of_many(n_songs, duration_max, workspace, plain=False):
    """A function that does our update with `n_songs` songs, a class centre each; plain: by the
    whole table of cosines, whatever their number."""
    if plain:
        softmax.MANY = n_songs + 1  # in a process of its own
    config, songs = config_of(duration_max), data.many_songs(n_songs, workspace)
    run = training.Run(config, songs, "bench", "cpu")
    batch = first_batch(config, songs)
    return lambda: run._update(batch, 1e-3)


def rows(duration_max, folder):
    """Samples per second; useful work as a share of the matmul rate; the kernel's part; memory."""
    ways = [(prepare_step, duration_max, folder, ours) for ours in (True, False)]
    ours, theirs, product = medians_alone(*ways, (prepare_product,))
    lengths = first_batch(config_of(duration_max), features.pack(folder)).crop.length
    # a gradient costs twice what the forward pass does
    share = 3 * forward_flops(lengths) / ours.seconds / matmul_rate(product.seconds)
    name = f"train_{duration_max}"
    return [
        row(name, BATCH / ours.seconds, BATCH / theirs.seconds, "samples/s"),
        row(f"{name}_kernel", ours.kernel_s, theirs.kernel_s, "s of an update in the kernel"),
        row(f"{name}_flops", 100 * share, None, "% of matmul rate, useful only"),
        row(f"{name}_memory", *(peak_memory(*way) for way in ways), "MB"),
    ]


def rows_of_sizes(workspace, duration_max=10):
    """Our update with more and more songs. The loss compares each sample with every class centre:
    useful work that grows with their number. In the last row, blocks of classes stand beside the
    whole table."""
    sizes, found = (1_000, 10_000, 100_000), []
    ways = [(prepare_step_of_many, n_songs, duration_max, workspace) for n_songs in sizes]
    plain = (*ways[-1], True)
    *times, by_table, product = medians_alone(*ways, plain, (prepare_product,))
    for n_songs, way, timed in zip(sizes, ways, times):
        songs = data.many_songs(n_songs, workspace)
        flops = 3 * (
            forward_flops(first_batch(config_of(duration_max), songs).crop.length)
            + 2 * BATCH * n_songs * 128
        )
        share = flops / timed.seconds / matmul_rate(product.seconds)
        name = f"train_{duration_max}_{n_songs}_songs"
        found += [
            row(name, BATCH / timed.seconds, None, "samples/s"),
            row(f"{name}_flops", 100 * share, None, "% of matmul rate, useful only"),
            row(f"{name}_memory", peak_memory(*way), None, "MB"),
        ]
    name = f"train_{duration_max}_{sizes[-1]}_songs"
    return [
        *found,
        row(f"{name}_blocks", BATCH / times[-1].seconds, BATCH / by_table.seconds, "samples/s"),
        row(f"{name}_blocks_memory", peak_memory(*ways[-1]), peak_memory(*plain), "MB"),
    ]
