"""Seconds of one unit of each work that `plan` counts: a measured minute on this machine.

All is measured by the kit's own functions in an empty workspace: on clips that are rendered for it,
on random fingerprints, whose values do not matter for time, and, of a folder of music, on some of
its files.
"""

import contextlib
import resource
import subprocess
import sys
import time

import numpy as np
import soundfile

from amg import machine, paths, progress
from amg.check import InputError
from amg.embedding import batches, crops, encoders, runs, training
from amg.fingerprint import extraction, features, fingerprinters
from amg.report import tables
from amg.report.plan import CLIP_FRAMES
from amg.retrieval import databases, evaluate, intervals, nafp_search, search, trials
from amg.sound import pools, recordings, sheet_music

N_RENDERED, N_ROOMS, N_NOISES, N_FILES = 10, 4, 6, 6  # by each worker, of what is repeated
MOST_FRAMES, MOST_ROWS = 100_000, {"mcnn": 64}  # that are measured; more take as much longer
# mean by median of what 325 pieces took: a few have scores that take seconds to read
TAIL = 2.85
SOON_S = 2.0  # after which no further update is measured
MODULES = "amg.report.charts, amg.retrieval.evaluate, amg.embedding.training"


def measure(keys, workers, fingerprinter="", files=()) -> dict:
    """Seconds of one unit, of one worker, of each key of `plan.Work`; `peak`: bytes of memory so
    far. files: of a folder's music."""
    seconds: dict = {("start",): _start()}
    of_sound = {"render", "original", "version", "room", "noise", "decode", "compare"}
    if any(key[0] in of_sound for key in keys):
        seconds |= _of_sound(workers, fingerprinters.find(fingerprinter), files)
    of_kind: dict = {
        "update": _update,
        "embed": _embed,
        "search": _search,
        "base": _base,
        "table": _table,
        "compare": _compare,
        "file": _file,
        "read": _read,
    }
    for key in dict.fromkeys(keys):
        if key not in seconds:
            seconds[key] = of_kind[key[0]](*key[1:])
    seconds["peak"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return seconds


def _timed(function, *arguments):
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def _start():
    """A kernel that imports what a notebook does, and draws a little."""
    command = [sys.executable, "-c", f"import {MODULES}"]
    return 1.5 * _timed(lambda: subprocess.run(command, check=True))[0]


def _of_sound(workers, prints, files):
    """What workers do with sound, all at once, after each has begun."""

    def each(function, jobs, **options):
        """Seconds of one job by one worker."""
        took = _timed(lambda: [*progress.parallel(function, jobs, workers, **options)])[0]
        return took * workers / len(jobs)

    n = N_RENDERED * workers
    warm = sheet_music.build("valid", workers, 0, workers)
    clips = sheet_music.build("train", n, 0, workers)
    pieces = [(piece,) for piece in sheet_music.pieces("test", 0)[: 2 * n]]
    rendered_s = [*progress.parallel(_rendered_s, pieces, workers)]
    pool = pools.make("test", {"music": [clip.read() for clip in clips[:4]]}, workers, 0, workers)
    room_s = each(
        pools.room_response, [(rng,) for rng in np.random.default_rng(0).spawn(N_ROOMS * workers)]
    )
    rng, sounds = np.random.default_rng(0), [clip.read() for clip in clips[:4]]
    noise_s = _timed(
        lambda: [(pools.coloured_noise(rng), pools.babble(rng, sounds)) for _ in range(N_NOISES)]
    )[0]
    extraction.originals(warm, prints, workers, machine.device())
    original_s = _timed(extraction.originals, clips, prints, workers, machine.device())[0]
    how = 2, pool, prints, 0, workers, machine.device()
    version_s = _timed(extraction.training_set, clips, paths.resolve("data/train/plan"), *how)[0]
    files = [*files][:: max(len(files) // (N_FILES * workers), 1)][: N_FILES * workers]
    files = files or [_mp3(clip) for clip in clips[: 2 * workers]]
    jobs = [(path, path.parent, paths.resolve("data/audio/plan"), 30) for path in files]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    return {
        ("render",): float(np.median(rendered_s)) * TAIL,
        ("room",): room_s,
        ("noise",): noise_s / (2 * N_NOISES),
        ("original",): original_s * workers / n,
        ("version",): version_s * workers / n,
        ("decode",): each(recordings.decode, jobs) * len(jobs) / megabytes,
    }


def _rendered_s(piece):
    """Seconds of one piece, whether it can be used or not."""
    with contextlib.suppress(InputError):
        began = time.perf_counter()
        sheet_music.render(piece, 0)
    return time.perf_counter() - began


def _mp3(clip):
    """A file as FMA has them: stereo, 44.1 kHz, some five minutes."""
    file, sound = paths.resolve(f"{clip.sha256[:8]}.mp3"), np.repeat(clip.read(), 5)
    with soundfile.SoundFile(file, "w", 44100, 2) as out:
        for _ in range(9):
            out.write(np.stack([sound, sound], 1))
    return file


def _unit(*shape):
    rows = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _file(n=200):
    clip = _unit(CLIP_FRAMES, 128)
    targets = [paths.resolve(f"data/files/{i}.npy") for i in range(n)]
    return _timed(lambda: [features.save(target, clip) for target in targets])[0] / n


def _read(n=200):
    _file(n)
    return (
        _timed(lambda: [features.load(paths.resolve(f"data/files/{i}.npy")) for i in range(n)])[0]
        / n
    )


def _update(encoder, layers, duration, n_songs, n_clips, n_rows):
    """An update with that many classes, whose clips share their frames."""
    rows = min(n_rows, MOST_ROWS.get(encoder, n_rows))
    settings = {"layers": layers} if layers else {}
    config = runs.Config(duration, encoder, batch_size=rows, n_valid=0, settings=settings)
    first = np.random.default_rng(1).integers(0, MOST_FRAMES - CLIP_FRAMES, (n_songs, n_clips))
    length = np.full((n_songs, n_clips), CLIP_FRAMES)
    frames = _unit(MOST_FRAMES, 128)
    run = training.Run(config, features.TrainingSet(frames, first, length, "", []), "plan")
    how = rows, config.batches, duration
    of_epoch = batches.epoch(np.random.default_rng(0), length, *how)
    run._update(of_epoch[-1], 0.0)
    times = []
    for batch in of_epoch[:20]:
        times.append(_timed(run._update, batch, 0.0)[0])
        if sum(times) > SOON_S:
            break
    return float(np.mean(times)) * n_rows / rows


def _encoder(name, layers):
    if not encoders.needs_training(name):
        return encoders.untrained(name, _unit(2000, 128))
    return encoders.build(runs.Config(encoder=name, settings={"layers": layers} if layers else {}))


def _embed(name, layers, length, n=1000):
    """A frame of runs of that length."""
    frames, first = _unit(n * length, 128), np.arange(n) * length
    how = _encoder(name, layers).to(machine.device()), frames, first, np.full(n, length)
    encoders.embed_runs(how[0], frames, first[:50], how[3][:50])
    return _timed(encoders.embed_runs, *how)[0] / (n * length)


def _asked(n_frames, n_test, n_starts=2):
    """A database of random songs, its queries, and trials of most lengths."""
    n_songs = max(n_frames // CLIP_FRAMES, 12)
    n_test = min(n_test, n_songs - 1, 100)
    songs = [*_unit(n_songs, CLIP_FRAMES, 128)]
    database = databases.Database.of(songs, n_songs - n_test)
    drawn = trials.draw([CLIP_FRAMES] * n_test, (3, 5, 9, 11, 19, 29), n_starts, 0, [19])
    return database, songs[n_songs - n_test :], trials.recorded(drawn, database)


def _per_trial(n_frames, n_test, ask):
    """Seconds of `ask` for each trial; among more frames than MOST_FRAMES by how it grows to there,
    from a quarter of them."""

    def among(n):
        database, queries, asked = _asked(n, n_test)
        return _timed(ask, database, queries, asked)[0] / len(asked)

    if n_frames <= MOST_FRAMES:
        return among(n_frames)
    less, most = among(MOST_FRAMES // 4), among(MOST_FRAMES)
    return most + max(most - less, 0) / (0.75 * MOST_FRAMES) * (n_frames - MOST_FRAMES)


def _search(n_frames, n_test, duration):
    """A trial through both stages."""

    def ask(database, queries, asked):
        segments = search.Segments.of(database.sequences, crops.segment_frames(duration))
        indexed = evaluate.Indexed.of(encoders.Mean(), database, segments)
        return evaluate.amg(asked, queries, indexed)

    return _per_trial(n_frames, n_test, ask)


def _base(n_frames, n_test):
    """A trial, by the base system."""

    def ask(database, queries, asked):
        return evaluate.score(
            asked, nafp_search.find(asked, queries, database.sequences)[0], database
        )

    return _per_trial(n_frames, n_test, ask)


def _table(n_test):
    """A method's answer to a trial: into intervals, and into a compressed table."""
    database, _, asked = _asked(MOST_FRAMES, n_test, 6)
    places = np.random.default_rng(0).integers(0, len(database.sequences.frames), (len(asked), 10))
    scored = evaluate.score(asked, places, database).assign(**nafp_search.LABELS, duration_max=0)

    def write():
        intervals.table([scored])
        tables.write(intervals.by_trial([scored]), "plan", "trials", compressed=True)

    return _timed(write)[0] / len(asked)


def _compare(n_test):
    """A frame against those of all test songs."""
    index, asked = search.flat_index(_unit(n_test * CLIP_FRAMES, 128)), _unit(5000, 128)
    return _timed(lambda: index.range_search(asked, 0.7))[0] / len(asked)
