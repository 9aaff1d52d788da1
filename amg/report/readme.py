"""What README and docs quote of the committed references, as Markdown.

It stands there between comments, <!-- mark --> and <!-- /mark -->.
"""

import pandas as pd

from amg import paths
from amg.report import answers, compare, sentences, sweep_tables, verdict


def results(profile) -> str:
    """What the reference run of a profile says of the paper's claims."""
    run, report = compare.read(compare.reference(profile))
    claims = verdict.claims(report, run["steps"])
    paragraphs = [
        "" if claims.empty else sentences.markdown(claims),
        sentences.size(report),
        f"`{run['command']}`, commit {run['commit']}; {run['machine']['processor']}.",
    ]
    return "\n\n".join(filter(None, paragraphs))


def ended(profile) -> str:
    """What a run that agrees with a profile's reference ends with, and what it took."""
    run, report = compare.read(compare.reference(profile))
    minutes = sum(step["wall_s"] for step in run["steps"]) / 60
    memory = max(step["peak_memory_mb"] for step in run["steps"]) / 1000
    said, cores = compare.with_reference(profile, report)[0], run["machine"]["cores"]
    took = f"{minutes:.0f} min on {cores} cores, {memory:.1f} GB of memory, no GPU."
    return f"```\n{said}\n```\n\n{took}"


def _swept(names):
    """Name, manifest and tables of those sweeps of which a reference is committed."""
    for name in names:
        if (base := compare.reference(f"sweeps/{name}")).exists():
            yield name, *compare.read(base)


def _page(name, up="../"):
    return f"{up}reports/reference/sweeps/{name}/index.html"


def sweeps() -> str:
    """The questions of the committed sweeps, and what in each is beyond chance."""
    rows = []
    every = sorted(path.parent.name for path in compare.reference("sweeps").glob("*/manifest.json"))
    for name, run, report in _swept(every):
        others, first = answers.endpoints(report).iloc[1:], report["sweep"].iloc[0]
        beyond = [row for row in others.itertuples() if sweep_tables.said(row) in ("more", "less")]
        shown = [f"{row.Index} {sentences.points(row)}" for row in beyond]
        row = {
            "question": f"[{run['question']}]({_page(name)})",
            "first cell": f"{first.cell}: {sentences.rate(first)}",
            "beyond chance, points from it": "; ".join(shown) or f"none of {len(others)} others",
        }
        rows.append(row)
    return sentences.markdown(pd.DataFrame(rows).set_index("question"))


def answered(up, most=None) -> str:
    """What the committed sweeps answer of the registered questions, `most` sentences of each; up:
    the way to the checkout's root."""
    return "\n".join(
        f"* *{run['question']}* {' '.join(answers.of(name, report)[:most])} "
        f"([report]({_page(name, up)}); `{run['command']}`, commit {run['commit']}, "
        f"{run['machine']['processor']})"
        for name, run, report in _swept(answers.RULES)
    )


def recipe() -> str:
    """How the trainings of the published recipe ended."""
    rows = []
    of_recipe = [name for name, rule in answers.RULES.items() if rule is answers.recipe]
    for name, _, report in _swept(of_recipe):
        of_cell, epochs = report["sweep"].set_index("cell"), report["sweep_training"]
        alike = (epochs.alike > answers.COLLAPSED).groupby([epochs.cell, epochs.seed]).sum()
        for cell, ends in answers.ends(report).groupby("cell", sort=False):
            row = {
                "recipe": cell,
                "songs": f"[{name}]({_page(name)})",
                "updates": f"{of_cell.updates[cell]:,.0f}",
                "train": f"{ends.trains.sum()} of {len(ends)}",
                "validation Top-1 at the end (%)": answers.each(ends.top1, 1),
                "mean cosine between songs": answers.each(ends.alike, 2),
                f"epochs in which it is above {answers.COLLAPSED}": answers.each(alike[cell], 0),
                "single-stage Top-1 (%)": sentences.rate(of_cell.loc[cell]),
            }
            rows.append(row)
    return sentences.markdown(pd.DataFrame(rows).set_index("recipe"))


BLOCKS = {  # file and mark: what stands there
    ("README.md", "demo"): lambda: ended("demo"),
    ("README.md", "open_music"): lambda: results("open_music"),
    ("README.md", "answers"): lambda: answered("", 2),
    ("docs/sweeps.md", "sweeps"): sweeps,
    ("docs/published.md", "answers"): lambda: answered("../"),
    ("docs/published.md", "recipe"): recipe,
}


def renew() -> None:
    """Write all BLOCKS anew."""
    for (name, mark), told in BLOCKS.items():
        path = paths.checkout() / name
        before, _, rest = path.read_text().partition(f"<!-- {mark} -->\n")
        _, end, after = rest.partition(f"<!-- /{mark} -->")
        path.write_text(f"{before}<!-- {mark} -->\n\n{told().strip()}\n\n{end}{after}")
