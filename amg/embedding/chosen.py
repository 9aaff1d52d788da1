"""Which of several runs under the same names notebook 04 takes."""

from pathlib import Path

from amg import check, provenance
from amg.embedding import runs


def named(train_set, run, encoder, loss, durations) -> dict[int, Path]:
    """The run of this name or digest: its duration_max -> its folder. InputError if it is none of
    this training set, encoder and loss for one of the durations."""
    places = {d: runs.path(train_set, runs.Config(d, encoder, loss)) for d in durations}
    there = {
        folder.name: {duration: folder}
        for duration, place in places.items()
        for folder in sorted(place.parent.glob(f"{place.name}-*/"))
    }
    hint = f" (runs of {train_set}, which notebook 03_train makes)"
    names = [name for name in there if run in (name, name.rpartition("-")[2])]
    return there[str(check.one_of("run", names[0] if names else run, there, hint))]


def tried(report) -> bool:
    """Whether what is trained for a report is a try, which notebook 04 takes only if it is asked
    for: one by hand, whose report is local, or a cell of a sweep."""
    return report.split("/")[0] == "local" or "/cells/" in report


def taken(train_set, run) -> str:
    """Which run notebook 04 takes under the names of `run`, a `Trained`: a sentence."""
    usual = provenance.find(runs.path(train_set, run.config), "03_train", unfinished=True)
    if usual.folder.name == run.name:
        return f"Notebook 04 takes this run: {run.described}."
    described = runs.describe(usual.folder.name, usual.record["parameters"])
    return (
        f"Notebook 04 takes {described}; this one, {run.described}, was a try (its report is "
        f"local, or of a sweep): give it run {run.name[-8:]} to take it."
    )
