"""`amg plan`: hours, bytes and workers of a profile, step by step, from a measured minute.

All is counted as from nothing, and measured by the kit's own functions in a temporary workspace: on
clips rendered for it, on random fingerprints, whose values do not matter for time, and, of a folder
of music, on some of its files.
"""

import contextlib
import io
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import soundfile

from amg import machine, paths, progress
from amg.check import InputError
from amg.embedding import crops, encoders, runs, training
from amg.fingerprint import extraction, features, fingerprinters
from amg.report import tables
from amg.report.running import pipeline, plan, sweep_runs
from amg.report.running.plan import CLIP_FRAMES
from amg.retrieval import archives, databases, evaluate, intervals, nafp_search, search, trials
from amg.sound import pools, recordings, sheet_music

LARGER = 100_000  # songs of data-10w; data-1k has 1000, both ten clips of each
# MB of audio and mean seconds of a distractor, where nothing is there
SOURCES = {"sheet_music": (0, 30), "open_music": (5000, 140)}
SOURCES |= {"fma_full": (943_000, 270), "fma_large": (99_900, 30), "fma_small": (7_700, 30)}
N_RENDERED, N_FILES = 10, 6  # by each worker, of what is repeated
TAIL = 2.85  # mean by median of what 325 renderings took: a few scores take seconds to read
MOST_FRAMES = 100_000  # that are searched; more take longer as it grows to there


def tell(profile, hours=None) -> None:
    """Print the plan of a profile; hours: those for which the number of workers is asked."""
    steps = pipeline.load_profile(profile)
    sizes, files, said = sizes_of(steps)
    print(*said, sep="\n")
    _tell(steps, sizes, files, hours)
    if _parameters(steps).get("03_train", {}).get("train_set") == "data-1k":
        print("\nwith data-10w in place of data-1k:")
        _tell(steps, replace(sizes, n_songs=LARGER, n_clips=10), files, hours)
    for step in steps:
        if step.notebook not in plan.AMOUNTS:
            told = re.search(r"\*\*Runtime on 2 cores\*\* ([^<\"\\]+)", step.source.read_text())
            print(f"not counted: {step.label}; it says of itself: {told[1] if told else 'nothing'}")


def _tell(steps, sizes, files, hours):
    table, peak, workers = forecast(steps, sizes, files)
    of_step = table.groupby("step", sort=False)[["alone_s", "seconds"]].sum()
    of_step.loc["all"] = of_step.sum()
    of_step = (of_step / 3600).set_axis(["hours by 1 worker", f"by {workers}"], axis=1)
    shown = table.to_string(index=False, float_format="{:,.1f}".format)
    print(shown, of_step.to_string(float_format="{:,.2f}".format), sep="\n\n")
    if hours is not None:
        n = plan.workers_for(hours, table)
        print(f"for {hours:g} h:", f"workers: {n}, a core each" if n else "no number is enough")
    size = plan.space(sizes, _parameters(steps), workers, peak) / 1e9
    free, there = shutil.disk_usage(paths.home()).free, machine.describe()["machine"]["memory_gb"]
    print(f"\nGB of disk ({free / 1e9:.0f} are free) and of memory ({there} are there):")
    print(size.round(2).to_string(), f"disk: {size['disk'].sum():.1f}", sep="\n")


def _parameters(steps):
    return {step.notebook: step.resolved for step in steps}  # of its last step


def forecast(steps, sizes, files=()) -> tuple[pd.DataFrame, float, int]:
    """A `plan.table` of the steps that are counted, of rates that are measured now; the memory,
    bytes, that measuring took; the number of workers."""
    works, of = plan.works_of(steps, sizes), _parameters(steps).get("01_data_prep", {})
    workers = min(of.get("workers", 1), os.cpu_count() or 1)
    kinds = dict.fromkeys(kind for of_step in works.values() for kind, n in of_step if n)
    print("measuring, for a minute or two ...", file=sys.stderr)
    before = os.environ.copy()
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(io.StringIO()):
        try:
            os.environ["AMG_HOME"] = temporary
            seconds = measure(kinds, workers, of.get("fingerprinter", ""), files)
        finally:
            os.environ.clear()
            os.environ.update(before)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return plan.table(works, seconds, workers), peak, workers


def sizes_of(steps) -> tuple[plan.Sizes, list, list[str]]:
    """Sizes of a profile, audio files to measure decoding with, and what is there or assumed."""
    of = _parameters(steps)
    split, p = of.get("02_split", {"database": "database"}), of.get("01_data_prep")
    asked = {name: split[name] for name in ("query_frames", "n_starts", "durations") & split.keys()}
    if p:
        source_mb, dummy_s, files, said = _source(p["corpus"], p["folder"])
        n = p["n_train"], p["n_valid"] * (p["n_train"] > 0), p["n_versions"], p["n_test"]
        told = [said, *(f"not counted: further songs, {kind}" for kind in p["further"])]
        return plan.Sizes(*n, p["n_dummy"], dummy_s, source_mb, **asked), files, told
    train, data = of.get("03_train", {"train_set": "data-1k", "n_valid": 0}), paths.resolve("data")
    folder, root = data / f"train/{train['train_set']}", paths.resolve(split["database"])
    n_songs = len([*folder.glob("*-00.npy")]) or (LARGER if folder.name == "data-10w" else 1000)
    n_clips = len([*folder.glob("1-*.npy")]) or 10
    n_dummy = len([*(root / databases.DUMMY).glob("*.npy")]) or 10_000
    n_test = len([*(root / databases.TEST).glob("*.npy")]) or 500
    sizes = n_songs - train["n_valid"], train["n_valid"], n_clips, n_test, n_dummy
    said = f"planned for: {n_songs} songs x {n_clips}; {n_test} tests among {n_dummy} distractors"
    checked = [*archives.training_set(folder), *archives.database(root)]
    return plan.Sizes(*sizes, **asked), [], [*checked, said]


def _source(corpus, folder):
    """MB to decode, seconds of a distractor, some files, and what is there or assumed."""
    if corpus == "folder":
        recordings.root(folder)
    files = recordings.find(paths.resolve(folder or "none")) if corpus in ("fma", "folder") else []
    if not files:
        name = os.path.basename(folder) if corpus == "fma" else corpus
        megabytes, seconds = SOURCES.get(name, SOURCES["fma_full"])
        return megabytes, seconds, [], f"assumed: {megabytes} MB, distractors of {seconds} s"
    lengths = []
    for file in files[:: max(len(files) // 20, 1)]:
        with contextlib.suppress(soundfile.LibsndfileError):
            lengths.append(soundfile.info(file).duration)
    megabytes, seconds = sum(file.stat().st_size for file in files) / 1e6, np.mean(lengths or 240)
    return megabytes, seconds, files, f"{len(files)} files, {megabytes:.0f} MB to decode"


def measure(kinds, workers, fingerprinter="", files=()) -> dict:
    """Seconds of one unit, by one worker, of each kind of work; files: a folder's music."""
    rates: dict = {"start": _start, "update": _update, "search": _search, "minute": lambda: 60}
    seconds = {kind: rates[kind[0]](*kind[1:]) for kind in kinds if kind[0] in rates}
    if len(seconds) < len(kinds):
        seconds |= _of_sound(workers, fingerprinters.find(fingerprinter), files)
    return seconds


def _timed(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def _of_sound(workers, prints, files):
    """What workers do with sound, all at once, after each has begun."""
    n, how = N_RENDERED * workers, (prints, workers, machine.device())
    extraction.originals(sheet_music.build("valid", workers, 0, workers), *how)
    clips = sheet_music.build("train", n, 0, workers)
    pieces = [(piece,) for piece in sheet_music.pieces("test", 0)[: 2 * n]]
    sounds = {"music": [clip.read() for clip in clips[:4]]}
    files = [*files][:: max(len(files) // (N_FILES * workers), 1)][: N_FILES * workers]
    for clip in clips[: 0 if files else 2 * workers]:  # as FMA has them: stereo, 44.1 kHz
        files.append(paths.resolve(f"{clip.sha256}.mp3"))
        soundfile.write(files[-1], np.repeat(clip.read(), 12).reshape(-1, 2), 44100)
    jobs = [(file, file.parent, paths.resolve("data/audio/plan"), 30) for file in files]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    pool, folder = ("test", sounds, 8, 0, workers), paths.resolve("data/train/plan")
    pool_s = _timed(pools.make, *pool)
    degraded = clips, folder, 2, pools.make(*pool), prints, 0, *how[1:]
    rendered_s = [*progress.parallel(_rendered_s, pieces, workers)]
    done = {  # units, and seconds by all workers
        "render": (workers, TAIL * float(np.median(rendered_s))),
        "fingerprint": (n, _timed(extraction.originals, clips, *how)),
        "noise or room": (workers * (plan.NOISES["test"] + 8), pool_s),
        "degrade": (n, _timed(extraction.training_set, *degraded)),
        "decode": (megabytes, _timed(list, progress.parallel(recordings.decode, jobs, workers))),
    }
    return {(kind,): took * workers / units for kind, (units, took) in done.items()}


def _rendered_s(piece):
    """Seconds of one piece, whether it can be used or not."""
    with contextlib.suppress(InputError):
        began = time.perf_counter()
        sheet_music.render(piece, 0)
    return time.perf_counter() - began


def _start():
    """A kernel that imports what a notebook does, and draws a little."""
    imports = "import amg.report.charts, amg.retrieval.evaluate, amg.embedding.training"
    return 1.5 * _timed(subprocess.run, [sys.executable, "-c", imports])


def _unit(*shape):
    rows = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _update(encoder, settings, duration, n_songs, n_clips, n_rows):
    """An update with that many classes, whose clips share their frames."""
    rows = min(n_rows, 64) if encoder == "mcnn" else n_rows  # which takes seconds
    config = runs.Config(duration, encoder, batch_size=rows, n_valid=0, settings=dict(settings))
    first = np.random.default_rng(1).integers(0, MOST_FRAMES - CLIP_FRAMES, (n_songs, n_clips))
    frames, length = _unit(MOST_FRAMES, 128), np.full((n_songs, n_clips), CLIP_FRAMES)
    data = features.TrainingSet(frames, first, length, "", [])
    return sweep_runs.update_s(training.Run(config, data, "plan")) * n_rows / rows


def _search(method, duration, n_frames, n_test):
    """A trial of most lengths, and writing its answers."""

    def ask():
        if method == "NAFP":
            found = nafp_search.find(asked, queries, database.sequences)[0]
            scored = [evaluate.score(asked, found, database)]
        else:
            segments = search.Segments.of(database.sequences, crops.segment_frames(duration))
            indexed = evaluate.Indexed.of(encoders.Mean(), database, segments)
            scored = evaluate.amg(asked, queries, indexed)
        tables.write(intervals.by_trial(scored), "plan", "trials", compressed=True)

    seconds, sizes = [], np.array([1, 4]) * min(n_frames, MOST_FRAMES) / 4
    for n_songs in np.maximum(sizes // CLIP_FRAMES, 12).astype(int):
        songs, n = [*_unit(n_songs, CLIP_FRAMES, 128)], min(n_test, n_songs - 1, 100)
        database, queries = databases.Database.of(songs, n_songs - n), songs[n_songs - n :]
        drawn = trials.draw([CLIP_FRAMES] * n, (3, 5, 9, 11, 19, 29), 2, 0, [19])
        asked = trials.recorded(drawn, database)
        seconds.append(_timed(ask) / len(asked))
    grows = max(seconds[1] - seconds[0], 0) / (sizes[1] - sizes[0])
    return seconds[1] + grows * (n_frames - sizes[1])
