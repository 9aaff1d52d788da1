"""`amg` as it is typed, and `identify` as a program calls it: help at once, any input, any
terminal."""

import io
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from conftest import run_module
from test_catalogue import RATE, tune, write

import amg
from amg import __main__, machine
from amg.catalogue import indexing, models, windows
from amg.catalogue.answer import CERTAIN, Answer, Match
from amg.catalogue.catalogue import Catalogue
from amg.check import InputError, one_line

TITLE, ARTIST = "Song\nq.wav: not here", "\x1b[31mRed\x1b]0;owned\a"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """A catalogue of three tunes: one with a spiteful tag, one that lies at two places."""
    folder = tmp_path_factory.mktemp("indexed")
    for name in ("music/a.wav", "music/copy/a.wav"):
        write(folder / name, tune(1, 12))
    with soundfile.SoundFile(folder / "music/tagged.flac", "w", RATE, 1) as file:
        file.title, file.artist = TITLE, ARTIST
        file.write(tune(0, 12))
    write(folder / "music/Dvořák.wav", tune(2, 12))
    assert indexing.index([folder / "music"], folder / "catalogue", workers=1).heard == 4
    return folder / "catalogue"


@pytest.fixture
def command(monkeypatch, capsys):
    """A function that gives a command in this process: (exit status or sentence, what it printed on
    standard output, on standard error)."""

    def give(*words):
        monkeypatch.setattr(sys, "argv", ["amg", *map(str, words)])
        status = 0
        try:
            __main__.main()
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return give


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """Clips of that music in the working directory."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("tagged.wav", "a.wav", "other/b.wav")):
        write(tmp_path / name, tune(number, 12)[2 * RATE : 11 * RATE])
    return tmp_path


def imported(*lines):
    """Which of the large packages a program imports."""
    large = "torch faiss pandas scipy joblib nbformat papermill jsonschema matplotlib IPython"
    told = f"import sys; print(*(name for name in {large.split()} if name in sys.modules))"
    program = [sys.executable, "-c", "\n".join([*lines, told])]
    return subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()


def test_nothing_is_imported_before_it_is_needed():
    help_text = "from amg import __main__; __main__._parser().format_help()"
    assert imported("import amg", help_text) == []
    assert imported("import amg", "amg.identify") == ["torch", "faiss"]


def test_help_names_what_is_allowed(command):
    status, told, _ = command("identify", "--help")
    assert status == 0 and all(method in told for method in windows.METHODS)
    told = command("index", "--help")[1]
    assert all(name in told for name in (*models.FITTED, "mean", "mt", indexing.CATALOGUE))
    assert all(device in command("extract", "--help")[1] for device in machine.DEVICES)
    assert command("--version")[:2] == (0, f"amg {amg.__version__}\n")


def test_tilde_is_the_home_folder_wherever_it_stands(clips, command, monkeypatch):
    monkeypatch.setenv("HOME", str(clips / "home"))
    write(clips / "home/music/a.wav", tune(1, 3))
    assert command("index", "~/music", "--catalogue=~/cat", "--workers=1")[0] == 0
    assert command("extract", "~/music", "~/prints", "--workers=1")[0] == 0
    told = command("identify", "~/music/a.wav", "--catalogue=~/cat")[1]
    assert "a.wav, from 0:00.0 on" in told
    assert (clips / "home/prints/a.wav.npy").exists() and not list(clips.glob("~*"))


def test_what_a_terminal_would_obey_is_escaped(clips, indexed, command):
    spiteful = "\x1b[1m\r\n\x7f\x85\u2028\u202e\u2066 é 夜 \u3000 \u200d"
    kept = "\\x1b[1m\\r\\n\\x7f\\x85\\u2028\\u202e\\u2066 é 夜 \u3000 \u200d"
    assert one_line(spiteful) == kept
    os.rename("tagged.wav", "tag\nged.wav")
    status, told, _ = command("identify", "tag\nged.wav", "--catalogue", indexed)
    query, match = told.splitlines()
    assert status == 0 and query == "tag\\nged.wav:"
    assert "\\x1b[31mRed\\x1b]0;owned\\x07 - Song\\nq.wav: not here, from 0:02.0 on" in match
    status, _, told = command("identify", "no\nsuch.wav", "a.wav", "--catalogue", indexed)
    assert status == 0 and told == "amg: no\\nsuch.wav: no such file.\n"
    (match,) = amg.identify("tag\nged.wav", indexed).to_dict()["matches"]
    assert (match["title"], match["artist"]) == (TITLE, ARTIST)  # programs get what is there


def test_what_the_terminal_cannot_show_is_escaped(clips, indexed):
    write(clips / "夜.wav", tune(2, 12))
    words = "amg", "identify", "夜.wav", "a.wav", "--catalogue", indexed
    done = run_module(*words, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, encoding="latin-1")
    assert done.returncode == 0, done.stderr
    assert "\\u591c.wav:\n" in done.stdout and "Dvo\\u0159ák.wav" in done.stdout
    assert "a.wav:\n" in done.stdout and not done.stderr


def test_the_other_files_are_answered(clips, indexed, command):
    (clips / "empty").mkdir()
    (clips / "text.mp3").write_text("Dear Sir")
    (clips / "links").mkdir()
    (clips / "links/other").symlink_to("../other")
    words = "none.wav", "a.wav", "empty", "text.mp3", "links", "tagged.wav/x.wav", "--json"
    status, told, refused = command("identify", *words, "--catalogue", indexed)
    answers = [json.loads(line) for line in told.splitlines()]
    assert status == 0
    assert [answer["query"] for answer in answers] == ["a.wav", str(clips / "links/other/b.wav")]
    sentences = refused.splitlines()
    assert [sentence.split(": ")[2:] for sentence in (sentences[0], sentences[-1])] == [
        ["no such file."]
    ] * 2
    assert "empty" in sentences[1] and "text.mp3" in sentences[2] and len(sentences) == 4
    status, told, refused = command("identify", "none.wav", "--catalogue", indexed)
    assert status == "amg: none of the files could be used." and refused.count("\n") == 1
    assert "method is 'best'" in command("identify", "a.wav", "--method", "best")[0]


def test_the_other_folders_are_indexed(clips, command):
    (clips / "empty").mkdir()
    words = "index", "empty", "other", "none", "--catalogue=cat", "--workers=1"
    status, told, _ = command(*words)
    assert status == 0 and "1 files fingerprinted" in told
    assert "empty holds no audio files (looked for: aif, " in told
    assert "none: no such folder." in told
    assert (
        "empty holds no audio files (looked for: aif"
        in command("index", "empty", "--catalogue=cat")[0]
    )
    assert amg.index(str(clips / "other"), clips / "cat").unchanged == 1  # one, without a list


def test_standard_input_and_pipes(clips, indexed, command, monkeypatch):
    write(clips / "short.wav", tune(1, 1)[:4000])
    write(clips / "silent.wav", np.zeros(2 * RATE))
    (clips / "text").write_text("Dear Sir")
    (clips / "nothing").touch()

    def ask(*words):
        return command("identify", *words, "--catalogue", indexed)

    monkeypatch.setenv("PATH", "")  # no ffmpeg
    for name, part in (
        ("short.wav", "standard input holds 0.50 s"),
        ("silent.wav", "standard input holds nothing but silence"),
        ("text", "standard input "),
        ("nothing", "standard input is empty"),
        (None, "standard input is empty"),
    ):
        with open(name or os.devnull) as stream:
            monkeypatch.setattr(sys, "stdin", stream if name else None)
            status, _, told = ask("-")
        assert status == "amg: none of the files could be used."
        assert part in told and told.count("\n") == 1 and "/tmp" not in told, told
    with open("a.wav") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        status, told, refused = ask("-", "-")
    assert status == 0 and told.startswith("standard input:\n") and "is empty" in refused
    os.mkfifo("pipe")
    sound = (clips / "a.wav").read_bytes()
    writer = threading.Thread(target=(clips / "pipe").write_bytes, args=(sound,), daemon=True)
    writer.start()
    assert ask("pipe")[1].startswith("pipe:\n  0:00.0-")
    writer.join()


@pytest.mark.parametrize(
    "shaped",
    [
        lambda q: np.stack([q, q], 1),
        lambda q: np.stack([q, q]),
        lambda q: q[None],
        lambda q: torch.from_numpy(q).requires_grad_(),
        lambda q: (q * 32767).astype(np.int16),
        list,
    ],
)
@pytest.mark.parametrize("rate", [RATE, np.int32(RATE), np.float32(RATE)])
def test_arrays_of_any_kind(indexed, shaped, rate):
    (match,) = amg.identify((shaped(tune(1, 12)[2 * RATE : 8 * RATE]), rate), indexed).matches
    assert match.name == "a.wav"


@pytest.mark.parametrize(
    "sound, told",
    [
        (None, "of type NoneType, but must be"),
        ([tune(1, 2), RATE], "of type list"),
        (io.BytesIO(b"RIFF"), "of type BytesIO"),
        (b"a.wav", "of type bytes"),
        ((RATE, tune(1, 2)), "samples have shape ()"),
        ((tune(1, 2),), "no tuple (samples, rate"),
        ((tune(1, 2), "8000"), "the rate is '8000'"),
        ((tune(1, 2), True), "the rate is True"),
        ((tune(1, 2) + 1j, RATE), "type complex128"),
        ((np.zeros((0, 2)), RATE), "shape (0, 2)"),
        ((np.full(RATE, 1e30), RATE), "finite numbers"),
        (".", "is a folder or a device"),
        ("a\0b", "no such file"),
    ],
)
def test_other_things_are_refused_in_a_sentence(indexed, sound, told):
    with pytest.raises(InputError) as refused:
        amg.identify(sound, indexed)
    assert told in str(refused.value)


def test_people_are_told_name_place_and_certainty(clips, indexed, command):
    (match,) = amg.identify("a.wav", indexed).matches
    assert sorted([match.path, *match.also]) == [
        str(indexed.parent / name) for name in ("music/a.wav", "music/copy/a.wav")
    ]
    (line,) = command("identify", "a.wav", "--catalogue", indexed)[1].splitlines()[1:]
    assert line == f"  0:00.0-0:08.8  a.wav, from 0:02.0 on, certain (also: {match.also[0]})"
    told = command("identify", "a.wav", "--catalogue", indexed, "--paths")[1]
    assert f"  a.wav ({match.path}), from 0:02.0 on" in told
    rest = {"begin_s": 0, "end_s": 9, "position_s": 2, "score": 0.5, "evidence": 1}
    likely = Match("music/a.wav", "Tune", "Band", chance=0.0021, **rest)
    told = (
        "0:00.0-0:09.0  Band - Tune, from 0:02.0 on, likely (about 1 in 500 by chance, nominally)"
    )
    assert likely.line(paths=False) == told
    assert "about 1 in 500,000 by" in replace(likely, chance=1 / 493_217).line(paths=False)
    within = replace(likely, position_s=59.96, within_s=10.0)
    assert "Tune, somewhere in 1:00-1:10, likely" in within.line(paths=False)
    assert "from 1:00.0 on" in replace(within, within_s=0.0).line(paths=False)
    assert "certain" in Match("a.wav", "", "Band", chance=CERTAIN, **rest).line(paths=False)
    assert [Match("m/a.wav", title, "Band", chance=1, **rest).name for title in ("", " ")] == [
        "a.wav"
    ] * 2
    answer = Answer("q.wav", 9.0, [], [likely])
    assert str(answer) == "q.wav: not here (nearest: Band - Tune, score 0.50)"


def test_the_first_stage_alone_tells_no_exact_position(clips, indexed, command):
    words = "identify", "a.wav", "--catalogue", indexed, "--method", "single_stage"
    assert "  a.wav, somewhere in 0:02-0:12, " in command(*words)[1]
    (match,) = json.loads(command(*words, "--json")[1])["matches"]
    assert match["within_s"] == 10 and abs(match["position_s"] - 2) <= 0.25
    exact = amg.identify("a.wav", indexed)
    assert {candidate.within_s for candidate in exact.candidates} == {0}


def test_the_nearest_is_the_one_that_chance_gives_least(indexed):
    """Nothing speaks for any candidate here, so that their evidence says nothing."""
    catalogue = Catalogue.load(indexed)
    for seed in range(50, 55):
        answer = amg.identify((tune(seed, 30), RATE), catalogue)
        chances = [candidate.chance for candidate in answer.candidates]
        assert len(chances) == 3 and chances == sorted(chances)
        assert f"(nearest: {one_line(answer.candidates[0].name)}, score" in str(answer)


def test_a_forked_process_answers(clips, indexed):
    """Threads do not come along into it: nothing may wait for them, its end included."""
    (clips / "program.py").write_text(f"""
import os, sys, amg
catalogue = amg.Catalogue.load({str(indexed)!r})
for asked_before in (False, True):
    child = os.fork()
    answers = amg.identify("a.wav", catalogue), amg.identify("a.wav", catalogue, "sequence")
    if not child:
        print(*(answer.matches[0].name for answer in answers), flush=True)
        sys.exit()
    print(os.waitpid(child, 0)[1], flush=True)
""")
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "program.py"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == ["a.wav", "a.wav", "0"] * 2, done.stderr
