"""Jobs on a Dask cluster: processes of any machines that share the workspace (docs/cluster.md)."""

import contextlib
import functools
import logging
import os
import re
import sys
import tempfile
from pathlib import Path

import amg
from amg import code, files, paths
from amg.check import InputError

WAIT_S = 8  # for a scheduler to answer, and for a worker to join


def check(address) -> None:
    """InputError unless the scheduler at `address` has workers, all with this workspace and kit."""
    with _joined(address):
        pass


def results(function, jobs, address):
    """Yield (i, `function(*jobs[i])`) as the jobs are done by the workers of the scheduler at
    `address`.

    The jobs of a worker that is lost are given to others; what was received is not done again.
    Raises InputError as `check` (for a worker that joins later, too), if the scheduler is lost, and
    if several workers are by the same job.
    """
    with _joined(address, function) as (client, here):
        import distributed

        futures = client.map(_call, jobs, here=here, pure=False, batch_size=1000)
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
def _joined(address, function=None):
    """Yield a client of the scheduler, and what workers are asked for: workspace, file, kit.

    The file holds the function, with what arrays it has: a task that depended on another would go
    where that one was done.
    """
    kept = paths.resolve("data/cache")
    kept.mkdir(parents=True, exist_ok=True)
    with (
        _connected(address) as client,
        tempfile.NamedTemporaryFile(dir=kept, prefix="dask-") as file,
    ):
        from distributed.protocol import pickle

        file.write(pickle.dumps(function))
        file.flush()
        os.fsync(file.fileno())  # for the other machines
        here = str(paths.home()), file.name, _kit()
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
        import distributed
    except ImportError:
        raise InputError(
            f"dask is {address!r}, but Dask is not installed here; pip install distributed, or "
            "leave dask empty."
        ) from None
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
def _objection(home, file, kit):
    """Why this process is no worker for a client of this workspace and kit; "" if it is one."""
    if str(paths.home()) != home or not os.path.exists(file):
        return (
            f"has the workspace {paths.home()}, and does not see in it what was just written to "
            f"{home}; all machines must share that folder, and workers be started with "
            f"AMG_HOME={home}."
        )
    if _kit() != kit:
        return f"runs {_kit()}, but must run {kit}; install that there, and start it again."
    return ""


@functools.lru_cache(1)
def _function(file):
    from distributed.protocol import pickle

    return pickle.loads(Path(file).read_bytes())


def _call(job, here):
    """One job, in a worker's thread."""
    from distributed import get_worker

    objection = _objection(*here)  # of a worker that came later
    if objection:
        raise InputError(f"worker {get_worker().address} {objection}")
    n_threads = os.environ.setdefault("OMP_NUM_THREADS", "1")  # of what the job starts, too
    function = _function(here[1])
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(n_threads))
    return function(*job)
