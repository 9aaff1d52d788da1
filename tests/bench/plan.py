"""The forecast of `amg plan` against what really took: `PYTHONPATH=tests python -m bench.plan`.

Three sizes of the embedded corpus, notebooks 01 to 04, each forecast and then run in a workspace of
its own. Writes `reports/bench/plan.md`, a row per step and one per size; on an idle machine, ten
minutes on 2 cores.
"""

import os
import sys
import tempfile

import pandas as pd

from amg import files, machine, paths
from amg.report import sentences
from amg.report.running import forecast, pipeline
from bench import timing

SIZES = {"small": 40, "medium": 130, "large": 400}  # training songs
PROFILE = """
01_data_prep: {{train_set: plan, database: database/plan, n_train: {n}, n_valid: {tenth},
               n_test: {quarter}, n_dummy: {half}, n_rooms: {tenth}}}
02_split: {{database: database/plan}}
03_train: {{for_each: {{duration_max: [5, 10]}}, train_set: plan, n_valid: {tenth}, epochs: 8}}
04_evaluate: {{train_set: plan, database: database/plan, durations: [5, 10]}}
"""


def rows(size, n):
    """Forecast and true seconds of each step of a size, and of them all."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["AMG_HOME"] = temporary
        text = PROFILE.format(n=n, tenth=max(n // 10, 2), quarter=n // 4, half=n // 2)
        steps = pipeline.parse_profile("plan", text)
        sizes, *_ = forecast.sizes_of(steps)
        found, *_ = forecast.forecast(steps, sizes)
        told = found.groupby("step").seconds.sum()
        table = pd.DataFrame(
            [(size, s.label, told[s.label], s.run()["wall_s"]) for s in steps],
            columns=["size", "step", "forecast_s", "real_s"],
        )
    total = (size, "all", table.forecast_s.sum(), table.real_s.sum())
    table.loc[len(table)] = total
    return table.assign(ratio=table.forecast_s / table.real_s)


def main(names):
    found = pd.concat([rows(name, SIZES[name]) for name in names or SIZES]).round(2)
    table, where = sentences.markdown(found.set_index("size")), timing.where(machine.describe())
    told = f"{table}\n\n`PYTHONPATH=tests python -m bench.plan`, {where}.\n"
    with files.atomic(paths.checkout() / "reports/bench/plan.md") as temporary:
        temporary.write_text(told)
    print(told)


if __name__ == "__main__":
    main(sys.argv[1:])
