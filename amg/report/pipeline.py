"""The whole story: run the notebooks in order, skip what is done, write the report.

A profile is a YAML file with one section of papermill parameters per notebook. A section may
hold `for_each: {parameter: [values]}`, which runs its notebook once per value.
"""

import logging
import sys
import time
from pathlib import Path

import yaml

from amg import check, machine, paths, provenance
from amg.check import InputError, one_of
from amg.report import pages
from amg.report.reads import NOTEBOOKS
from amg.report.steps import Step

TOLD = ("label", "commit", "wall_s", "peak_memory_mb", "begun_before", "kept")  # in the manifest


def profiles() -> list:
    """Names of the profiles in `notebooks/profiles/`."""
    return sorted(p.stem for p in (paths.checkout() / "notebooks" / "profiles").glob("*.yaml"))


def load_profile(name) -> list:
    """Steps of a profile, in order. InputError for an unknown profile, notebook or parameter."""
    one_of("profile", name, profiles())
    return parse_profile(name, (paths.checkout() / f"notebooks/profiles/{name}.yaml").read_text())


def parse_profile(name, text) -> list:
    """Steps of a profile, given its text."""
    try:
        sections = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"profile {name} is not valid YAML ({reason}).") from None
    sections = _mapping(f"profile {name}", sections, "a section for each notebook to run")
    steps = []
    for notebook in sorted(sections, key=str):
        one_of(f"a section of profile {name}", notebook, NOTEBOOKS)
        section = f"section {notebook} of profile {name}"
        parameters = _mapping(section, sections[notebook] or {"report": name}, "parameters")
        parameters = {**parameters, "report": name}
        if "for_each" not in parameters:
            steps.append(Step(notebook, parameters, notebook, name))
            continue
        each = _mapping(f"for_each in {section}", parameters.pop("for_each"), "one parameter", 1)
        ((key, values),) = each.items()
        for value in check.each(f"for_each {key} in {section}", values, lambda *_: None):
            steps.append(Step(notebook, {**parameters, key: value}, f"{notebook}-{value}", name))
    return steps


def _mapping(name, value, of, most=None):
    """`value` if it is a dict of 1 to `most` entries, else InputError."""
    if not isinstance(value, dict) or not 0 < len(value) <= (most or len(value)):
        raise InputError(f"{name} is {value!r}, but must hold {of}, as lines of `name: value`.")
    return value


def reproduce(profile) -> None:
    """Run a profile's notebooks, write `reports/<profile>/index.html` and its manifest, compare.

    Raises InputError if another process is at the same profile, or if a notebook fails.
    """
    began = time.perf_counter()
    steps, folder = load_profile(profile), paths.resolve(f"reports/{profile}")
    folder.mkdir(parents=True, exist_ok=True)
    with provenance.lock(folder):
        labels, records = ["", *(step.label for step in steps), ""], []
        for step, before, after in zip(steps, labels, labels[2:]):
            record = step.finished()
            if record:
                print(f"{step.label}: unchanged, skipped", file=sys.stderr)
            records.append(record or step.run())
            pages.write_notebook(step, before, after)
        manifest = {
            "profile": profile,
            "command": f"make reproduce PROFILE={profile}",
            **machine.describe(),
            # a step that was skipped is of the commit at which it ran
            "commit": ", ".join(dict.fromkeys(record["commit"] for record in records)),
            "steps": [
                record["parameters"]
                | {key: record[key] for key in TOLD}
                | {"changed": step.changed}
                for step, record in zip(steps, records)
            ],
        }
        written = [name for record in records for name in record["outputs"]]
        compared = pages.write_index(profile, manifest, written)
    took = f"after {time.perf_counter() - began:.0f} s"
    print(f"reports/{profile}/index.html written {took}", file=sys.stderr)
    print(compared[0])


def run(notebook, given) -> Path:
    """Run one notebook, and print what its cells say as they say it; returns the executed one.

    given: parameters by name, their values texts in YAML. Without a `report` among them, tables and
    figures go to a folder of this run alone, `reports/local/<time>-<notebook>`. Raises InputError
    if a parameter is wrong or a cell fails.
    """
    one_of("notebook", notebook, NOTEBOOKS)
    parameters = {"report": f"local/{time.strftime('%Y%m%d-%H%M%S')}-{notebook}"}
    for name, value in given.items():
        try:
            parameters[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"{name} is {value!r}, but must be YAML, as 30 or [5, 10].") from None
    check.texts(report=parameters["report"])
    step = Step(notebook, parameters, notebook, parameters["report"])
    logger = logging.getLogger("papermill")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stdout))
    own = ("Executing", "Ending", "Input Notebook", "Output Notebook", "Working directory")
    logger.addFilter(lambda record: not record.getMessage().startswith(own))
    step.execute(talks=True)
    return step.executed
