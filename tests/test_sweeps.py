"""Sweeps: what a file says, its budget, its cells run one after the other, and what they say."""

import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_training_set
from torch import nn

from amg.check import InputError
from amg.embedding import encoders, songs, validation
from amg.fingerprint import features
from amg.report import sweep_tables
from amg.report.running import reads, steps, sweep_runs, sweeps
from amg.report.running.sweep_runs import Result
from amg.retrieval import cost

SWEEP = """# Which is better?
profile: smoke
all: {duration_max: 10, query_frames: [5, 19]}
"""
SMALL = f"{SWEEP}budget: {{updates: 6}}\n"


def write(folder, text, name="mine.yaml"):
    (folder / name).write_text(text)
    return str(folder / name)


def read(folder, text):
    return sweeps.read(write(folder, text))


def test_cells_are_variants_times_the_grid_times_seeds(tmp_path):
    text = f"""{SMALL}seeds: [3, 1]
cells:
  growing: {{}}
  Random, fixed!: {{centres: random, margin_max: 0.2, margin_min: 0.2}}
  mean: {{encoder: mean}}
grid: {{shortlist: [20, 50]}}
"""
    sweep = read(tmp_path, text)
    assert (sweep.name, sweep.question) == ("mine", "Which is better?")
    labels = [cell.label for cell in sweep.cells]
    assert labels == [
        *("growing-shortlist-20-seed3", "growing-shortlist-50-seed3"),
        *("random-fixed-shortlist-20-seed3", "random-fixed-shortlist-50-seed3"),
        *("mean-shortlist-20-seed3", "mean-shortlist-50-seed3"),  # nothing to train: once
        *("growing-shortlist-20-seed1", "growing-shortlist-50-seed1"),
        *("random-fixed-shortlist-20-seed1", "random-fixed-shortlist-50-seed1"),
    ]
    cell = sweep.cells[2]
    assert cell.config.settings["margin_max"] == 0.2 and cell.config.variation.centres == "random"
    assert cell.config.seed == cell.train["seed"] == 3 and cell.train["layers"] == 1  # of smoke
    assert cell.train["settings"] == {"centres": "random"}
    assert cell.evaluate["durations"] == [10] and cell.evaluate["alone"]
    assert (cell.evaluate["shortlist"], cell.evaluate["query_frames"]) == (20, [5, 19])
    assert sweep.cells[4].config is None
    of_training = read(tmp_path, text.replace("shortlist: [20, 50]", "lr: [0.1, 0.2]"))
    assert [cell.name for cell in of_training.cells[4:6]] == ["mean", "growing, lr 0.1"]


def test_a_report_is_of_the_file_and_the_profile(tmp_path):
    """Another profile's results do not replace those of the file's own."""
    file = write(tmp_path, f"{SMALL}cells: {{a: {{}}}}\n")
    names = [sweeps.read(file, profile).name for profile in ("", "smoke", "demo")]
    assert names == ["mine", "mine", "mine-demo"]
    with pytest.raises(InputError, match="sweep margins.yaml: a sweep of the kit has this name"):
        sweeps.read(write(tmp_path, SMALL, "margins.yaml"))


def test_a_profile_of_several_durations_leaves_the_notebooks_own(tmp_path):
    (cell, *_) = read(
        tmp_path, f"{SMALL.replace('duration_max: 10, ', '')}cells: {{a: {{}}}}"
    ).cells
    assert cell.train["duration_max"] == 10 and cell.train["epochs"] == 2


@pytest.mark.parametrize(
    "budget, epochs",
    [
        ("{updates: 12}", [4, 4, 3]),
        ("{crops: 48}", [3, 3, 2]),  # an epoch has 18, or 12 pairs
        ("", [2, 2, 2]),  # as many updates as the first has by its profile
        ("{epochs: 9, patience: 2}", [9, 9, 9]),
    ],
)
def test_a_budget_gives_epochs(home, tmp_path, budget, epochs):
    write_training_set(home / "data/train/smoke", n_songs=8, n_frames=59)
    cells = "cells: {a: {}, b: {lr: 0.01}, pairs: {loss: infonce}}\n"
    text = f"{SWEEP}{f'budget: {budget}' if budget else ''}\nseeds: [0]\n{cells}"
    sweep = read(tmp_path, text.replace("{duration_max", "{batch_size: 6, duration_max"))
    budgeted = sweep_runs.budgeted(sweep, "sweeps/mine", 1)
    assert [cell.config.epochs for cell in budgeted.cells] == epochs
    assert [cell.train["epochs"] for cell in budgeted.cells] == epochs
    data = sweep_runs.data_of(budgeted.cells[0])
    per_epoch = [songs.updates(cell.config, data) for cell in budgeted.cells]
    assert per_epoch == [3, 3, 4]
    kept = [cell.config.variation.patience for cell in budgeted.cells]
    assert kept == [2 if "patience" in budget else 0] * 3


def test_minutes_are_measured_once(home, tmp_path, monkeypatch):
    write_training_set(home / "data/train/smoke", n_songs=8, n_frames=59)
    text = f"{SWEEP}budget: {{minutes: 1}}\nseeds: [0]\ncells: {{a: {{}}, b: {{lr: 0.01}}}}\n"
    sweep = read(tmp_path, text)
    first = sweep_runs.budgeted(sweep, "sweeps/mine", 1)
    assert all(cell.config.epochs > 1 for cell in first.cells)
    monkeypatch.setattr(sweep_runs, "_timed", lambda *_: pytest.fail("measured again"))
    assert sweep_runs.budgeted(sweep, "sweeps/mine", 1) == first


@pytest.mark.parametrize("budget", ["{updates: 6}", "{epochs: 6, patience: 2}"])
def test_more_songs_than_there_are_are_refused_before_anything_runs(home, tmp_path, budget):
    write_training_set(home / "data/train/smoke", n_songs=8, n_frames=59)
    cells = "cells: {few: {songs: 4}, many: {songs: 400}}\n"
    sweep = read(tmp_path, f"{SWEEP}budget: {budget}\n{cells}")
    with pytest.raises(InputError, match="mine: cell 'many': songs is 400, but must be .* to 6"):
        sweep_runs.budgeted(sweep, "sweeps/mine", 1)


def test_what_any_cell_reads_is_read_by_the_sweep(tmp_path):
    cells = "cells: {a: {own_module: rivals, encoder: linear}, b: {start: mine/mt-amg-10s}, c: }\n"
    cells += "grid: {start: [yours/mt-amg-10s], lr: 1}\n"  # the notebook says what is wrong with 1
    read = reads.READS["05_ablations"][0]
    paths_of = read({"sweep": write(tmp_path, SMALL + cells), "profile": "", "report": "none"})
    names = [path.rpartition("/")[2] for path in paths_of]
    assert names == [
        "mine.yaml",
        "smoke.yaml",
        *("smoke", "trials.csv", "smoke", "rivals.py"),
        "mt-amg-10s",
        "mt-amg-10s",
    ]


MODULE = '''"""One class of somebody's own."""

from torch import nn

from amg.embedding import encoders
from amg.embedding.encoders.mean import mean_of_valid


@encoders.register("{name}")
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(128, 128)

    def forward(self, x, padding):
        {line}return nn.functional.normalize(self.layer(mean_of_valid(x, padding)))
'''


@pytest.mark.slow
def test_a_broken_cell_does_not_stop_the_others(own, smoke, tmp_path, monkeypatch):
    """An encoder of one's own is a class in a file and a line of YAML; one that breaks leaves its
    sentence in the table, is tried again, and nothing else is."""
    monkeypatch.setenv("AMG_HOME", str(smoke))
    before = {path: path.resolve() for path in (smoke / "data/models/smoke").iterdir()}
    for name, line in (("fine", ""), ("broken", "raise RuntimeError('no luck')\n        ")):
        (tmp_path / f"own_{name}.py").write_text(MODULE.format(name=name, line=line))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    )
    cells = """seeds: [0]
cells:
  mean pooling: {encoder: mean}
  broken: {own_module: own_broken, encoder: broken}
  my own: {own_module: own_fine, encoder: fine}
"""
    file = write(tmp_path, f"{SMALL}{cells}")
    sweep, ran, run, records = sweeps.read(file), [], steps.Step.run, []

    def counted(step, **options):
        ran.append(step.base.name)
        return run(step, **options)

    monkeypatch.setattr(steps.Step, "run", counted)
    for expected in (["mean-pooling", "broken", "my-own", "my-own"], ["broken"]):
        ran.clear()
        budgeted = sweep_runs.budgeted(sweep, "sweeps/mine", 1)
        sweep_runs.run(budgeted, "sweeps/mine", 1)
        assert ran == [f"{name}-seed0" for name in expected]
        records.append((smoke / "reports/sweeps/mine/cells/broken-seed0.json").read_text())
    assert records[0] != records[1]  # a step that reads them is not done
    sweeps.command(file, 1, "", show=True)
    table = pd.read_csv(smoke / "reports/sweeps/mine/tables/sweep.csv").set_index("cell")
    assert table.n_seeds.to_dict() == {"mean pooling": 1, "broken": 0, "my own": 1}
    assert "03_train failed in cell In [" in table.failed["broken"]
    assert "RuntimeError: no luck" in table.failed["broken"] and table.failed.notna().sum() == 1
    assert table.parameters["my own"] == 128 * 129 and table.updates["my own"] == 6
    assert (smoke / "reports/sweeps/mine/notebooks/so_far.html").exists()
    moved = [path for path, target in before.items() if path.resolve() != target]
    assert moved == []  # what is trained for a cell is a try


def hits(cell, hit, failed=""):
    """A finished `Result` of a cell with this rate of hits."""
    n = 400
    trials = pd.DataFrame(
        {"song": range(n), "start": 0, "query_frames": np.repeat([5, 19], n // 2)}
    )
    rng = np.random.default_rng(cell.seed)
    where = rng.permutation(n) < hit * n
    history = pd.DataFrame({"epoch": [1, 2], "top1": [10.0, 50.0], "seconds": [30.0, 30.0]})
    return Result(cell, failed, history, trials.assign(single=where, two=True))


@pytest.fixture
def results(tmp_path):
    """Of the first cell and a better one three seeds, of a worse one one; one failed."""
    text = f"{SMALL}cells: {{first: {{}}, same: {{lr: 0.1}}, better: {{lr: 0.01}}, "
    sweep = read(tmp_path, f"{text}one: {{lr: 0.02}}, gone: {{lr: 0.03}}}}\n")
    rate = {"first": 0.4, "same": 0.41, "better": 0.8, "one": 0.1}
    made = [
        Result(cell, "no luck")
        if cell.name == "gone" or (cell.name == "one" and cell.seed)
        else hits(cell, rate[cell.name])
        for cell in sweep.cells
    ]
    return made


def test_tables_say_what_the_seeds_say(results):
    variants = sweep_tables.variants(results, [f"r{song}" for song in range(400)])
    rates, of_seeds = sweep_tables.rates(variants), sweep_tables.of_seeds(variants)
    assert len(rates) == 4 * 2 * 3 and len(of_seeds) == (3 + 3 + 3 + 1) * 2 * 3
    spread = of_seeds.groupby(["cell", "stage", "query_frames"], dropna=False).top1
    merged = rates.set_index(["cell", "stage", "query_frames"])
    for name, of in (("top1", "mean"), ("least", "min"), ("most", "max"), ("sd", "std")):
        expected = spread.agg(of).reindex(merged.index)
        assert merged[name].to_numpy() == pytest.approx(expected, abs=1e-3, nan_ok=True)
    known = {"parameters": 5, "gflops": 0.1, "bytes": 512, "updates": 3, "crops": 18}
    described = [known if variant.done else {} for variant in variants]
    overview = sweep_tables.overview(variants, rates, described)
    assert overview.updates.tolist()[:4] == [6] * 4 and overview.crops[0] == 36
    assert overview.minutes[0] == 1 and overview.valid_top1[0] == 50
    assert overview.failed.tolist() == ["", "", "", "no luck", "no luck"]
    differences = sweep_tables.differences(variants)
    said = dict(zip(*differences_of(differences)))
    assert said == {"same": "no difference shown", "better": "more", "one": "one training alone"}
    told = sweep_tables.supports(overview, differences)
    assert told[0].startswith("same against first: ") and "no difference shown" in told[0]
    assert "one training alone" in told[2] and "1 count; others: no luck" in told[2]
    assert told[3] == "gone: nothing is known; no luck"
    assert told[4].startswith(
        "1 of 3 differences of that kind are beyond chance. All hold for 6 up"
    )
    table = sweep_tables.readable(overview)
    assert table.loc["gone", "single-stage Top-1 (%)"] == "" == table.loc["one", "sd of seeds"]


def differences_of(table):
    rows = table[(table.stage == "single") & table.query_frames.isna()]
    return rows.cell, [sweep_tables.said(row) for row in rows.itertuples()]


def test_p_is_corrected_for_all_comparisons_of_the_table(results):
    variants = sweep_tables.variants(results, [f"r{song}" for song in range(400)])
    table = sweep_tables.differences(variants)
    lowest = table.p.min()
    assert len(table) == 3 * 2 * 3
    assert table.p_holm[table.p == lowest].min() == pytest.approx(min(1, 18 * lowest), abs=1e-4)


def test_a_table_of_many_comparisons_can_settle_one(tmp_path):
    """Of 300 corrected for, the smallest p of 9,999 draws would be above 0.05."""
    names = ", ".join(f"c{i}: {{lr: {0.001 * (i + 1):.3f}}}" for i in range(51))
    cells = read(tmp_path, f"{SMALL}seeds: [0]\ncells: {{{names}}}\n").cells
    made = [hits(cell, 0.9 if cell.name == "c1" else 0.2) for cell in cells]
    variants = sweep_tables.variants(made, [f"r{song}" for song in range(400)])
    table = sweep_tables.differences(variants)
    assert len(table) == 300 and table.p_holm[table.cell == "c1"].min() < 0.05


@pytest.mark.parametrize(
    "change, said",
    [
        ({}, "more"),
        ({"low": -1.0}, "no difference shown"),
        ({"p_holm": 0.06}, "not settled: not beyond chance once corrected"),
        ({"n_seeds": 2}, "two trainings alone"),
        ({"n_seeds": 0}, "more"),  # nothing is trained
        ({"n_recordings": 29}, "too few recordings"),
        ({"difference": -2.0, "low": -3.0, "high": -1.0}, "less"),
    ],
)
def test_what_a_difference_lets_one_say(change, said):
    row = {"difference": 2.0, "low": 1.0, "high": 3.0, "p_holm": 0.01, "n_seeds": 3}
    assert sweep_tables.said(pd.Series({**row, "n_recordings": 100, **change})) == said


def test_without_the_first_or_any_cell_nothing_is_compared(results):
    others = [replace(one, trials=None) if one.cell.name == "first" else one for one in results]
    none = [Result(one.cell, "not run yet") for one in results]
    for some in (others, none):
        variants = sweep_tables.variants(some, [f"r{song}" for song in range(400)])
        rates, differences = sweep_tables.rates(variants), sweep_tables.differences(variants)
        overview = sweep_tables.overview(variants, rates, [{}] * 5)
        assert differences.empty and len(overview) == 5
        told = sweep_tables.supports(overview, differences)
        assert "Nothing is compared as long as first and another cell are not there." in told


def test_cells_that_were_asked_other_trials_are_refused(results):
    other = replace(results[1], trials=results[1].trials.assign(start=1))
    with pytest.raises(InputError, match="same-seed0 was not asked the trials of the others"):
        sweep_tables.variants([results[0], other], ["a"] * 400)


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(128, 7, bias=False)

    def forward(self, x, padding):
        return self.layer(x).mean(1)


def test_an_encoder_without_training_is_validated_as_it_is_evaluated(home, tmp_path, monkeypatch):
    """Fitted: the lift's bits are above or below what is usual in the originals learnt from."""
    folder = write_training_set(home / "data/train/smoke", n_songs=12, n_frames=59)
    cell, other = read(
        tmp_path, f"{SMALL}cells: {{a: {{encoder: lift}}, b: {{encoder: mean}}}}"
    ).cells
    data, held_out, ranks, asked = features.pack(folder), np.array([10, 11]), validation.ranks, []
    fitted = encoders.untrained("lift", np.concatenate([data.clip(song, 0) for song in range(10)]))
    monkeypatch.setattr(validation, "ranks", lambda *of: asked.append(of[0]) or ranks(*of))
    for of, model in ((cell, fitted), (other, encoders.untrained("mean", None))):
        rank = ranks(model, data, held_out, 10)["rank"]
        assert sweep_runs.described(of)["valid_top1"] == 100 * (rank == 0).mean() > 0
    assert torch.equal(asked[0].usual, fitted.usual)


def test_operations_are_those_of_matrix_products():
    assert cost.gflops(Product(), 19) == pytest.approx(2 * 128 * 7 * 19 / 1e9)
    lstm = encoders.registry.build("mlstm", {"layers": 1, "hidden": 8})
    gates = 2 * 4 * 8 * (128 + 8) * 2 * 19  # both directions
    assert cost.gflops(lstm, 19) == pytest.approx((gates + 2 * 16 * 128) / 1e9)
