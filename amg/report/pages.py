"""The HTML pages of a report: one per executed notebook, and the index that links all."""

import json
from pathlib import Path

import jinja2
import nbformat
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from pygments.formatters import HtmlFormatter

from amg import files, paths
from amg.report import tables
from amg.check import InputError


SHOWN = {"retrieval": tables.hits, "cost": tables.costs, "ablations": tables.ablations,
         "robustness": tables.robustness, "miss_reasons": tables.reasons}


def write_notebook(executed, profile, label, audible):
    """Export an executed notebook to `reports/<profile>/notebooks/<label>.html`.

    audible: whether its sounds go with it; a report that is passed on holds no recordings.
    """
    target = paths.resolve(f"reports/{profile}/notebooks/{label}.html")
    if target.exists() and target.stat().st_mtime_ns > executed.stat().st_mtime_ns:
        return target
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(nbformat.read(executed, 4), {})
    for output in (o for cell in notebook.cells for o in cell.get("outputs", ()) if not audible):
        if "<audio" in output.get("data", {}).get("text/html", ""):
            output.data = {"text/plain": "(a sound, left out of this page)"}
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    return _write(target, "notebook.html", profile=profile, title=label, body=body,
                  highlight=HtmlFormatter().get_style_defs(".highlight"))


def write_index(profile, manifest, written):
    """Write `manifest.json` and `index.html`; `written` lists what the steps wrote."""
    base = paths.resolve(f"reports/{profile}")
    with files.atomic(base / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    names = {Path(name).stem for name in written if name.endswith(".csv")}
    found = {name: table for name, table in read_tables(profile).items() if name in names}
    rendered = {name: draw(found[name]).to_html(border=0, classes="numbers")
                for name, draw in SHOWN.items() if name in found}
    return _write(base / "index.html", "index.html", profile=profile, title=f"Report: {profile}",
                  manifest=manifest, tables=rendered, files=sorted(found),
                  figures=[Path(name).name for name in written
                           if name.endswith(".png") and paths.resolve(name).exists()],
                  headline=tables.headline(found), size=tables.size(found))


def read_tables(profile):
    """Every table of a report, by name. InputError if there are none."""
    folder = paths.resolve(f"reports/{profile}/tables")
    found = {path.stem: tables.read(profile, path.stem) for path in sorted(folder.glob("*.csv"))}
    if not found:
        raise InputError(f"{paths.relative(folder)} holds no tables; "
                         f"run `make reproduce PROFILE={profile}` first.")
    return found


def results(profile):
    """The results of a report as Markdown, for the README.

    Hit rates and how they were made; between them the cost of AMG embeddings or, in a report of
    the base system alone, what it stands and why it misses.
    """
    found, manifest = read_tables(profile), paths.resolve(f"reports/{profile}/manifest.json")
    if not manifest.exists() or not {"retrieval", "cost"} <= set(found):
        raise InputError(f"reports/{profile} is not complete; "
                         f"run `make reproduce PROFILE={profile}` to its end.")
    made = json.loads(manifest.read_text())
    where = made["machine"]
    seeds = ", ".join(sorted({str(step["parameters"]["seed"]) for step in made["steps"]
                              if "seed" in step["parameters"]}))
    more = ("cost",) if "ablations" in found else ("robustness", "miss_reasons")
    n_queries = found["retrieval"].n_queries
    n_queries = sorted({n_queries.min(), n_queries.max()})
    return "\n\n".join([
        *tables.headline(found),
        tables.markdown(tables.hits(found["retrieval"])),
        f"{' to '.join(map(str, n_queries))} trials per query length. {tables.size(found)}",
        *(tables.markdown(SHOWN[name](found[name])) for name in more if name in found),
        f"`{made['command']}`, seed {seeds}, commit {made['commit']}; {where['processor']}, "
        f"{where['cores']} cores; {sum(step['wall_s'] for step in made['steps']) / 60:.1f} minutes, at most "
        f"{max(step['peak_memory_mb'] for step in made['steps']):,} MB of memory."])


def _write(target, template, **values):
    environment = jinja2.Environment(loader=jinja2.PackageLoader("amg.report"), trim_blocks=True,
                                     lstrip_blocks=True)
    html = environment.get_template(template).render(**values)
    with files.atomic(target) as temporary:
        temporary.write_text(html)
    return target
