"""Answers to registered questions: each rule at its borders, on tables made up for it."""

import numpy as np
import pandas as pd
import pytest

from amg.report import answers, sweep_tables


def report(valid, differences=(), n_seeds=3, training=(), p_holm=0.01):
    """Tables of a sweep: validation Top-1 by cell; (difference, low, high) by cell; epochs."""
    sweep = pd.DataFrame({"cell": valid.keys(), "valid_top1": valid.values(), "top1": 40.0})
    rows = pd.DataFrame(
        [(cell, *of) for cell, of in dict(differences).items()],
        columns=["cell", "difference", "low", "high"],
    ).assign(stage="single", query_frames=np.nan, p_holm=p_holm, n_recordings=100, n_seeds=0)
    others = rows.assign(difference=-50.0, low=-60.0, high=-40.0)  # of other stages and lengths
    every = [rows, others.assign(stage="two"), others.assign(query_frames=9.0)]
    return {
        "sweep": sweep.assign(n_seeds=n_seeds, epochs=2, updates=390.0, crops=62400.0),
        "sweep_differences": pd.concat(every),
        "sweep_training": pd.DataFrame(
            training, columns=["cell", "seed", "epoch", "top1", "alike"]
        ),
    }


def trained(cell, *ends):
    """Two epochs of a training per end; only the last counts."""
    return [
        row
        for seed, (top1, alike) in enumerate(ends)
        for row in ((cell, seed, 1, 90.0 - top1, 1 - alike), (cell, seed, 2, top1, alike))
    ]


def test_a_training_that_has_not_collapsed_and_knows_half_as_much_as_mean_pooling_trains():
    cells = ["to the letter", "fingerprints before whitening", "warm-up", "rate 0.0003"]
    cells += ["before whitening, warm-up"]
    valid = dict.fromkeys([*cells, "mean pooling"], 50.0)
    rows = trained("to the letter", (25, 0.9), (24.9, 0.1), (80, 0.91))
    rows += trained("fingerprints before whitening", (0, 1), (0, 1), (0, 1))
    rows += trained("warm-up", (30, 0.1), (30, 0.1), (20, 0.1))
    rows += trained("before whitening, warm-up", (30, 0.1), (30, 0.95), (30, 0.1))
    rows += trained("rate 0.0003", (30, 0.1), (30, 0.1), (30, 0.1))
    told = answers.of("published_recipe", report(valid, training=rows))
    assert told[0].startswith("No: to the letter 1 of 3 trainings do; after 390 updates")
    assert "25.0, 24.9, 80.0 % (mean pooling: 50.0)" in told[0] and "0.90, 0.10, 0.91" in told[0]
    assert "0 of 3 trainings do" in told[2]
    assert told[2].endswith("With one change: warm-up (2 of 3).")
    assert "warm-up (2 of 3), rate 0.0003 (3 of 3). The smallest" in told[3]
    assert told[3].endswith("with which all do: rate 0.0003.")
    better = [*rows[2:], *trained("to the letter", (30, 0.1))]
    better = [(cell, seed + (cell == cells[0]), *of) for cell, seed, *of in better]
    assert answers.of("published_recipe", report(valid, training=better))[0][:3] == "No:"
    better += [(cells[0], 3, 2, 30.0, 0.1)]
    assert answers.of("published_recipe", report(valid, training=better))[0][:4] == "Yes:"


@pytest.mark.parametrize(
    "of, word",
    [((1, 0.1, 2), "Yes"), ((1, -0.1, 1.9), "No"), ((1, -0.1, 2.1), "Not settled")],
)
def test_training_is_judged_at_the_largest_level_by_the_recipe_that_is_best_on_validation(of, word):
    differences = {"two layers, 5 songs": (3, 2, 4), "linear, 5 songs": (0, -1, 1)}
    differences |= {"two layers, 9 songs": of, "linear, 9 songs": (9, 8, 10)}
    valid = dict(zip(["mean pooling", "one-bit lift", *differences], [50, 70, 56, 55, 57, 56]))
    epochs = [row for cell in differences for row in trained(cell, (50, 0.1), (50, 0.1))]
    told = answers.of("training", report(valid, differences, training=epochs))
    assert told[0].startswith(f"{word}: two layers, 9 songs (the best there on validation")
    assert f"+1.0 [{of[1]:+.1f}, {of[2]:+.1f}] points from mean pooling" in told[0]
    assert (
        "(the best there on validation songs, 57.0 %; its trainings ended after 2, 2 epo" in told[0]
    )
    assert told[1].startswith("With less, 5 songs: yes: two layers, 5 songs") and len(told) == 2
    corrected = answers.of("training", report(valid, differences, training=epochs, p_holm=0.06))
    assert corrected[0] == told[0] and corrected[1].startswith("With less, 5 songs: not settled: ")


@pytest.mark.parametrize(
    "fixed, word",
    [((-1, -2, -0.1), "Yes"), ((-1, -1.1, 0), "Not settled"), ((0, -0.9, 2), "No")],
)
def test_growing_margins_are_judged_against_the_fixed_one_that_is_best_on_validation(fixed, word):
    differences = {"fixed at 0.2": (-9, -10, -8), "fixed at 0.3": fixed, "none": (5, 4, 6)}
    valid = dict(zip(["growing from 0.2 to 0.4", *differences], [50, 40, 45, 60]))
    told, of_none = answers.of("margins_best", report(valid, differences))
    assert of_none == "No margin at all is +5.0 [+4.0, +6.0] points from growing ones."
    assert told.startswith(f"{word}: growing from 0.2 to 0.4 is ")
    low, high = -fixed[2] + 0.0, -fixed[1]
    assert f"{-fixed[0] + 0.0:+.1f} [{low:+.1f}, {high:+.1f}] points from fixed at 0.3" in told


@pytest.mark.parametrize(
    "of, word",
    [
        ((3, 0.1, 6), "Yes"),
        ((2.9, 2, 4), "Better, but by less than 3 points"),
        ((3.5, -0.1, 7), "No"),
    ],
)
def test_learnt_bits_are_kept_if_they_gain_three_points_beyond_chance(of, word):
    differences = {"learnt": of, "learnt, with pairs of frames": (8, 7, 9)}
    differences |= {"mean pooling": (-20, -22, -18)}
    valid = dict(zip(["one-bit lift", *differences], [60, 62, 61, 55]))
    (told,) = answers.of("learnt_bits_128", report(valid, differences))
    assert told.startswith(f"{word}: learnt (the better on validation songs)")


def test_nothing_is_answered_before_all_trainings_are_there_or_without_a_rule():
    valid = {"one-bit lift": 60, "learnt": 62}
    few = report(valid, {"learnt": (3, 1, 5)}, n_seeds=[1, 2])
    few["sweep"].loc[0, "epochs"] = np.nan  # nothing to train, one evaluation
    (told,) = answers.of("learnt_bits_512", few)
    assert told == "Not answered yet: fewer than 3 trainings are there of learnt."
    assert answers.of("losses", few) == [] == answers.told("sweeps/losses", {})


def test_what_needs_no_training_is_no_training_alone():
    tables = report({"first": 50.0, "mean pooling": 60.0}, {"mean pooling": (2.0, 1.0, 3.0)})
    tables["sweep"].n_seeds = [3, 1]  # for its three seeds are one and the same
    row = next(answers.endpoints(tables).iloc[1:].itertuples())
    assert sweep_tables.said(row) == "more"
