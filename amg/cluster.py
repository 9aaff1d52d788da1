"""Jobs on a Dask cluster: processes of any machines that share the workspace (docs/cluster.md)."""

import contextlib
import functools
import logging
import os
import re
import sys
import tempfile

import amg
from amg import code, files, paths
from amg.check import InputError

WAIT_S = 8  # for a scheduler to answer, and for a worker to join
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def check(address) -> None:
    """InputError unless the scheduler at `address` has workers, and all of them this
    workspace and this kit."""
    with _joined(address):
        pass


def results(function, jobs, address):
    """Yield (i, `function(*jobs[i])`) as the jobs are done by the workers of the scheduler at
    `address`.

    The jobs of a worker that is lost are given to others; what was received is not done again.
    Raises InputError as `check` (for a worker that joins later, too), if the scheduler is lost, and
    if several workers are by the same job.
    """
    with _joined(address) as (client, here):
        import distributed

        # as a task of its own: sent once to each worker, and known to the scheduler if all are lost
        held = client.submit(_hold, (function, here), pure=False)
        futures = client.map(_call, jobs, held=held, pure=False, batch_size=1000)
        number = {future.key: i for i, future in enumerate(futures)}
        done = distributed.as_completed(futures, loop=client.loop, with_results=True)
        del futures  # a result that is referred to would be computed again if its worker were lost
        try:
            for future, result in done:
                if future.status == "cancelled":
                    raise InputError(
                        f"the Dask scheduler at {address} was lost; start it and its workers "
                        "again, and the same command continues."
                    )
                yield number[future.key], result
        except distributed.KilledWorker:
            raise InputError(
                f"several workers of {address} died of the same job, perhaps for want of memory; "
                "give them more, and the same command continues."
            ) from None


@contextlib.contextmanager
def _joined(address):
    """Yield a client of the scheduler, and what workers are asked for: workspace, file, kit."""
    kept = paths.resolve("data/cache")
    kept.mkdir(parents=True, exist_ok=True)
    with (
        _connected(address) as client,
        tempfile.NamedTemporaryFile(dir=kept, prefix="dask-") as marker,
    ):
        here = str(paths.home()), marker.name, _kit()
        _check_workers(client, here)
        yield client, here


def _connected(address):
    """A client of the scheduler there."""
    if not isinstance(address, str) or not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d+", address):
        raise InputError(
            f"dask is {address!r}, but must be the address of a Dask scheduler, as "
            "tcp://host:8786, or empty."
        )
    try:
        import dask
        import distributed
    except ImportError:
        raise InputError(
            f"dask is {address!r}, but Dask is not installed here; pip install distributed, or "
            "leave dask empty."
        ) from None
    # a function may hold arrays, as a pool of noises, of which Dask would warn
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "10GB"})
    # it would print a stack trace of a scheduler that was lost
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    client = distributed.Client.__new__(distributed.Client)
    try:
        client.__init__(address, timeout=WAIT_S, set_as_default=False)
    except Exception:  # of whatever kind, where something else than a scheduler answers
        client.status = "closed"  # else it would be closed at length when it is collected
        raise InputError(
            f"no Dask scheduler answers at {address}; start one (dask scheduler), and give the "
            "address that it prints."
        ) from None
    return client


def _check_workers(client, here):
    """InputError if a worker objects, or if there is none."""
    try:
        client.wait_for_workers(1, WAIT_S)
    except TimeoutError:
        address = client.scheduler.address
        raise InputError(
            f"the Dask scheduler at {address} has no workers; start some: dask worker {address} "
            "--nthreads 1"
        ) from None
    for worker, objection in client.run(_objection, *here, on_error="return").items():
        if isinstance(objection, OSError):  # it has just been lost
            continue
        if isinstance(objection, Exception):
            objection = f"cannot run this kit ({objection}); install it there, under this path."
        if objection:
            raise InputError(f"worker {worker} {objection}")


@functools.cache
def _kit():
    """What code this process runs: asked for when it begins, not after a change of the files."""
    sources = {str(f.relative_to(code.ROOT)): files.sha256(f) for f in code.ROOT.rglob("*.py")}
    return f"amg {amg.__version__} (code {files.digest(sources)[:8]}) in {code.ROOT}"


@functools.lru_cache(1)
def _objection(home, marker, kit):
    """Why this process is no worker for a client of this workspace and kit; "" if it is one."""
    if str(paths.home()) != home or not os.path.exists(marker):
        return (
            f"has the workspace {paths.home()}, and does not see in it what was just written to "
            f"{home}; all machines must share that folder, and workers be started with "
            f"AMG_HOME={home}."
        )
    if _kit() != kit:
        return f"runs {_kit()}, but must run {kit}; install that there, and start it again."
    return ""


def _hold(value):
    return value


def _call(job, held):
    """One job, in a worker's thread."""
    from distributed import get_worker

    function, here = held
    objection = _objection(*here)  # of a worker that came later
    if objection:
        raise InputError(f"worker {get_worker().address} {objection}")
    for name in THREADS:  # of what the job starts, too
        os.environ.setdefault(name, "1")
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return function(*job)
