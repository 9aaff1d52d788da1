"""The AMG search over all trials, and the hits of any method's answers.

Two protocols, never mixed: `contiguous`, ours, scores a match against the song's unbroken sequence;
`published` does what the published code does, and has its own hits alone.
"""

import hashlib
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd
from torch import nn

from amg import check, machine, paths
from amg.check import InputError
from amg.embedding import chosen, crops, encoders, runs
from amg.retrieval import databases, hits, published, search
from amg.retrieval.trials import ask, first_rows

PROTOCOLS = {"contiguous": search, "published": published}  # name -> module of its searches


def check_parameters(
    durations, protocols=tuple(PROTOCOLS), unfinished=False, others=(), alone=False, **texts
) -> None:
    """InputError unless all of them are allowed; there may be no durations and no others."""
    if durations != []:
        check.each("durations", durations, check.one_of, crops.DURATIONS, " (seconds)")
    check.each("protocols", protocols, check.one_of, PROTOCOLS)
    check.one_of("unfinished", unfinished, (False, True))
    check.one_of("alone", alone, (False, True))
    if others not in ([], ()):
        check.each("others", others, check.one_of, [*encoders.registry])
    check.texts(**texts)


def trained(
    train_set, encoder, loss, durations, file="", unfinished=False, device="auto", db=None, run=""
) -> dict:
    """Encoders of notebook 03, or that of a published checkpoint, a file: duration_max ->
    `runs.Trained`.

    run: as for `chosen.named`, taken for its duration in place of what the names stand for. One
    that needs no training is the same for all durations. Raises InputError for those that were
    trained on other fingerprints than the database `db` has.
    """
    device = machine.device(device)
    if file:
        check.integer("the number of durations, with a checkpoint,", len(durations), 1, 1)
        file = paths.resolve(file)
        model = published.load_published(file, encoder)
        models = {durations[0]: runs.Trained(model, None, [], file.name, True)}
    elif not encoders.needs_training(encoder):
        models = dict.fromkeys(durations, untrained([encoder], db)[encoder])
    else:
        own = chosen.named(train_set, run, encoder, loss, durations) if run else {}
        models = {
            d: runs.find(train_set, encoder, loss, d, unfinished, own.get(d)) for d in durations
        }
    for of in models.values():
        of.encoder.to(device)
        if db:
            check_fingerprinter(of, db)
    return models


def untrained(names, database) -> dict:
    """Encoders that need no training, fitted to the distractors: name -> `runs.Trained` of no run.

    Raises InputError for one that needs it.
    """
    free = [name for name in encoders.registry if not encoders.needs_training(name)]
    if names != []:
        check.each("others", names, check.one_of, free)
    fitted = {name: encoders.untrained(name, database.distractors) for name in names}
    return {name: runs.Trained(encoder, None, [], "", True) for name, encoder in fitted.items()}


def check_fingerprinter(run, database) -> None:
    """InputError if an encoder was trained on other fingerprints than a database has, as far as
    both are known."""
    known = {run.fingerprinter, database.fingerprinter} - {None}
    if len(known) > 1:
        raise InputError(
            f"{run.name or 'the encoder'} was trained on another fingerprinter's output than the "
            "database has; run notebooks 01_data_prep, 02_split and 03_train with one."
        )


def labels(encoder, loss, duration_max, run=None) -> dict:
    """What names an AMG method in every table; run: a `runs.Trained`, None if none was trained."""
    loss = loss if encoders.needs_training(encoder) else "none"
    named = {"method": "amg", "encoder": encoder, "loss": loss, "duration_max": duration_max}
    return {**named, "run": run.name if run else "", "finished": run.finished if run else True}


def segment_vectors(encoder, segments, sequences) -> np.ndarray:
    """One vector per segment, as `encoders.embed_runs`, in their order."""
    length = np.full(len(segments.start), segments.length)
    return encoders.embed_runs(encoder, sequences.frames, segments.start, length)


def new_vectors(encoder, segments, sequences, known) -> np.ndarray:
    """The same, but no song is embedded twice, in however many databases it stands: `known`, digest
    of its frames -> vectors of its segments of one length, is read, and grows."""
    keys = [hashlib.sha256(song).digest() for song in sequences.songs()]
    fresh = {key: song for song, key in enumerate(keys) if key not in known}
    rows = np.isin(segments.song, [*fresh.values()])
    new = replace(segments, start=segments.start[rows], song=segments.song[rows])
    vectors = segment_vectors(encoder, new, sequences)
    known.update({key: vectors[new.song == song] for key, song in fresh.items()})
    return np.concatenate([known[key] for key in keys])


@dataclass(frozen=True)
class Indexed:
    """A database that is cut into segments, and the vector that an encoder gives to each."""

    encoder: nn.Module
    database: databases.Database
    segments: search.Segments
    vectors: np.ndarray  # of the segments, as `segment_vectors`
    labels: dict = field(default_factory=dict)  # of the encoder, as `labels`

    @classmethod
    def of(cls, encoder, database, segments, labels=None) -> "Indexed":
        """Embed the segments of a database."""
        vectors = segment_vectors(encoder, segments, database.sequences)
        return cls(encoder, database, segments, vectors, labels or {})

    @property
    def first_test(self) -> int:
        """Number of the first segment of a test song."""
        return int(np.searchsorted(self.segments.song, self.database.first_test))


def amg(
    trials, queries, indexed, alike=None, protocol="contiguous", shortlist=search.SHORTLIST
) -> list[pd.DataFrame]:
    """The trials with the answers and hits of both stages: two DataFrames, single and two.

    queries: list of float32 (T, 128), one per test song; indexed: an `Indexed`, whose labels they
    get; alike: a `hits.Alike`, or None where no sound is at hand; shortlist: segments that the
    second stage looks at, ten if published.
    """
    searches, database, segments = PROTOCOLS[protocol], indexed.database, indexed.segments
    n = shortlist if protocol == "contiguous" else search.N_BEST
    listed, _ = first_stage(trials, queries, indexed, n, searches.single_stage)
    single = listed[:, : search.N_BEST]
    two, _ = second_stage(trials, queries, listed, indexed, searches.two_stage)
    if protocol == "published":
        right = published.right(trials, single, two, segments, database)
        places = segments.first_frames(single), two
        tables = [_scored(trials, *of_stage, database) for of_stage in zip(places, right)]
    else:
        tables = [
            score_segments(trials, single, segments, database, alike),
            score(trials, two, database, alike),
        ]
    return [
        table.assign(stage=stage, protocol=protocol, **indexed.labels)
        for table, stage in zip(tables, ("single", "two"))
    ]


def first_stage(
    trials, queries, indexed, n_best=search.N_BEST, vote=search.single_stage
) -> tuple[np.ndarray, np.ndarray]:
    """Segments that the pieces of each trial vote for, best first, and the sums of their votes, int
    and float32 (n, n_best).

    Each piece votes for as many neighbours, so that one that is listed could have been voted for.
    """
    index, sequences = search.flat_index(indexed.vectors), search.Sequences.of(queries)
    segments, k = indexed.segments, min(n_best, index.ntotal)

    def find(at, _):
        begin, end = np.array(search.cut_pieces(at.shape[1], segments.length, crops.SHORTEST)).T
        first, length = at[:, begin].ravel(), np.tile(end - begin, len(at))
        pieces = encoders.embed_runs(indexed.encoder, sequences.frames, first, length)
        scores, neighbours = search.nearest(index, pieces, k)
        shape = len(at), -1, k
        return vote(neighbours.reshape(shape), scores.reshape(shape), segments.song, n_best)

    return ask(trials, sequences, find, n_best)


def second_stage(
    trials, queries, candidates, indexed, refine=search.two_stage
) -> tuple[np.ndarray, np.ndarray]:
    """Positions within each trial's candidate segments, best first, and their scores, int and
    float32 (n, 10)."""
    stored, sequences = indexed.database.sequences, search.Sequences.of(queries)
    segments = indexed.segments

    def find(at, rows):
        parts = search.blocks(len(rows), candidates.shape[1] * 2 * segments.length)
        answers = [
            refine(sequences.frames[at[part]], candidates[rows[part]], segments, stored)
            for part in parts
        ]
        return tuple(map(np.concatenate, zip(*answers)))

    return ask(trials, sequences, find)


def score(trials, answers, database, alike=None, late=0.0) -> pd.DataFrame:
    """The trials with answers, positions (n, 10), and hits at all tolerances but segment.

    Adds `<tolerance>_rank`, the rank of the first right answer (0: none of ten), and `answers` as
    `song:frame`, both from 0, in the order of the database. late: as for `hits.within`.
    """
    sequences = database.sequences
    begin = first_rows(trials, sequences, database.first_test)
    right = {
        name: hits.within(answers, begin, frames, sequences, late)
        for name, frames in (("exact", 0.5), ("near", 1))
    }
    return _scored(trials, hits.frames_of(answers, sequences), right, database, alike)


def score_segments(trials, answers, segments, database, alike=None) -> pd.DataFrame:
    """The same for answers that are segments, int (n, 10), at segment, same_audio and song."""
    begin = first_rows(trials, database.sequences, database.first_test)
    right = {"segment": hits.segment(answers, begin, segments)}
    heard = alike and partial(alike, before=0, after=segments.length)
    return _scored(trials, segments.first_frames(answers), right, database, heard)


def _scored(trials, places, right, database, alike=None):
    """Trials with the hits of `right`, tolerance -> bool (n, 10), and those that any answer has;
    places: positions of the answers, int (n, 10), -1 for none."""
    sequences = database.sequences
    begin = first_rows(trials, sequences, database.first_test)
    song = hits.song_of(places, sequences)
    if alike:
        narrow, length = next(iter(right.values())), trials.query_frames.to_numpy()
        right["same_audio"] = hits.same_audio(narrow, places, begin, length, alike)
    right["song"] = hits.same_recording(song, begin, sequences, database.recordings)
    frame = places - sequences.bounds[np.maximum(song, 0)]
    text = [
        " ".join(f"{s}:{f}" for s, f in zip(*row) if s >= 0)
        for row in zip(song.tolist(), frame.tolist())
    ]
    ranks = {f"{name}_rank": hits.rank(of) for name, of in right.items()}
    return trials.assign(answers=text, **ranks)
