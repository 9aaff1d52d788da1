"""The whole story: run the notebooks in order, skip what is done, write the report.

A profile is a YAML file with one section of papermill parameters per notebook. A section may
hold `for_each: {parameter: [values]}`, which runs its notebook once per value. A step is
skipped while its notebook, its parameters, the package's code and its input and output files
are as they were when it last succeeded.
"""

import ast
import hashlib
import json
import sys
import time

import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from amg import check, files, machine, paths
from amg.fingerprint import nafp
from amg.embedding import runs
from amg.retrieval import databases
from amg.report import pages, tables
from amg.check import InputError, one_of

NOTEBOOKS = ("00_fingerprinter", "01_data_prep", "02_split", "03_train", "04_evaluate",
             "05_ablations", "06_robustness")


def _best(p, loss, duration):
    return str(paths.relative(runs.best(p["train_set"], p["encoder"], loss, duration)))


def _weights(p):
    return p["fingerprinter"] or str(nafp.shipped())  # absolute, wherever the workspace is


def _songs(p):
    return [f"{p['database']}/{part}" for part in (databases.DUMMY, databases.TEST, databases.QUERY)]


def _segments(p):
    return [str(databases.split_folder(paths.Path(p["database"]) / part, duration))
            for duration in p["durations"] for part in (databases.DUMMY, databases.TEST)]


def _report(p, tables=(), figures=()):
    base = f"reports/{p['report']}"
    return [f"{base}/tables/{t}.csv" for t in tables] + [f"{base}/figures/{f}.png" for f in figures]


# notebook -> (what it reads, what it writes), as functions of its parameters
FILES = {
    "00_fingerprinter": (
        lambda p: [],
        lambda p: [f"data/models/{p['name']}-final.safetensors",
                   *_report(p, [f"training_{paths.Path(p['name']).name}"], ["fingerprinter"])]),
    "01_data_prep": (
        lambda p: [_weights(p)],
        lambda p: [f"data/train/{p['train_set']}", *_songs(p),
                   *_report(p, ["clips"], ["degradation", "fingerprint"])]),
    "02_split": (
        lambda p: _songs(p)[:2],
        lambda p: [*_segments(p), *_report(p, ["split"])]),
    "03_train": (
        lambda p: [f"data/train/{p['train_set']}"],
        lambda p: [_best(p, p["loss"], p["duration_max"]),
                   *_report(p, [f"training_{p['duration_max']}s"],
                            [f"crops_{p['duration_max']}s", f"training_{p['duration_max']}s"])]),
    "04_evaluate": (
        lambda p: [*_songs(p), *_segments(p), *(
            [p["checkpoint"]] if p["checkpoint"] else
            [_best(p, p["loss"], d) for d in p["durations"]]), *filter(None, [p["test_ids"]])],
        lambda p: _report(p, ["retrieval", "cost"], [
            *map(tables.recall_figure, p["protocols"]), "cost"])),
    "05_ablations": (
        lambda p: [*_songs(p), f"data/train/{p['train_set']}", _best(p, "amg", p["duration_max"])],
        lambda p: [*(_best(p, loss, p["duration_max"]) for loss in p["losses"]),
                   *(_best({**p, "encoder": encoder}, "amg", p["duration_max"])
                     for encoder in p["encoders"]),
                   *_report(p, ["ablations", "ablation_training"],
                            ["ablations", "ablation_training"])]),
    "06_robustness": (
        lambda p: [_weights(p), *_songs(p), *_report(p, ["clips"])],
        lambda p: _report(p, ["robustness", "misses", "miss_reasons"],
                          ["robustness", "misses"])),
}


class Step:
    """One run of one notebook."""

    def __init__(self, notebook, parameters, label, report):
        self.notebook, self.parameters, self.label = notebook, parameters, label
        self.source = paths.checkout() / "notebooks" / f"{notebook}.ipynb"
        base = paths.resolve(f"reports/{report}")
        self.executed = base / "executed" / f"{label}.ipynb"
        self.state = base / "state" / f"{label}.json"
        defaults = papermill.inspect_notebook(str(self.source))
        unknown = sorted(set(parameters) - set(defaults))
        if unknown:
            raise InputError(f"{notebook} has no parameter {unknown[0]!r}; "
                             f"it knows: {', '.join(defaults)}.")
        self.resolved = {name: ast.literal_eval(entry["default"].split("#")[0].strip())
                         for name, entry in defaults.items()} | parameters

    def key(self):
        """Changes when anything that the step depends on, or left behind, does."""
        reads, writes = (files(self.resolved) for files in FILES[self.notebook])
        code = [cell["source"] for cell in json.loads(self.source.read_text())["cells"]]
        return {"notebook": hashlib.sha256(json.dumps(code).encode()).hexdigest(),
                "package": _signature(paths.checkout() / "amg", "**/*.py"),
                "parameters": self.resolved,
                "reads": {name: _signature(paths.resolve(name)) for name in reads},
                "writes": {name: _signature(paths.resolve(name)) for name in writes}}

    def finished(self):
        """The record of the last run if nothing has changed since, else None."""
        if not self.state.exists() or not self.executed.exists():
            return None
        record = json.loads(self.state.read_text())
        return record if record["key"] == self.key() else None

    def run(self):
        """Execute the notebook and return its record; InputError tells which cell failed."""
        self.executed.parent.mkdir(parents=True, exist_ok=True)
        self.state.unlink(missing_ok=True)
        began = time.perf_counter()
        with machine.PeakMemory() as memory:
            try:
                papermill.execute_notebook(
                    str(self.source), str(self.executed), self.parameters, kernel_name="python3",
                    cwd=str(self.source.parent), progress_bar={"desc": self.label},
                    extra_arguments=["--log-level=ERROR"])  # kernels warn about TCP on localhost
            except PapermillExecutionError as error:
                raise InputError(
                    f"{self.label} failed in cell In [{error.exec_count}]: {error.ename}: "
                    f"{error.evalue} The partly executed notebook is "
                    f"{paths.relative(self.executed)}.") from None
            except DeadKernelError:
                raise InputError(
                    f"{self.label} failed: its process died, perhaps for want of memory. The partly "
                    f"executed notebook is {paths.relative(self.executed)}; the same command "
                    "continues.") from None
        record = {"notebook": self.notebook, "label": self.label, "parameters": self.resolved,
                  "wall_s": round(time.perf_counter() - began, 1),
                  "peak_memory_mb": memory.peak_mb, "key": self.key()}
        with files.atomic(self.state) as temporary:
            temporary.write_text(json.dumps(record, indent=1))
        return record


def _signature(path, pattern="*"):
    """Digest of the names, sizes and times of a file, or of all files of a folder."""
    files = sorted(path.glob(pattern)) if path.is_dir() else [path]
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest() if stats else "nothing"


def profiles():
    """Names of the profiles in `notebooks/profiles/`."""
    return sorted(p.stem for p in (paths.checkout() / "notebooks" / "profiles").glob("*.yaml"))


def load_profile(name):
    """Steps of a profile, in order. InputError for an unknown profile, notebook or parameter."""
    one_of("profile", name, profiles())
    text = (paths.checkout() / "notebooks" / "profiles" / f"{name}.yaml").read_text()
    try:
        sections = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"profile {name} is not valid YAML ({error}).") from None
    steps = []
    if not isinstance(sections, dict):
        raise InputError(f"profile {name} is empty; it needs a section for each notebook to run.")
    for notebook in sorted(sections):
        one_of(f"a section of profile {name}", notebook, NOTEBOOKS)
        parameters = {"report": name, **(sections[notebook] or {})}
        for_each = parameters.pop("for_each", None)
        if for_each is None:
            steps.append(Step(notebook, parameters, notebook, name))
            continue
        (key, values), = for_each.items()
        for value in check.each(f"for_each {key}", values, lambda *_: None):
            steps.append(Step(notebook, {**parameters, key: value}, f"{notebook}-{value}", name))
    return steps


def reproduce(profile):
    """Run a profile's notebooks and write `reports/<profile>/index.html` and its manifest."""
    began = time.perf_counter()
    records, written = [], []
    for step in load_profile(profile):
        record = step.finished()
        if record:
            print(f"{step.label}: unchanged, skipped", file=sys.stderr)
        else:
            record = step.run()
        pages.write_notebook(step.executed, profile, step.label,
                             audible=step.resolved.get("corpus", "scores") == "scores")
        records.append({k: v for k, v in record.items() if k != "key"})
        written += record["key"]["writes"]
    manifest = {"profile": profile, "command": f"make reproduce PROFILE={profile}",
                **machine.describe(), "steps": records}
    page = pages.write_index(profile, manifest, written)
    print(f"{paths.relative(page)} written after {time.perf_counter() - began:.0f} s",
          file=sys.stderr)
    return page
