"""What a profile takes, before it runs: pure arithmetic, sizes times measured rates (`rates`).

A step is some works: so many units of something whose time was measured. What a process of each
worker does (`spread`) takes as much less as there are workers; all else has the machine's cores
already. Notebooks without such arithmetic are named, with what they say of their own runtime.
"""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from amg.embedding import crops
from amg.report import sweeps
from amg.sound import audio
from amg.sound.clips import CLIP_S

CLIP_FRAMES = audio.n_frames(CLIP_S)
FRAME_BYTES = 4 * 128
FILE_BYTES = 2**15  # of a clip of 30 s, in blocks of a file system
NOISE_CLIPS, NOISES = 16, {"train": 240, "test": 80}  # rendered for a side, and made of them
MODEL_BYTES = 12 * 9e6  # three copies of the published encoder
KERNEL, WORKER = 0.6e9, 0.55e9  # bytes of memory before there is any data


class Work(NamedTuple):
    what: str
    rate: tuple  # key of `rates`: seconds of one unit
    n: float
    spread: bool = False


@dataclass(frozen=True)
class Sizes:
    """Of a training set and a database."""

    n_songs: int  # to learn from
    n_valid: int
    n_clips: int  # of a song: the original and its versions
    n_test: int
    n_dummy: int
    dummy_s: float  # length of a distractor, mean
    source_mb: float = 0.0  # of audio files to decode
    query_frames: tuple = (1, 3, 5, 9, 11, 19, 29)
    n_starts: int = 6
    durations: tuple = (5, 10, 15, 30)

    @property
    def dummy_frames(self) -> int:
        """Of a distractor."""
        return round(2 * self.dummy_s) - 1

    @property
    def n_frames(self) -> int:
        """Of the database."""
        return self.n_dummy * self.dummy_frames + self.n_test * CLIP_FRAMES

    @property
    def n_files(self) -> int:
        """Of the training set."""
        return (self.n_songs + self.n_valid) * self.n_clips

    def n_trials(self, lengths=None) -> int:
        """How many notebook 02 draws, of some query lengths."""
        segments = [crops.segment_frames(duration) for duration in self.durations]
        held = min((CLIP_FRAMES // n * n for n in segments), default=CLIP_FRAMES)
        places = [max(held - n + 1, 0) for n in lengths or self.query_frames]
        return self.n_test * sum(min(self.n_starts, n) for n in places)


def works(notebook, p, s, trained) -> list[Work] | None:
    """What a step does, None if that is not known.

    p: its parameters; s: Sizes; trained: duration_max -> the parameters of notebook 03.
    """
    known = {
        "01_data_prep": _prepare,
        "02_split": _split,
        "03_train": _train,
        "04_evaluate": _evaluate,
        "05_ablations": _ablations,
        "07_unknown_songs": _unknown,
        "09_more_songs": _more_songs,
        "10_explore": lambda *_: [],
    }
    if notebook not in known:
        return None
    return [Work("start", ("start",), 1), *known[notebook](p, s, trained)]


def _prepare(p, s, _):
    clips, dummies = s.n_songs + s.n_valid + s.n_test, s.n_dummy * s.dummy_s / CLIP_S
    sides = ("train", "test") if s.n_songs else ("test",)
    renders = NOISE_CLIPS * len(sides) * (p["corpus"] != "open_music")
    renders += (clips + s.n_dummy) * (p["corpus"] == "sheet_music")
    return [
        Work("decode (MB)", ("decode",), s.source_mb, True),
        Work("render", ("render",), renders, True),
        Work("fingerprint 30 s", ("original",), clips + dummies, True),
        Work("compare (frames)", ("compare", s.n_test), CLIP_FRAMES * (clips + dummies)),
        Work("rooms", ("room",), len(sides) * p["n_rooms"], True),
        Work("noises", ("noise",), sum(NOISES[side] for side in sides)),
        Work("degrade 30 s", ("version",), s.n_files - s.n_files // s.n_clips + s.n_test, True),
        Work("write songs", ("file",), s.n_dummy + s.n_test + s.n_files // s.n_clips),
    ]


def _split(p, s, _):
    lengths = [crops.segment_frames(duration) for duration in p["durations"]]
    pieces = sum(s.n_dummy * (s.dummy_frames // n) for n in lengths)
    pieces += sum(s.n_test * (CLIP_FRAMES // n) for n in lengths if n < CLIP_FRAMES)
    return [Work("write segments", ("file",), pieces), Work("read segments", ("read",), pieces)]


def _train(p, s, _, n_updates=None, model=None, n_songs=None):
    """Updates, and after each epoch what is embedded for validation."""
    encoder, layers = model or (p["encoder"], p["layers"])
    duration, n_songs = p["duration_max"], n_songs or s.n_songs
    per_epoch = -(-n_songs * s.n_clips // p["batch_size"])
    epochs = p["epochs"] if n_updates is None else max(round(n_updates / per_epoch), 1)
    rows = n_songs * s.n_clips / per_epoch
    centre = min(CLIP_FRAMES, crops.PADDED_FRAMES[duration])
    seen = (n_songs + s.n_valid) * centre + s.n_valid * (s.n_clips - 1) * centre // 2
    update = ("update", encoder, layers, duration, n_songs, s.n_clips, round(rows))
    return [
        Work(f"updates, {encoder}", update, epochs * per_epoch),
        Work(
            "validate (frames)", ("embed", encoder, layers, centre), epochs * seen * bool(s.n_valid)
        ),
        Work("pack (clips)", ("read",), s.n_files),
    ]


def _model(trained, duration):
    of = trained.get(duration, {"encoder": "mt", "layers": 2})
    return of["encoder"], of["layers"]


def _asked(s, duration, models, n_trials, protocols=1):
    """Each encoder embeds the database and answers trials in two stages."""
    length = crops.segment_frames(duration)
    embedded = [
        Work(f"embed, {encoder} (frames)", ("embed", encoder, layers, length), s.n_frames)
        for encoder, layers in models
    ]
    n = len(models) * protocols
    return [
        *embedded,
        Work("answer trials", ("search", s.n_frames, s.n_test, duration), n * n_trials),
        Work("write tables (answers)", ("table", s.n_test), 2 * n * n_trials),
    ]


def _evaluate(p, s, trained):
    n_trials = s.n_trials()
    base = ("base", s.n_frames, s.n_test)
    found = [
        Work("base system, trials", base, 2 * n_trials),
        Work("write tables (answers)", ("table", s.n_test), (2 + len(p["durations"])) * n_trials),
    ]
    for duration in p["durations"]:
        models = [_model(trained, duration), *((name, 0) for name in [*p["others"], "mean"])]
        found += _asked(s, duration, models, n_trials, len(p["protocols"]))
        found.append(Work("base system, trials", base, n_trials / 2))  # fewer frames
    return found


def _ablations(p, s, _):
    cells, found = sweeps.read(p["sweep"], p["profile"]).cells, []
    first = next(cell.train for cell in cells if cell.config)
    n_updates = first["epochs"] * -(-s.n_songs * s.n_clips // first["batch_size"])
    for cell in cells:
        model = cell.train["encoder"], cell.train["layers"] if cell.config else 0
        if cell.config:
            training = _train(cell.train, s, None, n_updates, model)[:2]
            found += [Work("start", ("start",), 1), *training]
        asked = _asked(s, cell.train["duration_max"], [model], s.n_trials())
        found += [Work("start", ("start",), 1), *asked]
    return found


def _unknown(p, s, trained):
    asked = s.n_trials(p["query_frames"]) * (1 + p["n_valid"] / s.n_test) * 2
    models = [_model(trained, p["duration_max"]), *((name, 0) for name in p["others"])]
    return [
        Work("base system, trials", ("base", s.n_frames, s.n_test), asked),
        *_asked(s, p["duration_max"], models, asked),
    ]


def _more_songs(p, s, _):
    sizes, found = sorted(p["sizes"]), []
    for n in sizes:
        n_seeds = p["n_seeds"] if n in sizes[-2:] else 1
        works = _train(p, s, None, p["n_updates"], (p["encoder"], p["layers"]), n)[:2]
        found += [work._replace(n=work.n * n_seeds) for work in works]
    n_models = 1 + sum(p["n_seeds"] if n in sizes[-2:] else 1 for n in sizes)
    models = [(p["encoder"], p["layers"])] * (n_models - 1) + [(name, 0) for name in p["others"]]
    return found + _asked(s, p["duration_max"], models, s.n_trials())


def table(steps, seconds, workers) -> pd.DataFrame:
    """A row per work: seconds by one worker, `alone_s`, and by `workers`, `seconds`.

    steps: label -> its works; seconds: key -> seconds of one unit, by one worker.
    """
    rows = [
        (label, work.what, work.n, work.n * seconds[work.rate], work.spread)
        for label, of_step in steps.items()
        for work in of_step
        if work.n
    ]
    columns = ["step", "work", "number", "alone_s", "spread"]
    found = pd.DataFrame(rows, columns=columns).groupby(["step", "work", "spread"], sort=False)
    found = found.sum().reset_index()
    found["seconds"] = found.alone_s / found.spread.map({True: workers, False: 1})
    return found


def workers_for(hours, found) -> int | None:
    """How many workers make a `table` take so many hours; None if no number does."""
    spread, fixed = (found.alone_s[found.spread == one].sum() for one in (True, False))
    left = 3600 * hours - fixed
    return None if left <= 0 else max(-int(-spread // left), 1)


def disk(s, p, n_models=0) -> dict[str, float]:
    """Bytes by what takes them; p: parameters of notebook 01, {} if it does not run."""
    clips = s.n_songs + s.n_valid + s.n_test
    sound_s = (clips * (CLIP_S + 1) + s.n_dummy * s.dummy_s) if p else 0
    database = s.n_frames * FRAME_BYTES
    return {
        "sound (8 kHz FLAC)": sound_s * audio.SAMPLE_RATE * 1.3,
        "fingerprints of originals (cache)": (clips * FILE_BYTES + database) if p else 0,
        "training set": s.n_files * FILE_BYTES,
        "training set, packed": s.n_files * CLIP_FRAMES * FRAME_BYTES,
        "database, whole and cut": database * (1 + len(s.durations)) + s.n_test * FILE_BYTES,
        "models": n_models * (MODEL_BYTES + 3 * s.n_songs * FRAME_BYTES),
    }


def memory(s, workers, trained) -> dict[str, float]:
    """Bytes that notebooks take at most; trained: those of a training, as measured."""
    database = s.n_frames * FRAME_BYTES
    return {
        "01_data_prep": KERNEL + workers * WORKER + database + 3e3 * s.n_files,
        "03_train": trained + 4 * s.n_valid * s.n_clips * (s.n_songs + s.n_valid) * 1.25,
        "04_evaluate": KERNEL + 5 * database,
    }
