"""Seconds and memory of functions that are compared: called in turn, in a process each."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import torch

from amg import machine

PRODUCT_SIZE = 2048


class Timed(NamedTuple):
    seconds: float
    kernel_s: float  # of them, in the system's kernel
    result: object  # of the first call


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


def medians_alone(*ways, repeats=5):
    """The same of functions that live in a process each, for what one leaves of the heap would slow
    the others: a list of Timed. A way is (prepare, *arguments), and `prepare(*arguments)` gives the
    function.
    """
    times = [[] for _ in ways]
    with ExitStack() as stack:
        pools = [stack.enter_context(_alone(way)) for way in ways]
        for _ in range(1 + repeats):
            for pool, its in zip(pools, times):
                its.append(pool.submit(_time_held).result())
    return [
        Timed(*np.median([its[:2] for its in of_way[1:]], axis=0).tolist(), of_way[0][2])
        for of_way in times
    ]


def peak_memory(*way):
    """Highest memory (MB) of a way's process over two calls; not timed, for watching slows it."""
    with machine.PeakMemory() as memory, _alone(way) as pool:
        for _ in range(2):
            pool.submit(_time_held).result()
    return memory.peak_mb


def _alone(way):
    """A process of its own that holds the function of a way."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _hold, way)


def _hold(prepare, *arguments):
    global held
    held = prepare(*arguments)


def _time_held():
    began, kernel_s = time.perf_counter(), os.times().system
    result = held()
    return time.perf_counter() - began, os.times().system - kernel_s, result


def prepare_product():
    """A large float32 matrix product, on all cores."""
    a = torch.randn(PRODUCT_SIZE, PRODUCT_SIZE)

    def product():
        a @ a

    return product


def matmul_rate(product_s):
    """Multiplications and additions per second of `prepare_product`."""
    return 2 * PRODUCT_SIZE**3 / product_s


def forward_flops(lengths, layers=10, width=256, feedforward=256):
    """Multiplications and additions of a `Transformer` that embeds sequences of these lengths, in
    frames: every frame, attention included, and no padding."""
    per_frame = 2 * width * (4 * width + 2 * feedforward)
    flops = layers * (per_frame * lengths.sum() + 4 * width * (lengths**2).sum())
    return flops + 2 * 128 * width * lengths.sum()


def row(name, ours, published_way, unit):
    """One row of bench.json; `published_way` None where there is nothing to compare with."""
    compared = published_way is not None
    return {
        "name": name,
        "ours": round(ours, 2),
        "published_way": round(published_way, 2) if compared else None,
        "ratio": round(ours / published_way, 2) if compared else None,
        "unit": unit,
    }


def where(described):
    """The commit and the machine of `machine.describe()`, in words."""
    of = described["machine"]
    return (
        f"commit {described['commit']}; {of['processor']}, {of['cores']} cores, "
        f"{of['memory_gb']} GB"
    )
