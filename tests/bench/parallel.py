"""Rows of jobs side by side: how long two workers take for eight equal jobs of one thread, as a
part of what one worker takes. On two cores or more, a half would be the best."""

from contextlib import ExitStack

import torch
from distributed import LocalCluster

from amg import progress
from amg.fingerprint import nafp
from amg.sound import audio
from bench.extraction import noise
from bench.timing import medians, row

N_JOBS = 8


def rows(workspace):
    jobs = [(noise(workspace / "noise.ogg"),)] * N_JOBS
    one_s, two_s = timed(jobs, 1, 2)  # before there are clusters, which slow what is beside them
    with ExitStack() as stack:
        clusters = [
            stack.enter_context(LocalCluster(n_workers=n, threads_per_worker=1)) for n in (1, 2)
        ]
        one_dask_s, two_dask_s = timed(jobs, *(cluster.scheduler_address for cluster in clusters))
    unit = "of the time of one"
    return [
        row("parallel_2_processes", two_s / one_s, None, unit),
        row("parallel_2_on_dask", two_dask_s / one_dask_s, None, unit),
    ]


def timed(jobs, *ways):
    return medians(
        *(lambda way=way: list(progress.parallel(fingerprint, jobs, way)) for way in ways),
        repeats=3,
    )


def fingerprint(file):
    torch.set_num_threads(1)
    next(nafp.extract_all(nafp.load(), [audio.blocks(file)]))
