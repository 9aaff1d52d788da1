"""What the base system withstands, and why it errs.

Conditions are queries of equal seed that go through other degradations: versions of one clip
share what their conditions have in common. A miss is explained by what came back in its place.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from amg import check, paths
from amg.fingerprint import extraction
from amg.retrieval import databases, hits, intervals, trials
from amg.sound import audio, corpora, degrade
from amg.sound.audio import SAME

CONDITIONS = {  # group -> condition -> (kinds of degradation, fixed settings)
    "clean": {"as recorded": ((), {})},
    "SNR": {f"{snr} dB": (degrade.FIELD, {"snr_db": float(snr)}) for snr in (0, 5, 10)}
    | {"no noise": (("room", "microphone"), {})},
    "degradation": {kind: ((kind,), {}) for kind in degrade.KINDS if kind != "offset"}
    | {"all": (degrade.KINDS, {})},
}
BETWEEN = {"clean": ("offset",), "field": (*degrade.FIELD, "offset")}  # starts between two frames
GRIDS = (1, 2, 4, 8)  # on which such queries are listened to
OF_TABLE = ["tolerance", "query_s", "n_queries", "top1", "top1_low", "top1_high"]
COLUMNS = ["group", "condition", *OF_TABLE]
OTHER_PLACES = ("same audio elsewhere", "same clip elsewhere", "another clip")
REASONS = ("within 1 frame", *OTHER_PLACES, "nothing came back")
WEAKEST_S = 3.0  # query length at which the weakest conditions are named


def check_parameters(n_grids, ship, corpus, fingerprinter) -> None:
    """InputError unless corpus and n_grids are known, and only shipped weights are to `ship`."""
    check.one_of("corpus", corpus, corpora.NAMES)
    check.one_of("n_grids", n_grids, GRIDS)
    allowed = (True, False) if corpus == "open_music" and not fingerprinter else (False,)
    hint = "; the model card tells what the shipped weights do on open_music"
    check.one_of("ship", ship, allowed, hint)


def load(root, query_frames) -> tuple[databases.Database, list, pd.DataFrame]:
    """A database, its queries, and its trials of some lengths; InputError if its sound is not at
    hand, or if notebook 02 drew no trials of a length."""
    check.each("query_frames", query_frames, check.integer, 1)
    database, queries = databases.load(root)
    if not database.clips:
        raise check.InputError(
            f"{paths.relative(root)} has no songs.csv, and so nothing to listen "
            "to; make it with notebook 01_data_prep."
        )
    return database, queries, trials.read(root, database, query_frames=query_frames)


def beside(n_grids) -> str:
    """Name of the condition of queries at any offset."""
    return f"any offset, {n_grids} grid" + ("s" if n_grids > 1 else "")


def rates(scored, group, condition) -> pd.DataFrame:
    """Rows of `robustness.csv`, one per tolerance and query length, from scored trials."""
    return intervals.table([scored]).assign(group=group, condition=condition)[COLUMNS]


def rates_by(scored, group, condition_of_song) -> pd.DataFrame:
    """The same for each value of `condition_of_song`, one value per test song."""
    by_condition = scored.groupby(np.asarray(condition_of_song)[scored.song.to_numpy()])
    return pd.concat([rates(part, group, condition) for condition, part in by_condition])


def explain(drawn, answers, database, alike, late=0.0) -> pd.DataFrame:
    """The trials that missed the exact frame, and why: adds truth, guess, away, likeness, reason.

    answers: positions, best first, (n, 10), -1 for none; alike: a `hits.Alike`; late: as for
    `hits.within`. truth and guess are the positions where the query begins and where it was found,
    away is their distance in frames, likeness that of the undegraded sound at the two, which is the
    same audio from SAME on.
    """
    sequences, first = database.sequences, np.asarray(answers, float)[:, :1]
    truth = trials.first_rows(drawn, sequences, database.first_test)
    guess, away = hits.frames_of(first, sequences)[:, 0], np.abs(first[:, 0] - truth - late)
    is_miss = ~hits.within(first, truth, 0.5, sequences, late)[:, 0]
    missed = drawn.assign(truth=truth, guess=guess, away=away)[is_miss]
    likeness = [
        np.nan if miss.guess < 0 else alike.likeness(miss.truth, miss.guess, miss.query_frames)
        for miss in missed.itertuples()
    ]
    missed = missed.assign(likeness=np.array(likeness, float))
    same_song = (sequences.song_of(truth) == hits.song_of(first, sequences)[:, 0])[is_miss]
    within_1, same_audio, same_clip, other_clip, nothing = REASONS
    near, alike_there = same_song & (missed.away <= 1), missed.likeness >= SAME
    told = [nothing, within_1, same_audio, same_clip]
    reason = np.select([missed.guess < 0, near, alike_there, same_song], told, other_clip)
    return missed.assign(reason=reason.astype(object))


def reasons(missed, drawn, condition) -> pd.DataFrame:
    """Rows of `miss_reasons.csv`, one per query length: % of all trials, by reason of a miss."""
    n_trials = drawn.query_frames.value_counts(sort=False)
    counts = pd.crosstab(missed.query_frames, missed.reason)
    counts = counts.reindex(index=n_trials.index, columns=REASONS, fill_value=0)
    table = 100 * counts.div(n_trials, axis=0)
    table.insert(0, "exact", 100 - table.sum(axis=1))
    table.insert(0, "condition", condition)
    return table.rename_axis(columns=None).reset_index()


def weaknesses(rates) -> list[str]:
    """The weakest condition of each group, exact Top-1 at WEAKEST_S: a list of phrases."""
    at = rates.query("tolerance == 'exact' and query_s == @WEAKEST_S and group != 'clean'")
    worst = at.loc[at.groupby("group", sort=False).top1.idxmin()]
    return [
        f"{row.group} {row.condition}: {row.top1:.1f} % at {row.query_s:g} s"
        for row in worst.itertuples()
        if (at.group == row.group).sum() > 1
    ]


def listen(miss, database, seed, pool) -> tuple[list[np.ndarray], list[str]]:
    """The sound of a miss, a row of `explain`: what was asked, what should have come back, and what
    did. Returns (three float32 arrays, three titles)."""
    clip, start = database.place(miss.truth)
    query = degrade.apply(clip.read(), extraction.drawn(seed, miss.song, pool), pool)
    sounds = [
        query[start * audio.HOP :][: (miss.query_frames + 1) * audio.HOP],
        database.hear(miss.truth, miss.query_frames),
        database.hear(miss.guess, miss.query_frames),
    ]
    titles = []
    places = {"asked": miss.truth, "should come back": miss.truth, "came back": miss.guess}
    for name, position in places.items():
        clip, start = database.place(position)
        at_s = f"{clip.start_s + start / 2:.1f} s"
        titles.append(f"{name}: {clip.source}\n{Path(clip.recording).name}, {at_s}")
    return sounds, titles
