"""The whole story: run the notebooks in order, skip what is done, write the report.

A profile is a YAML file with one section of papermill parameters per notebook. A section may
hold `for_each: {parameter: [values]}`, which runs its notebook once per value. A section `all` has
parameters for every notebook that has them; with it a profile runs what the demo runs, and further
sections come on top.
"""

import logging
import re
import sys
import time

import yaml

from amg import check, machine, paths, provenance
from amg.check import InputError, one_of
from amg.report import pages
from amg.report.running.reads import NOTEBOOKS
from amg.report.running.steps import Step, read_notebook

TOLD = ("label", "commit", "wall_s", "peak_memory_mb", "begun_before", "kept")  # in the manifest


def profiles() -> list:
    """Names of the profiles in `notebooks/profiles/`."""
    return sorted(path.stem for path in _file("any").parent.glob("*.yaml"))


def load_profile(name) -> list:
    """Steps of a profile, in order. InputError for an unknown profile, notebook or parameter."""
    one_of("profile", name, profiles())
    return parse_profile(name, _file(name).read_text())


def _file(name):
    return paths.checkout() / "notebooks" / "profiles" / f"{name}.yaml"


class _Loader(yaml.SafeLoader):
    """One that refuses a name that stands twice."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"{name} stands twice")
        return super().construct_mapping(node, deep)


def read_yaml(name, text, of) -> dict:
    """The mapping that a text is in YAML; InputError if it is none, or not as `mapping` wants."""
    try:
        read = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name} is not valid YAML ({reason}).") from None
    return mapping(name, read, of)


def parse_profile(name, text) -> list:
    """Steps of a profile, given its text."""
    sections = read_yaml(f"profile {name}", text, "a section for each notebook to run")
    for section in sections:
        one_of(f"a section of profile {name}", section, ("all", *NOTEBOOKS))
    if "all" in sections:
        sections = _with_all(name, sections)
    steps = []
    for notebook in sorted(sections):
        section = f"section {notebook} of profile {name}"
        parameters = mapping(section, sections[notebook] or {"report": name}, "parameters")
        parameters = {**parameters, "report": name}
        if "for_each" not in parameters:
            steps.append(Step(notebook, parameters, notebook, name))
            continue
        each = mapping(f"for_each in {section}", parameters.pop("for_each"), "one parameter", 1)
        ((key, values),) = each.items()
        for value in check.each(f"for_each {key} in {section}", values, lambda *_: None):
            steps.append(Step(notebook, {**parameters, key: value}, f"{notebook}-{value}", name))
    return steps


def _with_all(name, sections):
    """The sections of a profile that has parameters for all notebooks, on top of the demo's."""
    own, usual = dict(sections), yaml.safe_load(_file("demo").read_text())
    given = mapping(f"section all of profile {name}", own.pop("all"), "parameters")
    given = {"train_set": name, "database": f"database/{name}", "profile": name, **given}
    merged, known = {}, set()
    for notebook in {**usual, **own}:
        section = f"section {notebook} of profile {name}"
        on_top = mapping(section, own.get(notebook) or {"report": name}, "parameters")
        defaults = read_notebook(paths.checkout() / "notebooks" / f"{notebook}.ipynb")[2]
        known |= defaults.keys()
        here = {parameter: given[parameter] for parameter in given if parameter in defaults}
        merged[notebook] = {**usual.get(notebook, {}), **here, **on_top}
    for parameter in given:
        one_of(f"a parameter in section all of profile {name}", parameter, sorted(known))
    return merged


def mapping(name, value, of, most=None):
    """`value` if it is a dict of 1 to `most` entries, else InputError."""
    if not isinstance(value, dict) or not 0 < len(value) <= (most or len(value)):
        raise InputError(f"{name} is {value!r}, but must hold {of}, as lines of `name: value`.")
    return value


def reproduce(profile) -> None:
    """Run a profile's notebooks, write `reports/<profile>/index.html` and its manifest, compare.

    Raises InputError if another process is at the same profile, or if a notebook fails.
    """
    write_report(profile, load_profile(profile), {"command": f"make reproduce PROFILE={profile}"})


def write_report(profile, steps, told, **shown) -> None:
    """Run the steps that are not done, and write the report; told: more for its manifest; shown: as
    of `Step.execute`."""
    began, folder = time.perf_counter(), paths.resolve(f"reports/{profile}")
    folder.mkdir(parents=True, exist_ok=True)
    with provenance.lock(folder):
        labels, records = ["", *(step.label for step in steps), ""], []
        for step, before, after in zip(steps, labels, labels[2:]):
            record = step.finished()
            if record:
                print(f"{step.label}: unchanged, skipped", file=sys.stderr)
            records.append(record or step.run(**shown))
            pages.write_notebook(step, before, after)
        manifest = {
            "profile": profile,
            **told,
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


def run(notebook, given) -> None:
    """Run one notebook, and print what its cells say as they say it.

    given: pairs of a parameter's name and its value, a text in YAML. Without a `report` among them,
    tables and figures go to a folder of this run alone, `reports/local/<time>-<notebook>`. Raises
    InputError if a parameter is wrong or a cell fails.
    """
    one_of("notebook", notebook, NOTEBOOKS)
    parameters = {"report": f"local/{time.strftime('%Y%m%d-%H%M%S')}-{notebook}"}
    for name, value in given:
        try:
            parameters[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"{name} is {value!r}, but must be YAML, as 30 or [5, 10].") from None
    check.texts(report=parameters["report"])
    step = Step(notebook, parameters, notebook, parameters["report"])
    talk()
    step.execute(talks=True)
    print(f"executed notebook, tables and figures: {paths.relative(step.base)}/")


def talk() -> None:
    """From now on print what the cells of notebooks say."""
    logger, handler = logging.getLogger("papermill"), logging.StreamHandler(sys.stdout)
    handler.terminator = ""
    handler.setFormatter(_Said())
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)


class _Said(logging.Formatter):
    """What papermill logs, for a terminal: bars stay in their line, objects are left out."""

    def format(self, record):
        text = record.getMessage()
        if re.match(r"(Executing|Ending) |(In|Out)put Notebook|Working dir|<[\w.]+ object", text):
            return ""
        return text if text.startswith("\r") or text.endswith("\n") else f"{text}\n"
