"""Rows of jobs side by side: how long two workers take for eight equal jobs of one thread, and for
eight equal cells of a sweep, as a part of what one worker takes. On two cores or more, a half would
be the best."""

import time
from contextlib import ExitStack

import torch
from distributed import LocalCluster

from amg import progress
from amg.fingerprint import nafp
from amg.report.running import pipeline, sweep_runs, sweeps
from amg.sound import audio
from bench.extraction import noise
from bench.timing import medians, row

N_JOBS = 8
SWEEP = """# What do seeds change?
profile: smoke
all: {duration_max: 10, query_frames: [5]}
budget: {updates: 100}
cells: {seed: {}}
"""


def rows(workspace):
    jobs = [(noise(workspace / "noise.ogg"),)] * N_JOBS
    one_s, two_s = timed(jobs, 1, 2)  # before there are clusters, which slow what is beside them
    with ExitStack() as stack:
        clusters = [
            stack.enter_context(LocalCluster(n_workers=n, threads_per_worker=1)) for n in (1, 2)
        ]
        one_dask_s, two_dask_s = timed(jobs, *(cluster.scheduler_address for cluster in clusters))
    unit, (one_cells_s, two_cells_s) = "of the time of one", (cells_s(workspace, n) for n in (1, 2))
    return [
        row("parallel_2_cells", two_cells_s / one_cells_s, None, unit),
        row("parallel_2_processes", two_s / one_s, None, unit),
        row("parallel_2_on_dask", two_dask_s / one_dask_s, None, unit),
    ]


def timed(jobs, *ways):
    return medians(
        *(lambda way=way: list(progress.parallel(fingerprint, jobs, way)) for way in ways),
        repeats=3,
    )


def cells_s(workspace, workers):
    """Seconds of eight cells, which differ in their seed."""
    for step in pipeline.load_profile("smoke"):
        if step.label in ("01_data_prep", "02_split") and not step.finished():
            step.run(bar=False)
    seeds = list(range(N_JOBS * workers, N_JOBS * (workers + 1)))  # what is trained stays
    file = workspace / f"seeds_{workers}.yaml"
    file.write_text(f"{SWEEP}seeds: {seeds}\n")
    sweep = sweep_runs.budgeted(sweeps.read(str(file)), "sweeps/seeds", 1)
    began = time.perf_counter()
    sweep_runs.run(sweep, "sweeps/seeds", workers)
    return time.perf_counter() - began


def fingerprint(file):
    torch.set_num_threads(1)
    next(nafp.extract_all(nafp.load(), [audio.blocks(file)]))
