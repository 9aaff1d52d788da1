"""Every row of the table of bad input ends in one sentence, and that is the documented one."""

import pytest

from amg.__main__ import main
from amg.report import pipeline
from bad_input import ROWS, sentence
from conftest import CHECKOUT

NAMES = [f"{kind}: {what}" for kind, what, _ in ROWS]
DOCUMENTED = (CHECKOUT / "docs/bad_input.md").read_text()


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_it_ends_in_the_documented_sentence(row):
    kind, what, call = row
    said = sentence(call)
    assert said and "\n" not in said
    assert f"| {kind} | {what} | {said.replace('|', chr(92) + '|')} |" in DOCUMENTED


def test_a_full_disk_ends_in_one_sentence(monkeypatch):
    def full(profile):
        raise OSError(28, "No space left on device", "reports/demo")

    monkeypatch.setattr(pipeline, "reproduce", full)
    monkeypatch.setattr("sys.argv", ["amg", "reproduce"])
    with pytest.raises(SystemExit, match="No space left on device: 'reports/demo'; once this is mended"):
        main()
