"""`kill -9` at random moments: what is started again ends like an undisturbed run."""

import os
import random
import subprocess
import sys

import psutil

from amg import checkpoint, files
from amg.report import compare

KILLS = 10


def test_killed_at_ten_random_moments(tmp_path, request):
    """The smoke profile: extraction, split, training, evaluation, robustness. Weights and tables
    must be those of the undisturbed run."""
    seed = random.SystemRandom().randrange(2**32)
    moments = random.Random(seed)
    environment = {**os.environ, "AMG_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "amg", "reproduce", "--profile", "smoke"]
    killed = 0
    while killed < KILLS:
        process = psutil.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=moments.uniform(4, 14))
            break  # finished before the next kill
        except psutil.TimeoutExpired:
            _kill(process)
            killed += 1
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (seed, done.stderr)
    print(f"killed {killed} times, seed {seed}")
    assert killed > 3, f"only {killed} kills before the run was done"
    smoke = request.getfixturevalue("undisturbed")  # by now another process has made it
    # through the links that name the runs; a link's target is named by its recipe, equal in both
    links = [path for path in (smoke / "data/models/smoke").iterdir() if path.is_symlink()]
    assert len(links) > 3
    for link in links:
        whole, mended = (root / link.relative_to(smoke) for root in (smoke, tmp_path))
        assert mended.resolve().name == whole.resolve().name, (seed, link)
        if link.name == "nafp-lite":  # its record states how long the steps took
            assert _tensors(mended / "final.safetensors") == _tensors(
                whole / "final.safetensors"
            ), seed
        else:
            assert files.sha256(mended / "best.safetensors") == files.sha256(
                whole / "best.safetensors"
            ), (seed, link)
    ours, theirs = (compare.read(root / "reports/smoke") for root in (tmp_path, smoke))
    for name in {*ours, *theirs}:
        verdict = compare.compare(ours.get(name), theirs.get(name))
        assert verdict == "identical", (seed, name, verdict)


def _kill(command):
    """Kill a process and all that it has started: kernels and their workers."""
    for process in [command, *command.children(recursive=True)]:
        process.kill()


def _tensors(path):
    return {name: tensor.tolist() for name, tensor in checkpoint.load(path)[0].items()}
