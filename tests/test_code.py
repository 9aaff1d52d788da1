"""What is made anew when code changes, and what is not: edits are made in a copy of the package."""

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from amg import code, provenance
from amg.embedding import encoders, runs
from amg.report.running import steps

RUN = "amg.embedding.training", "amg.embedding.encoders.transformer", "amg.embedding.losses.amg"
MADE = {  # what is made -> the modules that its recipe names
    "pool": ("amg.sound.pools",),
    "rendering": ("amg.sound.sheet_music",),
    "training set": ("amg.fingerprint.extraction", "amg.sound.pools", "amg.fingerprint.nafp"),
    "segments": ("amg.retrieval.databases",),
    "trials": ("amg.retrieval.trials",),
    "run": RUN,
    "rows of 08": ("amg.studies.scale",),
}
EVALUATE = "04_evaluate"
STEPS = "01_data_prep", "02_split", "03_train", EVALUATE
EDITS = {  # in which file, what, by what -> what is made anew, by the names above, and steps
    "a loss's constant": (
        "embedding/losses/amg.py", "PULL = 10.0", "PULL = 0.0", {"run", "03_train", EVALUATE},
    ),
    "another loss": (
        "embedding/losses/infonce.py", "temperature=0.1", "temperature=0.2", {"03_train", EVALUATE},
    ),
    "an encoder": (
        "embedding/encoders/transformer.py", "heads=8", "heads=4", {"run", "03_train", EVALUATE},
    ),
    "a crop's law": (
        "embedding/crops.py", "POWER = 3", "POWER = 2",
        {"segments", "trials", "run", "rows of 08", *STEPS},
    ),
    "a degradation": (
        "sound/degrade.py", "SNR_DB = (0.0, 10.0)", "SNR_DB = (5.0, 10.0)",
        {"training set", "01_data_prep"},
    ),
    "a room": (
        "sound/pools.py", "T60_S = (0.1, 1.0)", "T60_S = (0.1, 2.0)",
        {"pool", "training set", "01_data_prep"},
    ),
    "a hit's tolerance": (
        "retrieval/hits.py", "HEARD = 0.5", "HEARD = 0.6", {"rows of 08", "03_train", EVALUATE},
    ),
    "a search": (
        "retrieval/search.py", "FRAME_NEIGHBOURS = 20", "FRAME_NEIGHBOURS = 10",
        {"segments", "trials", "rows of 08", *STEPS},
    ),
    "a rendering": (
        "sound/sheet_music.py", "START_S = 0.5", "START_S = 0.6", {"rendering", "01_data_prep"},
    ),
    "a chart's colour": ("report/charts.py", '"#9a9a9a"', '"#000000"', set()),
    "a sentence": ("report/sentences.py", "false accepts, ", "wrong ones, ", set()),
    "a comment and a docstring": (
        "embedding/losses/amg.py", '"""The AMG loss', '# a comment\n"""An AMG loss', set(),
    ),
}  # fmt: skip


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's sources, which `code` reads in place of them."""
    shutil.copytree(code.ROOT, tmp_path / "amg", ignore=shutil.ignore_patterns("weights", "*.pyc"))
    monkeypatch.setattr(code, "ROOT", tmp_path / "amg")
    return tmp_path / "amg"


def digests():
    """Digest of the code of each made thing, and of each notebook's step."""
    notebooks = Path(steps.paths.checkout() / "notebooks")
    of_steps = {name: steps.read_notebook(notebooks / f"{name}.ipynb")[1] for name in STEPS}
    return {what: code.of(*modules) for what, modules in MADE.items()} | of_steps


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_makes_anew_what_depends_on_it_and_no_more(package, edit):
    file, before, after, expected = EDITS[edit]
    was, text = digests(), (package / file).read_text()
    assert before in text
    (package / file).write_text(text.replace(before, after, 1))
    now = digests()
    module = f"amg.{file.removesuffix('.py').replace('/', '.')}"
    assert {what for what in was if was[what] != now[what]} == expected
    for what in expected:  # and it is said which module
        assert provenance.differing({"code": was[what]}, {"code": now[what]}) == [module]
        assert code.changed({"code": was[what]}) == [module]


def test_a_data_file_counts_with_the_module_that_names_it(package):
    was = code.of("amg.sound.open_music")
    with (package / "sound/packages.yaml").open("a") as file:
        file.write("more: {}\n")
    assert code.of("amg.sound.open_music") != was


def test_a_digest_is_that_of_meaning():
    one = ast.parse('def f(x):\n    """A."""\n    return x  # y\n')
    same = ast.parse("def f( x ):\n\n    return (x)\n")
    other = ast.parse("def f(x):\n    return +x\n")
    assert code.tree_digest(one) == code.tree_digest(same) != code.tree_digest(other)
    with_text = ast.parse("def f(x):\n    return 'x'\n")
    assert code.tree_digest(with_text) != code.tree_digest(same)


SCALE = 1.0


def doubled(x):
    return 2 * x * SCALE


class Own(nn.Module):
    width = 8
    table = np.arange(3)

    @staticmethod
    def squared(x):
        return x * x

    def forward(self, x, padding):
        return doubled(self.squared(x))


def test_of_one_s_own_class_attributes_static_methods_and_globals_count(monkeypatch):
    was = code.of_own(Own)
    assert code.of_own(Own) == was
    changes = {
        "an attribute": lambda patch: patch.setattr(Own, "width", 9),
        "an array": lambda patch: patch.setattr(Own, "table", np.arange(1, 4)),
        "a static method": lambda patch: patch.setattr(Own, "squared", staticmethod(lambda x: x)),
        "a global": lambda patch: patch.setitem(globals(), "SCALE", 2.0),
        "a function that it calls": lambda patch: patch.setitem(
            globals(), "doubled", lambda x: 3 * x
        ),
    }
    for what, change in changes.items():
        with monkeypatch.context() as patch:
            change(patch)
            assert code.of_own(Own) != was, what
    assert code.of_own(Own) == was


def test_of_a_function_what_it_closes_over_and_its_defaults_count():
    def scaled(factor, power=1, *, offset=0.0):
        def law(x, power=power, *, offset=offset):
            return factor * x**power + offset

        return law

    assert code.of_own(scaled(2)) == code.of_own(scaled(2))
    others = scaled(3), scaled(2, power=2), scaled(2, offset=1.0)
    assert len({code.of_own(law) for law in (scaled(2), *others)}) == 4


def test_a_run_depends_on_its_own_encoder_and_loss_alone():
    of_amg = runs.recipe(runs.Config(), "", "", "cpu").code
    of_infonce = runs.recipe(runs.Config(loss="infonce"), "", "", "cpu").code
    assert "amg.embedding.losses.arcface" in of_amg  # its base class
    assert "amg.embedding.losses.infonce" not in of_amg
    assert "amg.embedding.losses.amg" not in of_infonce
    assert not any(name.startswith(code.SHOW[1:]) for name in of_amg)


def test_an_encoder_is_told_by_its_weights():
    torch.manual_seed(0)
    one, other = (encoders.registry.build("mt", {"layers": 1}) for _ in range(2))
    assert encoders.digest(one) == encoders.digest(one) != encoders.digest(other)
    free = (encoders.registry.build(name, {}) for name in ("mean", "lift", "lift1024"))
    assert len({encoders.digest(encoder) for encoder in free}) == 3


def recipe(**modules):
    return provenance.Recipe("run", {"lr": 1}, {"data": "abc"}, code=modules)


def test_what_earlier_code_made_is_made_anew_or_kept(tmp_path, monkeypatch, capsys):
    def made(**modules):
        with provenance.making(tmp_path / "mt", recipe(**modules)) as place:
            if not place.finished:
                (place.folder / "a.txt").write_text(json.dumps(modules))
        return place.folder

    first = made(a="1", b="1")
    assert made(a="1", b="1") == first and not capsys.readouterr().out
    monkeypatch.setenv(provenance.KEEP, "1")
    assert made(a="1", b="2") == first
    assert "mt: b changed since; made by earlier code, kept." in capsys.readouterr().out
    monkeypatch.delenv(provenance.KEEP)
    second = made(a="1", b="2")
    assert "mt: b changed since; made anew" in capsys.readouterr().out
    assert second != first and json.loads((second / "a.txt").read_text())["b"] == "2"
    assert made(a="1", b="1") == first  # going back finds what it made
