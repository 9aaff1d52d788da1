"""Runs all benchmarks and writes `reports/bench/bench.json` and `bench.md`."""

import json
import os
import tempfile
from pathlib import Path

import pandas as pd

from amg import files, machine, paths
from amg.report import sentences
from bench import data, evaluation, extraction, parallel, timing, training
from bench.timing import row


def notebook_rows(manifest):
    """Seconds of each step of `make reproduce`, as its manifest tells; [] if there is none."""
    if not manifest.exists():
        return []
    steps = json.loads(manifest.read_text())["steps"]
    seconds = [(f"reproduce_{step['label']}", step["wall_s"]) for step in steps]
    seconds.append(("reproduce", sum(wall_s for _, wall_s in seconds)))
    return [row(name, round(wall_s), None, "s") for name, wall_s in seconds]


def markdown(rows, described):
    """The table of the README, and how it was made."""
    table = pd.DataFrame(
        [
            {
                "": r["name"],
                "ours": f"{r['ours']:,g}",
                "published way": "" if r["ratio"] is None else f"{r['published_way']:,g}",
                "ratio": "" if r["ratio"] is None else f"{r['ratio']:.3g}",
                "unit": r["unit"],
            }
            for r in rows
        ]
    )
    return (
        f"{sentences.markdown(table.set_index(''))}\n\n`make bench`, batches of {training.BATCH}, "
        f"published Transformer, seed 0, {timing.where(described)}.\n"
    )


def main():
    described, reference = machine.describe(), paths.checkout() / "reports/reference"
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Path(temporary)
        os.environ["AMG_HOME"] = temporary  # packed copies go there, too
        folder = data.training_set(workspace / "train")
        rows = evaluation.rows(data.database(workspace / "database"))
        rows += training.rows(30, folder) + training.rows(10, folder)
        rows += training.rows_of_sizes(workspace)
        rows += extraction.rows(workspace) + extraction.rows_of_memory(workspace)
        rows += parallel.rows(workspace)
    rows += notebook_rows(reference / "demo/manifest.json")
    texts = {"bench.json": json.dumps(rows, indent=1) + "\n", "bench.md": markdown(rows, described)}
    for name, text in texts.items():
        with files.atomic(paths.checkout() / "reports/bench" / name) as temporary:
            temporary.write_text(text)
    print(texts["bench.md"])


if __name__ == "__main__":
    main()
