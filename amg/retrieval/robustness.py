"""What the base system stands, and why it errs.

Conditions are queries of equal seed that go through other degradations: versions of one clip
share what their conditions have in common. A miss is explained by what came back in its place.
"""

import numpy as np
import pandas as pd

from amg import check
from amg.sound import degrade
from amg.sound.audio import SAME, likeness
from amg.retrieval import evaluate

CONDITIONS = {  # group -> condition -> (kinds of degradation, fixed settings)
    "clean": {"as recorded": ((), {})},
    "SNR": {f"{snr} dB": (degrade.FIELD, {"snr_db": float(snr)}) for snr in (0, 5, 10)}
           | {"no noise": (("room", "microphone"), {})},
    "degradation": {kind: ((kind,), {}) for kind in degrade.KINDS if kind != "offset"}
                   | {"all": (degrade.KINDS, {})},
}
BETWEEN = {"clean": ("offset",), "field": (*degrade.FIELD, "offset")}  # starts between two frames
GRIDS = (1, 2, 4, 8)  # on which such queries are listened to
COLUMNS = ["group", "condition", "tolerance", "query_s", "n_queries", "top1", "top1_low",
           "top1_high"]
REASONS = ("within 1 frame", "same audio elsewhere", "same clip elsewhere",
           "another clip", "nothing came back")
WEAKEST_S = 3.0  # query length at which the weakest conditions are named


def check_parameters(n_grids, ship, corpus, fingerprinter):
    """InputError if `n_grids` is none of GRIDS, or if `ship` asks for results in the model card that
    are not of its weights."""
    check.one_of("n_grids", n_grids, GRIDS)
    allowed = (True, False) if corpus == "open_music" and not fingerprinter else (False,)
    check.one_of("ship", ship, allowed,
                 "; the model card tells what the shipped weights do on open_music")


def beside(n_grids):
    """Name of the condition of queries at any offset."""
    return f"any offset, {n_grids} grid{'s' * (n_grids > 1)}"


def rates(scored, group, condition):
    """Rows of `robustness.csv`, one per tolerance and query length, from scored trials."""
    table = evaluate.hit_rates(scored)
    return table.assign(group=group, condition=condition)[COLUMNS]


def rates_by(scored, group, condition_of_song):
    """The same for each value of `condition_of_song`, one value per test song."""
    conditions = np.asarray(condition_of_song)[scored.song.to_numpy()]
    return pd.concat([rates(part, group, condition)
                      for condition, part in scored.groupby(conditions)])


def explain(trials, guesses, sequences, first_song, hear, late_frames=0.0):
    """Why trials missed the exact frame: the missed trials with truth, guess, likeness, reason.

    guesses: positions, best first, (n, 10), -1 for none. hear: function (position, n_frames) ->
    the undegraded samples of those frames. late_frames: as for `evaluate.frame_hits`; truth and
    guess are frames near where the query begins and where it was found, in its song, away the
    distance of the two places in frames. likeness: `likeness` of what came back and what was asked for. The
    reasons are REASONS; "same audio elsewhere" is a likeness of SAME or more.
    """
    truth = evaluate.first_rows(trials, sequences, first_song)
    guess = np.asarray(guesses, float)[:, 0]
    away = np.abs(guess - truth - late_frames)
    frame = np.ceil(guess).astype(int)  # a guess before the first frame of a song is of that song
    frame = np.where(guess > -1, np.maximum(np.rint(guess).astype(int),
                                            sequences.bounds[sequences.song_of(frame)]), -1)
    missed = trials.assign(truth=truth, guess=frame, away=away)[(away > 0.5) | (frame < 0)]
    alike = [_likeness(miss, sequences, hear) for miss in missed.itertuples()]
    missed = missed.assign(likeness=np.array(alike, float))
    return missed.assign(reason=[_reason(miss, sequences) for miss in missed.itertuples()])


def _likeness(miss, sequences, hear):
    """That of the guess, up to one frame to either side; NaN if nothing came back."""
    if miss.guess < 0:
        return np.nan
    low, high = sequences.bounds[sequences.song_of(miss.guess) + np.arange(2)]
    begin, end = max(miss.guess - 1, low), min(miss.guess + miss.query_frames + 1, high)
    return likeness(hear(miss.truth, min(miss.query_frames, end - begin)), hear(begin, end - begin))


def _reason(miss, sequences):
    if miss.guess < 0:
        return REASONS[4]
    if miss.away <= 1:
        return REASONS[0]
    if miss.likeness >= SAME:
        return REASONS[1]
    return REASONS[2 if sequences.song_of(miss.guess) == sequences.song_of(miss.truth) else 3]


def reasons(missed, trials, condition):
    """Share of all trials that missed for each reason, in %: a row per query length; `condition`
    names what the queries went through."""
    counts = missed.groupby(["query_frames", "reason"]).size().unstack(fill_value=0)
    counts = counts.reindex(columns=REASONS, fill_value=0).reindex(
        trials.query_frames.unique(), fill_value=0)
    total = trials.groupby("query_frames").size()
    table = 100 * counts.div(total.loc[counts.index], axis=0)
    table.insert(0, "exact", 100 - table.sum(axis=1))
    table.insert(0, "condition", condition)
    return table.rename_axis(columns=None).reset_index()


def weaknesses(rates):
    """The weakest condition of each group, exact Top-1 at WEAKEST_S: a list of phrases."""
    at = rates[(rates.tolerance == "exact") & (rates.query_s == WEAKEST_S)
               & (rates.group != "clean")]
    worst = at.loc[at.groupby("group", sort=False).top1.idxmin()]
    return [f"{row.group} {row.condition}: {row.top1:.1f} % at {row.query_s:g} s"
            for row in worst.itertuples() if (at.group == row.group).sum() > 1]
