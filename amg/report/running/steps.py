"""A step: one run of one notebook, what it reads and writes, and whether it is done.

Each has a record as of all made things (`amg.provenance`): parameters, the notebook's code without
comments, what it reads, and the state of what it wrote. One that is finished and equal is skipped.
"""

import ast
import json
import logging
import os
import sys
import time

import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from amg import code, files, machine, paths, provenance
from amg.check import InputError
from amg.embedding import registry
from amg.report.running.reads import MAKES, READS, RUNS

WHERE = ("workers", "dask")  # parameters that say where a step is done, not what


class Step:
    """One run of one notebook.

    parameters: by name; InputError if the notebook has no such parameter, or one of another type.
    """

    def __init__(self, notebook, parameters, label, report):
        self.notebook, self.label = notebook, label
        self.source = paths.checkout() / "notebooks" / f"{notebook}.ipynb"
        self.base = paths.resolve(f"reports/{report}")
        self.executed = self.base / "executed" / f"{label}.ipynb"
        self.state = self.base / "state" / f"{label}.json"
        self.cells, self.code, defaults = read_notebook(self.source)
        for other in RUNS.get(notebook, ()):
            cells, of_other, _ = read_notebook(self.source.with_name(f"{other}.ipynb"))
            self.cells, self.code = files.digest([self.cells, cells]), self.code | of_other
        self.changed = {}  # beside the notebook's own values
        for name, value in parameters.items():
            if name not in defaults:
                known = ", ".join(defaults)
                raise InputError(f"{notebook} has no parameter {name!r}; it knows: {known}.")
            _typed(f"{name} of {notebook}", value, defaults[name])
            if value != defaults[name] and name != "report":
                self.changed[name] = value
        self.resolved = {**defaults, **parameters}
        registry.load(self.resolved.get("own_module", ""))

    def recipe(self) -> provenance.Recipe:
        """All that decides what the step does, as things are now."""
        device = self.resolved.get("device")
        decisive = {name: self.resolved[name] for name in self.resolved if name not in WHERE}
        return provenance.Recipe(
            "step",
            {"notebook": self.notebook, "parameters": decisive, "cells": self.cells},
            inputs=_states(self._paths(READS)),
            computed={"device": machine.device(device)} if device else {},
            code=self.code,
        )

    def _paths(self, table):
        return [path for part in table.get(self.notebook, ()) for path in part(self.resolved)]

    def finished(self) -> dict | None:
        """The record of the last run if nothing has changed since, else None."""
        record = files.read_json(self.state)
        if record is None or not self.executed.exists():
            return None
        now = {**self.recipe().identity, "outputs": _states(record["outputs"])}
        if any(record.get(key) != value for key, value in now.items() if key != "code"):
            return None
        changed = provenance.differing(record, now)
        if changed:
            print(f"{self.label}: {provenance.said_of(changed)}", file=sys.stderr)
        if changed and not os.environ.get(provenance.KEEP):
            return None
        return {**record, "kept": sorted({*record["kept"], *changed})}

    def run(self, **shown) -> dict:
        """Execute the notebook and return its record; InputError tells which cell failed. shown: as
        of `execute`."""
        self.state.unlink(missing_ok=True)
        begun_before = self.executed.exists()  # its time is that of what was left to do
        began, recipe, commit = time.perf_counter(), self.recipe(), machine.commit()
        before = self._written()
        with machine.PeakMemory() as memory:
            self.execute(**shown)
        written = [path for path, at in self._written().items() if at != before.get(path)]
        outputs = self._paths(MAKES) + written
        record = {
            **recipe.identity,
            "outputs": _states(outputs),
            "label": self.label,
            "commit": commit,
            "begun_before": begun_before,
            "kept": sorted({module for name in outputs for module in _earlier(name)}),
            "wall_s": round(time.perf_counter() - began, 1),
            "peak_memory_mb": memory.peak_mb,
        }
        files.write_json(self.state, record)
        return record

    def _written(self):
        """When the report's tables and figures were written, the oldest first."""
        there = [*self.base.glob("tables/[!.]*"), *self.base.glob("figures/[!.]*")]
        times = {str(paths.relative(path)): path.stat().st_mtime_ns for path in there}
        return dict(sorted(times.items(), key=lambda item: item[1]))

    def execute(self, talks=False, bar=True) -> None:
        """Execute the notebook. bar: whether it is shown how far that is; talks: what its cells
        print and show is printed as it comes, in place of a bar."""
        self.executed.parent.mkdir(parents=True, exist_ok=True)
        where = f"see {paths.relative(self.executed)}"
        # a kernel that ends while its last message is under way is no news
        logging.getLogger("tornado").setLevel(logging.CRITICAL)
        try:
            papermill.execute_notebook(
                str(self.source),
                str(self.executed),
                self.resolved,
                kernel_name="python3",
                cwd=str(self.source.parent),
                log_output=talks,
                progress_bar=bar and not talks and {"desc": self.label},
                # kernels warn about TCP on localhost, and about the interrupt that ends them
                extra_arguments=["--log-level=CRITICAL"],
            )
        except PapermillExecutionError as error:
            kind = "" if error.ename == InputError.__name__ else f"{error.ename}: "
            raise InputError(
                f"{self.label} failed in cell In [{error.exec_count}], {where}: "
                f"{kind}{error.evalue}"
            ) from None
        except DeadKernelError:
            raise InputError(
                f"{self.label} failed, {where}: its process died, perhaps for want of memory; the "
                "same command continues."
            ) from None


def read_notebook(source) -> tuple[str, dict, dict]:
    """Digest of a notebook's cells, that of the code they import, and its parameters."""
    try:
        every = json.loads(source.read_text())["cells"]
        cells = [cell for cell in every if cell["cell_type"] == "code"]
    except (ValueError, KeyError):
        raise InputError(
            f"{source.name} is no notebook, or is damaged; restore it from the repository."
        ) from None
    try:
        trees = [ast.parse("".join(cell["source"])) for cell in cells]
    except SyntaxError as error:
        raise InputError(
            f"a cell of {source.name} is no Python ({error}); magics are not understood here."
        ) from None
    tagged = [
        tree for cell, tree in zip(cells, trees) if "parameters" in cell["metadata"].get("tags", ())
    ]
    if not tagged:
        raise InputError(
            f"no cell of {source.name} is tagged parameters; give its first cell that tag again."
        )
    defaults = dict(_default(line, source.name) for line in tagged[0].body)
    digest = files.digest([code.tree_digest(tree) for tree in trees])
    return digest, code.of_cells(trees), defaults


def _default(line, name):
    """Name and value of a line of the parameters cell, as `seed: int = 0`."""
    targets = getattr(line, "targets", [getattr(line, "target", None)])
    try:
        if len(targets) == 1 and isinstance(targets[0], ast.Name):
            return targets[0].id, ast.literal_eval(line.value)
    except ValueError:  # an expression, or no value
        pass
    raise InputError(
        f"line {line.lineno} of the parameters cell of {name} is {ast.unparse(line)!r}, but must "
        "be a name and a plain value, as seed: int = 0."
    )


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


def _states(names):
    """Path -> identity of what lies there: digest of a file, or of the listing of a folder."""
    return {name: _state(paths.resolve(name)) for name in names}


def _state(path):
    if path.is_file():
        return files.sha256(path)
    if not path.is_dir():
        return "nothing"
    made = provenance.find(path, "", unfinished=True)
    if not made.record and any(path.glob("*.npy")):
        return provenance.content(path)
    if not made.record:  # music, of which there is much; a file that moved is another one
        names = sorted(str(file.relative_to(path)) for file in path.rglob("[!.]*"))
        return files.digest([made.identity, names])
    return made.identity + ("" if made.finished else ", unfinished")


def _earlier(name):
    """Modules that have changed since a made thing was made, at a path."""
    path = paths.resolve(name)
    return code.changed(provenance.find(path, "", unfinished=True).record) if path.is_dir() else []
