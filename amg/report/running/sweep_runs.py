"""The cells of a sweep: what their budget makes of them, running them, and what is there.

Executed notebooks and tables of a cell lie in `<report>/cells/<variant>-seed<k>/`, and beside it a
record, `<variant>-seed<k>.json`: why it failed, if it did. Trainings lie with all others: those
that are equal, in whatever sweeps, are trained once.
"""

import contextlib
import io
import statistics
import time
from dataclasses import asdict, dataclass, replace

import filelock
import numpy as np
import pandas as pd

from amg import files, paths, progress
from amg.check import InputError
from amg.embedding import batches, crops, encoders, songs, training, validation
from amg.fingerprint import features
from amg.retrieval import cost

SOME = 4  # updates that are timed, the first of which warms up


def data_of(cell):
    """The training set of a cell."""
    return features.pack(paths.resolve(f"data/train/{cell.train['train_set']}"))


def budgeted(sweep, report, workers):
    """The sweep, each of its cells with the epochs that its budget gives it: whole ones, at least
    one. workers: as of `progress.parallel`."""
    variants = {cell.name: cell for cell in sweep.cells if cell.config}
    of_epoch = {}
    for name, cell in variants.items():
        try:
            of_epoch[name] = _of_epoch(cell)
        except InputError as error:
            raise InputError(f"sweep {sweep.name}: cell {name!r}: {error}") from None
    if "patience" in sweep.budget or not variants:
        return sweep  # the epochs are said
    first = next(iter(variants))
    usual = {"updates": variants[first].config.epochs * of_epoch[first]["updates"]}
    ((kind, amount),) = (sweep.budget or usual).items()
    if kind == "minutes":
        taken = _seconds_of_an_update(variants, report, workers)
        of_epoch = {name: {kind: taken[name] * of["updates"] / 60} for name, of in of_epoch.items()}
    epochs = {name: max(1, round(amount / of[kind])) for name, of in of_epoch.items()}
    cells = [
        cell.trained_with(epochs=epochs[cell.name]) if cell.config else cell for cell in sweep.cells
    ]
    return replace(sweep, cells=cells)


def _of_epoch(cell):
    """`updates` and `crops` of an epoch of a cell's training."""
    data, kind = data_of(cell), cell.config.batches
    learnt = songs.learnt(cell.config, data)
    n_clips = (learnt > 0).sum() if kind == "classes" else (learnt[:, 1:] > 0).sum()
    n_crops = batches.PARTS[kind] * int(n_clips)
    return {"updates": songs.updates(cell.config, data), "crops": n_crops}


def _seconds_of_an_update(variants, report, workers):
    """Name -> seconds; measured once, so that a sweep that is continued has the same epochs."""
    file = paths.resolve(f"reports/{report}/cells/seconds.json")
    known = files.read_json(file) or {}
    key = {name: files.digest(asdict(cell.config)) for name, cell in variants.items()}
    jobs = [(key[name], cell) for name, cell in variants.items() if key[name] not in known]
    for of_cell, seconds in progress.parallel(
        _timed, jobs, workers, ordered=False, desc="timing updates", unit="cell"
    ):
        known[of_cell] = seconds
        files.write_json(file, known)
    return {name: known[key[name]] for name in variants}


def _timed(key, cell):
    train, _ = cell.steps("sweeps")  # which imports what is its own
    data, device = data_of(cell), cell.train["device"]
    return key, update_s(training.Run(cell.config, data, train.resolved["train_set"], device))


def update_s(run) -> float:
    """Median seconds of an update of a `training.Run`, which is thrown away."""
    how = run.config.batch_size, run.config.batches, run.config.duration_max, run.crop
    of_epoch = batches.epoch(np.random.default_rng(0), run.learnt, *how)
    seconds = []
    for batch in (of_epoch * SOME)[:SOME]:
        began = time.perf_counter()
        run._update(batch, run.config.lr)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def run(sweep, report, workers) -> None:
    """Run the cells that are not finished, with a bar; what fails is said, and the others go on.

    workers: as of `progress.parallel`.
    """
    waiting = [cell for cell in sweep.cells if not finished(cell, report)]
    done = len(sweep.cells) - len(waiting)
    jobs = [(cell, report) for cell in waiting]
    bar = {"desc": f"sweep {sweep.name}", "unit": "cell", "done": done, "ordered": False}
    for label, failed in progress.parallel(run_cell, jobs, workers, **bar):
        if failed:
            print(f"{label}: {failed}")


def finished(cell, report) -> bool:
    """Whether a cell was run, and nothing has changed since."""
    with contextlib.suppress(InputError), contextlib.redirect_stderr(io.StringIO()):
        train, evaluate = cell.steps(report, run_of(cell, report))
        return bool((not train or train.finished()) and evaluate.finished())
    return False


def run_of(cell, report) -> str:
    """Digest of the run that a cell trained, "" if there is none."""
    table = _read(cell, report, f"training_{cell.train['duration_max']}s.csv")
    return "" if table is None or not cell.config else table.run.iloc[0][-8:]


def _read(cell, report, name, **options):
    path = paths.resolve(f"reports/{report}/cells/{cell.label}/tables/{name}")
    return pd.read_csv(path, **options) if path.exists() else None


def _record(cell, report):
    return paths.resolve(f"reports/{report}/cells/{cell.label}.json")


def run_cell(cell, report) -> tuple[str, str]:
    """Train and evaluate a cell, as far as that is to be done: its label, and why it failed, or
    ""."""
    record = _record(cell, report)
    # one that an interrupted sweep has left behind may still be at it
    with filelock.FileLock(record.with_name(f".{cell.label}.lock")):
        try:
            _run_steps(cell, report)
            failed = ""
        except Exception as error:  # whatever it was, the others go on
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            failed = f"{kind}{error}"
        files.write_json(record, {"failed": failed, "at": time.time()})
    return cell.label, failed


def _run_steps(cell, report):
    train, _ = cell.steps(report)
    if train:
        models = paths.resolve(f"data/models/{cell.train['train_set']}")
        # another cell may be the same training, or that of another sweep
        with filelock.FileLock(models / f".{files.digest(asdict(cell.config))}.lock"):
            there = any(models.glob(f"*-{run_of(cell, report) or 'none'}"))
            if not there or not train.finished():
                train.run(bar=False)
    _, evaluate = cell.steps(report, run_of(cell, report))
    if not evaluate.finished():
        evaluate.run(bar=False)


@dataclass(frozen=True)
class Result:
    """What is there of a cell."""

    cell: object
    failed: str = ""  # why, or that it has not been run
    history: pd.DataFrame | None = None  # a row per epoch
    trials: pd.DataFrame | None = None  # song, start, query_frames, and bool single and two


def result(cell, report) -> Result:
    """What is there of a cell."""
    if not finished(cell, report):
        told = files.read_json(_record(cell, report)) or {}
        return Result(cell, told.get("failed") or "not run yet")
    history = _read(cell, report, f"training_{cell.train['duration_max']}s.csv")
    columns = ["stage", "song", "start", "query_frames", "segment_rank", "exact_rank"]
    ranks = _read(cell, report, "trials.csv.xz", usecols=columns)
    single, two = (
        ranks[ranks.stage == stage].reset_index(drop=True) for stage in ("single", "two")
    )
    hit = {"single": single.segment_rank == 1, "two": two.exact_rank == 1}
    return Result(cell, "", history if cell.config else None, single[columns[1:4]].assign(**hit))


def described(cell) -> dict:
    """What a cell's encoder takes: parameters, GFLOPs for a segment, bytes of a vector; also the
    updates and crops of an epoch, or, of one that needs no training, and is fitted to the originals
    of the training songs, validation Top-1."""
    duration = cell.train["duration_max"]
    if cell.config:
        model, told = encoders.build(cell.config), _of_epoch(cell)
    else:
        data, name = data_of(cell), cell.train["encoder"]
        n_songs, originals = len(data.length) - cell.train["n_valid"], None
        if hasattr(encoders.registry[name], "fit"):
            originals = np.concatenate([data.clip(song, 0) for song in range(n_songs)])
        model = encoders.untrained(name, originals)
        held_out = np.arange(n_songs, len(data.length))
        rank = validation.ranks(model, data, held_out, duration, cell.seed)["rank"]
        told = {"valid_top1": 100 * (rank < 1).mean()}
    bits = getattr(model, "bits", 0)
    return told | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "gflops": cost.gflops(model, crops.segment_frames(duration)),
        "bytes": bits // 8 or 4 * getattr(model, "dimension", 128),
    }
