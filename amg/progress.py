"""One look for every progress bar: on standard output, where notebooks show no warning of it."""

import signal
import sys
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm

from amg import check, cluster
from amg.check import InputError


def bar(iterable=None, **options) -> tqdm:
    """A tqdm bar; options are tqdm's (`desc`, `unit`, `total`, `initial`)."""
    return tqdm(iterable, file=sys.stdout, mininterval=1, ncols=88, **options)


def workforce(workers, dask) -> int | str:
    """The `workers` of `parallel` for two parameters of a notebook: a number of processes, and the
    address of a Dask scheduler or "". Raises InputError unless it can be used."""
    check.integers(1, workers=workers)
    if dask != "":
        cluster.check(dask)
    return dask or workers


def parallel(function, jobs, workers, done=0, ordered=True, **options) -> tqdm:
    """Yield `function(*job)` for each of `jobs`, from several processes, with a bar.

    workers: how many processes of this machine, or the address of a Dask scheduler, as
    tcp://host:8786. Either way a process has its share of the cores (on Dask: one thread, or
    OMP_NUM_THREADS). done: jobs that an earlier call has finished; the bar counts them. ordered:
    results come in the order of the jobs; else as they are done. Raises InputError if a process of
    this machine was killed, or as `cluster.results`.
    """
    jobs = list(jobs)
    results = _on_cluster if isinstance(workers, str) else _here
    yielded = results(function, jobs, workers, ordered) if jobs else ()
    return bar(yielded, total=done + len(jobs), initial=done, **options)


def _here(function, jobs, workers, ordered):
    import joblib

    # an interrupt reaches all processes; one that died of it would fail the next call
    deaf = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    as_they_come = "generator" if ordered else "generator_unordered"
    try:
        calls = (joblib.delayed(function)(*job) for job in jobs)
        yield from joblib.Parallel(workers, return_as=as_they_come, **deaf)(calls)
    except BrokenProcessPool:
        raise InputError(
            "a worker process died, perhaps for want of memory; give fewer workers, and the same "
            "command continues."
        ) from None


def _on_cluster(function, jobs, address, ordered):
    waiting, following = {}, 0
    for i, result in cluster.results(function, jobs, address):
        if not ordered:
            yield result
            continue
        waiting[i] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1
