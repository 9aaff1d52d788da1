"""Jobs on a Dask cluster: a scheduler and workers in processes, with folders, of their own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress

import marked
import numpy as np
import pytest
import soundfile
import torch
from conftest import CHECKOUT
from joblib.externals.loky import get_reusable_executor

from amg import cluster, files, progress
from amg.check import InputError
from amg.fingerprint import extraction, fingerprinters
from amg.report.running import sweep_runs, sweeps
from amg.sound import clips, pools

RATE = 8000
SWEEP = """# Which loss?
profile: smoke
all: {duration_max: 10, query_frames: [5]}
seeds: [0]
budget: {updates: 2}
cells: {AMG: {}, triplet: {loss: triplet}, mean: {encoder: mean}}
"""


@contextmanager
def started(*words, folder, **environment):
    """A Dask command in a session of its own, with working and temporary folder of its own."""
    folder.mkdir(exist_ok=True)
    code = environment.pop("code", CHECKOUT)
    own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    own |= {"PYTHONPATH": f"{code}:{CHECKOUT / 'tests'}", "TMPDIR": str(folder), **environment}
    command = [sys.executable, "-m", "dask", *map(str, words), "--no-dashboard"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=own,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        lose(process.pid)
        process.wait()


def lose(pid):
    """As a machine is lost: a worker and the nanny that would start it again."""
    with suppress(ProcessLookupError):
        os.killpg(os.getpgid(pid), signal.SIGKILL)


def wait_for(condition):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + 60
        time.sleep(0.02)


@pytest.fixture
def scheduler(home, tmp_path_factory):
    """Address, and process; there is a workspace."""
    folder = tmp_path_factory.mktemp("scheduler")
    file = folder / "file.json"
    words = "scheduler", "--host", "127.0.0.1", "--port", 0, "--scheduler-file", file
    with started(*words, folder=folder) as process:
        wait_for(file.exists)
        wait_for(lambda: files.read_json(file))
        yield files.read_json(file)["address"], process


@pytest.fixture
def worker(home, scheduler, tmp_path_factory):
    """A function that starts a worker of the scheduler; returns when it has joined."""
    import distributed

    with distributed.Client(scheduler[0], set_as_default=False) as client:

        def n_workers():
            return len(client.scheduler_info(n_workers=-1)["workers"])

        stack = []

        def start(*options, **environment):
            folder, before = tmp_path_factory.mktemp("worker"), n_workers()
            words = "worker", scheduler[0], "--nthreads", 1, "--local-directory", folder
            stack.append(started(*words, *options, folder=folder, **environment))
            stack[-1].__enter__()
            wait_for(lambda: n_workers() > before)

        yield start
        for process in stack:
            process.__exit__(None, None, None)


def test_results_come_in_order_or_as_they_are_done_each_with_one_thread(scheduler, worker):
    address, _ = scheduler
    worker("--no-nanny")  # which would set the number of threads
    worker("--no-nanny")
    assert progress.workforce(2, address) == address
    # loaded with the function, before the number of threads is set
    assert list(progress.parallel(torch.get_num_threads, [(), ()], address)) == [1, 1]
    assert list(progress.parallel(marked.slow, [(0, 1.0), (1, 1.0)], address)) == [0, 1]
    assert len({process for process, _ in marked.marks()}) == 2
    jobs = [(0, 3.0), *((number, 0.0) for number in range(1, 9))]
    assert list(progress.parallel(marked.slow, jobs, address)) == list(range(9))
    done = list(progress.parallel(marked.slow, jobs, address, ordered=False))
    assert sorted(done) == list(range(9)) and done[0] != 0
    assert list(progress.parallel(marked.threads, [(0,), (1,)], address)) == [(1, 1)] * 2
    for where in (address, 2):
        with pytest.raises(InputError, match="^1 cannot be done.$"):
            list(progress.parallel(marked.failing, [(1,)], where))
        assert list(progress.parallel(abs, iter([(-1,)]), where, done=1)) == [1]
        assert list(progress.parallel(abs, [], where, done=1)) == []


def test_a_process_of_this_machine_that_dies_ends_in_a_sentence(home):
    with pytest.raises(InputError, match="^a worker process died, perhaps for want of memory; "):
        list(progress.parallel(marked.deadly, [(0,), (1,)], 2))
    jobs = [(0, 1.0), (1, 0.0)]  # others are there for the next call
    assert list(progress.parallel(marked.slow, jobs, 2, ordered=False)) == [1, 0]


def test_what_a_lost_worker_has_done_is_not_done_again(scheduler, worker):
    def kill():
        wait_for(lambda: len(marked.marks()) == 6)
        time.sleep(0.3)  # what it had done has been received by now
        victim = marked.marks()[-1][0]
        begun.extend(what for process, what in marked.marks() if process == victim)
        lose(int(victim))

    address, _ = scheduler
    worker()
    worker()
    begun, watch = [], threading.Thread(target=kill)
    watch.start()
    jobs = [(number, 1.0) for number in range(8)]
    assert list(progress.parallel(marked.slow, jobs, address)) == list(range(8))
    watch.join()
    times = Counter(what for _, what in marked.marks())
    assert len(begun) > 1 and len(times) == 8
    assert {what: n for what, n in times.items() if n > 1} == {begun[-1]: 2}


@pytest.mark.slow
def test_a_worker_is_killed_in_the_midst_of_a_sweep(
    smoke, home, scheduler, worker, tmp_path_factory, monkeypatch
):
    """What is trained and found is what a run on this machine trains and finds."""
    address, _ = scheduler
    near = tmp_path_factory.mktemp("near")
    for place in (home, near):
        for part in ("data/train", "database"):
            shutil.copytree(smoke / part, place / part, symlinks=True)
    (home / "mine.yaml").write_text(SWEEP)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def kill():
        wait_for(lambda: len(marked.marks()) == 2)
        time.sleep(1)  # a kernel is being started
        victims.append(marked.marks()[-1])
        lose(int(victims[0][0]))

    worker()
    worker()
    victims, watch, found = [], threading.Thread(target=kill), []
    watch.start()
    for place, where in ((home, address), (near, 1)):
        monkeypatch.setenv("AMG_HOME", str(place))
        asked = sweep_runs.budgeted(sweeps.read(str(home / "mine.yaml")), "sweeps/mine", where)
        with monkeypatch.context() as patch:
            if where == address:
                patch.setattr(sweep_runs, "run_cell", marked.cell)
            sweep_runs.run(asked, "sweeps/mine", where)
        results = [sweep_runs.result(cell, "sweeps/mine") for cell in asked.cells]
        assert [result.failed for result in results] == [""] * 3
        weights = place.glob("data/models/smoke/*/best.safetensors")
        of_file = {file.parent.name: files.sha256(file) for file in weights}
        found.append((of_file, [result.trials.to_csv() for result in results]))
    watch.join()
    assert found[0] == found[1] and len(found[0][0]) >= 2
    monkeypatch.setenv("AMG_HOME", str(home))
    times = Counter(what for _, what in marked.marks())
    assert len(times) == 3 and len({process for process, _ in marked.marks()}) == 2
    assert {what: n for what, n in times.items() if n > 1} == {victims[0][1]: 2}


def test_a_worker_is_killed_in_the_midst_of_an_extraction(home, scheduler, worker, monkeypatch):
    """Files are those of a run on this machine, bit for bit, and no recording is done twice but
    the one that the killed worker had begun."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    address, _ = scheduler
    worker()
    worker()
    music = recordings(home, 10)
    rng = np.random.default_rng(0)
    noises, rooms = pools.coloured_noise(rng)[None].astype(np.float16), np.eye(1, 9, dtype="f4")
    devices = pools.MICROPHONE, pools.SPEAKER
    of_devices = [pools.device_response(rng, *device)[None] for device in devices]
    pool = pools.Pool(noises, np.array(["coloured"]), rooms, *of_devices, np.array([], str))

    def kill():
        wait_for(lambda: len(marked.marks()) >= marked.STUCK)
        victims.append(marked.marks()[marked.STUCK - 1])
        n_files.append(len(list((home / "far").glob("*.npy"))))
        lose(int(victims[0][0]))
        (home / "killed").touch()

    victims, n_files = [], []
    watch = threading.Thread(target=kill)
    watch.start()
    prints = fingerprinters.Source("marked", marked.load)
    extraction.songs(music, home / "far", prints, 0, address, pool)
    watch.join()
    marks = marked.marks()
    times = Counter(what for _, what in marks)
    assert len(times) == 10 and n_files[0] < 10
    assert [what for what, n in times.items() if n > 1] == [victims[0][1]]
    assert times[victims[0][1]] == 2 and len({process for process, _ in marks}) == 2
    get_reusable_executor().shutdown()  # processes of another workspace
    extraction.songs(music, home / "near", fingerprinters.find(), 0, 2, pool)
    far, near = (
        {file.name: files.sha256(file) for file in (home / place).iterdir()}
        for place in ("far", "near")
    )
    assert far == near and len(near) == 10


def recordings(home, n):
    rng = np.random.default_rng(0)
    for number in range(n):
        soundfile.write(home / f"{number}.flac", 0.1 * rng.standard_normal(4 * RATE), RATE)
    named = [(str(number), f"{number}.flac") for number in range(n)]
    return [
        clips.Clip(name, name, ".", "1.0", file, 0.0, 4.0, role="test").measured()
        for name, file in named
    ]


def test_workers_share_the_workspace(home, scheduler, worker, tmp_path, monkeypatch):
    address, _ = scheduler
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "WAIT_S", 0.5)
        with pytest.raises(InputError, match=f"^the Dask scheduler at {address} has no workers; "):
            list(progress.parallel(abs, [(-1,)], address))
    worker()
    results = progress.parallel(marked.slow, [(number, 0.5) for number in range(20)], address)
    results = iter(results)
    assert next(results) == 0
    (tmp_path / "elsewhere").mkdir()
    worker(AMG_HOME=str(tmp_path / "elsewhere"))
    message = f"^worker tcp://127.0.0.1:.+ has the workspace {tmp_path}/elsewhere, .*={home}.$"
    with pytest.raises(InputError, match=message):  # one that came later
        list(results)
    with pytest.raises(InputError, match=message):
        progress.workforce(2, address)
    assert progress.workforce(2, "") == 2
    assert cluster._objection(str(home), str(home / "unseen"), cluster._kit())


@pytest.mark.parametrize("whole", [True, False])
def test_workers_of_other_code_are_named(scheduler, worker, tmp_path, whole):
    """Of another folder, and something else of that name."""
    other, said = tmp_path / "other" / "amg", "cannot run this kit ("
    if whole:
        shutil.copytree(CHECKOUT / "amg", other)
        said = f"runs {cluster._kit().split(' in ')[0]} in {other}, but must run {cluster._kit()}; "
    else:
        other.mkdir(parents=True)
        (other / "__init__.py").touch()
    worker(code=other.parent)
    with pytest.raises(InputError, match=rf"^worker tcp://127.0.0.1:\d+ {re.escape(said)}"):
        list(progress.parallel(abs, [(-1,)], scheduler[0]))


def test_what_kills_every_worker_or_the_scheduler_ends_in_a_sentence(scheduler, worker):
    address, process = scheduler
    worker()
    with pytest.raises(InputError, match="^several workers of .* died of the same job, "):
        list(progress.parallel(marked.deadly, [(0,)], address))
    results = iter(progress.parallel(marked.slow, [(n, 0.5) for n in range(99)], address))
    assert next(results) == 0
    lose(process.pid)
    with pytest.raises(InputError, match=f"^the Dask scheduler at {address} was lost; "):
        list(results)
