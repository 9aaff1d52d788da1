"""One look for every progress bar: on standard output, where notebooks show no warning of it."""

import signal
import sys
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm

from amg.check import InputError


def bar(iterable=None, **options) -> tqdm:
    """A tqdm bar; options are tqdm's (`desc`, `unit`, `total`, `initial`)."""
    return tqdm(iterable, file=sys.stdout, mininterval=1, ncols=88, **options)


def parallel(function, jobs, workers, done=0, **options) -> tqdm:
    """Yield `function(*job)` for each of `jobs`, in order, from several processes, with a bar.

    done: jobs that an earlier call has finished; the bar counts them. Raises InputError if one of
    the processes was killed.
    """
    import joblib

    calls = [joblib.delayed(function)(*job) for job in jobs]
    # an interrupt reaches all processes; one that died of it would fail the next call
    deaf = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    results = _alive(joblib.Parallel(workers, return_as="generator", **deaf)(calls))
    return bar(results, total=done + len(calls), initial=done, **options)


def _alive(results):
    try:
        yield from results
    except BrokenProcessPool:
        raise InputError(
            "a worker process died, perhaps for want of memory; give fewer workers, and the same "
            "command continues."
        ) from None
