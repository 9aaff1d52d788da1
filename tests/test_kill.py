"""`kill -9` at random moments: what is started again ends like an undisturbed run."""

import os
import random
import subprocess
import sys

import pandas as pd
import psutil

from amg import checkpoint, files

TIMES = ["seconds", "waiting", "embed_ms", "search_ms"]  # columns that differ from run to run
KILLS = 10


def test_killed_at_ten_random_moments(smoke, tmp_path):
    """The smoke profile: extraction, split, training, evaluation, robustness. Weights and tables
    must be those of the undisturbed run."""
    seed = random.SystemRandom().randrange(2**32)
    moments = random.Random(seed)
    environment = {**os.environ, "AMG_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "amg", "reproduce", "--profile", "smoke"]
    killed = 0
    while killed < KILLS:
        process = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
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
    for whole in sorted((smoke / "data/models").rglob("*.safetensors")):
        mended = tmp_path / whole.relative_to(smoke)
        if "nafp-lite" in whole.name:  # its record states how long the steps took
            assert _tensors(mended) == _tensors(whole), (seed, mended)
        else:
            assert files.sha256(mended) == files.sha256(whole), (seed, mended)
    for whole in sorted((smoke / "reports/smoke/tables").glob("*.csv")):
        one, other = (pd.read_csv(root / whole.relative_to(smoke)).drop(columns=TIMES, errors="ignore")
                      for root in (smoke, tmp_path))
        pd.testing.assert_frame_equal(one, other, obj=f"{whole.name}, seed {seed}")


def _kill(command):
    """Kill a process and all that it has started: kernels and their workers."""
    for process in [command, *command.children(recursive=True)]:
        process.kill()


def _tensors(path):
    return {name: tensor.tolist() for name, tensor in checkpoint.load(path)[0].items()}
