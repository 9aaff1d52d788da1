"""The HTML pages of a report: one per executed notebook, and the index that links all."""

import ast
import shutil
from pathlib import Path

import jinja2
import nbformat
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from pygments.formatters import HtmlFormatter

from amg import files, machine, paths, provenance
from amg.check import InputError
from amg.report import compare, sentences, tables, verdict

SHOWN = {  # name in the page -> which table, and how
    "summary": ("retrieval", tables.summary),
    "retrieval": ("retrieval", tables.hits),
    "cost": ("cost", tables.costs),
    "ablations": ("ablations", tables.ablations),
    "robustness": ("robustness", tables.robustness),
    "reasons": ("miss_reasons", tables.reasons),
    "unknown": ("unknown", tables.unknown),
    "scale": ("scale", tables.scale),
    "scale_two_stage": ("scale_two_stage", tables.costs),
}

FIGURES = tuple(
    f"{name}.png"
    for name in (  # that stand beside their tables
        "recall_vs_duration",
        "trace",
        "cost",
        "ablations",
        "lifts",
        "shortlists",
        "roc",
        "scale",
        "pareto",
        "learning_curve",
        "robustness",
        "misses",
    )
)


SECTIONS = {  # anchor -> title, and the table, figure or neither without which it is left out
    "recall": ("Recall against duration", "recall_vs_duration.png"),
    "trace": ("One query, followed", "trace.png"),
    "hits": ("Hit rates", "retrieval"),
    "cost": ("Cost", "cost"),
    "ablations": ("Ablations", "ablations"),
    "lifts": ("How the lift was chosen", "lifts.png"),
    "shortlists": ("How many candidates", "shortlists.png"),
    "unknown": ("Unknown songs", "unknown"),
    "scale": ("Among a million vectors", "scale"),
    "growth": ("Training on more songs", "learning_curve.png"),
    "robustness": ("What the fingerprinter stands", "robustness"),
    "reasons": ("Why it misses", "reasons"),
    "notebooks": ("Notebooks", ""),
    "figures": ("All figures", ""),
    "made": ("How this was made", ""),
}


def write_notebook(executed, profile, label, audible, before="", after="") -> Path:
    """Export an executed notebook to `reports/<profile>/notebooks/<label>.html`.

    audible: whether its sounds go with it; a report that is passed on holds no recordings. before,
    after: labels of the pages beside it.
    """
    target = paths.resolve(f"reports/{profile}/notebooks/{label}.html")
    if target.exists() and target.stat().st_mtime_ns > executed.stat().st_mtime_ns:
        return target
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(nbformat.read(executed, 4), {})
    _keep_what_differs(notebook)
    for output in (o for cell in notebook.cells for o in cell.get("outputs", ())):
        if not audible and "<audio" in output.get("data", {}).get("text/html", ""):
            output.data = {"text/plain": "(a sound, left out of this page)"}
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    _write(
        target,
        "notebook.html",
        profile=profile,
        title=label,
        body=body,
        before=before,
        after=after,
        highlight=HtmlFormatter().get_style_defs(".highlight"),
    )
    return target


def _keep_what_differs(notebook):
    """Of the parameters that papermill repeats, leave those that are not as above."""
    tagged = {tag: cell for cell in notebook.cells for tag in cell.metadata.get("tags", ())}
    if "injected-parameters" not in tagged:
        return
    defaults, given = (
        {
            ast.unparse(getattr(line, "target", None) or line.targets[0]): ast.unparse(line.value)
            for line in ast.parse(tagged[tag].source).body
        }
        for tag in ("parameters", "injected-parameters")
    )
    differ = [f"{name} = {value}" for name, value in given.items() if defaults.get(name) != value]
    tagged["injected-parameters"].source = "\n".join(["# as this was run", *differ])


def write_index(profile, manifest, written) -> list:
    """Write `manifest.json` and `index.html`; returns what `compare.with_reference` says.

    written: names of what the steps wrote, relative to the workspace.
    """
    base = paths.resolve(f"reports/{profile}")
    files.write_json(base / "manifest.json", manifest)
    here = _inside(base, written)
    found = {path.stem: tables.read_file(base / path) for path in here if path.suffix == ".csv"}
    compared = compare.with_reference(profile, found)
    shown = {
        name: draw(found[table]).to_html(border=0, classes="numbers")
        for name, (table, draw) in SHOWN.items()
        if table in found
    }
    _write(
        base / "index.html",
        "index.html",
        profile=profile,
        title=f"Report: {profile}",
        manifest=manifest,
        compared=compared,
        tables=shown,
        tolerances=tables.TOLERANCES,
        headline=sentences.headline(found),
        verdict=verdict.sentences(found),
        **verdict.html(verdict.table(found)),
        left_out=sentences.left_out(found),
        growth=sentences.growth(found.get("learning_curve", ())),
        shown=FIGURES,
        csv={name: table for name, (table, _) in SHOWN.items()},
        contents=[
            (anchor, title)
            for anchor, (title, needs) in SECTIONS.items()
            if not needs or needs in shown or needs in [path.name for path in here]
        ],
        differences={
            name: sentences.compared_at(found, name)
            for name in ("differences", "ablation_differences")
        },
        size=sentences.size(found),
        trained=sentences.trained(found),
        files=[path for path in here if "tables" in path.parts],
        figures=[path.name for path in here if path.suffix == ".png"],
    )
    return compared


def results(profile) -> str:
    """The committed reference run of a profile as Markdown, for the README."""
    base = compare.reference(profile)
    run, found = files.read_json(base / "manifest.json"), compare.read(base)
    whole = {"retrieval", "cost"} <= set(found)
    if run is None or not (whole or "learning_curve" in found):
        raise InputError(
            f"reports/reference/{profile} holds no whole report; run `make reproduce "
            f"PROFILE={profile}` and `python -m amg reference --profile {profile}`."
        )
    steps, where = run["steps"], run["machine"]
    seeds = ", ".join(
        sorted({str(step["parameters"]["seed"]) for step in steps if "seed" in step["parameters"]})
    )
    begun = [step["label"] for step in steps if step.get("begun_before")]
    told = [*verdict.sentences(found), *sentences.growth(found.get("learning_curve", ()))]
    return "\n\n".join(
        filter(
            None,
            [
                "\n".join(f"* {sentence}" for sentence in told or sentences.headline(found)),
                verdict.markdown(verdict.table(found)),
                sentences.size(found),
                f"`{run['command']}`, seed {seeds}, commit {run['commit']}; {where['processor']}, "
                f"{where['cores']} cores; {sum(step['wall_s'] for step in steps) / 60:.1f} minutes"
                + f" (without what had been done before of {', '.join(begun)})"
                * bool(begun)
                + ", "
                f"at most {max(step['peak_memory_mb'] for step in steps):,} MB of memory.",
            ],
        )
    )


def make_reference(profile) -> Path:
    """Copy a report, without its executed notebooks and states, to the committed references.

    Raises InputError if there is none, or if the code of one of its steps is not the checkout's.
    """
    base = paths.resolve(f"reports/{profile}")
    if not base.is_dir():
        raise InputError(
            f"reports/{profile} holds no report; run `make reproduce PROFILE={profile}`."
        )
    with provenance.lock(base):  # no copy of two runs
        return _copy_reference(profile, base, compare.reference(profile))


def _copy_reference(profile, base, target):
    run = files.read_json(base / "manifest.json")
    if run is None:
        raise InputError(
            f"reports/{profile} holds no report; run `make reproduce PROFILE={profile}`."
        )
    for commit in run["commit"].split(", "):
        if not machine.at_commit(commit):
            raise InputError(
                f"reports/{profile} has steps of commit {commit}, whose amg/ and "
                "notebooks/ are not what they are now; commit them, delete the "
                f"report, and run `make reproduce PROFILE={profile}` again."
            )
    names = ["index.html", "manifest.json"]
    for label in (step["label"] for step in run["steps"]):
        state = files.read_json(base / "state" / f"{label}.json")
        if state is None:
            raise InputError(
                f"reports/{profile} is not whole: the step {label} was begun again; run "
                f"`make reproduce PROFILE={profile}` to its end."
            )
        names += [f"notebooks/{label}.html", *_inside(base, state["outputs"])]
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base / name, target / name)
    return target


def _inside(base, names):
    """Those of the files `names`, relative to the workspace, that lie in `base`; relative to it."""
    found = [paths.resolve(name) for name in names]
    return [
        path.relative_to(base) for path in found if path.is_file() and path.is_relative_to(base)
    ]


def _write(target, template, **values):
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("amg.report"), trim_blocks=True, lstrip_blocks=True
    )
    html = environment.get_template(template).render(**values)
    with files.atomic(target) as temporary:
        temporary.write_text(html)
