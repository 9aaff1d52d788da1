"""The notebooks and the pipeline: the smoke profile end to end, and their contract."""

import ast
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import soundfile
from conftest import CHECKOUT, parameters, run_module, write_training_set
from jupyter_client.manager import start_new_kernel
from papermill.exceptions import PapermillExecutionError

import amg
from amg import files
from amg.check import InputError
from amg.fingerprint import features
from amg.report import compare, pages, readme
from amg.report.running import pipeline, reads, steps, sweeps
from amg.retrieval import cost, databases, intervals

NOTEBOOKS = [CHECKOUT / "notebooks" / f"{name}.ipynb" for name in reads.NOTEBOOKS]
DATA_MD = CHECKOUT / "docs" / "data.md"
SMALL = {"train_set": "smoke", "layers": 1, "epochs": 1, "n_valid": 2}


def test_the_smoke_report_is_whole(smoke):
    report = smoke / "reports" / "smoke"
    retrieval = pd.read_csv(report / "tables" / "retrieval.csv")
    assert list(retrieval.columns) == intervals.COLUMNS
    rates = ["top1", "top10", "top1_low", "top1_high"]
    assert not retrieval.drop(columns=rates).duplicated().any()
    base = {"nafp", "nafp ivf-pq", "nafp 1/9", "nafp 1/19", "nafp PQ64x5"}
    assert set(retrieval.method) == base | {"amg", "amg PQ64x5"}
    assert set(retrieval.stage) == {"sequence", "single", "two"}
    assert set(retrieval.duration_max.dropna()) == {5, 10}
    assert set(retrieval.protocol) == {"contiguous", "published"}
    ours = retrieval[retrieval.protocol == "contiguous"]
    assert set(ours.tolerance) == {"exact", "near", "segment", "same_audio", "song"}
    theirs = retrieval[retrieval.protocol == "published"]
    assert set(theirs.tolerance) == {"segment", "exact", "song"}
    assert (
        retrieval.finished.all()
        and retrieval.run[retrieval.encoder == "mt"].str.startswith("mt-amg").all()
    )
    swept = pd.read_csv(report / "tables" / "sweep.csv")
    assert list(swept.cell) == ["AMG loss", "mean pooling"]
    assert swept.failed.isna().all() and (swept.n_seeds == 1).all()
    of_cells = pd.read_csv(report / "tables" / "sweep_rates.csv").dropna(subset="query_frames")
    for cell, encoder in (("AMG loss", "mt"), ("mean pooling", "mean")):
        known = ours[(ours.encoder == encoder) & (ours.duration_max == 10)]
        same = of_cells[of_cells.cell == cell].merge(known, on=["stage", "tolerance", "query_s"])
        assert len(same) == 4 and same.top1_x.round(2).equals(same.top1_y)  # one model, one figure
    assert list(pd.read_csv(report / "tables" / "cost.csv").columns) == cost.COLUMNS
    html = (report / "index.html").read_text()
    links = re.findall(r'(?:href|src)="([^"#:]+)"', html)
    assert links and all((report / link).exists() for link in links)
    manifest = json.loads((report / "manifest.json").read_text())
    assert {"commit", "packages", "machine", "steps"} <= set(manifest)
    labels = [step.label for step in pipeline.load_profile("smoke")]
    assert [step["label"] for step in manifest["steps"]] == labels
    assert all(step["wall_s"] > 0 and step["peak_memory_mb"] > 50 for step in manifest["steps"])


def test_the_reference_of_the_demo_is_of_today(undisturbed):
    """It has the tables, columns and labels that its notebooks write now; sizes may differ, and so
    may the numbers within a label. The published protocol alone is left out of it."""
    report, reference = undisturbed / "reports/smoke", compare.reference("demo")
    steps_of_demo = json.loads((reference / "manifest.json").read_text())["steps"]
    notebooks = {step["label"].partition("-")[0] for step in steps_of_demo}
    written = [
        Path(name)
        for state in sorted((report / "state").glob("*.json"))
        if state.stem.partition("-")[0] in notebooks
        for name in json.loads(state.read_text())["outputs"]
        if "/tables/" in name
    ]
    cells = {_without_digits(cell.name) for cell in sweeps.read("sweeps/demo.yaml").cells}
    ours = {_without_digits(name.name): report / "tables" / name.name for name in written}
    theirs = {_without_digits(path.name): path for path in (reference / "tables").iterdir()}
    assert len(ours) > 15 and sorted(ours) == sorted(theirs)
    for name in ours:
        one, other = (pd.read_csv(of[name], low_memory=False) for of in (ours, theirs))
        assert list(one) == list(other), name
        for column in ({*compare.KEYS} - {"piece"}) & set(one):
            if not pd.api.types.is_numeric_dtype(one[column]):
                labels, known = (
                    set(map(_without_digits, t[column].dropna())) for t in (one, other)
                )
                if name.startswith("sweep") and column in ("cell", "against"):
                    assert known <= cells, (name, column)  # of the demo's own sweep
                    continue
                assert known <= labels, (name, column)
                assert labels - known <= {"published"}, (name, column)


def _without_digits(text):
    return re.sub(r"[0-9]+", "#", text)


def test_our_training_set_is_in_the_published_layout(smoke):
    """What code that lists the folder finds: songs from 1 on without gaps, the same clips of each,
    float32 of whole clips, and nothing else."""
    names = sorted(path.name for path in (smoke / "data/train/smoke").iterdir())
    assert names == sorted(f"{song}-{clip:02d}.npy" for song in range(1, 11) for clip in range(3))
    for name in names:
        array = np.load(smoke / "data/train/smoke" / name)
        assert array.dtype == np.float32 and array.shape == (59, 128)


def test_executed_notebooks_hold_no_warning(smoke):
    executed = sorted((smoke / "reports/smoke/executed").glob("*.ipynb"))
    labels = [step.label for step in pipeline.load_profile("smoke")]
    assert [path.stem for path in executed] == sorted(labels)
    for path in executed:
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                assert output.output_type != "error", path
                text = output.get("text", "")
                assert output.get("name") != "stderr", (path, text)
                assert "Warning" not in text and "Traceback" not in text, (path, text)


def test_unchanged_steps_are_skipped(smoke, monkeypatch, capsys):
    monkeypatch.setattr(pipeline.Step, "run", lambda step: pytest.fail(f"{step.label} ran again"))
    pipeline.reproduce("smoke")
    assert "There is no reference run of the profile smoke" in capsys.readouterr().out


def step_of(label):
    return next(step for step in pipeline.load_profile("smoke") if step.label == label)


def test_a_changed_table_runs_its_step_again(smoke):
    table = smoke / "reports/smoke/tables/cost.csv"
    before = table.read_bytes()
    table.write_text("changed by hand")
    try:
        assert step_of("04_evaluate").finished() is None and step_of("02_split").finished()
    finally:
        table.write_bytes(before)
    assert step_of("04_evaluate").finished()


@pytest.mark.parametrize("change", [{"epochs": 3}, {"seed": 1}])
def test_a_changed_parameter_runs_its_step_again(smoke, change):
    step = step_of("03_train-5")
    assert step.finished()
    step.resolved = step.resolved | change
    assert step.finished() is None


def test_where_a_step_is_done_does_not_decide_what_it_is(smoke):
    step = step_of("01_data_prep")
    step.resolved = step.resolved | {"workers": 7, "dask": "tcp://host:8786"}
    assert step.finished()


def said_by(executed):
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs)


def test_a_try_is_evaluated_if_it_is_asked_for(own, smoke, tmp_path, monkeypatch):
    """A training by hand leaves what 04 evaluates, and says so; one for a report of its own is
    evaluated from then on, and the step finds its own run again. An encoder of one's own stands in
    the figure of the others."""
    monkeypatch.setenv("AMG_HOME", str(smoke))
    link = smoke / "data/models/smoke/mt-amg-5s"
    before = link.resolve()
    said = said_by(execute("03_train", tmp_path, **SMALL, duration_max=5))
    usual = f"{before.name} (2 epochs, layers: 1)"
    (tried,) = re.findall(
        r"Notebook 04 takes (.+?); this one, (.+?) \(1 epochs, .+ give it run (\w+)", said
    )
    assert tried[0] == usual and tried[1].endswith(f"-{tried[2]}")
    assert link.resolve() == before and step_of("03_train-5").finished()
    (tmp_path / "my_encoder.py").write_text(own_module())
    toy = {"own_module": "my_encoder", "settings": {"width": 32}, "encoder": "toy"}
    execute("03_train", tmp_path, **SMALL, **toy, duration_max=5)
    bits = {"own_module": "rivals", "encoder": "learnt_lift"}
    bits["settings"] = {"bits": 64, "centres": "random"}
    execute("03_train", tmp_path, **SMALL, **bits, duration_max=5)  # its vectors are no floats
    given = {"train_set": "smoke", "database": "database/smoke", "durations": [5], "report": "own"}
    given |= {"run": tried[2], "others": ["toy", "lift"], "own_module": "my_encoder"}
    said = said_by(execute("04_evaluate", tmp_path, **given))
    assert f"Encoders trained: {tried[1]} (1 epochs, layers: 1), toy-amg-5s-" in said
    retrieval = pd.read_csv(smoke / "reports/own/tables/retrieval.csv")
    assert set(retrieval.run[retrieval.encoder == "mt"]) == {tried[1]}
    assert retrieval.run[retrieval.encoder == "toy"].str.contains("-width32-").all()
    assert set(retrieval.encoder) == {"nafp", "mt", "toy", "lift", "mean"}
    monkeypatch.syspath_prepend(tmp_path)
    step = steps.Step("04_evaluate", given, "04_evaluate", "own")
    models, own_file = "data/models/smoke", str(CHECKOUT / "notebooks/my_encoder.py")
    assert {f"{models}/{tried[1]}", f"{models}/toy-amg-5s", own_file} <= step.recipe().inputs.keys()
    execute("03_train", tmp_path, **SMALL, duration_max=5, report="own")
    assert link.resolve().name == tried[1] and before.is_dir()
    assert step_of("03_train-5").finished() is None and step_of("03_train-10").finished()
    step_of("03_train-5").run()
    assert link.resolve() == before and step_of("04_evaluate").finished()


def own_module():
    """The module of one's own in the document."""
    return re.search(r"```python\n(from torch import nn.+?)```", DATA_MD.read_text(), re.DOTALL)[1]


def test_new_weights_run_the_data_preparation_again(smoke, monkeypatch):
    assert step_of("01_data_prep").finished()
    monkeypatch.setattr(reads.nafp, "shipped", lambda: CHECKOUT / "README.md")
    assert step_of("01_data_prep").finished() is None


@pytest.mark.parametrize(
    "where, name",
    [(CHECKOUT, "notebooks/03_train.ipynb"), (CHECKOUT / "notebooks", "03_train.ipynb")],
)
def test_papermill_command_from_both_folders(smoke, tmp_path, where, name):
    given = parameters(**SMALL, duration_max=30)
    run_module("papermill", name, tmp_path / "out.ipynb", *given, cwd=where, check=True)
    text = (tmp_path / "out.ipynb").read_text()
    assert "mt-amg-30s-" in text and "image/png" in text


@pytest.mark.parametrize(
    "notebook, given, message",
    [
        ("03_train", {"duration_max": 7}, "duration_max is 7, but must be one of: 5, 10, 15, 30"),
        (
            "03_train",
            {"encoder": "foo"},
            "encoder is 'foo', but must be one of: mcnn, mean, lift, lift1024, mlstm, mt",
        ),
        ("01_data_prep", {"device": "tpu"}, "device is 'tpu', but must be one of: auto, cpu, cuda"),
        ("03_train", {"train_set": "none"}, "run notebook 01_data_prep first"),
        ("01_data_prep", {"corpus": "vinyl"}, "corpus is 'vinyl', but must be one of: sheet_music"),
        ("01_data_prep", {"n_test": 0}, "n_test is 0"),
        ("01_data_prep", {"workers": 0}, "workers is 0"),
        ("01_data_prep", {"dask": "host"}, "dask is 'host', but must be the address of a Dask"),
        ("02_split", {"durations": 5}, "durations is 5, but must be a list"),
        ("02_split", {"database": "database/none"}, "run notebook 01_data_prep first"),
        ("02_split", {"query_frames": [0]}, "an item of query_frames is 0"),
        (
            "04_evaluate",
            {"unfinished": "yes"},
            "unfinished is 'yes', but must be one of: False, True",
        ),
        ("04_evaluate", {"database": "database/none"}, "run notebook 01_data_prep first"),
        (
            "04_evaluate",
            {"protocols": ["mine"]},
            "protocols is 'mine', but must be one of: contiguous",
        ),
        ("04_evaluate", {"alone": 1}, "alone is 1, but must be one of: False, True"),
        ("05_ablations", {"sweep": "none.yaml"}, "sweep is 'none.yaml', but there is no such file"),
        ("05_ablations", {"profile": "mine"}, "profile is 'mine', but must be one of:"),
        ("05_ablations", {}, "run notebook 01_data_prep first"),
        ("12_lift", {"duration_max": 3}, "duration_max is 3"),
        ("01_data_prep", {"fingerprinter": "none.safetensors"}, "none.safetensors is missing"),
        ("01_data_prep", {"corpus": "folder", "folder": "none"}, "none: no such folder"),
        ("06_robustness", {"database": "database/none"}, "run notebook 01_data_prep first"),
        (
            "06_robustness",
            {"ship": True},
            "ship is True, but must be one of: False; the model card",
        ),
        ("06_robustness", {"fingerprinter": "none"}, "none is missing"),
        ("06_robustness", {"query_frames": []}, "query_frames is [], but must be a list"),
        ("07_unknown_songs", {"database": "database/none"}, "run notebook 01_data_prep first"),
        (
            "07_unknown_songs",
            {"shortlist": 5},
            "shortlist is 5, but must be a whole number of at least 10",
        ),
        ("08_scale", {"n_queries": 0}, "n_queries is 0"),
        ("08_scale", {"encoders": []}, "encoders is [], but must be a list"),
        ("08_scale", {}, "run notebook 01_data_prep first"),
        (
            "00_fingerprinter",
            {"corpus": "vinyl"},
            "corpus is 'vinyl', but must be one of: sheet_music",
        ),
        ("00_fingerprinter", {"size": "huge"}, "size is 'huge', but must be one of: full, lite"),
    ],
)
def test_bad_parameters_end_in_the_set_up_cell(home, notebook, given, message):
    """Without a kernel, which takes seconds to start; the next test has one."""
    cells = nbformat.read(CHECKOUT / "notebooks" / f"{notebook}.ipynb", 4).cells
    defaults, set_up = [cell.source for cell in cells if cell.cell_type == "code"][:2]
    names = {}
    exec(defaults, names)
    assert set(given) <= set(names)
    with pytest.raises(InputError, match=re.escape(message)):
        exec(set_up, names | given)


def test_a_bad_parameter_ends_in_one_sentence(home, tmp_path):
    with pytest.raises(PapermillExecutionError) as error:
        execute("03_train", tmp_path, duration_max=7)
    assert "duration_max is 7, but must be one of" in error.value.evalue
    assert error.value.ename == "InputError"
    assert error.value.exec_count == 3  # the cell after the parameters
    assert not any("File " in line for line in error.value.traceback)
    assert str(error.value).rstrip().endswith(error.value.evalue)  # where people look


def test_an_interrupt_ends_a_cell_in_one_sentence(home):
    """That of the training once an epoch is done, and any other."""
    write_training_set(home / "data/train/t", n_songs=8, n_frames=59)
    cells = nbformat.read(CHECKOUT / "notebooks/03_train.ipynb", 4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    n_before = next(i for i, source in enumerate(code) if "run.fit(" in source)
    small = "train_set, epochs, batch_size, n_valid, layers = 't', 10_000, 12, 2, 1"
    manager, client = start_new_kernel(kernel_name="python3")

    def interrupted(source, at):
        """The error that a cell ends in, interrupted at a message of this type."""
        errors = []

        def look(message):
            if message["msg_type"] == at:
                manager.interrupt_kernel()
            if message["msg_type"] == "error":
                errors.append(message["content"]["traceback"])

        client.execute_interactive(source, output_hook=look, timeout=120)
        return errors

    try:
        for source in [code[0], small, *code[1:n_before]]:
            assert not interrupted(source, "none")
        ((said,),) = interrupted(code[n_before], "update_display_data")
        assert re.fullmatch(
            r"Interrupted: [1-9]\d* of 10000 epochs are kept; run the cell again.", said
        )
        ((said,),) = interrupted("print(flush=True)\nimport time\ntime.sleep(120)", "stream")
        assert said == "Interrupted: what was finished is kept; run the cell again."
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def execute(notebook, tmp_path, **given):
    return papermill.execute_notebook(
        str(CHECKOUT / "notebooks" / f"{notebook}.ipynb"),
        str(tmp_path / "out.ipynb"),
        given,
        progress_bar=False,
        cwd=str(tmp_path),
    )


def test_the_other_crop_law_in_the_docs_trains(home):
    """In place of the last line of notebook 03's set-up cell, as the docs say."""
    write_training_set(home / "data/train/t", n_songs=8, n_frames=59)
    fence = r"```python\n(import torch\n.+?)```"
    other = re.search(fence, DATA_MD.read_text(), re.DOTALL)[1]
    cells = nbformat.read(CHECKOUT / "notebooks/03_train.ipynb", 4).cells
    given, set_up = [cell.source for cell in cells if cell.cell_type == "code"][:2]
    set_up, last = set_up.rsplit("\n", 1)
    assert last.startswith("run = training.Run(")
    names = {}
    exec(given, names)
    names |= {"train_set": "t", "epochs": 2, "batch_size": 12, "n_valid": 2, "layers": 1}
    exec(f"{set_up}\n{other}", names)
    run = names["run"]
    assert run.crop is names["long_crops"] and run.margin is names["constant_margin"]
    assert [row["lr"] for row in run.fit()] == [1e-3, 1e-3]


def test_a_published_checkpoint_is_evaluated_by_both_protocols(home, tmp_path, golden):
    """Published data, checkpoint and start positions, as they are unpacked, through notebooks 02,
    04."""
    data = np.load(golden / "retrieval.npz", allow_pickle=False)
    for folder, name in (
        (databases.DUMMY, "dummy"),
        (databases.TEST, "db"),
        (databases.QUERY, "query"),
    ):
        for i, song in enumerate(data[name]):
            features.save(home / "database" / folder / f"{i}.npy", song.astype(np.float32))
    execute(
        "02_split", tmp_path, database="database", durations=[15], query_frames=[29], n_starts=2
    )
    execute(
        "04_evaluate",
        tmp_path,
        database="database",
        durations=[15],
        cost_frames=29,
        protocols=["contiguous", "published"],
        report="published",
        others=[],
        codes=[],
        checkpoint=str(golden / "published_style.pth"),
        test_ids=str(golden / "test_ids.pkl"),
    )
    table = pd.read_csv(home / "reports/published/tables/retrieval.csv")
    table = table.query("protocol == 'published' and encoder == 'mt' and tolerance != 'song'")
    theirs = json.loads((golden / "retrieval.json").read_text())["hit_rates_percent"]
    for stage in ("single", "two"):
        ours = table[table.stage == stage]
        assert ours.top1.tolist() == np.round(theirs[f"15/{stage}_stage"]["top1"], 2).tolist()
        assert ours.top10.tolist() == np.round(theirs[f"15/{stage}_stage"]["top10"], 2).tolist()


def test_the_base_system_alone_is_evaluated(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("AMG_HOME", str(smoke))
    execute("04_evaluate", tmp_path, database="database/smoke", durations=[], report="base")
    retrieval = pd.read_csv(smoke / "reports/base/tables/retrieval.csv")
    base = ["nafp", "nafp ivf-pq", "nafp PQ64x5"]
    assert [*retrieval.method.unique()] == base and {*retrieval.query_s} == {1, 3, 10}
    assert [*pd.read_csv(smoke / "reports/base/tables/cost.csv").method] == base
    (of_codes,) = pd.read_csv(smoke / "reports/base/tables/differences.csv").method.unique()
    assert of_codes == "NAFP, PQ64x5"


def test_encoders_alone_are_evaluated_at_some_lengths(smoke, tmp_path, monkeypatch):
    """As the whole notebook does it, without the base system, cost and figures."""
    monkeypatch.setenv("AMG_HOME", str(smoke))
    usual = pd.read_csv(smoke / "reports/smoke/tables/retrieval.csv").query(
        "encoder == 'mt' and duration_max == 10 and query_s == 3 and protocol == 'contiguous'"
    )
    given = {"train_set": "smoke", "database": "database/smoke", "durations": [10], "others": []}
    execute("04_evaluate", tmp_path, **given, alone=True, query_frames=[5], report="alone")
    report = smoke / "reports/alone"
    rates = pd.read_csv(report / "tables/retrieval.csv")
    known = usual[usual.tolerance != "same_audio"]  # to nothing is listened
    assert rates.to_csv(index=False) == known.to_csv(index=False) and len(rates) > 3
    assert sorted(path.name for path in report.rglob("*.*")) == [
        "differences.csv",
        "retrieval.csv",
        "trials.csv.xz",
    ]


def test_robustness_refuses_parameters_other_than_those_of_the_queries(
    smoke, tmp_path, monkeypatch
):
    monkeypatch.setenv("AMG_HOME", str(smoke))
    with pytest.raises(PapermillExecutionError, match="was made with other parameters than these"):
        execute(
            "06_robustness",
            tmp_path,
            database="database/smoke",
            report="smoke",
            n_rooms=2,
            query_frames=[1],
        )


def test_extract_command(home, tmp_path):
    (tmp_path / "in").mkdir()
    soundfile.write(
        tmp_path / "in/a.wav", 0.1 * np.random.default_rng(0).standard_normal(24000), 8000
    )
    (tmp_path / "in/b.mp3").write_text("no sound")
    command = "amg", "extract", tmp_path / "in", tmp_path / "out", "--workers"
    done = run_module(*command, 1)
    assert done.returncode == 0 and "1 files fingerprinted, 1 left out" in done.stdout
    assert np.load(tmp_path / "out/a.wav.npy").shape == (5, 128)
    done = run_module(*command, 0)
    assert done.returncode == 1 and done.stderr == (
        "amg: workers is 0, but must be a whole number of at least 1.\n"
    )


def test_reports_hold_no_recordings(smoke):
    """A page of music that is not ours leaves the players out; one of the scores keeps them."""
    step = step_of("01_data_prep")
    for corpus in ("sheet_music", "folder"):
        step.label, step.resolved = f"of-{corpus}", step.resolved | {"corpus": corpus}
        page = pages.write_notebook(step)
        assert ("<audio" in page.read_text()) == (corpus == "sheet_music")
        page.unlink()


def test_the_failing_cell_is_named(home):
    step = pipeline.Step("02_split", {"database": "database/none"}, "02_split", "smoke")
    with pytest.raises(InputError, match=r"In \[3\], see .*executed.*: database/none is missing"):
        step.run()
    assert step.executed.exists() and step.finished() is None


def test_command_line_refuses_in_one_sentence(home):
    done = run_module("amg", "reproduce", "--profile", "huge")
    assert done.returncode == 1
    assert done.stderr.startswith("amg: profile is 'huge', but must be one of: arrangements, demo")
    assert "Traceback" not in done.stderr


def test_one_notebook_is_run_in_a_folder_of_its_own(smoke):
    """What its cells say comes out, what is wrong in one sentence."""
    right, wrong = (
        run_module("amg", "run", "02_split", *parameters(**given), cwd=CHECKOUT)
        for given in (
            {"database": "database/smoke", "query_frames": [1, 5, 19], "n_starts": 2},
            {"n_starts": 0},
        )
    )
    first, second = sorted((smoke / "reports/local").glob("*-02_split"))
    assert right.returncode == 0 and "Executing" not in right.stdout
    assert "IPython" not in right.stdout and "object>" not in right.stdout
    assert "segments" in right.stdout and first.name in right.stdout
    assert all((folder / "executed/02_split.ipynb").exists() for folder in (first, second))
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr
    assert wrong.stderr.endswith("n_starts is 0, but must be a whole number of at least 1.\n")


def test_help_tells_the_types_of_parameters():
    done = run_module("papermill", "--help-notebook", NOTEBOOKS[3], check=True)
    assert "duration_max: int (default 10)" in done.stdout
    assert "lr: float" in done.stdout and 'device: str (default "auto")' in done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_contract(path):
    """Four opening lines, one cell of literals, one set-up cell, short cells, no outputs."""
    cells = nbformat.read(path, 4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(word in cells[0].source for word in ("Question", "Reads", "Writes", "Runtime"))
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and tagged[0] is code[0]
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.AnnAssign), f"{ast.unparse(statement)}: without its type"
        assert type(ast.literal_eval(statement.value)).__name__ == statement.annotation.id
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert all(len(cell.source.splitlines()) <= 15 for cell in code if cell is not tagged[0])
    for i, cell in enumerate(code):
        nodes = list(ast.walk(ast.parse(cell.source)))
        assert not any(isinstance(node, ast.ClassDef) for node in nodes)
        if i != 1:  # all imports stand in the set-up cell
            assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in nodes)
    headings = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert any(h.startswith("## Checks") for h in headings)
    assert headings[-2].startswith("## Takeaways")
    beside = [NOTEBOOKS.index(path) + step for step in (-1, 1)]
    links = re.findall(r"\[(.+?)\]\((.+?)\)", cells[-1].source)
    assert [name for _, name in links] == [
        NOTEBOOKS[at].name for at in beside if 0 <= at < len(NOTEBOOKS)
    ]
    for title, name in links:
        assert (
            f"# {title}" == nbformat.read(path.with_name(name), 4).cells[0].source.splitlines()[0]
        )


@pytest.mark.parametrize("profile", ["demo", "open_music"])
def test_the_runtimes_of_the_notebooks_are_those_of_the_reference(profile):
    """Within a factor of two of what was measured, the fastest and the slowest run of each."""
    measured = json.loads((compare.reference(profile) / "manifest.json").read_text())["steps"]
    place, n_stated = "the demo" if profile == "demo" else f"`{profile}`", 0
    for path in NOTEBOOKS:
        stated = re.search(
            rf"Runtime on 2 cores\*\* ([\d.]+)(?: to ([\d.]+))? (s|minutes) on {place}",
            nbformat.read(path, 4).cells[0].source,
        )
        took = [s["wall_s"] for s in measured if s["label"].partition("-")[0] == path.stem]
        if stated:
            n_stated += 1
            low, high = (
                float(n or stated[1]) * {"s": 1, "minutes": 60}[stated[3]]
                for n in stated.group(1, 2)
            )
            assert min(took) / 2 < low < 2 * min(took) and max(took) / 2 < high < 2 * max(took)
        else:
            assert not took or profile != "demo", f"{path.stem} states no runtime on the demo"
    assert n_stated > 1


@pytest.mark.parametrize("name, mark", readme.BLOCKS)
def test_documents_show_the_reference_runs(name, mark):
    """Their figures are those of the committed reports, to the letter."""
    text = (CHECKOUT / name).read_text()
    shown = text.split(f"<!-- {mark} -->")[1].split(f"<!-- /{mark} -->")[0]
    assert shown.strip() == readme.BLOCKS[name, mark]().strip()


SWEPT = sorted(path.parent.name for path in compare.reference("sweeps").glob("*/manifest.json"))


@pytest.mark.parametrize("name", SWEPT)
def test_the_reference_of_a_sweep_has_the_cells_of_its_file(name, rivals):
    swept, base = sweeps.read(f"sweeps/{name}.yaml"), compare.reference(f"sweeps/{name}")
    assert files.read_json(base / "manifest.json")["question"] == swept.question
    table = compare.read(base)[1]["sweep"]
    n_seeds = Counter(cell.name for cell in swept.cells)
    assert dict(zip(table.cell, table.n_seeds)) == n_seeds and list(table.cell) == list(n_seeds)


@pytest.mark.parametrize("profile", ["demo", "open_music", *(f"sweeps/{name}" for name in SWEPT)])
def test_the_page_of_a_reference_is_what_the_code_draws(profile, tmp_path, monkeypatch):
    base = shutil.copytree(compare.reference(profile), tmp_path / profile)
    monkeypatch.setattr(compare, "reference", lambda profile: base)
    monkeypatch.setattr(pages, "FIGURES", {})  # which are other bytes with every matplotlib
    page = (base / "index.html").read_text()
    pages.redraw(profile)
    assert (base / "index.html").read_text() == page


def test_documents_name_files_that_exist():
    """Links, and modules in backticks; but for those of which CONTRIBUTING shows how to name
    them."""
    documents = [CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md")]
    documents += [*CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("amg/**/*.md")]
    every, shown = (
        [],
        {CHECKOUT / f"notebooks/{of}" for of in ("NN_name.ipynb", "profiles/name.yaml")},
    )
    for document in documents:
        text = document.read_text()
        links = [document.parent / name for name in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
        named = [CHECKOUT / name for name in re.findall(r"`((?:amg|notebooks)/[\w/]+\.\w+)`", text)]
        missing = [path for path in links + named if path not in shown and not path.exists()]
        assert not missing, document
        every += links + named
    assert {CHECKOUT / "docs/data.md", CHECKOUT / "amg/embedding/crops.py"} <= set(every)


def test_rooms_import_downwards_only():
    """The reading order of the package's docstring is its import order; no file is too long."""
    listing = re.findall(r"^    (\S+) +((?:\w+, )*\w+)$", amg.__doc__, re.MULTILINE)
    order = [
        name if room == "(shared)" else f"{room}.{name}"
        for room, names in listing
        for name in names.split(", ")
    ]
    package = CHECKOUT / "amg"
    files = {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in package.rglob("[!_]*.py")
    }
    assert sorted(order) == sorted(files)
    n_lines = {name: len(path.read_text().splitlines()) for name, path in files.items()}
    assert [name for name, n in n_lines.items() if n > 250] == []

    def place(used):
        """Of a module in the reading order, of a room that of its last one."""
        return max(at for at, name in enumerate(order) if f"{name}.".startswith(f"{used}."))

    for name, path in files.items():
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            module = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and module.split(".")[0] == "amg":
                room = module.partition(".")[2]
                used = (
                    [room]
                    if room in files
                    else [".".join(filter(None, (room, alias.name))) for alias in node.names]
                )
                assert all(place(u) < order.index(name) for u in used), name
    drawing = {name for name, path in files.items() if "matplotlib" in path.read_text()}
    assert drawing == {"report.figures"}
