"""Trials: which part of which song every method is asked for.

A trial asks for `query_frames` frames of the degraded version of test song `song` (the first is 0),
from frame `start` on. Trials are drawn once, by notebook 02, and written down beside the songs, so
that every method, in every notebook, has the same ones: one model has one figure.
"""

import numpy as np
import pandas as pd

from amg import check, files, made, paths
from amg.check import InputError
from amg.embedding import crops

COLUMNS = ["song", "start", "query_frames"]


def starts(n_frames, query_frames, n_starts, seed, song) -> np.ndarray:
    """Start frames in the first `n_frames` of a song, int, rising, all different.

    They follow from (seed, song, query_frames) alone. There are `n_starts`, or as many as the query
    has places in the song.
    """
    n_places = max(n_frames - query_frames + 1, 0)
    rng = np.random.default_rng([seed, song, query_frames])
    return np.sort(rng.choice(n_places, min(n_starts, n_places), replace=False))


def draw(n_frames, query_frames, n_starts, seed, segment_lengths=()) -> pd.DataFrame:
    """Trials of all songs and query lengths: a DataFrame of COLUMNS.

    n_frames: of each song; query_frames: lengths; segment_lengths: in frames. A trial lies whole
    inside what every segmentation holds of its song. A length that fits into no song has no trials.
    Raises InputError if none has.
    """
    held = [min((n // length * length for length in segment_lengths), default=n) for n in n_frames]
    rows = [(song, start, length) for length in query_frames for song, n in enumerate(held)
            for start in starts(n, length, n_starts, seed, song)]
    if not rows:
        raise InputError(f"no query of {min(query_frames)} frames or more lies whole inside the "
                         "segments of a test song; choose longer songs, or shorter durations.")
    return pd.DataFrame(rows, columns=COLUMNS)


def check_parameters(query_frames, n_starts, seed) -> None:
    """InputError unless trials can be drawn with these."""
    check.each("query_frames", query_frames, check.integer, 1)
    check.integers(1, n_starts=n_starts)
    check.integers(0, seed=seed)


def make(root, database, queries, query_frames, n_starts, seed, durations) -> pd.DataFrame:
    """The trials of a database, drawn and written to `trials.csv` in its root, or found there.

    Raises InputError if a `trials.csv` lies there that the kit did not make.
    """
    check_parameters(query_frames, n_starts, seed)
    recipe = made.Recipe("trials", {"query_frames": sorted(set(query_frames)), "n_starts": n_starts,
                                    "seed": seed, "durations": sorted(set(durations))},
                         {"songs": database.identity}).identity
    table, note = root / "trials.csv", root / "trials.json"
    known = (files.read_json(note) or {}) if note.exists() else {}
    if table.exists() and not known:
        raise InputError(f"{paths.relative(table)} was not made by this kit and is left alone; "
                         "move it elsewhere.")
    if not table.exists() or known != recipe | {"finished": True}:
        files.write_json(note, recipe | {"finished": False})
        n_frames = shared_frames(database, queries)
        drawn = draw(n_frames, recipe["parameters"]["query_frames"], n_starts, seed,
                     [crops.segment_frames(duration) for duration in durations])
        with files.atomic(table) as temporary:
            drawn.to_csv(temporary, index=False)
        files.write_json(note, recipe | {"finished": True})
    return read(root, database)


def read(root, database, durations=()) -> pd.DataFrame:
    """The trials of a database that notebook 02 drew: COLUMNS, and `recording`.

    durations: those to evaluate, in seconds. Raises InputError if there are none, if they are of
    other songs, or if 02 did not split for each of `durations`.
    """
    table, note = root / "trials.csv", files.read_json(root / "trials.json") or {}
    if not table.exists() or not note.get("finished"):
        raise InputError(f"{paths.relative(table)} is missing; run notebook 02_split first, it "
                         "draws the trials.")
    if note["inputs"]["songs"] != database.identity:
        raise InputError(f"{paths.relative(table)} was drawn for other songs than those beside it; "
                         "run notebook 02_split again.")
    missing = set(durations) - set(note["parameters"]["durations"])
    if missing:
        raise InputError(f"{paths.relative(table)} was drawn for durations "
                         f"{note['parameters']['durations']}, without {sorted(missing)}; run "
                         "notebook 02_split with all of them.")
    return recorded(pd.read_csv(table), database)


def at(database, queries, starts_of) -> pd.DataFrame:
    """Trials at start positions that were drawn elsewhere: query length -> list of starts.

    Every song is asked for at each. A start in a tail that no segment holds (the published draw may
    give one) is in reach of the base system alone. Raises InputError for one outside of a song.
    """
    shortest = min(shared_frames(database, queries))
    for length, of_length in starts_of.items():
        if min(of_length) < 0 or max(of_length) + length > shortest:
            raise InputError(
                f"start positions {min(of_length)} to {max(of_length)} are asked for with queries "
                f"of {length} frames, but the shortest test song has {shortest}.")
    rows = [(song, start, length) for length, of_length in starts_of.items()
            for song in range(len(queries)) for start in of_length]
    return recorded(pd.DataFrame(rows, columns=COLUMNS), database)


def recorded(trials, database) -> pd.DataFrame:
    """Trials with the recording that each asks for."""
    recordings = np.array(database.recordings[database.first_test :], dtype=object)
    return trials.assign(recording=recordings[trials.song])


def shared_frames(database, queries) -> list[int]:
    """Frames that each test song and its query both have."""
    songs = database.sequences.songs(database.first_test)
    return [min(len(song), len(query)) for song, query in zip(songs, queries)]


def of_length(trials):
    """Rows of the trials of each query length: pairs (length, int array)."""
    return trials.groupby("query_frames").indices.items()


def first_rows(trials, sequences, first_song=0) -> np.ndarray:
    """Position where each trial begins, int64 (n,), if its song i is song `first_song + i`."""
    return sequences.bounds[first_song + trials.song.to_numpy()] + trials.start.to_numpy()
