"""Trials: which part of which song every method is asked for.

A trial asks for `query_frames` frames of the degraded version of test song `song` (the first is 0),
from frame `start` on. Notebook 02 draws them once, beside the songs, so that every method, in every
notebook, has the same ones: one model has one figure.
"""

import filecmp

import numpy as np
import pandas as pd

from amg import check, code, files, paths, provenance
from amg.check import InputError
from amg.embedding import crops
from amg.retrieval import search

COLUMNS = ["song", "start", "query_frames"]
MAKER = "02_split"


def starts(n_frames, query_frames, n_starts, seed, song) -> np.ndarray:
    """Start frames in the first `n_frames` of a song, int, rising, all different: `n_starts`, or as
    many as there are places. They follow from (seed, song, query_frames) alone."""
    n_places = max(n_frames - query_frames + 1, 0)
    rng = np.random.default_rng([seed, song, query_frames])
    return np.sort(rng.choice(n_places, min(n_starts, n_places), replace=False))


def draw(n_frames, query_frames, n_starts, seed, segment_lengths=()) -> pd.DataFrame:
    """Trials of all songs and query lengths: a DataFrame of COLUMNS.

    n_frames: of each song. A trial lies whole inside what every segmentation (lengths in frames)
    holds of its song. A query that fits into no song has no trials; InputError if none fits.
    """
    held = [min((n // length * length for length in segment_lengths), default=n) for n in n_frames]
    rows = [
        (song, start, length)
        for length in query_frames
        for song, n in enumerate(held)
        for start in starts(n, length, n_starts, seed, song)
    ]
    if not rows:
        raise InputError(
            f"no query of {min(query_frames)} frames or more lies whole inside the "
            "segments of a test song; choose longer songs, or shorter durations."
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def check_parameters(query_frames, n_starts, seed) -> None:
    """InputError unless trials can be drawn with these."""
    check.each("query_frames", query_frames, check.integer, 1)
    check.integers(1, n_starts=n_starts)
    check.seed(seed)


def make(root, database, queries, query_frames, n_starts, seed, durations) -> pd.DataFrame:
    """The trials of a database, drawn into a made folder `trials` in its root, or found there. Its
    `trials.csv` is a link to those last asked for; InputError if it is something else."""
    check_parameters(query_frames, n_starts, seed)
    link = root / "trials.csv"
    drawn = root.glob("trials-*/trials.csv")  # or a copy of one, where copying followed the link
    if link.is_file() and not any(filecmp.cmp(link, table, shallow=False) for table in drawn):
        raise InputError(
            f"{paths.relative(link)} was not made by this kit, or by an older one, "
            "and is left alone; move it elsewhere."
        )
    lengths, durations = sorted(set(query_frames)), sorted(set(durations))
    drawn_by = {"query_frames": lengths, "n_starts": n_starts, "seed": seed, "durations": durations}
    inputs = {"songs": database.identity}
    recipe = provenance.Recipe("trials", drawn_by, inputs, code=code.of(__name__))
    with provenance.making(root / "trials", recipe) as place:
        table = place.folder / link.name
        if not table.exists():
            held = [crops.segment_frames(duration) for duration in durations]
            drawn = draw(shared_frames(database, queries), lengths, n_starts, seed, held)
            with files.atomic(table) as temporary:
                drawn.to_csv(temporary, index=False)
    if not link.is_symlink():
        link.unlink(missing_ok=True)
        link.symlink_to(f"trials/{link.name}")
    return read(root, database)


def read(root, database, durations=(), query_frames=()) -> pd.DataFrame:
    """The trials of a database that were last drawn: COLUMNS, and `recording`; query_frames: those
    of these lengths alone, if any is given. InputError if there are none, if they are of other
    songs, or if 02 did not split for all `durations` (seconds)."""
    made = provenance.find(root / "trials", MAKER)
    table = made.folder / "trials.csv"
    drawn_for = made.record.get("inputs", {}).get("songs")
    if not table.exists() or drawn_for != database.identity:
        raise InputError(
            f"{paths.relative(table)} is missing, or was drawn for other songs than "
            f"those beside it; run notebook {MAKER} again."
        )
    split = made.record["parameters"]["durations"]
    if not set(durations) <= set(split):
        raise InputError(
            f"{paths.relative(table)} was drawn for durations {split}, without "
            f"{sorted(set(durations) - set(split))}; run notebook {MAKER} with all."
        )
    drawn = recorded(pd.read_csv(table), database)
    if query_frames in ([], ()):
        return drawn
    there = drawn.query_frames.unique().tolist()
    hint = f" (the lengths that notebook {MAKER} drew)"
    lengths = check.each("query_frames", query_frames, check.one_of, there, hint)
    return drawn[drawn.query_frames.isin(lengths)].reset_index(drop=True)


def at(database, queries, starts_of) -> pd.DataFrame:
    """Trials of every song at start positions that were drawn elsewhere: query length -> starts.

    A start in a tail that no segment holds (the published draw may give one) is in reach of the
    base system alone. Raises InputError for one outside of a song.
    """
    shortest = min(shared_frames(database, queries))
    for length, of_length in starts_of.items():
        if min(of_length) < 0 or max(of_length) + length > shortest:
            raise InputError(
                f"start positions {min(of_length)} to {max(of_length)} are asked for with queries "
                f"of {length} frames, but the shortest test song has {shortest}."
            )
    rows = [
        (song, start, length)
        for length, of_length in starts_of.items()
        for song in range(len(queries))
        for start in of_length
    ]
    return recorded(pd.DataFrame(rows, columns=COLUMNS), database)


def recorded(trials, database) -> pd.DataFrame:
    """Trials with the recording that each asks for."""
    recordings = np.array(database.recordings[database.first_test :], dtype=object)
    return trials.assign(recording=recordings[trials.song])


def shared_frames(database, queries) -> list[int]:
    """Frames that each test song and its query both have."""
    songs = database.sequences.songs(database.first_test)
    return [min(len(song), len(query)) for song, query in zip(songs, queries)]


def first_rows(trials, sequences, first_song=0) -> np.ndarray:
    """Position where each trial begins, int64 (n,), if its song i is song `first_song + i`."""
    return sequences.bounds[first_song + trials.song.to_numpy()] + trials.start.to_numpy()


def excerpts(trials, queries) -> list[np.ndarray]:
    """What trials ask for, float32 (query_frames, 128) each."""
    return [queries[of.song][of.start :][: of.query_frames] for of in trials.itertuples()]


def ask(trials, queries, find, n_best=search.N_BEST) -> tuple[np.ndarray, np.ndarray]:
    """The best answers of a search and their scores, int64 and float32 (n_trials, n_best).

    queries: search.Sequences, one song's each. find: the search for Q trials of one length L, a
    function (at, rows): row rows[i] asks for queries.frames[at[i]], at int (Q, L).
    """
    answers = np.full((len(trials), n_best), -1)
    scores = np.zeros(answers.shape, np.float32)
    first = first_rows(trials, queries)
    for length, rows in trials.groupby("query_frames").indices.items():
        answers[rows], scores[rows] = find(first[rows, None] + np.arange(length), rows)
    return answers, scores
