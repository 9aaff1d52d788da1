"""Is it here at all? Songs that the database does not hold, and a threshold that says so.

The test recordings fall into two folds. Every trial is asked twice: *known*, among the distractors
and the songs of its own fold, and *unknown*, among the distractors and the other fold's, where no
answer is right. A score is that of the best answer: the mean inner product of a match, or of
single-stage the mean vote of a query's pieces. *Relative*, it is how far it lies above the ordinary
one, which the same query gets in music that cannot be the answer, as in a catalogue
(`significance`).
"""

import itertools
from collections import namedtuple

import numpy as np
import pandas as pd

from amg import check
from amg.catalogue import significance
from amg.check import InputError
from amg.embedding import crops
from amg.retrieval import evaluate, hits, intervals, nafp_search, search, trials
from amg.retrieval.databases import Database
from amg.sound.audio import seconds

FALSE_ACCEPTS = 0.01  # of unknown trials; what a threshold is for
METHOD = ["method", "encoder", "stage", "duration_max"]
CURVE_POINTS = 60
BACKGROUND = 400  # songs at most

# search: (database, trials, queries) -> for each stage the places and scores of the best answers,
# int and float32 (n, 10); labels: a dict per stage
Method = namedtuple("Method", "search labels")


def folds(recordings, seed=0) -> np.ndarray:
    """0 or 1 for each song, list of str, by its recording; halves of equal size or nearly so.

    Raises InputError for fewer than two recordings.
    """
    names = np.unique(recordings)
    if len(names) < 2:
        raise InputError(
            f"{len(names)} recording cannot be split in known and unknown ones; at "
            "least 2 are needed."
        )
    of_name = np.random.default_rng(seed).permutation(len(names)) % 2
    return of_name[np.searchsorted(names, recordings)]


def part(database, kept) -> Database:
    """A database of some of the songs, bool (n_songs,)."""
    songs, chosen = database.sequences.songs(), np.flatnonzero(kept)
    every = songs, database.names, database.recordings
    songs, names, recordings = ([of[song] for song in chosen] for of in every)
    return Database.of(songs, int(np.sum(kept[: database.first_test])), names, recordings)


def validation(data, recordings, n_valid, n_versions, database) -> tuple:
    """A database of the same distractors and of the last `n_valid` songs of a training set, and
    `n_versions` degraded versions of each, which ask for them.

    data: a `features.TrainingSet`; recordings: list of str, one per song. Returns a Database, the
    queries, float32 (T, 128) each, and the number of the song, from 0, that each asks for.
    """
    n_songs, n_clips = data.length.shape
    check.integer("n_valid", n_valid, 2, n_songs - 2)
    check.integer("n_versions", n_versions, 1, n_clips - 1)
    what = "the number of songs in the training set's table"
    check.integer(what, len(recordings), n_songs, n_songs)
    valid, first = range(n_songs - n_valid, n_songs), database.first_test
    stored = Database.of(
        database.sequences.songs()[:first] + [np.array(data.clip(song, 0)) for song in valid],
        first,
        database.names[:first] + [f"valid {song}" for song in valid],
        database.recordings[:first] + [recordings[song] for song in valid],
    )
    song, version = np.nonzero(data.length[-n_valid:, 1 : 1 + n_versions])
    queries = [np.array(data.clip(valid[s], 1 + v)) for s, v in zip(song, version)]
    return stored, queries, song


def background(data, n_valid) -> np.ndarray:
    """The originals of the songs that an encoder learns from, which are no answer, evenly chosen of
    those that are as long as most: float32 (S, T, 128)."""
    length = data.length[:-n_valid, 0]
    n_frames = int(np.median(length))
    songs = np.flatnonzero(length >= n_frames)
    chosen = songs[np.linspace(0, len(songs) - 1, min(len(songs), BACKGROUND)).astype(int)]
    return np.stack([data.clip(song, 0)[:n_frames] for song in chosen])


def with_ordinary(drawn, queries, songs) -> pd.DataFrame:
    """Trials with their `ordinary` score in songs (S, T, 128); InputError for longer queries."""
    longest = drawn.query_frames.max()
    if longest > songs.shape[1]:
        raise InputError(
            f"the songs of the training set have {songs.shape[1]} frames, too few for queries of "
            f"{longest}; ask for shorter queries."
        )
    ordinary = pd.Series(0.0, drawn.index)
    for _, of_length in drawn.groupby("query_frames"):
        windows = np.stack(trials.excerpts(of_length, queries))
        ordinary[of_length.index] = significance.ordinary(windows, songs)
    return drawn.assign(ordinary=ordinary)


def draw(database, queries, song, query_frames, segment_frames, seed) -> pd.DataFrame:
    """A trial as of `trials.draw` for each length and query, which ask for songs `song`, int (n,).

    Their column `song` is the number of the query.
    """
    songs = database.sequences.songs(database.first_test)
    shared = [min(len(query), len(songs[of])) for query, of in zip(queries, song)]
    drawn = trials.draw(shared, query_frames, 1, seed, [segment_frames])
    recordings = np.array(database.recordings[database.first_test :], dtype=object)
    return drawn.assign(recording=recordings[song[drawn.song]])


def base_method() -> Method:
    """NAFP sequence search, every frame indexed."""

    def find(database, drawn, queries):
        return [nafp_search.find(drawn, queries, database.sequences)]

    return Method(find, [{"method": "nafp", "encoder": "nafp", "stage": "sequence"}])


def amg_method(encoder, labels, shortlist=search.SHORTLIST) -> Method:
    """Both contiguous stages of an encoder; labels: as `evaluate.labels`."""
    length, known = crops.segment_frames(labels["duration_max"]), {}

    def find(database, drawn, queries):
        segments = search.Segments.of(database.sequences, length)
        vectors = evaluate.new_vectors(encoder, segments, database.sequences, known)
        indexed = evaluate.Indexed(encoder, database, segments, vectors)
        listed, votes = evaluate.first_stage(drawn, queries, indexed, shortlist)
        n_pieces = [len(search.cut_pieces(n, length, crops.SHORTEST)) for n in drawn.query_frames]
        single = segments.first_frames(listed), votes / np.array(n_pieces, np.float32)[:, None]
        return [single, evaluate.second_stage(drawn, queries, listed, indexed)]

    kept = {name: labels[name] for name in ("method", "encoder", "duration_max")}
    return Method(find, [{**kept, "stage": stage} for stage in ("single", "two")])


def ask(method, database, drawn, queries, seed=0) -> list[pd.DataFrame]:
    """The trials, asked known and unknown, and their scores: a DataFrame per stage of a `Method`.

    drawn: as of `with_ordinary`. Adds `known`, `right` (its recording is that of the trial) and
    `unknown`, and `known_relative` and `unknown_relative`. No answer at all scores -1.
    """
    recordings = database.recordings[database.first_test :]
    fold = folds(recordings, seed)
    of_trial = drawn.recording.map(dict(zip(recordings, fold))).to_numpy()
    tables = [drawn.assign(**of, known=0.0, right=False, unknown=0.0) for of in method.labels]
    for number in (0, 1):
        half = part(database, np.append(np.full(database.first_test, number), fold) == number)
        of_song = np.array([*half.recordings, ""], dtype=object)  # the last: of no answer
        own = of_trial == number
        for table, (places, scores) in zip(tables, method.search(half, drawn, queries)):
            score = np.where(places[:, 0] < 0, -1, scores[:, 0])
            right = of_song[hits.song_of(places[:, 0], half.sequences)] == drawn.recording
            table.loc[own, "known"], table.loc[~own, "unknown"] = score[own], score[~own]
            table.loc[own, "right"] = right[own]
    for table, name in itertools.product(tables, ("known", "unknown")):
        table[f"{name}_relative"] = significance.scale(table[name], table.ordinary)
    return tables


def threshold(unknown, false_accepts=FALSE_ACCEPTS) -> float:
    """The lowest score that at most this share of unknown trials, float (n,), reaches."""
    highest = np.sort(unknown)[::-1]
    return float(np.nextafter(highest[int(false_accepts * len(unknown))], np.inf))


def curve(known, right, unknown) -> pd.DataFrame:
    """Recall against false accepts, shares, for every threshold that a score gives, falling."""
    levels = np.unique(np.concatenate([known, unknown]))[::-1]
    good, bad = np.sort(known[right]), np.sort(unknown)
    false_accepts = (len(bad) - np.searchsorted(bad, levels)) / len(bad)
    recall = (len(good) - np.searchsorted(good, levels)) / len(known)
    return pd.DataFrame({"threshold": levels, "false_accepts": false_accepts, "recall": recall})


def recall_at(points, false_accepts) -> float:
    """The highest recall of a `curve` with at most so many false accepts, shares; NaN if
    even the highest score has more."""
    return float(points.recall[points.false_accepts <= false_accepts].max())


def summary(tested, validated) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`unknown.csv` and `roc.csv`, in percent, from the tables of `ask` on test and validation.

    Rows are of a method, stage, query length and kind of score. false_accepts: share of unknown
    trials that are answered, their scores reach the threshold; recall, misidentified: of known
    trials that are answered with the right recording, with a wrong one. Thresholds are those of the
    validation, but for recall_at_1, recall at 1 % false accepts.
    """
    rows, curves = [], []
    for test, valid in zip(tested, validated):
        of_method = {name: test[name].iloc[0] if name in test else np.nan for name in METHOD}
        for length, of_length in test.groupby("query_frames"):
            calibrated = valid[valid.query_frames == length]
            for kind, suffix in (("raw", ""), ("relative", "_relative")):
                labels = {**of_method, "score": kind, "query_frames": length}
                labels["query_s"] = seconds(length)
                scores, of_valid = (_scores(table, suffix) for table in (of_length, calibrated))
                rows.append({**labels, **_rates(scores, of_valid, of_length.recording)})
                shown = 100 * thinned(curve(*scores))[["false_accepts", "recall"]]
                curves.append(pd.DataFrame({**labels, **shown}))
    return pd.DataFrame(rows).round(3), pd.concat(curves, ignore_index=True).round(3)


def _scores(table, suffix):
    """Known scores, whether they are right, and unknown scores of a table of `ask`, (n,) each."""
    return [table[name].to_numpy() for name in (f"known{suffix}", "right", f"unknown{suffix}")]


def _rates(scores, of_valid, recording):
    """Rates of some trials, in percent; scores, of_valid: of these and of the validation's, as
    `_scores`; recording (n,)."""
    (known, right, unknown), points, level = scores, curve(*scores), threshold(of_valid[2])
    row = {"n_trials": len(known), "n_recordings": recording.nunique()}
    row["recall_at_1"] = 100 * recall_at(points, FALSE_ACCEPTS)
    answered = known >= level
    hits_at = {"false_accepts": unknown >= level, "recall": answered & right}
    hits_at["misidentified"] = answered & ~right
    for name, hit in hits_at.items():
        row[name] = 100 * hit.mean()
        row[f"{name}_low"], row[f"{name}_high"] = intervals.interval(hit, recording)
    valid_recall = 100 * recall_at(curve(*of_valid), FALSE_ACCEPTS)
    n_valid = len(of_valid[0])
    return {**row, "threshold": level, "n_valid": n_valid, "valid_recall_at_1": valid_recall}


def thinned(points) -> pd.DataFrame:
    """The corners of a `curve`, the highest recall for each share of false accepts, of which
    CURVE_POINTS at most are kept, evenly on a logarithmic axis of false accepts."""
    corners = points.groupby("false_accepts", as_index=False).recall.max()
    least = corners.false_accepts[corners.false_accepts > 0].min()
    levels = np.geomspace(least, 1, CURVE_POINTS - 1) if least < 1 else [1.0]
    at = np.searchsorted(corners.false_accepts, levels, side="right") - 1
    return corners.iloc[np.unique(np.append(at, 0))]
