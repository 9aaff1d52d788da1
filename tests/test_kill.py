"""`kill -9` in the midst of a run: what is started again ends like an undisturbed run."""

import os
import random
import subprocess
import sys
import time

import psutil

from amg import files
from amg.report import compare

SEED, KILLS, FEWEST = 0, 6, 3
LAST = 400  # no kill is planned for after so many files; a run makes some 520
KILLED = ("01_data_prep", "02_split", "03_train", "04_evaluate", "06_robustness")
RUN = f"""
from amg.report.running import pipeline
steps = pipeline.load_profile("smoke")
pipeline.load_profile = lambda name: [step for step in steps if step.notebook in {KILLED}]
pipeline.reproduce("smoke")
"""


def test_killed_at_random_moments(tmp_path, request):
    """The notebooks KILLED of the smoke profile, in which most is computed: weights and tables must
    be those of the undisturbed run.

    A moment is a number of files, and up to a second after them: however fast the machine is, a
    seed stops a run at about the same places. A run that makes hundreds in that second may be over
    before the last kills.
    """
    moments, stops = random.Random(SEED), []
    environment = {**os.environ, "AMG_HOME": str(tmp_path)}
    command = [sys.executable, "-c", RUN]
    for planned in sorted(moments.sample(range(LAST), KILLS)):
        stop = max(planned, _count(tmp_path) + 1)
        process = psutil.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and _count(tmp_path) < stop:
            time.sleep(0.02)
        time.sleep(moments.random())
        if process.poll() is not None:
            break
        stops.append(_count(tmp_path))
        _kill(process)
    assert len(stops) >= FEWEST, f"over after kills at {stops} files"
    told = f"seed {SEED}, killed at {stops} files"
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (told, done.stderr)
    smoke = request.getfixturevalue("undisturbed")  # by now another process has made it
    # through the links that name the runs; a link's target is named by its recipe, equal in both
    links = [path for path in (tmp_path / "data/models/smoke").iterdir() if path.is_symlink()]
    assert len(links) == 2
    for link in links:
        whole, mended = (root / link.relative_to(tmp_path) for root in (smoke, tmp_path))
        assert mended.resolve().name == whole.resolve().name, (told, link)
        weights = [folder / "best.safetensors" for folder in (mended, whole)]
        assert files.sha256(weights[0]) == files.sha256(weights[1]), (told, link)
    ours, theirs = (compare.read(root / "reports/smoke")[1] for root in (tmp_path, smoke))
    assert ours.keys() >= {"clips", "split", "retrieval", "cost", "robustness"}
    for name, table in ours.items():
        verdict = compare.compare(table, theirs.get(name))
        assert verdict == "identical", (told, name, verdict)


def _count(folder):
    """Files and folders below one in which a process is at work."""
    return sum(len(names) + len(folders) for _, folders, names in os.walk(folder))


def _kill(command):
    """Kill a process and all that it has started: kernels and their workers."""
    for process in [command, *command.children(recursive=True)]:
        process.kill()
    command.wait()
