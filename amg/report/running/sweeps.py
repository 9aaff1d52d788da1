"""Sweeps: trainings and evaluations that differ in what a YAML file says (docs/sweeps.md).

A cell is one of its variants with one seed: notebook 03_train, then 04_evaluate of that run alone.
"""

import itertools
import re
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from amg import check, paths
from amg.check import InputError
from amg.embedding import encoders, registry, runs
from amg.report import pages
from amg.report.running import pipeline
from amg.report.running.steps import Step, read_notebook

TRAIN, EVALUATE = "03_train", "04_evaluate"
KEYS = ("profile", "all", "seeds", "budget", "cells", "grid")
BUDGETS = (["updates"], ["crops"], ["minutes"], ["epochs", "patience"])
# parameters that a sweep gives itself, and those that decide the trials, which are the same for all
GIVEN: dict = {"others": [], "alone": True, "protocols": ["contiguous"], "unfinished": False}
GIVEN |= {"checkpoint": "", "test_ids": "", "run": "", "codes": []}
OWN = (*GIVEN, "seed", "epochs", "ship", "report", "durations", "settings", "cost_frames")
OF_ALL = ("database", "query_frames")


@dataclass(frozen=True)
class Cell:
    """A variant with a seed."""

    name: str  # of the variant
    own: dict  # what is its own
    seed: int
    train: dict  # parameters of notebook 03
    evaluate: dict  # ... and of 04

    @cached_property
    def config(self) -> runs.Config | None:
        """What notebook 03 makes of its parameters; None: there is nothing to train."""
        if not encoders.needs_training(self.train["encoder"]):
            return None
        names = {field.name for field in fields(runs.Config)} - {"settings"}
        given = self.train.keys() & runs.known_settings() - names
        settings = {name: self.train[name] for name in given} | self.train["settings"]
        return runs.Config(**{name: self.train[name] for name in names}, settings=settings)

    @property
    def label(self) -> str:
        """Its folder's name."""
        return f"{slug(self.name)}-seed{self.seed}"

    def trained_with(self, **parameters) -> "Cell":
        """The cell with other parameters of its training."""
        return replace(self, train=self.train | parameters)

    def steps(self, report, run="") -> tuple[Step | None, Step]:
        """Of the training, None if there is none, and of the evaluation of a `run`."""
        place = f"{report}/cells/{self.label}"
        train = Step(TRAIN, {**self.train, "report": place}, TRAIN, place) if self.config else None
        evaluate = {**self.evaluate, "run": run, "report": place}
        return train, Step(EVALUATE, evaluate, EVALUATE, place)


@dataclass(frozen=True)
class Sweep:
    """What a sweep's file says."""

    name: str  # of its report, too: the file's, and the profile's if that is not the file's own
    file: Path
    question: str
    budget: dict  # {}: as many updates as the first cell has by its profile
    cells: list  # of Cell, all variants with the first seed, then with the next


def slug(name) -> str:
    """A variant's name as that of a folder."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-").lower()


def read(file, profile="") -> Sweep:
    """A sweep's file; profile: in place of that which it names. InputError, one sentence, for
    whatever it may not say."""
    check.texts(sweep=file)
    places = Path(file).expanduser(), paths.checkout() / "notebooks" / file
    path = next((place.resolve() for place in places if place.is_file()), None)
    if path is None:
        raise InputError(f"sweep is {file!r}, but there is no such file, nor in notebooks/.")
    text, of = path.read_text(), "profile, budget, and cells or a grid"
    sections = pipeline.read_yaml(f"sweep {path.name}", text, of)
    try:
        for key in sections:
            check.one_of("a key", key, KEYS)
        if not re.match(r"# *\S", text):
            raise InputError("its first line must be its question, after a #.")
        shipped = paths.checkout() / "notebooks" / "sweeps"
        if path.parent != shipped and (shipped / path.name).exists():
            raise InputError("a sweep of the kit has this name; give your file another.")
        seeds = check.each("seeds", sections.get("seeds", [0, 1, 2]), check.integer, 0, 2**32 - 1)
        name = path.stem
        if profile and profile != sections.get("profile"):
            name, sections = f"{name}-{profile}", sections | {"profile": profile}
        budget = _budget(sections.get("budget", {}))
        cells = _cells(sections, budget)
    except InputError as error:
        raise InputError(f"sweep {path.name}: {error}") from None
    every = [
        replace(cell.trained_with(seed=seed), seed=seed)
        for seed in seeds
        for cell in cells
        if cell.config or seed == seeds[0]
    ]
    question = text.splitlines()[0].lstrip("# ").strip()
    return Sweep(name, path, question, budget, every)


def _budget(budget):
    allowed = ", ".join(" with ".join(kind) for kind in BUDGETS)
    if not isinstance(budget, dict) or (budget and sorted(budget) not in BUDGETS):
        raise InputError(f"budget is {budget!r}, but must be a mapping of one of: {allowed}.")
    if "minutes" in budget:
        check.number("minutes", budget["minutes"], 0.01, 1e6)
    else:
        check.integers(1, **budget)
    return budget


def _cells(sections, budget) -> list[Cell]:
    """A cell of each variant, with seed 0."""
    usual, given = _usual(sections.get("profile")), sections.get("all") or {}
    pipeline.mapping("all", given or {"": ""}, "parameters and settings")
    cells, seen = [], {}
    for name, own in _variants(sections, usual[EVALUATE]).items():
        try:
            cell = _cell(name, own, given, usual, budget)
        except InputError as error:
            raise InputError(f"cell {name!r}: {error}") from None
        identity = cell.config or cell.evaluate["encoder"], cell.evaluate
        for other, of_other in seen.items():
            if slug(other) == slug(name):
                raise InputError(f"the cells {other!r} and {name!r} have too like names.")
            if of_other == identity:
                raise InputError(f"the cells {other!r} and {name!r} are the same.")
        seen[name] = identity
        cells.append(cell)
    return cells


def _usual(profile):
    """A profile's parameters of both notebooks; where it has several trainings, what they differ
    in is the notebook's own."""
    steps = pipeline.load_profile(profile)
    usual = {}
    for notebook in (TRAIN, EVALUATE):
        of_all = [step.resolved for step in steps if step.notebook == notebook]
        if not of_all:
            raise InputError(f"profile {profile} has no section {notebook}, which a sweep needs.")
        own = read_notebook(paths.checkout() / "notebooks" / f"{notebook}.ipynb")[2]
        same = {name for name in own if all(of[name] == of_all[0][name] for of in of_all)}
        usual[notebook] = {name: of_all[0][name] if name in same else own[name] for name in own}
    return usual


def _variants(sections, evaluate):
    """What is each cell's own, by its name: the cells, times all combinations of the grid, or, of
    one that needs no training, of what notebook 04 has of it."""
    cells, grid = sections.get("cells", {"": None}), sections.get("grid", {})
    pipeline.mapping("cells", cells, "names with what is their own, {} if nothing is")
    pipeline.mapping("grid", grid or {"": ""}, "parameters or settings with lists of values")
    for key, values in grid.items():
        check.each(f"{key} of the grid", values, lambda *_: None)
    if not grid and "cells" not in sections:
        raise InputError("there are neither cells nor a grid, so nothing to compare.")
    variants = {}
    for name, own in cells.items():
        own = {} if own is None else own
        if not isinstance(own, dict):
            raise InputError(f"cell {name!r} is {own!r}, but must be names with values, or {{}}.")
        trained = getattr(encoders.registry.get(str(own.get("encoder"))), "trained", True)
        of = {key: grid[key] for key in grid if trained or key in evaluate}
        for values in itertools.product(*of.values()):
            words = [str(name)] if name else []
            words += [f"{key} {value}" for key, value in zip(of, values)]
            variants[", ".join(words)] = {**dict(zip(of, values)), **own}
    return variants


def _cell(name, own, given, usual, budget):
    train, evaluate = dict(usual[TRAIN]), {**usual[EVALUATE], **GIVEN}
    every = {**given, **own}
    registry.load(every.get("own_module", train["own_module"]))
    known = runs.known_settings() - ({"patience"} & budget.keys())
    for key, value in every.items():
        if key in OWN or (key in OF_ALL and key in own):
            of_all = "; give it in `all`" if key in OF_ALL else ", for a sweep decides it itself"
            raise InputError(f"{key} cannot be a cell's own{of_all}.")
        check.one_of("a key", key, sorted({*train, *evaluate, *known} - {*OWN}))
        for parameters in (train, evaluate):
            if key in parameters:
                parameters[key] = value
        if key not in train and key not in evaluate:
            train["settings"] = train["settings"] | {key: value}
    train |= {"ship": False, "seed": 0, "epochs": budget.get("epochs", train["epochs"])}
    if "patience" in budget:
        train["settings"] = train["settings"] | {"patience": budget["patience"]}
    evaluate["durations"] = [train["duration_max"]]
    cell = Cell(name, own, 0, train, evaluate)
    encoder = encoders.registry.canonical(train["encoder"])
    fixed = sorted(every.keys() & registry.defaults(encoders.registry[encoder]))
    if fixed and not cell.config:
        raise InputError(
            f"{fixed[0]} of {encoder}, which needs no training, is what it is; give an "
            "encoder of your own."
        )
    cell.steps("sweeps")  # which checks the types
    return cell


def command(sweep, workers, dask, show=False) -> None:
    """`amg sweep`: run notebook 05_ablations for a sweep's file, in `reports/sweeps/<name>`; show:
    only a page of what is there of it so far."""
    asked, notebooks = read(sweep), paths.checkout() / "notebooks"
    file, report = asked.file, f"sweeps/{asked.name}"
    named = str(file.relative_to(notebooks) if file.is_relative_to(notebooks) else file)
    where = {"report": report, "workers": workers, "dask": dask}
    parameters = {"sweep": named, "run": not show, **where}
    step = Step("05_ablations", parameters, "so_far" if show else "05_ablations", report)
    if show:
        step.execute()
        print(f"{paths.relative(pages.write_notebook(step))} written")
    else:
        pipeline.talk()  # of its cells, and of the time left
        told = {"command": f"amg sweep {named}", "question": asked.question}
        pipeline.write_report(report, [step], told, talks=True)
