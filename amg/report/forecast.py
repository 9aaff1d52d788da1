"""`amg plan`: hours, bytes and workers of a profile, step by step, from a measured minute.

Nothing is written but into a temporary workspace. What a profile finds ready, as the published
archives, is looked at: its sizes are what is there, or as published where nothing is.
"""

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
from dataclasses import replace

import numpy as np
import pandas as pd

from amg import machine, paths
from amg.check import InputError
from amg.report import pipeline, plan, rates
from amg.retrieval import archives, databases
from amg.sound import recordings

PUBLISHED = {"data-1k": (1000, 10), "data-10w": (100_000, 10)}  # songs, clips of each
FMA = {"fma_full": (879, 270), "fma_large": (93, 30)}  # GiB, mean seconds of its 106,574 tracks
OPEN_MUSIC = 5000, 140  # MB of packages, mean seconds of a distractor
FOLDER_S = 240  # of a recording of which nothing is known


def tell(profile, hours=None) -> None:
    """Print the plan of a profile; hours: those for which the number of workers is asked."""
    steps = pipeline.load_profile(profile)
    sizes, files, notes = sizes_of(steps)
    checked = [] if _prepares(steps) else _archives(steps)
    print(*checked, _described(steps, sizes, files, hours), *notes, sep="\n")
    if not checked or _trained_on(steps) != "data-1k":
        return
    n_songs, n_clips = PUBLISHED["data-10w"]
    larger = replace(sizes, n_songs=n_songs - sizes.n_valid, n_clips=n_clips)
    print("\nwith data-10w in place of data-1k:", _described(steps, larger, files, hours), sep="\n")


def _described(steps, sizes, files, hours):
    """Table, totals, disk and memory of a profile, as text."""
    found, peak, workers = forecast(steps, sizes, files)
    shown = found.assign(number=found.number.map("{:,.0f}".format))
    for column in ("alone_s", "seconds"):
        shown[column] = shown[column].map(
            lambda s: f"{s / 3600:.2f} h" if s > 900 else f"{s:.0f} s"
        )
    shown = shown.drop(columns=["spread"])
    shown = shown.rename(columns={"alone_s": "one worker", "seconds": f"workers: {workers}"})
    disk = plan.disk(sizes, _prepares(steps), sum(step.notebook == "03_train" for step in steps))
    there = {step.notebook for step in steps}
    memory = plan.memory(sizes, workers, peak)
    told = [
        shown.to_string(index=False),
        "",
        f"time: {found.seconds.sum() / 3600:,.2f} h with {workers} workers on {os.cpu_count()} "
        f"cores, {found.alone_s.sum() / 3600:,.2f} h with one; "
        f"{found.seconds[~found.spread].sum() / 3600:,.2f} h do not depend on workers.",
        f"disk: {sum(disk.values()) / 1e9:.1f} GB ("
        + ", ".join(f"{name} {size / 1e9:.1f}" for name, size in disk.items() if size >= 5e7)
        + f"); free: {shutil.disk_usage(paths.home()).free / 1e9:.0f} GB.",
        "memory: "
        + ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in memory.items() if name in there)
        + f"; this machine has {machine.describe()['machine']['memory_gb']} GB.",
    ]
    if hours is not None:
        n = plan.workers_for(hours, found)
        needed = (
            f"workers: {n}, a core each" if n else "no number of workers: the rest takes longer"
        )
        told.append(f"for {hours:.6g} h {needed}.")
    told += [
        f"not counted: {step.label}; it says of itself: {_runtime(step)}"
        for step in steps
        if step.label not in set(found.step)
    ]
    return "\n".join(told)


def _runtime(step):
    """What a notebook says of its runtime."""
    text = step.source.read_text()
    said = re.search(r"\*\*Runtime on 2 cores\*\* ([^<\"]+?)(?:<br>)?(?:\\n)?\"", text)
    return said[1].strip() if said else "nothing"


def _prepares(steps):
    """Parameters of notebook 01, {} if the profile finds its data ready."""
    return next((step.resolved for step in steps if step.notebook == "01_data_prep"), {})


def _trained_on(steps):
    return next((s.resolved["train_set"] for s in steps if s.notebook == "03_train"), "")


def forecast(steps, sizes, files=()) -> tuple[pd.DataFrame, float, int]:
    """A `plan.table` of a profile's steps, of rates that are measured now; the memory, bytes, that
    measuring took; the number of workers."""
    known = works_of(steps, sizes)
    prepare = _prepares(steps)
    workers, cores = prepare.get("workers", 1), os.cpu_count() or 1
    workers = min(workers, cores) if isinstance(workers, int) else cores  # or a cluster's address
    keys = [work.rate for works in known.values() for work in works if work.n]
    weights = prepare.get("fingerprinter", "")
    print("measuring, for a minute or two ...", file=sys.stderr)
    before = os.environ.get("AMG_HOME")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["AMG_HOME"] = temporary
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                seconds = rates.measure(keys, workers, weights, files)
        finally:
            os.environ.pop("AMG_HOME")
            os.environ |= {"AMG_HOME": before} if before is not None else {}
    return plan.table(known, seconds, workers), seconds["peak"], workers


def works_of(steps, sizes) -> dict:
    """Label -> works, of those steps whose works are known."""
    trained = {
        step.resolved["duration_max"]: step.resolved
        for step in steps
        if step.notebook == "03_train"
    }
    known = {s.label: plan.works(s.notebook, s.resolved, sizes, trained) for s in steps}
    return {label: works for label, works in known.items() if works is not None}


def sizes_of(steps) -> tuple[plan.Sizes, list, list[str]]:
    """Sizes of a profile, audio files to measure decoding with, and what was assumed."""
    by_notebook = {step.notebook: step.resolved for step in steps}
    split = by_notebook.get("02_split", {})
    asked = {name: split[name] for name in ("query_frames", "n_starts", "durations") if split}
    if "01_data_prep" not in by_notebook:
        return _of_archives(by_notebook, asked)
    p = by_notebook["01_data_prep"]
    n = (
        p["n_train"],
        p["n_valid"] if p["n_train"] else 0,
        p["n_versions"],
        p["n_test"],
        p["n_dummy"],
    )
    source_mb, dummy_s, files, notes = _source(p)
    return plan.Sizes(*n, dummy_s, source_mb, **asked), files, notes


def _source(p):
    """MB to decode, seconds of a distractor, some files, and what was assumed."""
    corpus, folder = p["corpus"], paths.resolve(p["folder"] or "none")
    if corpus == "sheet_music":
        return 0.0, plan.CLIP_S, [], []
    if corpus == "open_music":
        there = paths.resolve("data/audio/open_music").is_dir()
        note = (
            "of open_music distractors are taken to last 140 s; fetching packages is not counted."
        )
        return 0.0 if there else OPEN_MUSIC[0], OPEN_MUSIC[1], [], [note]
    files = recordings.find(folder) if folder.is_dir() else []
    if files:
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        some = files[:: max(len(files) // 20, 1)]
        known = filter(None, map(_duration, some))
        seconds = float(np.mean([*known, *([] if some else [FOLDER_S])]))
        note = f"decoding is measured on files of {p['folder']}."
        return megabytes, seconds, files, [note]
    if corpus != "fma":
        raise InputError(recordings.without_audio(p["folder"]))
    gib, seconds = FMA.get(folder.name, FMA["fma_full"])
    note = (
        f"{p['folder']} is not there: {gib} GiB of MP3 are assumed, as FMA's repository states; "
        "decoding was measured on an MP3 file made for it."
    )
    return gib * 1024**3 / 1e6, seconds, [], [note]


def _duration(path):
    import soundfile

    with contextlib.suppress(soundfile.LibsndfileError):
        return soundfile.info(path).duration


def _of_archives(by_notebook, asked):
    train_set = by_notebook["03_train"]["train_set"]
    n_valid = by_notebook["03_train"]["n_valid"]
    folder, root = (
        paths.resolve(f"data/train/{train_set}"),
        paths.resolve(by_notebook["02_split"]["database"]),
    )
    songs = {
        int(of[1]) for file in folder.glob("*-00.npy") if (of := re.match(r"(\d+)-", file.name))
    }
    n_songs, n_clips = PUBLISHED.get(train_set, PUBLISHED["data-1k"])
    notes = []
    if songs:
        n_songs, n_clips = len(songs), len([*folder.glob(f"{min(songs)}-*.npy")])
    else:
        notes.append(
            f"data/train/{train_set} is not there: {n_songs} songs x {n_clips} are assumed."
        )
    n_dummy, n_test = (
        len([*(root / part).glob("*.npy")]) for part in (databases.DUMMY, databases.TEST)
    )
    if not (n_dummy and n_test):
        n_dummy, n_test = 10_000, 500
        notes.append(
            "the database is not there: 10,000 distractors of 30 s, 500 tests are assumed."
        )
    return (
        plan.Sizes(n_songs - n_valid, n_valid, n_clips, n_test, n_dummy, plan.CLIP_S, **asked),
        [],
        notes,
    )


def _archives(steps):
    """What is there of what the profile does not make itself."""
    train_set = paths.resolve(f"data/train/{_trained_on(steps)}")
    root = next(
        paths.resolve(step.resolved["database"]) for step in steps if step.notebook == "02_split"
    )
    return [*archives.training_set(train_set), *archives.database(root)]
