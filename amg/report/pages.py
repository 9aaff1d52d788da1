"""The HTML pages of a report: one per executed notebook, and the index that links all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jinja2
import nbformat
import yaml
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor, TagRemovePreprocessor
from pygments.formatters import HtmlFormatter

from amg import files, machine, paths, provenance
from amg.check import InputError
from amg.report import (
    answers,
    charts,
    compare,
    figures,
    lift_charts,
    scale_charts,
    sentences,
    sweep_charts,
    sweep_tables,
    tables,
    verdict,
)

DRAWN: dict[str, tuple[str, Callable]] = {  # the tables that the index shows: their file, and how
    "summary": ("retrieval", tables.summary),
    "hits": ("retrieval", tables.hits),
    "cost": ("cost", tables.costs),
    "sweep": ("sweep", sweep_tables.readable),
    "differences": ("differences", tables.differences),
    "sweep_differences": ("sweep_differences", sweep_tables.readable_differences),
    "robustness": ("robustness", tables.robustness),
    "miss_reasons": ("miss_reasons", tables.reasons),
    "unknown_summary": ("unknown", tables.unknown_summary),
    "unknown": ("unknown", tables.unknown),
    "rivals": ("rivals", tables.rivals),
    "scale": ("scale", tables.scale),
    "scale_two_stage": ("scale_two_stage", tables.costs),
}
FIGURES: dict[str, tuple] = {  # those that follow from tables alone
    "recall_vs_duration": (charts.recall_vs_duration, "retrieval"),
    "durations": (charts.durations, "retrieval"),
    "decimation": (charts.decimation, "retrieval"),
    "cost": (charts.cost, "cost", "retrieval"),
    "sweep": (sweep_charts.compared, "sweep_rates", "sweep_seeds"),
    "sweep_training": (sweep_charts.training, "sweep_training"),
    "shortlists": (lift_charts.shortlists, "shortlists"),
    "roc": (charts.roc, "roc"),
    "scale": (scale_charts.growth, "scale"),
    "pareto": (scale_charts.pareto, "scale"),
    "rivals": (charts.rivals, "rivals"),
    "robustness": (charts.robustness, "robustness"),
}


def write_notebook(step, before="", after="") -> Path:
    """Export the executed notebook of a `steps.Step` to `reports/<report>/notebooks/<label>.html`.

    before, after: labels of the pages beside it. Its sounds go with it if they are the kit's own: a
    report that is passed on holds no recordings. Of the parameters that papermill repeats, those
    are left that are not as above.
    """
    target = step.base / "notebooks" / f"{step.label}.html"
    if target.exists() and target.stat().st_mtime_ns > step.executed.stat().st_mtime_ns:
        return target
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(nbformat.read(step.executed, 4), {})
    # a page has links of its own to those beside it
    notebook, _ = TagRemovePreprocessor(remove_cell_tags={"links"}).preprocess(notebook, {})
    audible = step.resolved.get("corpus", "sheet_music") == "sheet_music"
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", ()):
            changed = [f"{name} = {value!r}" for name, value in step.changed.items()]
            cell.source = "\n".join(["# as this was run", *changed])
        for output in cell.get("outputs", ()):
            if not audible and "<audio" in output.get("data", {}).get("text/html", ""):
                output.data = {"text/plain": "(a sound, left out of this page)"}
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    beside = {"profile": step.base.name, "before": before, "after": after}
    highlight = HtmlFormatter().get_style_defs(".highlight")
    _write(target, "notebook.html", title=step.label, body=body, highlight=highlight, **beside)
    return target


def write_index(profile, manifest, written) -> list:
    """Write `manifest.json` and `index.html`; returns what `compare.with_reference` says.

    written: names of what the steps wrote, relative to the workspace.
    """
    base = paths.resolve(f"reports/{profile}")
    files.write_json(base / "manifest.json", manifest)
    here = _inside(base, written)
    report = {path.stem: tables.read_file(base / path) for path in here if path.suffix == ".csv"}
    compared = compare.with_reference(profile, report)
    _draw_index(base, manifest, here, report, compared)
    return compared


def _draw_index(base, manifest, here, report, compared):
    """`index.html` of a report's folder; here: its tables and figures, relative to it; report: the
    tables by name."""
    figures = [path.stem for path in here if path.suffix == ".png"]
    drawn = {
        name: (source, _html(draw(report[source]), "numbers"))
        for name, (source, draw) in DRAWN.items()
        if len(report.get(source, ()))
    }
    sections = yaml.safe_load(Path(__file__).with_name("sections.yaml").read_text())
    sections = [section for section in sections if _has(section, drawn, figures)]
    _write(
        base / "index.html",
        "index.html",
        title=f"Report: {manifest['profile']}",
        manifest=manifest,
        compared=compared,
        report=report,
        drawn=drawn,
        sections=sections,
        folded=any("front" in section for section in sections),
        figures=figures,
        files=[path for path in here if "tables" in path.parts],
        html=_html,
        sentences=sentences,
        answers=answers,
        verdict=verdict,
    )


def _html(table, classes):
    """A table as HTML; the name of its rows stands in the row of its headings."""
    if table.index.nlevels == 1:
        table = table.rename_axis(index=None, columns=table.index.name)
    return table.to_html(border=0, classes=classes)


def _has(section, drawn, figures):
    """Whether one of a section's tables or figures is there."""
    parts = [*section["parts"], *section.get("more", ())]
    return any(part.get("table") in drawn or part.get("figure") in figures for part in parts)


def make_reference(profile) -> None:
    """`amg reference`: copy a report, without its executed notebooks and states, to the committed
    references.

    Raises InputError if there is none, or if the code of one of its steps is not the checkout's.
    """
    base, target = paths.resolve(f"reports/{profile}"), compare.reference(profile)
    swept = profile.startswith("sweeps/")
    command = f"amg sweep {profile}.yaml" if swept else f"make reproduce PROFILE={profile}"
    again = f"run `{command}`"
    if not (base / "manifest.json").exists():
        raise InputError(f"reports/{profile} holds no report; {again}.")
    with provenance.lock(base):  # no copy of two runs
        run = json.loads((base / "manifest.json").read_text())
        for commit in run["commit"].split(", "):
            if not machine.at_commit(commit):
                raise InputError(
                    f"reports/{profile} has steps of commit {commit}, whose amg/ and notebooks/ "
                    f"are not what they are now; commit them, delete the report, and {again} again."
                )
        names, here = ["manifest.json"], []
        for label in (step["label"] for step in run["steps"]):
            state = files.read_json(base / "state" / f"{label}.json")
            if state is None:
                raise InputError(
                    f"reports/{profile} is not whole: the step {label} was begun again; {again} to "
                    "its end."
                )
            names.append(f"notebooks/{label}.html")
            here += _inside(base, state["outputs"])
        shutil.rmtree(target, ignore_errors=True)
        for name in (*names, *here):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(base / name, target / name)
    redraw(profile)
    print(f"{paths.relative(target)} written")


def redraw(profile) -> None:
    """Draw a committed reference's index page anew, and those of its figures that follow from its
    tables alone."""
    base = compare.reference(profile)
    run, report = compare.read(base)
    figures.begin()
    for name, (draw, *sources) in FIGURES.items():
        if {*sources} <= {*report}:
            figures.write(draw(*map(report.get, sources)), base / f"figures/{name}.png")
    here = [path.relative_to(base) for path in sorted(base.glob("[tf]*/*")) if path.is_file()]
    told = (
        "This is the reference run that others are compared with. Its tables and notebooks are of "
        f"commit {run['commit']}; this page, and the figures that follow from tables alone, are "
        "drawn anew by the code beside it."
    )
    _draw_index(base, run, here, report, [told])


def _inside(base, names):
    """Those of the files `names`, relative to the workspace, that lie in `base`; relative to it."""
    resolved = [paths.resolve(name) for name in names]
    return [
        path.relative_to(base) for path in resolved if path.is_file() and path.is_relative_to(base)
    ]


def _write(target, template, **values):
    loader = jinja2.PackageLoader("amg.report")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)
    html = environment.get_template(template).render(**values)
    with files.atomic(target) as temporary:
        temporary.write_text(html)
