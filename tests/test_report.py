"""Reports: comparison with a reference, labels and sentences, profiles, what steps notice."""

import json
import os
import re
import shutil
import subprocess

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import CHECKOUT, run_module

from amg import files, machine, provenance
from amg.check import InputError
from amg.report import (
    charts,
    compare,
    figures,
    lift_charts,
    pages,
    readme,
    sentences,
    tables,
    verdict,
)
from amg.report.running import pipeline, reads, steps

RATES = pd.DataFrame(
    [
        {
            "method": method,
            "encoder": encoder,
            "loss": loss,
            "duration_max": duration,
            "stage": stage,
            "protocol": "contiguous",
            "tolerance": tolerance,
            "query_frames": 2 * query_s - 1,
            "query_s": float(query_s),
            "n_queries": 600,
            "top1": 40.0 + query_s,
            "top10": 60.0 + query_s,
            "top1_low": 36.0 + query_s,
            "top1_high": 44.0 + query_s,
            "run": "",
            "finished": True,
        }
        for method, encoder, loss, duration, stage, tolerances in (
            ("nafp", "nafp", "ntxent", None, "sequence", ("exact", "near", "same_audio", "song")),
            ("amg", "mt", "amg", 10, "single", ("same_audio", "segment", "song")),
            ("amg", "mt", "amg", 10, "two", ("exact", "near", "same_audio", "song")),
            ("amg", "toy", "hinge", 30, "two", ("exact", "near", "same_audio", "song")),
            ("amg", "mean", "none", 10, "two", ("exact", "near", "same_audio", "song")),
        )
        for tolerance in tolerances
        for query_s in (2, 10)
    ]
)
COST = pd.DataFrame(
    {
        "method": ["nafp sequence", "amg two-stage"],
        "duration_max": [None, 10.0],
        "n_vectors": [20000, 1000],
        "index_bytes": [10_000_000, 500_000],
        "refine_bytes": [0, 10_000_000],
        "embed_ms": [0.0, 1.0],
        "embed_ms_q1": [0.0, 0.9],
        "embed_ms_q3": [0.0, 1.1],
        "search_ms": [4.0, 1.0],
        "search_ms_q1": [3.0, 0.9],
        "search_ms_q3": [5.0, 1.1],
        "top1": [90.0, None],
    }
)


@pytest.fixture(autouse=True)
def style():
    """Whatever test comes first, figures look as in the notebooks."""
    figures.begin()


def changed(column, value, rows=slice(None)):
    table = RATES.copy()
    table.loc[table.index[rows], column] = value
    return table


NEW = RATES.assign(method="nafp pq")


@pytest.mark.parametrize(
    "ours, verdict",
    [
        (RATES, "identical"),
        (changed("run", "another"), "identical"),
        (changed("top1", 41.9, slice(0, 1)), "within the intervals"),
        (
            changed(["top1", "top1_low", "top1_high"], [51, 47.0, 55], slice(0, 1)),
            "differs (top1 differs in 1 of 38 rows, most in ",
        ),
        (changed("top10", 68.9, slice(0, 1)), "within the intervals"),  # a tenth of the largest, 70
        (changed("top10", 69.1, slice(0, 1)), "differs (top10 differs in 1 of 38 rows"),
        (changed("n_queries", 599, slice(0, 2)), "differs (n_queries differs in 2 of 38 rows"),
        (
            changed("finished", False, slice(3, 4)),
            "differs (finished differs in 1 of 38 rows, most in ",
        ),
        (changed("top10", float("nan"), slice(0, 1)), "differs (top10 differs in 1"),
        (changed("loss", "other", slice(0, 1)), "differs (1 row missing, the first: "),
        (RATES.iloc[::-1], "identical"),
        (RATES.iloc[3:], "differs (3 rows missing, the first: "),
        (pd.concat([RATES, NEW]), "identical (38 rows new, the first: nafp pq, "),
        (pd.concat([NEW, RATES.assign(top1=42.5)]), "within the intervals (38 rows new, "),
        (RATES.assign(more=1), "identical (new column more)"),
        (RATES.drop(columns="method"), "differs (column method is missing)"),
        (None, "differs (only the reference has it)"),
    ],
)
def test_comparison(ours, verdict):
    assert compare.compare(ours, RATES).startswith(verdict)


def test_a_table_that_the_reference_has_not_is_new():
    assert compare.compare(RATES, None) == "new (the reference has no such table)"


def test_times_are_not_compared_but_lengths_are():
    log = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 2.0], "seconds": [1.0, 1.0]})
    assert compare.compare(log.assign(seconds=9.0), log) == "identical"
    clips = pd.DataFrame({"piece": ["a", "b"], "seconds": [30.0, 30.0], "refused": ["", "short"]})
    assert compare.compare(clips.assign(seconds=3.0), clips).startswith("differs")
    assert compare.compare(clips.assign(refused=""), clips).startswith("differs")
    assert compare.compare(COST.assign(search_ms=9.0, embed_ms_q3=7.0), COST) == "identical"


def test_differences_are_compared_by_their_intervals():
    table = pd.DataFrame(
        {
            "method": ["amg"],
            "against": ["nafp"],
            "difference": [-2.0],
            "low": [-4.0],
            "high": [0.0],
            "n_recordings": [90],
        }
    )
    table = table.assign(p=0.04)
    near, far = (table.assign(difference=d, low=d - 2, high=d + 2, p=0.4) for d in (1.5, 3.0))
    assert compare.compare(near, table) == "within the intervals"
    assert compare.compare(far, table).startswith("differs (difference differs in 1")


@pytest.fixture
def references(home, monkeypatch):
    """An empty workspace and an empty folder of reference runs."""
    folder = home / "kept"
    monkeypatch.setattr(compare, "reference", lambda profile: folder / profile)
    return folder


def report(home, table=RATES, commit="abc1234"):
    """A report of the profile smoke with two tables and a state, as the pipeline leaves it."""
    written = [
        str(tables.write(one, "smoke", name).relative_to(home))
        for name, one in (("retrieval", table), ("cost", COST))
    ]
    step = {
        "label": "04_evaluate",
        "parameters": {"seed": 0},
        "wall_s": 60,
        "peak_memory_mb": 100,
        "changed": {"seed": 0},
    }
    base = home / "reports/smoke"
    manifest = {
        "profile": "smoke",
        "command": "make reproduce PROFILE=smoke",
        **machine.describe(),
        "commit": commit,
        "steps": [step],
    }
    files.write_json(base / "state/04_evaluate.json", {"outputs": dict.fromkeys(written, "")})
    (base / "notebooks").mkdir(exist_ok=True)
    (base / "notebooks/04_evaluate.html").write_text("page")
    pages.write_index("smoke", manifest, written)
    return base


def test_a_report_is_compared_with_its_reference(home, references, monkeypatch):
    monkeypatch.setattr(machine, "at_commit", lambda commit: True)
    base = report(home)
    assert "no reference run of the profile smoke" in (base / "index.html").read_text()
    pages.make_reference("smoke")
    assert not (references / "smoke/state").exists()
    assert (references / "smoke/notebooks/04_evaluate.html").exists()
    kept = (references / "smoke/index.html").read_text()
    assert "This is the reference run" in kept and "no reference run" not in kept
    text = (report(home) / "index.html").read_text()
    assert "reproduced: your 2 tables agree with the committed reference run (abc1234" in text
    text = (report(home, changed("n_queries", 1)) / "index.html").read_text()
    assert "not reproduced: 1 of 2 tables differ from the committed reference run" in text
    assert "retrieval differs (n_queries differs in 38 of 38 rows" in text.split("</p>")[0]
    shown = readme.results("smoke")
    assert shown.startswith("`make reproduce PROFILE=smoke`") and "commit abc1234" in shown


def test_only_a_run_of_committed_code_becomes_a_reference(home, references):
    for profile, command in (("smoke", "make reproduce PROFILE=smoke"), ("sweeps/a", "amg sweep")):
        with pytest.raises(InputError, match=f"holds no report; run `{command}"):
            pages.make_reference(profile)
    for commit in ("abc1234+", "unknown"):
        report(home, commit=commit)
        with pytest.raises(InputError, match=rf"steps of commit {commit[:4]}.*commit them"):
            pages.make_reference("smoke")
    assert not references.exists()


def test_labels_of_any_method():
    labels = {tables.curve_label(row) for _, row in RATES.iterrows()}
    assert labels == {
        "NAFP (every fingerprint indexed)",
        "AMG, 10 s, single-stage",
        "AMG, 10 s, two-stage",
        "toy, hinge loss, 30 s, two-stage",
        "mean pooling, 10 s, two-stage",
    }
    row = RATES.iloc[-9].copy()
    row["finished"] = False
    assert "training not finished" in tables.curve_label(
        row
    ) and "not finished" in tables.ablation_label(row)
    assert (
        tables.hits(RATES.assign(finished=False))
        .index.get_level_values(0)
        .str.contains("not finished")
        .any()
    )


def lines(figure):
    return [line for axis in figure.axes for line in axis.lines]


def test_recall_has_a_panel_per_stage_and_names_at_the_ends_of_its_lines():
    lift = RATES[RATES.encoder == "mean"].assign(encoder="lift1024")
    coded = RATES[RATES.method == "nafp"].assign(method="nafp ivf-pq")
    short = RATES[RATES.method == "nafp"].assign(query_s=1.0)
    trained = RATES.assign(
        run=RATES.run.mask(RATES.encoder == "mt", "mt-amg-10s-epochs16-layers2-a")
    )
    figure = charts.recall_vs_duration(pd.concat([trained, lift, coded, short]))
    (two, single), base = figure.axes, "NAFP (every fingerprint indexed)"
    assert [axis.get_title("left") for axis in figure.axes] == [
        "two-stage, exact",
        "single-stage, song",
    ]
    assert {text.get_text() for text in two.texts} == {
        base,
        "AMG, 16 epochs",
        "mean pooling",
    }
    assert {text.get_text() for text in single.texts} == {base, "AMG, 16 epochs"}
    assert all(line.get_xdata().tolist() == [2, 10] for line in lines(figure))
    assert {line.get_label(): line.get_color() for line in two.lines} == {
        base: figures.METHODS["nafp"],
        "AMG, 16 epochs": figures.METHODS[tables.METHOD],
        "mean pooling": figures.METHODS["mean"],
    }
    for axis in figure.axes:  # no name stands on another
        at = sorted(axis.transData.transform([(2, text.xyann[1]) for text in axis.texts])[:, 1])
        assert all(low + 15 < high for low, high in zip(at, at[1:]))  # pixels of 110 an inch


def test_other_durations_and_decimation_have_figures_of_their_own():
    longer = RATES[RATES.duration_max == 10].assign(duration_max=30)
    figure = charts.durations(pd.concat([RATES[RATES.encoder != "toy"], longer]))
    assert [axis.get_title("left") for axis in figure.axes][:2] == [
        "AMG, two-stage, exact",
        "mean pooling, two-stage, exact",
    ]
    assert [line.get_label() for line in figure.axes[0].lines] == [
        "duration_max 10 s",
        "duration_max 30 s",
    ]
    thinned = RATES[RATES.method == "nafp"].assign(method="nafp 1/19")
    (axis,) = charts.decimation(pd.concat([RATES, thinned])).axes
    colours = {line.get_label(): line.get_color() for line in axis.lines}
    assert [*colours] == ["NAFP (every fingerprint indexed)", "NAFP, one frame in 19"]
    assert len(set(colours.values())) == 2


def test_recall_of_the_base_system_alone():
    figure = charts.recall_vs_duration(RATES[RATES.method == "nafp"])
    assert [len(axis.lines) for axis in figure.axes] == [1, 1]


def test_cost_stands_against_the_rate_of_the_same_method():
    cost = COST.assign(method=["nafp", "mean two-stage"])
    size, time = charts.cost(cost, RATES).axes
    assert [line.get_xdata().tolist() for line in size.lines] == [[10.0], [10.5]]  # MB
    assert [line.get_xdata().tolist() for line in time.lines] == [[4.0], [2.0]]  # ms
    assert [line.get_ydata().tolist() for line in size.lines] == [[50.0], [50.0]]
    assert [line.get_label() for line in size.lines] == [
        "NAFP (every fingerprint indexed)",
        "mean pooling, two-stage",
    ]


def test_lifts_are_drawn_by_kernel_and_by_directions():
    rows = [
        ("square", "bits", 4096, 60),
        ("p itself", "bits", 4096, 40),
        ("square", "bits", 512, 45),
        ("square", "values", 512, 50),
        ("the kernel itself", "values", 128**2, 65),
        ("mean pooling", "values", 128, 41),
    ]
    table = pd.DataFrame(rows, columns=["function", "kind", "dimensions", "top1"]).assign(
        top1_low=30, top1_high=70, duration_max=10
    )
    curves = {"square": np.array([1, 0.2]), "p itself": np.array([1, 0.5])}
    left, middle, right = lift_charts.lifts(np.array([0, 60]), curves, table).axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[1, 0.2], [1, 0.5]]
    assert [bar.get_width() for bar in middle.patches] == [60, 40]
    assert right.lines[0].get_xdata().tolist() == [512, 4096]
    assert right.lines[0].get_ydata().tolist() == [45, 60]


def test_shortlists_are_drawn_by_query_length():
    table = COST.iloc[[0, 1, 1]].assign(
        encoder=["nafp", "lift", "lift"],
        shortlist=[np.nan, 1, 10],
        query_frames=19,
        top1=[95, 60, 90],
        top1_low=[90, 55, 85],
        top1_high=[99, 65, 94],
        run="",
    )
    figure = lift_charts.shortlists(table)
    (axis,) = figure.axes
    assert [line.get_xdata().tolist() for line in axis.lines if line.get_marker() == "s"][1] == [
        2.0
    ]
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "NAFP (every fingerprint indexed)",
        "one-bit lift",
    ]
    assert axis.get_title("left").startswith("queries of 10 s")


def test_the_verdict_follows_from_the_intervals():
    """Two-stage AMG 1 point below the base system, well below mean pooling; the lift above both."""
    rows = [
        ("Transformer, AMG loss", "NAFP (every fingerprint indexed)", "two", -1.0, -1.5, -0.5),
        ("Transformer, AMG loss", "mean pooling, no training", "single", -9.0, -12.0, -6.0),
        ("one-bit lift, no training", "Transformer, AMG loss", "single", 30.0, 25.0, 35.0),
        ("one-bit lift, no training", "mean pooling, no training", "single", 1.0, -1.0, 3.0),
        ("one-bit lift, no training", "NAFP (every fingerprint indexed)", "two", -2.0, -3.0, -1.0),
    ]
    differences = pd.DataFrame(
        rows, columns=["method", "against", "stage", "difference", "low", "high"]
    )
    differences = differences.assign(
        duration_max=10, query_s=10.0, query_frames=19, n_recordings=90
    )
    cost = pd.concat(
        [
            COST.assign(method=["nafp", "amg two-stage"]),
            COST.iloc[:1].assign(method="nafp ivf-pq", search_ms=40.0),
        ]
    )
    report = {"differences": differences, "cost": cost}
    steps = [{"label": "03_train-10", "parameters": {"layers": 2, "epochs": 16}}]
    claims = verdict.claims(report, steps)
    assert claims.verdict.tolist() == [
        "supported",
        "supported for the index alone",
        "supported against IVF-PQ alone",
        "not supported",
        "supported / not settled here",
    ]
    accuracy, storage, time, training, lift = claims.iloc[:, 1]
    assert claims.columns[1] == "measured here (10 s queries, 90 recordings)"
    assert "-1.0 [-1.5, -0.5] points" in accuracy
    assert "5.0 % for the index (5 % of IVF-PQ's); 105 % with the fingerprints" in storage
    assert "50 % of an exhaustive search's; 5 % of IVF-PQ's" in time
    assert training.endswith("segment Top-1 (2 layers, 16 epochs)")
    assert "+30.0 [+25.0, +35.0] points from the trained encoder's" in lift
    assert "-2.0 points against NAFP (every fingerprint indexed), two-stage exact" in lift
    assert "points against NAFP (every fingerprint indexed), two-stage exact Top-1" in accuracy
    assert "candidates; a loss" in accuracy and time.endswith("run it")
    # with the published shortlist, and with fewer frames in place of vectors
    thinned = COST.iloc[[0, 0]].assign(
        method=["nafp 1/9", "nafp 1/19"], search_ms=3.0, top1=[85.0, 80.0]
    )
    report["cost"] = pd.concat([cost.assign(top1=[90.0, 88.0, 89.0]), thinned])
    lists = [("nafp", np.nan, 92.0, np.nan), ("lift", 10, 85.0, np.nan), ("mt", 10, 70.0, "run")]
    lists = pd.DataFrame(lists, columns=["encoder", "shortlist", "top1", "run"])
    report["shortlists"] = lists.assign(query_frames=9, n_queries=638)
    accuracy, storage, time, *_ = verdict.claims(report, steps).iloc[:, 1]
    assert "(with the 10 of their code, 70.0 % against 92.0 % at 5 s, 638 queries)" in accuracy
    assert "(5 % of IVF-PQ's)" in storage
    assert "one frame in 19, without any encoder, finds 80.0 % in 3.0 ms, AMG with " in time
    assert "AMG with vectors of 10 s 88.0 % in 2.0 ms" in time
    # all of it in codes
    small = {"method": ["nafp PQ64x5", "lift1024 two-stage PQ64x5"], "duration_max": [None, 10.0]}
    small |= {"index_bytes": [800_000, 130_000], "refine_bytes": [0, 800_000], "search_ms": 0.3}
    small = COST.assign(**small, embed_ms=0.05)
    names = ["NAFP, PQ64x5", "one-bit lift of 1,024, PQ64x5, no training"]
    lost = differences.iloc[[4, 4]].assign(method=names, stage=["sequence", "two"])
    coded = {"cost": pd.concat([cost, small]), "differences": pd.concat([differences, lost])}
    claim = verdict.claims(coded, steps).loc["A tenth of both, the whole system"]
    assert (
        "as codes of 40 bytes: 9.3 % of the bytes of both stages and 9 % of an ex" in claim.iloc[1]
    )
    assert "without any encoder: 8.0 % and 9 %, -2.0 [-3.0, -1.0] points" in claim.iloc[1]
    assert claim.verdict == "supported"
    worse = differences.assign(difference=-9.0, low=-12.0, high=-6.0)
    assert verdict.claims(report | {"differences": worse}, []).verdict.iloc[0] == "not supported"
    slow = cost.assign(embed_ms=[0.0, 9.0, 0.0])
    assert verdict.claims(report | {"cost": slow}, []).verdict.iloc[2] == "not supported"
    assert verdict.claims({"differences": differences.iloc[1:], "cost": cost}, []).empty
    few = differences.assign(n_recordings=29)
    claims = verdict.claims({"differences": few, "cost": cost}, [])
    assert claims.verdict.iloc[0] == "too few to judge (29 recordings)"


def test_cosine_against_overlap_shows_medians_of_tenths():
    found = pd.DataFrame(
        {"overlap": [0.05, 0.06, 0.07, 1.0], "cosine": [0.1, 0.3, 0.4, 0.9], "others": 0.0}
    )
    (axis,) = figures.cosine_against_overlap({"after training": found, "mean pooling": found}).axes
    assert [line.get_ydata().tolist() for line in axis.lines[::2]] == [[0.3, 0.9]] * 2
    assert axis.lines[0].get_xdata().tolist() == pytest.approx([0.05, 0.95])


def test_what_was_left_out_and_the_whole_cost():
    clips = pd.DataFrame(
        {
            "role": ["test", "dummy", "test"],
            "recording": "x",
            "seconds": 30.0,
            "refused": ["", "", "same sound as x (train)"],
        }
    )
    said = sentences.asked({"retrieval": RATES, "clips": clips})
    assert said.startswith("600 trials of 10 s. 1 clip left out for sharing sound")
    shown = tables.costs(COST)  # (1 + 1) of 4 ms; (0.5 + 10) of 10 MB
    assert shown["time (%)"].tolist() == ["100", "50"]
    assert shown["bytes (%)"].tolist() == ["100.0", "105.0"]
    assert shown["embed (ms)"].tolist() == ["", "1.00"]
    large = tables.costs(COST.assign(search_ms=[0.003, 1592.6], index_bytes=[129_820_000, 0]))
    assert [text.split(" ")[0] for text in large["search (ms)"]] == ["<0.01", "1,593"]
    assert large["index (MB)"].tolist() == ["130", ""]
    assert shown["search (ms)"].tolist() == ["4.00 [3.00, 5.00]", "1.00 [0.900, 1.10]"]


def test_the_size_tells_distractors_by_their_kind():
    rows = [
        ("game/a.ogg", "game", "train"),
        ("game/a.ogg", "game", "train"),
        ("game/b.ogg", "game", "dummy"),
        ("game/b.ogg x0.94", "game", "dummy"),
        ("game/b.ogg x1.06", "game", "dummy"),
        ("bach/bwv1.mxl", "bach", "dummy"),
    ]
    clips = pd.DataFrame(rows, columns=["recording", "source", "role"])
    clips = clips.assign(seconds=1800.0, refused="")
    said = sentences.size({"clips": clips})
    assert said.startswith(
        "2 training clips of 1 recordings; distractors: 2 copies at other speeds"
    )
    assert "1 unaltered recordings (0.5 h)" in said and "1 renderings of sheet music" in said
    songs = clips.assign(source="bach", role="train", recording=["a", "a", "b", "c", "c", "c"])
    assert sentences.size({"clips": songs}).startswith("6 training songs of 3 works;")


def test_conditions_are_shown_in_their_order_at_three_tolerances():
    rates = pd.DataFrame(
        [
            {
                "group": group,
                "condition": condition,
                "tolerance": tolerance,
                "query_s": query_s,
                "top1": top1 + query_s,
            }
            for group, condition in (("SNR", "5 dB"), ("clean", "as recorded"))
            for tolerance, top1 in (("exact", 1.0), ("near", 2.0), ("song", 3.0))
            for query_s in (2.0, 10.0)
        ]
    )
    table = tables.robustness(rates)
    assert table.index.tolist() == [("SNR", "5 dB"), ("clean", "as recorded")]
    assert table["2 s"].tolist() == ["3.0 / 4.0 / 5.0"] * 2 and list(table) == ["2 s", "10 s"]


def test_differences_say_where_none_is_shown():
    table = pd.DataFrame(
        {
            "method": "AMG",
            "against": "mean pooling",
            "duration_max": [5.0, 10.0],
            "stage": "single",
            "tolerance": "segment",
            "query_s": 10.0,
            "difference": [1.0, 4.0],
            "low": [-2.0, 1.0],
            "high": [4.0, 7.0],
            "n_recordings": 30,
        }
    )
    few = table.assign(n_recordings=[2, 29])
    assert tables.differences(few).says.tolist() == ["too few recordings"]
    short = tables.differences(table, 5.0)
    assert short["Top-1 (points)"].tolist() == ["+1.0 [-2.0, +4.0]"]
    assert short.says.tolist() == ["no difference shown"]
    longer = tables.differences(table)
    assert longer["duration_max (s)"].tolist() == ["10"] and longer.says.tolist() == [""]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "profile mine is None, but must hold a section for each notebook"),
        ("- 02_split", "profile mine is ['02_split'], but must hold a section"),
        ("02_split: [1]", "section 02_split of profile mine is [1], but must hold parameters"),
        ("02_split: {a: b: c}", "profile mine is not valid YAML"),
        ("09_dance: {}", "a section of profile mine is '09_dance', but must be one of"),
        ("3: {}", "a section of profile mine is 3, but must be one of"),
        ("02_split: {speed: 3}", "02_split has no parameter 'speed'"),
        (
            "02_split: {durations: 5}",
            "durations of 02_split is 5 in the profile, but must be of the type list",
        ),
        ("03_train: {lr: 1e-3}", "write 1.0e-3 for 1e-3"),
        ("03_train: {epochs: true}", "epochs of 03_train is True in the profile"),
        ("03_train: {for_each: {duration_max: [5], seed: [1, 2]}}", "must hold one parameter"),
        (
            "03_train: {for_each: [5, 10]}",
            "for_each in section 03_train of profile mine is [5, 10]",
        ),
        ("03_train: {for_each: {duration_max: 5}}", "is 5, but must be a list"),
        ("all: [1]", "section all of profile mine is [1], but must hold parameters"),
        ("all: {epoch: 3}", "a parameter in section all of profile mine is 'epoch', but must be"),
        ("{all: {epochs: 3}, 02_split: [1]}", "section 02_split of profile mine is [1], but must"),
    ],
)
def test_a_profile_is_refused_in_one_sentence(home, text, message):
    with pytest.raises(InputError) as error:
        pipeline.parse_profile("mine", text)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_parameters_for_all_notebooks_go_to_those_that_have_them_on_top_of_the_demo(home):
    text = "all: {n_valid: 5, folder: music}\n03_train: {for_each: {duration_max: [10]}}\n"
    text += "06_robustness:"
    found = {step.label: step.resolved for step in pipeline.parse_profile("mine", text)}
    demo = [step.label for step in pipeline.load_profile("demo")]
    assert found.keys() == {*demo, "06_robustness"} - {"03_train-5", "03_train-30"}
    assert {label for label, of in found.items() if of.get("n_valid") == 5} == {
        label for label, of in found.items() if "n_valid" in of
    }
    assert found["01_data_prep"]["folder"] == "music"
    for of in found.values():
        assert of["report"] == "mine" and of.get("train_set", "mine") == "mine"
        assert of.get("database", "database/mine") == "database/mine"
    assert found["04_evaluate"]["durations"] == [5, 10, 30]  # the demo's


def test_all_profiles_are_sound(home):
    assert {"smoke", "demo", "open_music", "published"} <= set(pipeline.profiles())
    assert all(pipeline.load_profile(name) for name in pipeline.profiles())


def notebook(tmp_path, *cells):
    """A notebook file of code cells, the first one its parameters."""
    path = tmp_path / "02_split.ipynb"
    path.write_text(
        json.dumps(
            {
                "cells": [
                    {
                        "cell_type": "code",
                        "source": cell,
                        "metadata": {"tags": ["parameters"]} if i == 0 else {},
                    }
                    for i, cell in enumerate(cells)
                ]
            }
        )
    )
    return path


def test_a_notebook_s_digest_is_blind_to_comments_alone(tmp_path):
    digest, modules, defaults = steps.read_notebook(
        notebook(tmp_path, "a: int = 1  # one\nb = [1,\n 2]", "x = 1")
    )
    assert defaults == {"a": 1, "b": [1, 2]}
    same = steps.read_notebook(notebook(tmp_path, "a: int = 1\nb = [1, 2]", "x  =  1  # more\n\n"))
    other = steps.read_notebook(notebook(tmp_path, "a: int = 1\nb = [1, 2]", "x = 2"))
    assert digest == same[0] != other[0]
    with pytest.raises(InputError, match="is no Python"):
        steps.read_notebook(notebook(tmp_path, "a = 1", "%matplotlib inline"))


TABLE = "reports/mine/tables/table.csv"


@pytest.fixture
def step(home, monkeypatch):
    """A step that is done: it reads a made database and writes a made folder and a table."""
    monkeypatch.setitem(reads.READS, "02_split", [lambda p: ["database/mine", "music"]])
    monkeypatch.setitem(reads.MAKES, "02_split", [lambda p: ["segments"]])
    make(home / "database/mine", {"n": 1})
    (home / "music/a").mkdir(parents=True)
    (home / "music/a/1.wav").write_text("sound")
    one = steps.Step("02_split", {}, "02_split", "mine")

    def execute(step, **_):
        make(home / "segments", {"n": 1})
        files.write_json(home / TABLE, {})
        files.write_json(step.executed, {})

    monkeypatch.setattr(steps.Step, "execute", execute)
    one.run()
    return one


def make(path, parameters, interrupted=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with provenance.making(path, provenance.Recipe("segments", parameters)):
            if interrupted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass


def test_a_step_stays_done_where_a_copy_followed_the_links(
    step, home, tmp_path_factory, monkeypatch
):
    copy = tmp_path_factory.mktemp("copy") / "home"
    shutil.copytree(home, copy, copy_function=shutil.copyfile)
    os.utime(copy / "music/a/1.wav", ns=(0, (home / "music/a/1.wav").stat().st_mtime_ns))
    monkeypatch.setenv("AMG_HOME", str(copy))
    assert not (copy / "segments").is_symlink()
    assert steps.Step("02_split", {}, "02_split", "mine").finished()
    (copy / "segments/more").touch()
    assert not steps.Step("02_split", {}, "02_split", "mine").finished()


def test_a_step_is_done_until_something_changes(step, home):
    assert step.finished()
    changes = {
        "its input is another thing": lambda: make(home / "database/mine", {"n": 2}),
        "its output is another thing": lambda: make(home / "segments", {"n": 2}),
        "its output is not finished": lambda: make(home / "segments", {"n": 3}, interrupted=True),
        "its output is gone": lambda: (home / "segments").unlink(),
        "its table was changed": lambda: (home / TABLE).write_text("y\n"),
        "its table is gone": lambda: (home / TABLE).unlink(),
        "music was added": lambda: (home / "music/a/2.wav").write_text("more"),
        "music was moved": lambda: (home / "music/a/2.wav").rename(home / "music/2.wav"),
        "its page is gone": lambda: step.executed.unlink(),
        "its state is broken": lambda: step.state.write_text("{"),
    }
    for what, change in changes.items():
        change()
        assert step.finished() is None, what
        step.run()
        assert step.finished(), what


def test_going_back_and_forth_is_noticed_by_digests_not_dates(step, home):
    make(home / "database/mine", {"n": 2})
    assert step.finished() is None
    make(home / "database/mine", {"n": 1})
    assert step.finished()  # the link points to the first one again
    files.write_json(home / TABLE, {})
    assert step.finished()  # written again, the same


def test_a_step_s_outputs_are_what_it_wrote(step, home):
    files.write_json(home / "reports/mine/figures/of_another.png", {})
    step.run()
    assert list(step.finished()["outputs"]) == ["segments", TABLE]


def test_cells_code_and_parameters_are_part_of_a_step(step, monkeypatch, capsys):
    for change in ({"resolved": {**step.resolved, "durations": [5]}}, {"cells": "0"}):
        with monkeypatch.context() as patch:
            for name, value in change.items():
                patch.setattr(step, name, value)
            assert step.finished() is None
    assert step.finished()["kept"] == []
    monkeypatch.setattr(step, "code", {**step.code, "amg.check": "changed"})
    assert step.finished() is None
    assert "02_split: amg.check changed since; made anew" in capsys.readouterr().err
    monkeypatch.setenv(provenance.KEEP, "1")
    assert step.finished()["kept"] == ["amg.check"]
    assert "made by earlier code, kept" in capsys.readouterr().err


def test_a_second_reproduce_is_told(home):
    (home / "reports").mkdir()
    with provenance.lock(home / "reports/smoke"):
        done = run_module("amg", "reproduce", "--profile", "smoke")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "amg: another process is working on reports/smoke; wait for it" in done.stderr


def test_git_ignores_a_user_s_reports_and_keeps_the_reference_runs():
    def ignored(name):
        return not subprocess.run(["git", "check-ignore", "-q", name], cwd=CHECKOUT).returncode

    if not (CHECKOUT / ".git").exists():
        pytest.skip("no git here")
    assert ignored("reports/demo/index.html") and ignored("reports/.demo.lock")
    assert ignored("data/train/demo") and ignored("database/demo-0a1b2c3d.json")
    assert not ignored("reports/reference/demo/index.html")


def test_a_page_repeats_only_parameters_that_differ(home):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                "seed: int = 0  # of all\ndurations: list = [1, 2]",
                metadata={"tags": ["parameters"]},
            ),
            nbformat.v4.new_code_cell(
                "# Parameters\nseed = 0\ndurations = [3]\nreport = 'smoke'",
                metadata={"tags": ["injected-parameters"]},
            ),
        ]
    )
    parameters = {"seed": 0, "durations": [3], "report": "smoke"}
    step = steps.Step("02_split", parameters, "02_split", "smoke")
    step.executed.parent.mkdir(parents=True)
    nbformat.write(notebook, step.executed)
    page = pages.write_notebook(step, "01_data_prep").read_text()
    text = re.sub("<[^>]+>", "", page)
    assert "durations = [3]" in text and "seed = 0" not in text and "seed: int = 0" in text
    assert 'href="01_data_prep.html"' in page and "→" not in page


def test_the_page_folds_all_but_the_first_sections(home, references):
    html = (report(home) / "index.html").read_text()
    assert {"recall", "cost", "notebooks"} <= set(re.findall(r'id="(\w+)"', html))
    assert "million" not in html and "All figures" not in html
    assert 'href="tables/retrieval.csv"' in html and "seed=0" in html


def test_every_table_that_is_drawn_has_its_place_in_a_section():
    sections = yaml.safe_load((CHECKOUT / "amg/report/sections.yaml").read_text())
    parts = [part for section in sections for part in [*section["parts"], *section.get("more", ())]]
    assert sorted(part["table"] for part in parts if "table" in part) == sorted(pages.DRAWN)
    assert all({"alt", "caption"} < set(part) for part in parts if "figure" in part)
    kinds = {"text", "definitions", "sentences", "table", "figure"}
    assert all(len(kinds & set(part)) == 1 for part in parts)
    definitions = next(part["definitions"] for part in parts if "definitions" in part)
    assert [name.replace(" ", "_") for name in definitions] == list(tables.TOLERANCES)
