"""What the catalogue is worth: `PYTHONPATH=tests python -m bench.catalogue
trip|speed|kill|load|soak`.

    trip  one's own music in five formats: are degraded excerpts named, and those of other music not
    speed indexing
    kill  indexing, killed at ten random moments: does it end with the same catalogue
    load  1,000 hours: 2,000 identifications from 8 threads, and one at a time
    soak  twenty minutes of identifications: memory

Each writes `reports/reference/catalogue/<name>.json`, and what they say is printed for
`docs/catalogue.md`. The trip needs what `make reproduce PROFILE=open_music` has prepared: its test
recordings, half of them unknown, which nothing that ships has heard, and distractors, none of them
of the background.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import soundfile

import amg
from amg import files, machine, paths, progress
from amg.catalogue import indexing, models, significance, store
from amg.catalogue.catalogue import Catalogue
from amg.catalogue.identify import identify
from amg.retrieval import databases, intervals
from amg.sound import audio, corpora, degrade, pools
from amg.studies import unknown_songs

REFERENCE = paths.checkout() / "reports/reference/catalogue"
CORPUS, DATABASE, N_ROOMS, SEED = "open_music", "database/open_music", 160, 0
FORMATS = ("mp3", "ogg", "flac", "wav", "m4a")
EXCERPT_S, SNR_DB, PER_RECORDING, N_DUMMY = 8, 5.0, 8, 300
PERCENT_FASTER = (-6, -4, -3, -2, -1, 1, 2, 3, 4, 6)  # of the excerpts at other speeds
HOURS, N_ASKED, N_THREADS, SOAK_S = 1000, 500, 8, 1200
NOISE_HZ = 16000  # of the noise that is indexed for `speed`


def trip(folder):
    """Rows of false and right answers over excerpts; index half of the test recordings and
    others."""
    database, _ = databases.load(paths.resolve(DATABASE))
    clips = {clip.recording: clip for clip in database.clips[database.first_test :]}
    names = sorted(clips)
    fold = unknown_songs.folds(names, SEED)
    others = database.clips[: database.first_test][1::2]  # see `calibration`
    dummies = {clip.recording: clip for clip in others}
    stored = [clips[name] for name, side in zip(names, fold) if side == 0]
    stored += [dummies[name] for name in sorted(dummies)[:N_DUMMY]]
    formats = [name for name in FORMATS if name != "m4a" or shutil.which("ffmpeg")]
    for number, clip in enumerate(progress.bar(stored, desc="writing music", unit="file")):
        _write(paths.resolve(clip.file), folder / f"{number:04d}.{formats[number % len(formats)]}")
    seconds = sum(soundfile.info(paths.resolve(clip.file)).duration for clip in stored)
    print(indexing.index([folder], folder / ".catalogue", workers=2))
    catalogue = Catalogue.load(folder / ".catalogue")
    pool = pools.make("test", corpora.noises(CORPUS, "test", SEED, 2), N_ROOMS, SEED, 2)
    rows = []
    for number, name in enumerate(progress.bar(names, desc="asking", unit="recording")):
        sound, _ = soundfile.read(paths.resolve(clips[name].file), dtype="float32")
        rng = np.random.default_rng([SEED, number])
        for _ in range(PER_RECORDING):
            excerpt, at = _excerpt(sound, rng, pool)
            if excerpt is None:
                continue
            answer = identify((excerpt, audio.SAMPLE_RATE), catalogue)
            match = answer.matches[0] if answer.matches else None
            said, nearest = (
                stored[int(Path(of[0].path).stem)] if of else None
                for of in (answer.matches, answer.candidates)
            )
            right = said is not None and said.recording == name
            clean = sound[at : at + EXCERPT_S * audio.SAMPLE_RATE]
            rows.append(
                {
                    "recording": name,
                    "known": bool(fold[number] == 0),
                    "named": bool(match),
                    "right": right,
                    "nearest": nearest is not None and nearest.recording == name,
                    "placed": right
                    and abs(match.position_s - match.begin_s - at / audio.SAMPLE_RATE) <= 0.5,
                    "same": bool(match) and not right and _same(clean, said, match),
                }
            )
    known_clips = [clips[name] for name, side in zip(names, fold) if side == 0]
    speeds = [_at_speed(percent, known_clips, stored, catalogue) for percent in PERCENT_FASTER]
    asked = pd.DataFrame(rows)
    known, other = asked[asked.known], asked[~asked.known]
    return {
        "excerpt_s": EXCERPT_S,
        "snr_db": SNR_DB,
        "formats": formats,
        "n_files": len(stored),
        "hours": round(seconds / 3600, 2),
        **_rate("named", known.right, known),
        **_rate("nearest", known.nearest, known),
        **_rate("placed", known.placed, known),
        **_rate("named_wrong", known.named & ~known.right & ~known.same, known),
        **_rate("others_named", other.named & ~other.same, other),
        "others_same": int(other.same.sum()),
        "speeds": speeds,
    }


def _at_speed(percent, clips, stored, catalogue):
    """Right and wrong names of one undegraded excerpt of each recording, played faster."""
    speed, rng, right, wrong = 1 + percent / 100, np.random.default_rng(SEED), [], []
    for clip in progress.bar(clips, desc=f"{percent:+} %", unit="recording"):
        sound, _ = soundfile.read(paths.resolve(clip.file), dtype="float32")
        n = round(EXCERPT_S * speed * audio.SAMPLE_RATE)
        at = int(rng.integers(max(len(sound) - n, 1)))
        excerpt = sound[at : at + n]
        if len(excerpt) < n or np.sqrt(np.mean(excerpt**2)) < 1e-3:
            continue
        played = np.concatenate([*audio.resampled([excerpt], speed * audio.SAMPLE_RATE)])
        matches = identify((played, audio.SAMPLE_RATE), catalogue).matches
        named = {stored[int(Path(match.path).stem)].recording for match in matches}
        right.append(clip.recording in named)
        wrong.append(bool(named - {clip.recording}))
    return {
        "percent_faster": percent,
        "n": len(right),
        "right": round(100 * float(np.mean(right)), 1),
        "wrong": round(100 * float(np.mean(wrong)), 1),
    }


def speed(folder, n_files=20, seconds=300):
    """Indexing from nothing, its workers' start included."""
    (folder / "music").mkdir()
    rng = np.random.default_rng(SEED)
    for number in range(n_files):
        soundfile.write(
            folder / "music" / f"{number}.flac",
            rng.uniform(-0.5, 0.5, NOISE_HZ * seconds),
            NOISE_HZ,
        )
    began = time.perf_counter()
    indexing.index([folder / "music"], folder / "catalogue", workers=2)
    lasted = time.perf_counter() - began
    return {
        "n_files": n_files,
        "hours": round(n_files * seconds / 3600, 2),
        "seconds": round(lasted, 1),
        "times_real_time_per_core": round(n_files * seconds / lasted / 2),
    }


def _rate(name, hit, table):
    """A percentage and its interval, clustered by recording."""
    low, high = intervals.interval(hit, table.recording)
    return {
        name: round(100 * float(hit.mean()), 2),
        f"{name}_low": round(low, 2),
        f"{name}_high": round(high, 2),
        f"{name}_n": len(hit),
        f"{name}_recordings": int(table.recording.nunique()),
    }


def _same(clean, clip, match):
    """Whether the place that is named holds the very same sound, as the undegraded waveforms
    tell."""
    begin = max(round((match.position_s - match.begin_s - 1) * audio.SAMPLE_RATE), 0)
    place, _ = soundfile.read(
        paths.resolve(clip.file), len(clean) + 2 * audio.SAMPLE_RATE, begin, dtype="float32"
    )
    return len(place) >= len(clean) and audio.likeness(clean, place) >= audio.SAME


def _write(source, target):
    """The same sound in the format that the name says."""
    if target.suffix == ".m4a":
        subprocess.run(["ffmpeg", "-v", "error", "-i", source, "-b:a", "96k", target], check=True)
    elif target.suffix == ".flac":
        shutil.copyfile(source, target)
    else:
        sound, rate = soundfile.read(source, dtype="float32")
        with soundfile.SoundFile(target, "w", rate, 1) as out:
            for part in np.array_split(sound, -(-len(sound) // rate)):  # libsndfile's OGG needs it
                out.write(part)


def _excerpt(sound, rng, pool):
    """A degraded excerpt at any offset, and where it begins in samples; None of silence."""
    n = EXCERPT_S * audio.SAMPLE_RATE
    at = int(rng.integers(max(len(sound) - n, 1)))
    clean = sound[at : at + n]
    if len(clean) < n or np.sqrt(np.mean(clean**2)) < 1e-3:
        return None, at
    heard = degrade.degrade(
        lambda _: clean, rng.integers(2**32), pool, ("noise", "room"), snr_db=SNR_DB
    )
    return heard, at


def kill(folder, n_kills=10, n_files=12):
    """Whether catalogues are the same after `kill -9` at random moments as without."""
    rng = np.random.default_rng(SEED)
    (folder / "music").mkdir()
    for number in range(n_files):
        sound = np.cumsum(rng.standard_normal(60 * audio.SAMPLE_RATE)) % 2 - 1
        soundfile.write(folder / "music" / f"{number}.wav", sound * rng.random(len(sound)), 8000)
    command = [sys.executable, "-m", "amg", "index", folder / "music", "--catalogue"]
    began = time.perf_counter()
    subprocess.run([*command, folder / "whole"], check=True, stdout=subprocess.DEVNULL)
    lasts, moments, same, drawn = time.perf_counter() - began, [], 0, random.Random(SEED)
    while len(moments) < n_kills:
        moment, target = drawn.uniform(0.3, 1) * lasts, folder / str(len(moments))
        process = subprocess.Popen(
            [*command, target], stdout=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(moment)
        if process.poll() is not None:  # over before it was killed: another moment
            shutil.rmtree(target)
            continue
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        moments.append(round(moment, 2))
        subprocess.run([*command, target], check=True, stdout=subprocess.DEVNULL)
        same += content(target) == content(folder / "whole")
    return {
        "n_kills": n_kills,
        "same": same,
        "moments_s": moments,
        "undisturbed_s": round(lasts, 2),
    }


def content(folder):
    """All that a catalogue says."""
    held = store.Store(folder)
    return held.sounds(), held.places(), [path.read_bytes() for path in held.files()]


def _large(hours):
    """A catalogue of random fingerprints, in songs of four minutes: what it costs is that of
    music."""
    rng, n = np.random.default_rng(SEED), 4 * 120
    songs = int(hours * 7200 / n)
    frames = rng.standard_normal((songs * n, 128), np.float32)
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    return Catalogue.of(np.split(frames, songs), models.load())


def _clips(n=50):
    rng = np.random.default_rng(SEED)
    return [
        (
            rng.standard_normal(EXCERPT_S * audio.SAMPLE_RATE).astype(np.float32) / 4,
            audio.SAMPLE_RATE,
        )
        for _ in range(n)
    ]


def load(_):
    """Milliseconds of identifications in a catalogue of 1,000 hours."""
    catalogue, clips = _large(HOURS), _clips()
    catalogue.index("vectors")

    def timed(clip):
        began = time.perf_counter()
        identify(clip, catalogue)
        return 1000 * (time.perf_counter() - began)

    timed(clips[0])
    alone = [timed(clip) for clip in clips * 4]
    with ThreadPoolExecutor(N_THREADS) as pool:
        began = time.perf_counter()
        shared = list(pool.map(timed, [clips[i % len(clips)] for i in range(N_ASKED)]))
        lasted = time.perf_counter() - began
    return {
        "hours": HOURS,
        "frames": catalogue.n_frames,
        "segments": len(catalogue.vectors),
        "excerpt_s": EXCERPT_S,
        "alone_n": len(alone),
        **_quantiles("alone_ms", alone),
        "threads": N_THREADS,
        "threads_n": N_ASKED,
        **_quantiles("threads_ms", shared),
        "per_second": round(N_ASKED / lasted, 1),
        "memory_mb": round(psutil.Process().memory_info().rss / 2**20),
    }


def _quantiles(name, values):
    return {f"{name}_p{p}": round(float(np.percentile(values, p)), 1) for p in (50, 95, 99)}


def soak(folder):
    """Memory over twenty minutes of identifications, a catalogue read anew every minute."""
    rng = np.random.default_rng(SEED)
    (folder / "music").mkdir()
    for number in range(20):
        soundfile.write(folder / "music" / f"{number}.wav", rng.uniform(-1, 1, 480000), 8000)
    indexing.index([folder / "music"], folder / "catalogue")
    clips, memory_mb, n, began = _clips(), [], 0, time.monotonic()
    while time.monotonic() - began < SOAK_S:
        catalogue, minute = Catalogue.load(folder / "catalogue"), time.monotonic()
        while time.monotonic() - minute < 60:
            identify(clips[n % len(clips)], catalogue)
            n += 1
        memory_mb.append(round(psutil.Process().memory_info().rss / 2**20))
    return {"seconds": SOAK_S, "identifications": n, "memory_mb_by_minute": memory_mb}


def markdown(folder):
    """What the JSON files of a folder say, as the lines of `docs/catalogue.md`."""
    found = {path.stem: files.read_json(path) for path in sorted(folder.glob("*.json"))}
    said = []
    if "trip" in found:
        t = found["trip"]

        def rate(name):
            return (
                f"{t[name]:.1f} % [{t[name + '_low']:.1f}, {t[name + '_high']:.1f}] of "
                f"{t[name + '_n']:,} "
                f"excerpts of {t[name + '_recordings']} recordings"
            )

        said += [
            f"{t['n_files']} files ({', '.join(t['formats'])}; {t['hours']:.1f} h) are indexed. "
            f"Excerpts of {t['excerpt_s']} s from any place, through a room and under noise at "
            f"{t['snr_db']:g} dB SNR: the right song is named for {rate('named')}, and is the "
            f"nearest for "
            f"{t['nearest']:.1f} %; its position is within "
            f"0.5 s for {rate('placed')}; another song is named for {rate('named_wrong')}.",
            f"Excerpts of music that is not indexed: something is named for "
            f"{rate('others_named')} (test packages, which no threshold was fitted to; nominally "
            f"it is {100 * significance.ALLOWED:g} %); for {t['others_same']} more, a place that "
            "holds the very same sound.",
            "Excerpts as they were, one of each recording, played at another speed: right "
            f"(and wrong) names for {_speeds(t['speeds'])}.",
        ]
    if "speed" in found:
        s = found["speed"]
        said.append(
            f"Indexing {s['hours']:.1f} h of white noise ({s['n_files']} FLAC files of "
            f"{NOISE_HZ / 1000:g} kHz) takes {s['seconds']:g} s with two workers: "
            f"{s['times_real_time_per_core']} times real time per core."
        )
    if "kill" in found:
        k = found["kill"]
        said.append(
            f"Indexing noise, killed (`kill -9`) at {k['n_kills']} random moments and run again: "
            f"the catalogue is the same, byte for byte, {k['same']} times."
        )
    if "load" in found:
        m = found["load"]
        said.append(
            f"Among as many random vectors as {m['hours']:,} h of music have ({m['frames']:,} "
            f"fingerprints, {m['segments']:,} segments), {m['excerpt_s']} s of noise, which is not "
            "there and so is looked for at five speeds, fingerprinting included: "
            f"{m['alone_ms_p50']:g} ms one at a time "
            f"(95 %: "
            f"{m['alone_ms_p95']:g}, 99 %: {m['alone_ms_p99']:g}; {m['alone_n']} excerpts). "
            f"{m['threads_n']:,} excerpts from {m['threads']} threads, all answered: "
            f"{m['per_second']:g} a second, {m['threads_ms_p50']:g} ms each (95 %: "
            f"{m['threads_ms_p95']:g}, "
            f"99 %: {m['threads_ms_p99']:g}), {m['memory_mb']:,} MB of memory."
        )
    if "soak" in found:
        k = found["soak"]
        memory = k["memory_mb_by_minute"]
        said.append(
            f"{k['seconds'] // 60} minutes of identifications ({k['identifications']:,}), of noise "
            f"among noise: memory "
            f"{memory[1]:,} MB after two minutes, {memory[-1]:,} MB at the end, at most "
            f"{max(memory):,} MB."
        )
    if "fuzz" in found:
        f = found["fuzz"]
        tried = ", ".join(
            f"{reader.replace('_', ' ')} {of['files']:,}" for reader, of in f["readers"].items()
        )
        said.append(
            f"Coverage-guided fuzzing, {f['seconds_each']} s a reader (`bench.fuzz`, seed "
            f"{f['seed']}; files tried: {tried}): "
            f"{sum(of['findings'] for of in f['readers'].values())} findings."
        )
    return "\n".join(
        [
            *(f"* {sentence}" for sentence in said),
            "",
            f"{_where(found)}.",
        ]
    )


def _speeds(told):
    parts = [
        f"{of['right']:.0f} % ({of['wrong']:.0f} %) at {of['percent_faster']:+} %" for of in told
    ]
    return f"{', '.join(parts)}; {told[0]['n']} excerpts each"


def _where(found):
    """The command, and which machine each was measured on."""
    on: dict = {}
    for name, told in found.items():
        of = told["machine"]
        computer = f"{of['processor']}, {of['cores']} cores, {of['memory_gb']} GB"
        on.setdefault(computer, []).append(name)
    where = "; ".join(f"{', '.join(names)}: {computer}" for computer, names in on.items())
    return f"`PYTHONPATH=tests python -m bench.catalogue`, seed {SEED}. {where}"


def summary(folder):
    """How good it is, in a sentence for the README."""
    t = files.read_json(folder / "trip.json")
    return (
        f"Of {t['named_n']} excerpts of {t['excerpt_s']} s in a room at {t['snr_db']:g} dB SNR, "
        f"{t['named']:.1f} % are named correctly; of {t['others_named_n']} excerpts of music that "
        f"is not in the catalogue, {t['others_named']:.1f} % are given a name (nominally "
        f"{100 * significance.ALLOWED:g} %)."
    )


def main():
    """Run those that are named, and write what they say."""
    ways = {"trip": trip, "speed": speed, "kill": kill, "load": load, "soak": soak}
    for name in sys.argv[1:] or ways:
        with tempfile.TemporaryDirectory() as temporary:
            found = ways[name](Path(temporary))
        found |= {"kit": amg.__version__, "seed": SEED, **machine.describe()}
        files.write_json(REFERENCE / f"{name}.json", found)
    print(markdown(REFERENCE))


if __name__ == "__main__":
    main()
