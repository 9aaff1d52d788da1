"""What a profile takes, before it runs: pure arithmetic, amounts of work times measured rates.

A kind of work is a tuple: its name, and what the seconds of one unit depend on (`forecast`). What
takes less than 3 % of every profile, as embedding a database or writing tables, and notebooks that
AMOUNTS has not, are not counted.
"""

from dataclasses import dataclass, replace

import pandas as pd

from amg.embedding import encoders, validation
from amg.report.running import sweeps
from amg.sound import audio
from amg.sound.clips import CLIP_S

SPREAD = ("decode", "render", "fingerprint", "degrade")  # over workers; others take all cores
CLIP_FRAMES = audio.n_frames(CLIP_S)
FRAME_BYTES, FILE_BYTES = 4 * 128, 2**15  # of a file of a clip, in blocks of a file system
NOISES = {"test": 80, "train": 240}  # of a pool


@dataclass(frozen=True)
class Sizes:
    """Of a training set and a database."""

    n_songs: int  # to learn from
    n_valid: int
    n_clips: int  # of a song: the original and its versions
    n_test: int
    n_dummy: int
    dummy_s: float = CLIP_S  # length of a distractor, mean
    source_mb: float = 0.0  # of audio files to decode
    query_frames: tuple = (1, 3, 5, 9, 11, 19, 29)
    n_starts: int = 6
    durations: tuple = (5, 10, 15, 30)

    @property
    def n_frames(self) -> int:
        """Of the database."""
        return self.n_dummy * (round(2 * self.dummy_s) - 1) + self.n_test * CLIP_FRAMES

    @property
    def n_files(self) -> int:
        """Of the training set."""
        return (self.n_songs + self.n_valid) * self.n_clips

    @property
    def n_trials(self) -> int:
        """Of notebook 02, at most."""
        return self.n_test * len(self.query_frames) * self.n_starts


def works_of(steps, sizes) -> dict:
    """Label -> list of (kind of work, amount), of those `steps.Step` that are counted."""
    return {
        step.label: [(("start",), 1), *AMOUNTS[step.notebook](step.resolved, sizes)]
        for step in steps
        if step.notebook in AMOUNTS
    }


def _prepare(p, s):
    clips, sides = s.n_songs + s.n_valid + s.n_test, [*NOISES][: 2 if s.n_songs else 1]
    return [
        (("decode",), s.source_mb),
        (("render",), 16 * len(sides) + (clips + s.n_dummy) * (p["corpus"] == "sheet_music")),
        (("noise or room",), sum(NOISES[side] + p["n_rooms"] for side in sides)),
        (("fingerprint",), clips + s.n_dummy * s.dummy_s / CLIP_S),
        (("degrade",), (s.n_songs + s.n_valid) * (s.n_clips - 1) + s.n_test),
    ]


def _train(p, s, n_updates=None):
    """Updates; validation embeds originals of at most so many songs after an epoch, without
    gradients."""
    per_epoch = _per_epoch(p, s)
    epochs = max(round(n_updates / per_epoch), 1) if n_updates else p["epochs"]
    encoder, rows = encoders.registry.canonical(p["encoder"]), s.n_songs * s.n_clips / per_epoch
    given, takes = {**p, **p.get("settings", {})}, encoders.registry.arguments(encoder).keys()
    settings = tuple((name, given[name]) for name in sorted((takes | {"centres"}) & given.keys()))
    update = ("update", encoder, settings, p["duration_max"], s.n_songs, s.n_clips, round(rows))
    embedded = min(s.n_songs, validation.MOST) * (s.n_valid > 0) / (s.n_songs * s.n_clips)
    return [(update, epochs * per_epoch * (1 + embedded / 3))]


def _per_epoch(p, s):
    return -(-s.n_songs * s.n_clips // p["batch_size"])


def _search(s, duration, n_trials):
    """Trials in two stages, or, without a duration, by NAFP."""
    return ("search", "AMG" if duration else "NAFP", duration, s.n_frames, s.n_test), n_trials


def _evaluate(p, s):
    n_asked = s.n_trials * (2 + len(p["others"])) * len(p["protocols"])
    # NAFP is exhaustive and coded, and once more for each duration, among half the frames
    nafp = _search(s, 0, s.n_trials * (2 + len(p["durations"]) / 2))
    return [nafp, *(_search(s, duration, n_asked) for duration in p["durations"])]


def _sweep(p, s):
    sweep, found = sweeps.read(p["sweep"], p["profile"]), []
    budget, usual = sweep.budget, None  # updates of the first training, where no budget is given
    for cell in sweep.cells:
        of, train = _of_cell(cell, s), cell.train
        found += [(("start",), 1), _search(of, train["duration_max"], of.n_trials)]
        if cell.config is None:
            continue
        usual = usual or train["epochs"] * _per_epoch(train, of)
        if "minutes" in budget:
            trained = [(("minute",), budget["minutes"])]
        elif "crops" in budget:
            trained = _train(train, of, budget["crops"] / train["batch_size"])
        elif "patience" in budget:
            trained = _train(train, of)  # the most epochs
        else:
            trained = _train(train, of, budget.get("updates", usual))
        found += [(("start",), 1), *trained]
    return found


def _of_cell(cell, s):
    """The sizes that a cell of a sweep has."""
    varied, query_frames = cell.train["settings"], tuple(cell.evaluate["query_frames"])
    n_clips = varied["versions"] + 1 if varied.get("versions") else s.n_clips
    n_songs = varied.get("songs") or s.n_songs
    asked = query_frames or s.query_frames
    return replace(s, n_songs=n_songs, n_clips=n_clips, query_frames=asked)


def _unknown(p, s):
    queries = replace(s, n_test=s.n_test + p["n_valid"], query_frames=p["query_frames"])
    n = 2 * queries.n_trials
    return [_search(s, 0, n), _search(s, p["duration_max"], n * (1 + len(p["others"])))]


AMOUNTS = {
    "01_data_prep": _prepare,
    "02_split": lambda *_: [],
    "03_train": _train,
    "04_evaluate": _evaluate,
    "05_ablations": _sweep,
    "07_unknown_songs": _unknown,
}


def table(works, seconds, workers) -> pd.DataFrame:
    """A row per work of a step: seconds by one worker, `alone_s`, and by `workers`, `seconds`.

    works: as `works_of` gives them; seconds: kind of work -> those of one unit, by one worker.
    """
    rows = [
        (label, " ".join(kind[:2]), n, n * seconds[kind])
        for label, of_step in works.items()
        for kind, n in of_step
        if n
    ]
    found = pd.DataFrame(rows, columns=["step", "work", "number", "alone_s"])
    found = found.groupby(["step", "work"], sort=False).sum().reset_index()
    share = found.work.isin(SPREAD).map({True: workers, False: 1})
    return found.assign(seconds=found.alone_s / share)


def workers_for(hours, found) -> int | None:
    """How many workers make a `table` take so many hours; None if no number does."""
    spread = found.work.isin(SPREAD)
    left = 3600 * hours - found.alone_s[~spread].sum()
    return max(-int(-found.alone_s[spread].sum() // left), 1) if left > 0 else None


def space(s, notebooks, workers, measured) -> pd.Series:
    """Bytes of disk, and of memory at most, by (disk or memory, what takes them), of some
    notebooks; measured: memory that measuring took. Models take little."""
    clips, database = s.n_songs + s.n_valid + s.n_test, s.n_frames * FRAME_BYTES
    sound_s, kernel = clips * (CLIP_S + 1) + s.n_dummy * s.dummy_s, 0.6e9
    prepared = {
        "sound (8 kHz FLAC)": sound_s * audio.SAMPLE_RATE * 1.3,
        "fingerprints of originals (cache)": clips * FILE_BYTES + database,
    }
    disk = (prepared if "01_data_prep" in notebooks else {}) | {
        "training set": s.n_files * FILE_BYTES,
        "training set, packed": s.n_files * CLIP_FRAMES * FRAME_BYTES,
        "database, whole and cut": database * (1 + len(s.durations)) + s.n_test * FILE_BYTES,
    }
    memory = {
        "01_data_prep": kernel + workers * 0.55e9 + database + 3e3 * s.n_files,
        "03_train": measured + 5 * s.n_valid * s.n_clips * min(s.n_songs, validation.MOST),
        "04_evaluate": kernel + 5 * database,
    }
    return pd.concat({"disk": pd.Series(disk), "memory": pd.Series(memory).filter([*notebooks])})
