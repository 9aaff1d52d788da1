"""A step: one run of one notebook, what it reads and writes, and whether it is done.

Each has a record as of all made things (`amg.provenance`): parameters, the notebook's code without
comments, what it reads, and the state of what it wrote. One that is finished and equal is skipped.
"""

import ast
import json
import os
import sys
import time

import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from amg import code, files, machine, paths, provenance
from amg.check import InputError
from amg.embedding import encoders, losses, runs
from amg.fingerprint import nafp
from amg.retrieval import databases
from amg.studies import more_songs


def _run(p, **change):
    p = {"loss": "amg", **p, **change}
    name = f"{p['encoder']}-{losses.registry.canonical(p['loss'])}-{p['duration_max']}s"
    if p["train_set"] == runs.SHIPPED:
        return str(runs.shipped(name))
    return f"data/models/{p['train_set']}/{name}"


def _trained(p):
    return [_run(p, encoder=name) for name in p["encoders"] if encoders.needs_training(name)]


def _weights(p):
    return p["fingerprinter"] or str(nafp.shipped())  # absolute, wherever the workspace is


def _folder(p):
    return [p["folder"]] if p["corpus"] == "folder" else []


def _songs(p):
    """A database of notebook 01 is one thing. Of one from elsewhere the songs count, since notebook
    02 writes beside them."""
    root = paths.resolve(p["database"])
    if provenance.is_ours(root) or not root.exists():
        return [p["database"]]
    parts = databases.DUMMY, databases.TEST, databases.QUERY
    return [f"{p['database']}/{part}" for part in parts]


def _split(p, durations):
    """What notebook 02 makes: segments and trials."""
    return [
        *(
            str(databases.split_folder(paths.Path(p["database"]) / part, duration))
            for duration in durations
            for part in (databases.DUMMY, databases.TEST)
        ),
        f"{p['database']}/trials.csv",
    ]


# notebook -> (what it reads, what it makes besides tables and figures), by its parameters
FILES = {
    "00_fingerprinter": (_folder, lambda p: [f"data/models/{p['name']}"]),
    "01_data_prep": (
        lambda p: [_weights(p), *_folder(p)],
        lambda p: [*[f"data/train/{p['train_set']}"] * (p["n_train"] > 0), p["database"]],
    ),
    "02_split": (_songs, lambda p: _split(p, p["durations"])),
    "03_train": (lambda p: [f"data/train/{p['train_set']}"], lambda p: [_run(p)]),
    "04_evaluate": (
        lambda p: [
            *_songs(p),
            *_split(p, p["durations"]),
            *filter(None, [p["test_ids"]]),
            *(
                [p["checkpoint"]]
                if p["checkpoint"]
                else [_run(p, duration_max=duration) for duration in p["durations"]]
            ),
        ],
        lambda p: [],
    ),
    "05_ablations": (
        lambda p: [
            *_songs(p),
            *_split(p, [p["duration_max"]]),
            f"data/train/{p['train_set']}",
            _run(p),
        ],
        lambda p: [
            *(_run(p, loss=loss) for loss in p["losses"]),
            *(_run(p, encoder=encoder) for encoder in p["encoders"]),
        ],
    ),
    "06_robustness": (
        lambda p: [_weights(p), *_songs(p), *_split(p, []), *_trained(p)],
        lambda p: [],
    ),
    "07_unknown_songs": (
        lambda p: [
            *_songs(p),
            *_split(p, [p["duration_max"]]),
            f"data/train/{p['train_set']}",
            _run(p, train_set=p["encoder_of"] or p["train_set"]),
        ],
        lambda p: [],
    ),
    "08_scale": (
        lambda p: [*_songs(p), *_split(p, [p["duration_max"]]), *_trained(p)],
        lambda p: [],
    ),
    "09_more_songs": (
        lambda p: [*_songs(p), *_split(p, [p["duration_max"]]), f"data/train/{p['train_set']}"],
        lambda p: [_run(p, train_set=more_songs.runs_of(p["train_set"]))],
    ),
    "10_explore": (
        lambda p: [*_songs(p), *([p["own"], p["catalogue"]] if p["own"] else [])],
        lambda p: [],
    ),
}
NOTEBOOKS = tuple(FILES)


class Step:
    """One run of one notebook."""

    def __init__(self, notebook, parameters, label, report):
        self.notebook, self.label = notebook, label
        self.source = paths.checkout() / "notebooks" / f"{notebook}.ipynb"
        self.base = paths.resolve(f"reports/{report}")
        self.executed = self.base / "executed" / f"{label}.ipynb"
        self.state = self.base / "state" / f"{label}.json"
        self.cells, self.code, defaults = read_notebook(self.source)
        for name, value in parameters.items():
            if name not in defaults:
                raise InputError(
                    f"{notebook} has no parameter {name!r}; it knows: {', '.join(defaults)}."
                )
            _typed(f"{name} of {notebook}", value, defaults[name])
        self.resolved = {**defaults, **parameters}
        self.changed = {
            name: value
            for name, value in parameters.items()
            if value != defaults[name] and name != "report"
        }

    def recipe(self) -> provenance.Recipe:
        """All that decides what the step does, as things are now."""
        reads = FILES[self.notebook][0](self.resolved)
        device = self.resolved.get("device")
        return provenance.Recipe(
            "step",
            {"notebook": self.notebook, "parameters": self.resolved, "cells": self.cells},
            inputs={name: _state(name) for name in reads},
            computed={"device": machine.device(device)} if device else {},
            code=self.code,
        )

    def finished(self) -> dict | None:
        """The record of the last run if nothing has changed since, else None."""
        record = files.read_json(self.state)
        if record is None or not self.executed.exists():
            return None
        outputs = {name: _state(name) for name in record["outputs"]}
        now = {**self.recipe().identity, "outputs": outputs}
        if any(record.get(key) != value for key, value in now.items() if key != "code"):
            return None
        changed = provenance.differing(record, now)
        if changed:
            print(f"{self.label}: {provenance.said_of(changed)}", file=sys.stderr)
        if changed and not os.environ.get(provenance.KEEP):
            return None
        return {**record, "kept": sorted({*record["kept"], *changed})}

    def run(self) -> dict:
        """Execute the notebook and return its record; InputError tells which cell failed."""
        self.executed.parent.mkdir(parents=True, exist_ok=True)
        self.state.unlink(missing_ok=True)
        begun_before = self.executed.exists()  # its time is that of what was left to do
        began, recipe, commit = time.perf_counter(), self.recipe(), machine.commit()
        before = self._times()
        with machine.PeakMemory() as memory:
            self.execute()
        written = [
            str(paths.relative(path))
            for path, changed in self._times().items()
            if changed != before.get(path)
        ]
        outputs = FILES[self.notebook][1](self.resolved) + written
        record = {
            **recipe.identity,
            "outputs": {name: _state(name) for name in outputs},
            "label": self.label,
            "commit": commit,
            "begun_before": begun_before,
            "kept": sorted({module for name in outputs for module in _earlier(name)}),
            "wall_s": round(time.perf_counter() - began, 1),
            "peak_memory_mb": memory.peak_mb,
        }
        files.write_json(self.state, record)
        return record

    def _times(self):
        """When the report's tables and figures were written, the oldest first."""
        times = {
            path: path.stat().st_mtime_ns
            for part in ("tables", "figures")
            for path in (self.base / part).glob("[!.]*")
        }
        return dict(sorted(times.items(), key=lambda item: item[1]))

    def execute(self, talks=False) -> None:
        """Execute the notebook; talks: what its cells print and show is printed as it comes."""
        where = f"The partly executed notebook is {paths.relative(self.executed)}"
        try:
            papermill.execute_notebook(
                str(self.source),
                str(self.executed),
                self.resolved,
                kernel_name="python3",
                cwd=str(self.source.parent),
                log_output=talks,
                progress_bar=not talks and {"desc": self.label},
                extra_arguments=["--log-level=ERROR"],
            )  # kernels warn about TCP on localhost
        except PapermillExecutionError as error:
            raise InputError(
                f"{self.label} failed in cell In [{error.exec_count}]: {error.ename}: "
                f"{error.evalue.rstrip('.')}. {where}."
            ) from None
        except DeadKernelError:
            raise InputError(
                f"{self.label} failed: its process died, perhaps for want of memory. "
                f"{where}; the same command continues."
            ) from None


def read_notebook(source) -> tuple[str, dict, dict]:
    """Digest of a notebook's cells, that of the code they import, and its parameters."""
    cells = [
        cell for cell in json.loads(source.read_text())["cells"] if cell["cell_type"] == "code"
    ]
    try:
        trees = [ast.parse("".join(cell["source"])) for cell in cells]
    except SyntaxError as error:
        raise InputError(
            f"a cell of {source.name} is no Python ({error}); magics are not understood here."
        ) from None
    tagged = next(
        tree for tree, cell in zip(trees, cells) if "parameters" in cell["metadata"].get("tags", ())
    )
    defaults = {
        (line.target if isinstance(line, ast.AnnAssign) else line.targets[0]).id: ast.literal_eval(
            line.value
        )
        for line in tagged.body
    }
    cells = files.digest([code.tree_digest(tree) for tree in trees])
    return cells, code.of_cells(trees), defaults


def _typed(name, value, default):
    """InputError unless `value` has the type of `default`; whole numbers may stand for floats."""
    kinds = (int, float) if isinstance(default, float) else type(default)
    if isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool):
        return
    hint = " (in YAML, write 1.0e-3 for 1e-3)" if isinstance(default, float) else ""
    raise InputError(
        f"{name} is {value!r} in the profile, but must be of the type "
        f"{type(default).__name__}, as {default!r}{hint}."
    )


def _state(name):
    """Identity of the made thing at a path, digest of a file, or of the listing of a folder."""
    path = paths.resolve(name)
    if path.is_file():
        return files.sha256(path)
    if not path.is_dir():
        return "nothing"
    found = provenance.find(path, "", unfinished=True)
    if not found.record:  # names with their folders: a file that moved is another one
        return files.digest(
            [found.identity, sorted(str(file.relative_to(path)) for file in path.rglob("[!.]*"))]
        )
    return found.identity + ("" if found.finished else ", unfinished")


def _earlier(name):
    """Modules that have changed since a made thing was made, at a path."""
    path = paths.resolve(name)
    return code.changed(provenance.find(path, "", unfinished=True).record) if path.is_dir() else []
