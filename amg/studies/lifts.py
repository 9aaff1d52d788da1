"""How the lift was chosen, and how many segments, in how many bytes, the second stage should read.

Other kernels than the lift's, fewer and more directions, bits or values: all on the held-out songs
of a training set, by `validation.ranks`, never on test songs. Shortlists and codes are chosen on
validation songs, too, and shortlists measured on the test.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from amg import progress
from amg.embedding import crops, encoders, validation
from amg.embedding.encoders import lift
from amg.retrieval import cost, evaluate, intervals, nafp_search, search
from amg.retrieval.trials import first_rows
from amg.sound.audio import seconds
from amg.studies import unknown_songs

SHORTLISTS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400)
CHOICE = [size for size in SHORTLISTS if size >= 50]
CODES = ("SQ8", "SQ4", "PQ64x6", "PQ64x5", "PQ64x4", "PQ32x8", "PQ16x8")  # names of FAISS
KEPT, EXACT, MEAN = "square, at most 3", "the kernel itself", "mean pooling"
FUNCTIONS = {  # of p = w.x, which is a standard normal variable over directions w
    KEPT: lambda p: p.square().clamp(max=lift.MOST),
    "square": torch.square,
    "4th power": lambda p: p**4,
    "cube less 3 p": lambda p: p**3 - 3 * p,
    "cosine of 2 p": lambda p: torch.cos(2 * p),
    "p itself": lambda p: p,
}
SIZES = (512, 1024, 2048, 4096, 8192, 16384)  # directions


class Lifted(lift.Lift):
    """A lift by another function of p: its bits, or unit vectors of its values, (B, n)."""

    def __init__(self, function, n=4096, values=False):
        super().__init__(n)
        self.function, self.bits, self.dimension = function, 0 if values else n, n

    def energies(self, x):
        return self.function(x @ self.directions.T)

    def forward(self, x, padding):
        lifted = super().forward(x, padding)
        return lifted if self.bits else F.normalize(lifted)


class Products(Lifted):
    """All products of two values of a frame: the square's kernel, without drawing directions."""

    def __init__(self):
        super().__init__(None, 128**2, values=True)

    def energies(self, x):
        return (x[..., :, None] * x[..., None, :]).flatten(-2)


def candidates() -> list:
    """(name of the function, bits or values, encoder): the lift that is kept comes first."""
    of_kept = FUNCTIONS[KEPT]
    return [
        *((name, "bits", Lifted(function)) for name, function in FUNCTIONS.items()),
        *((KEPT, "bits", Lifted(of_kept, n)) for n in SIZES if n != 4096),
        *((KEPT, "values", Lifted(of_kept, n, values=True)) for n in SIZES),
        (EXACT, "values", Products()),
        (MEAN, "values", encoders.Mean()),
    ]


def kernels(angle) -> dict:
    """What two frames at an angle, degrees (n,), have in common by each of FUNCTIONS, float (n,):
    the covariance over directions, as a share of the variance."""
    radians = torch.deg2rad(torch.tensor(angle, dtype=torch.float))
    frames = torch.zeros(len(angle), 128)
    frames[:, 0], frames[:, 1] = radians.cos(), radians.sin()
    one = torch.tensor([[1.0] + 127 * [0.0]])
    curves = {}
    for name, function in FUNCTIONS.items():
        lifted = Lifted(function, SIZES[-1])
        fixed, turned = (lifted.energies(x).double().numpy() for x in (one, frames))
        fixed, turned = fixed - fixed.mean(), turned - turned.mean(axis=1, keepdims=True)
        curves[name] = (turned @ fixed[0]) / (fixed @ fixed[0])
    return curves


def compare_lifts(data, n_valid, duration_max, seed=0) -> pd.DataFrame:
    """Whether each candidate finds each degraded version of the last `n_valid` songs.

    data: a `features.TrainingSet`; candidates are fitted to the originals of its other songs.
    Columns function, kind and dimensions of the candidate, and those of `validation.ranks`.
    """
    n_songs = len(data.length) - n_valid
    held_out = np.arange(n_songs, n_songs + n_valid)
    originals = np.concatenate([data.clip(song, 0) for song in range(n_songs)])
    tables = []
    for name, kind, model in progress.bar(candidates(), desc="lifts", unit="lift"):
        if hasattr(model, "fit"):
            model.fit(originals)
        ranks = validation.ranks(model, data, held_out, duration_max, seed)
        n = getattr(model, "dimension", 128)
        tables.append(ranks.assign(function=name, kind=kind, dimensions=n))
    return pd.concat(tables, ignore_index=True)


def choose_shortlist(encoder, labels, valid, query_frames, sizes=CHOICE) -> pd.DataFrame:
    """Rows of `shortlist_choice.csv`: exact Top-1 of the two-stage search minus the base system's,
    in points, by shortlist and query length.

    labels: as `evaluate.labels`; valid: what `unknown_songs.validation` gives, whose degraded
    versions are asked for; query_frames: of their trials.
    """
    trials, queries, indexed, begin = _asked(encoder, labels, valid, query_frames)
    by_base = nafp_search.find(trials, queries, indexed.database.sequences)[0][:, 0] == begin
    named = {name: labels[name] for name in ("encoder", "duration_max")}
    rows = []
    for n in progress.bar(sizes, desc="shortlists, validation", unit="list"):
        listed, _ = evaluate.first_stage(trials, queries, indexed, n)
        hit = evaluate.second_stage(trials, queries, listed, indexed)[0][:, 0] == begin
        for row in _by_length(trials, hit, by_base, "base_top1"):
            rows.append({**named, "shortlist": n, **row})
    return pd.DataFrame(rows).round(2)


def choose_code(encoder, labels, valid, query_frames, frames) -> pd.DataFrame:
    """Rows of `code_choice.csv`: exact Top-1 of the two-stage search whose second stage reads codes
    minus that of one that reads the frames themselves, in points, by code and query length.

    frames: that codes are trained on, float32 (N, 128); the rest as for `choose_shortlist`.
    """
    trials, queries, indexed, begin = _asked(encoder, labels, valid, query_frames)
    listed, _ = evaluate.first_stage(trials, queries, indexed, search.SHORTLIST)
    by_frames = evaluate.second_stage(trials, queries, listed, indexed)[0][:, 0] == begin
    rows = []
    for name in progress.bar(CODES, desc="codes, validation", unit="code"):
        coded = indexed.database.coded(name, frames)
        found = evaluate.second_stage(trials, queries, listed, replace(indexed, database=coded))
        what = {"code": name, "bytes": coded.sequences.frames.packed.shape[1]}
        for row in _by_length(trials, found[0][:, 0] == begin, by_frames, "frames_top1"):
            rows.append({**what, **row})
    return pd.DataFrame(rows).round(2)


def _asked(encoder, labels, valid, query_frames):
    """Trials of the validation songs, queries, the database with vectors, and where they begin."""
    (stored, queries, song), length = valid, crops.segment_frames(labels["duration_max"])
    trials = unknown_songs.draw(stored, queries, song, query_frames, length, seed=0)
    begin = first_rows(trials.assign(song=song[trials.song]), stored.sequences, stored.first_test)
    indexed = evaluate.Indexed.of(encoder, stored, search.Segments.of(stored.sequences, length))
    return trials, queries, indexed, begin


def _by_length(trials, hit, other, name):
    """By query length: its columns, Top-1 of `hit` and, by `name`, of `other`, and their paired
    difference."""
    for frames, at in trials.groupby("query_frames").indices.items():
        of_length = {"query_frames": frames, "query_s": seconds(frames), "n_queries": len(at)}
        top1 = {"top1": 100 * hit[at].mean(), name: 100 * other[at].mean()}
        gained = intervals.paired_difference(hit[at], other[at], trials.recording.iloc[at])
        yield {**of_length, **top1, **gained._asdict()}


def measure_shortlists(models, trials, queries, sizes=SHORTLISTS) -> pd.DataFrame:
    """Exact Top-1 against time of the contiguous two-stage search, by how many segments the second
    stage looks at; the base system, which has no such list, comes first.

    models: list of `evaluate.Indexed`, of one database. A row per query length, method and size:
    those of `cost.measure`, and encoder, shortlist, query_frames, n_queries, top1 and its interval.
    """
    database, tables = models[0].database, []
    sequences, index = database.sequences, search.flat_index(database.sequences.frames)
    for length, of_length in trials.groupby("query_frames"):
        answers, _ = nafp_search.find(of_length, queries, sequences, index)
        methods = [cost.base_method("nafp", index, sequences)]
        scored = [("nafp", np.nan, evaluate.score(of_length, answers, database))]
        jobs = [(indexed, n) for indexed in models for n in sizes]
        for indexed, n in progress.bar(jobs, unit="list", desc=f"shortlists, {length} frames"):
            methods.append(cost.amg_methods(indexed, shortlist=n)[1])
            two = evaluate.amg(of_length, queries, indexed, shortlist=n)[1]
            scored.append((indexed.labels["encoder"], n, two))
        rates = [
            {"encoder": name, **intervals.rate(of.exact_rank == 1, of.recording), "shortlist": n}
            for name, n, of in scored
        ]
        table = cost.measure(methods, cost.excerpts(of_length, queries, length))
        table = table.drop(columns="top1").join(pd.DataFrame(rates))
        tables.append(table.assign(query_frames=length))
    return pd.concat(tables, ignore_index=True).round(3)
