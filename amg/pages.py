"""The HTML pages of a report: one per executed notebook, and the index that links all."""

import json

import jinja2
import nbformat
import pandas as pd
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from pygments.formatters import HtmlFormatter

from amg import paths, report


def write_notebook(executed, profile, label):
    """Export an executed notebook to `reports/<profile>/notebooks/<label>.html`."""
    target = paths.resolve(f"reports/{profile}/notebooks/{label}.html")
    if target.exists() and target.stat().st_mtime_ns > executed.stat().st_mtime_ns:
        return target
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(nbformat.read(executed, 4), {})
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    return _write(target, "notebook.html", profile=profile, title=label, body=body,
                  highlight=HtmlFormatter().get_style_defs(".highlight"))


def write_index(profile, manifest):
    """Write `manifest.json` and `index.html` from what the notebooks left in the report."""
    base = paths.resolve(f"reports/{profile}")
    with paths.atomic(base / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    tables = {path.stem: pd.read_csv(path) for path in sorted((base / "tables").glob("*.csv"))}
    figures = sorted(path.name for path in (base / "figures").glob("*.png"))
    shown = {"retrieval": report.hit_table, "ablations": report.ablation_table,
             "cost": report.cost_table}
    rendered = {name: draw(tables[name]).to_html(border=0, classes="numbers")
                for name, draw in shown.items() if name in tables}
    return _write(base / "index.html", "index.html", profile=profile, title=f"Report: {profile}",
                  manifest=manifest, tables=rendered, files=sorted(tables), figures=figures,
                  headline=report.headline(tables), size=report.size(tables))


def _write(target, template, **values):
    environment = jinja2.Environment(loader=jinja2.PackageLoader("amg"), trim_blocks=True,
                                     lstrip_blocks=True)
    html = environment.get_template(template).render(**values)
    with paths.atomic(target) as temporary:
        temporary.write_text(html)
    return target
