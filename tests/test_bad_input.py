"""Every row of the table of bad input ends in one sentence, and that is the documented one."""

import re
import tracemalloc
from types import SimpleNamespace

import pytest
from bad_input import ROWS, sentence
from conftest import CHECKOUT

from amg import files
from amg.__main__ import main
from amg.report.running import pipeline

NAMES = [f"{kind}: {what}" for kind, what, _ in ROWS]
DOCUMENTED = (CHECKOUT / "docs/bad_input.md").read_text()
CLAIMS = [row for row in ROWS if "pickle that claims" in row[1]]


def test_the_document_has_these_rows_and_no_others():
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \| ", DOCUMENTED, re.MULTILINE)
    assert [": ".join(row) for row in rows] == ["kind: what is wrong", *NAMES]
    assert len(CLAIMS) == 2


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
    with pytest.raises(
        SystemExit, match="No space left on device: 'reports/demo'; once this is mended"
    ):
        main()


@pytest.mark.parametrize("row", CLAIMS)
def test_what_a_pickle_claims_is_not_reserved(row):
    tracemalloc.start()
    try:
        assert sentence(row[2]) and tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "said, free, kind",
    [
        ("System error", 0, OSError),
        ("System error", 10**9, RuntimeError),
        ("I/O error: No space left on device (os error 28)", 10**9, OSError),
    ],
)
def test_what_a_library_says_of_a_full_disk_is_put_plainly(home, monkeypatch, said, free, kind):
    """libsndfile says no more than "System error", which with room left is another matter."""
    monkeypatch.setattr(files.shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    with pytest.raises(
        kind, match="No space left on device: 'a.flac'" if kind is OSError else said
    ):
        with files.atomic(home / "a.flac") as temporary:
            temporary.write_text("begun")
            raise RuntimeError(said)
    assert not list(home.iterdir())


def test_what_numpy_says_of_a_full_disk_is_put_plainly(home, monkeypatch):
    """An OSError, but without a number."""
    monkeypatch.setattr(files.shutil, "disk_usage", lambda place: SimpleNamespace(free=0))
    with pytest.raises(OSError, match="No space left on device: 'a.npy'"):
        with files.atomic(home / "a.npy"):
            raise OSError("1000 requested and 10 written")
