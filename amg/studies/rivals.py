"""Recordings asked for of several systems, under the same conditions.

A trial asks for a part of a clip. It is asked twice: of all songs, and of the distractors alone,
where no answer is right. How sure a system must be is decided on the validation songs.
"""

import importlib.util
import time
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pandas as pd
import soxr

from amg import files, progress
from amg.fingerprint import extraction
from amg.retrieval import intervals, trials
from amg.sound import audio, clips, degrade, pools
from amg.sound.audio import SAMPLE_RATE
from amg.studies import unknown_songs

CLEAN, CLEAN_TOP1 = "as recorded", 95.0  # % that a system must find, else it is set up wrongly
FIELD, BETWEEN = "noise and room", "noise and room, between frames"
KINDS = {FIELD: degrade.FIELD, BETWEEN: (*degrade.FIELD, "offset")}
SPEEDS = {"2 % faster": 1.02, "2 % slower": 0.98}
PITCHES = {"a semitone higher": 1.0, "a semitone lower": -1.0}
MP3 = "MP3, 64 kbit/s"  # at 8 kHz the most that MP3 has
AS_MP3 = {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.0}
CONDITIONS = (CLEAN, FIELD, BETWEEN, *SPEEDS, *PITCHES, MP3)


def conditions() -> list[str]:
    """Those of CONDITIONS that can be made; if pedalboard, of the extra `rivals`, is not installed,
    the pitch cannot be changed, which is said."""
    if importlib.util.find_spec("pedalboard"):
        return [*CONDITIONS]
    print(f"{' and '.join(PITCHES)}: left out, for it takes pedalboard, of the extra `rivals`.")
    return [name for name in CONDITIONS if name not in PITCHES]


class Question(NamedTuple):
    """Trials under a condition, of so many of the songs."""

    name: str
    n_held: int  # the first ones; the rest is not there
    trials: pd.DataFrame  # as of `trials.draw`, with `recording`, in the order of `song`
    clips: list  # that the trials' `song` counts
    condition: str
    seed: int
    pool: pools.Pool


def draw(of_clips, query_frames, seed) -> pd.DataFrame:
    """A trial of each clip and length, with the clip's `recording`."""
    n_frames = [audio.n_frames(clip.seconds) for clip in of_clips]
    drawn = trials.draw(n_frames, query_frames, 1, seed).sort_values("song", kind="stable")
    named = drawn.song.map(lambda song: of_clips[song].recording)
    return drawn.assign(recording=named).reset_index(drop=True)


def altered(clip, number, condition, seed, pool) -> tuple[np.ndarray, float]:
    """The sound of a clip under one of CONDITIONS, float32, and how much faster it plays.

    number: the clip's, from which, and from the seed, noise and room follow: of test clips those of
    notebook 01.
    """
    if condition in KINDS:
        of_clip = [seed, extraction.TEST, number]
        return degrade.degrade(clip.read, of_clip, pool, KINDS[condition]), 1.0
    sound = clip.read()
    if condition in SPEEDS:
        return soxr.resample(sound, SPEEDS[condition] * SAMPLE_RATE, SAMPLE_RATE), SPEEDS[condition]
    if condition in PITCHES:
        import pedalboard  # of the extra `rivals`

        return pedalboard.time_stretch(sound[None], SAMPLE_RATE, 1.0, PITCHES[condition])[0], 1.0
    return (degrade.through_codec(sound, AS_MP3) if condition == MP3 else sound), 1.0


def excerpts(question):
    """The sound of each of a question's trials, one after the other."""
    _, _, asked, of_clips, *how = question
    for number, of_song in asked.groupby("song", sort=False):
        sound, speed = altered(of_clips[number], number, *how)
        for trial in of_song.itertuples():
            begin = round(trial.start * audio.HOP / speed)
            length = round(audio.seconds(trial.query_frames) * SAMPLE_RATE / speed)
            yield sound[begin : begin + length]


def ask(system, question, recordings) -> pd.DataFrame:
    """A question's trials with the system's `score`, whether it `named` the sound, whether it is
    `right`, and the `ms` that it took; recordings: of the songs that it holds."""
    rows = []
    for wanted, sound in zip(question.trials.recording, excerpts(question), strict=True):
        began = time.perf_counter()
        answer = system.ask(sound)
        taken_ms = 1000 * (time.perf_counter() - began)
        right = answer.song >= 0 and recordings[answer.song] == wanted
        rows.append((answer.score, answer.named, right, taken_ms))
    columns = ["score", "named", "right", "ms"]
    told = question.trials.join(pd.DataFrame(rows, columns=columns))
    return told.assign(condition=question.condition)


def examine(folder, label, make, songs, questions) -> tuple[pd.DataFrame, dict]:
    """What a system answers to each question, and what it costs: `times_real_time` of one core, and
    `bytes_per_hour` of what it keeps.

    make: a function that makes it; songs: all the clips that it is to hold. Answers are a file in
    `folder` as soon as they are there, and are not asked for again.
    """
    cost_file = folder / f"{label}.json"
    answers = {asked.name: folder / f"{label}-{asked.name}.csv" for asked in questions}
    missing = [asked for asked in questions if not answers[asked.name].exists()]
    if missing or not cost_file.exists():
        system, recordings, began = make(), [clip.recording for clip in songs], time.process_time()
        steps = progress.bar(desc=label, unit="step", total=len(songs) + len(missing))
        heard = []
        for clip in songs:
            heard.append(system.hear(clip.read()))
            steps.update()
        taken_s, seconds = time.process_time() - began, sum(clip.seconds for clip in songs)
        for n_held, of_held in groupby(missing, key=lambda asked: asked.n_held):
            system.hold(heard[:n_held])
            for asked in of_held:
                clips.write_csv(ask(system, asked, recordings[:n_held]), answers[asked.name])
                steps.update()
        steps.close()
        system.hold(heard)
        sizes = {"bytes_per_hour": 3600 * system.n_bytes / seconds}
        files.write_json(cost_file, {"times_real_time": seconds / taken_s, **sizes})
    as_text = {"dtype": {"recording": str}, "keep_default_na": False}  # whatever it looks like
    told = [pd.read_csv(path, **as_text).assign(question=name) for name, path in answers.items()]
    return pd.concat(told, ignore_index=True), files.read_json(cost_file) or {}


def settle(tried) -> pd.DataFrame:
    """The settings of each system that name most validation songs, mean of the query lengths:
    `system`, `label`, `named` (%), and `levels`, query length -> `unknown_songs.threshold`.

    tried: label -> its answers to "valid, there" and "valid, not there". What stands before the
    first comma of a label is the system's name.
    """
    rows = []
    for label, answers in tried.items():
        strange = answers[answers.question == "valid, not there"].groupby("query_frames").score
        levels = {length: unknown_songs.threshold(scores) for length, scores in strange}
        known = answers[answers.question == "valid, there"]
        named = _named(known, levels).groupby(known.query_frames).mean().mean()
        rows.append((label.partition(",")[0], label, round(100 * named, 2), levels))
    table = pd.DataFrame(rows, columns=["system", "label", "named", "levels"])
    best = table.sort_values("named", ascending=False, kind="stable").drop_duplicates("system")
    return best.sort_index().reset_index(drop=True)


def _named(answers, levels):
    """Which answers are right and above their threshold."""
    return answers.right & (answers.score >= answers.query_frames.map(levels))


def rates(examined, settled) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`rivals.csv` and `rivals_cost.csv`, of the systems that are set up rightly.

    By condition and query length, in percent with intervals: trials whose recording comes `first`;
    those that are `named`, above the threshold; and those of FIELD that ask for what is not there
    and are named all the same (`false`); the last two by the system's own rule, too.
    examined: label -> what `examine` gives; settled: what `settle` gives.
    """
    rows, costs = [], []
    for one in settled.itertuples():
        answers, cost = examined[one.label]
        of_system = [*_rates(answers, one)]
        clean = [row["first"] for row in of_system if row["condition"] == CLEAN]
        if clean[-1] < CLEAN_TOP1:  # of the longest queries
            print(f"{one.label} finds {clean[-1]:.1f} % of what is not altered, and is left out.")
            continue
        rows += of_system
        taken = answers[answers.condition == FIELD].groupby("query_frames").ms.median()
        ms = {f"answer_{audio.seconds(length):g}s_ms": each for length, each in taken.items()}
        costs.append({"system": one.label, **cost, **ms})
    return pd.DataFrame(rows).round(2), pd.DataFrame(costs).round(2)


def _rates(answers, one):
    there = answers[answers.question != "not there"]
    strange = answers[answers.question == "not there"]
    for (condition, length), asked in there.groupby(["condition", "query_frames"], sort=False):
        row = {"system": one.label, "condition": condition, "query_frames": length}
        row |= {"query_s": audio.seconds(length), "n_queries": len(asked)}
        shares = {"first": asked.right, "named": _named(asked, one.levels)}
        shares |= {"named_own": asked.right & asked.named}
        if condition == FIELD:
            of_length = strange[strange.query_frames == length]
            shares |= {"false": of_length.score >= one.levels[length], "false_own": of_length.named}
        for name, hit in shares.items():
            low, high = intervals.interval(hit.to_numpy(), answers.recording[hit.index])
            row |= {name: 100 * hit.mean(), f"{name}_low": low, f"{name}_high": high}
        yield row


def differences(examined, settled) -> pd.DataFrame:
    """`rivals_differences.csv`: points of what the first system names above each other, paired."""
    hits = {one.label: _named(examined[one.label][0], one.levels) for one in settled.itertuples()}
    first, *others = hits
    there = examined[first][0].query("question != 'not there'")
    rows = []
    for other in others:
        for (condition, length), at in there.groupby(["condition", "query_frames"], sort=False):
            ours, theirs = (hits[label][at.index] for label in (first, other))
            gained = intervals.paired_difference(ours, theirs, at.recording)
            row = {"against": other, "condition": condition, "query_s": audio.seconds(length)}
            rows.append({**row, **gained._asdict()})
    return pd.DataFrame(rows).round(2)
