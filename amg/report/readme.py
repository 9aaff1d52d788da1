"""What README quotes of the committed references, as Markdown.

It stands there between comments, <!-- mark --> and <!-- /mark -->.
"""

import json

from amg import paths
from amg.report import compare, sentences, verdict


def results(profile) -> str:
    """What the reference run of a profile says of the paper's claims, or of more songs."""
    base = compare.reference(profile)
    run, report = json.loads((base / "manifest.json").read_text()), compare.read(base)
    claims = verdict.claims(report, run["steps"])
    paragraphs = [
        "" if claims.empty else sentences.markdown(claims),
        " ".join(sentences.growth(report.get("learning_curve", ()))[:2]),
        sentences.size(report),
        f"`{run['command']}`, commit {run['commit']}; {run['machine']['processor']}.",
    ]
    return "\n\n".join(filter(None, paragraphs))


def ended(profile) -> str:
    """What a run that agrees with a profile's reference ends with, and what it took."""
    base = compare.reference(profile)
    run = json.loads((base / "manifest.json").read_text())
    minutes = sum(step["wall_s"] for step in run["steps"]) / 60
    memory = max(step["peak_memory_mb"] for step in run["steps"]) / 1000
    said, cores = compare.with_reference(profile, compare.read(base))[0], run["machine"]["cores"]
    took = f"{minutes:.0f} min on {cores} cores, {memory:.1f} GB of memory, no GPU."
    return f"```\n{said}\n```\n\n{took}"


BLOCKS = {  # file and mark: what stands there
    ("README.md", "demo"): lambda: ended("demo"),
    ("README.md", "open_music"): lambda: results("open_music"),
    ("README.md", "learning_curve"): lambda: results("learning_curve"),
}


def renew() -> None:
    """Write all BLOCKS anew."""
    for (name, mark), told in BLOCKS.items():
        path = paths.checkout() / name
        before, _, rest = path.read_text().partition(f"<!-- {mark} -->\n")
        _, end, after = rest.partition(f"<!-- /{mark} -->")
        path.write_text(f"{before}<!-- {mark} -->\n\n{told().strip()}\n\n{end}{after}")
