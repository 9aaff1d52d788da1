"""What goes wrong, and the sentence that it ends in: `PYTHONPATH=tests python -m bad_input` prints
the table of `docs/bad_input.md`, `test_bad_input.py` runs every row of it.

A row is a kind, what is wrong, and a call in an empty folder that is also the workspace.
"""

import contextlib
import errno
import io
import json
import os
import pickle
import shutil
import sqlite3
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import safetensors.torch
import soundfile
import torch
from conftest import unit_rows

from amg import check, checkpoint, cluster, files, progress, provenance
from amg.catalogue import indexing, models, sounds, store
from amg.catalogue.catalogue import Catalogue
from amg.check import InputError
from amg.embedding import runs
from amg.fingerprint import features, fingerprinters
from amg.fingerprint import folder as folder_
from amg.report.running import pipeline, steps, sweeps
from amg.retrieval import databases, published
from amg.sound import audio, corpora, decoding

RATE = audio.SAMPLE_RATE
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE).astype(np.float32)


def heard(name, sound=NOISE, rate=RATE, subtype="FLOAT", spoil=None):
    """Fingerprint a file that holds `sound` and was spoilt."""

    def call(folder):
        path = folder / name
        soundfile.write(path, sound, rate, subtype)
        if spoil:
            spoil(path)
        indexing.listen(name, audio.blocks(path), fingerprinters.find())

    return call


def written(name, content, read):
    """Read a file of these bytes."""

    def call(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        read(path)

    return call


def array(name, content):
    """Read fingerprints of these values."""
    held = io.BytesIO()
    np.save(held, content, allow_pickle=True)
    return written(name, held.getvalue(), features.load)


def patched(offset, content):
    def spoil(path):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(content)

    return spoil


def checkpoint_of(tensors, record):
    def call(folder):
        checkpoint.save(folder / "weights.safetensors", tensors, record)
        fingerprinters.find(str(folder / "weights.safetensors")).load()

    return call


def beside(folder):
    """Weights with a model card that describes others."""
    safetensors.torch.save_file({"a": torch.zeros(2)}, folder / "a.safetensors", {"record": "{}"})
    files.write_json(folder / "a.json", {"sha256": "0" * 64})
    checkpoint.load(folder / "a.safetensors")


class Poison:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def published_checkpoint(content):
    held = io.BytesIO()
    torch.save(content, held)
    return written("a.pth", held.getvalue(), published.load_published)


def distractor_too(folder):
    database([40], [40])(folder)
    shutil.copy(folder / databases.TEST / "0.npy", folder / databases.DUMMY / "1.npy")
    databases.load(folder)


def database(songs, queries=(), dummies=1):
    """Load a database of songs and queries, each frames and a number of rows."""

    def call(folder):
        rng = np.random.default_rng(0)
        for place, counts in (
            (databases.DUMMY, [40] * dummies),
            (databases.TEST, songs),
            (databases.QUERY, queries),
        ):
            for number, n_frames in enumerate(counts):
                features.save(folder / place / f"{number}.npy", unit_rows(rng, n_frames, 128))
        found, _ = databases.load(folder)
        databases.load_queries(folder / databases.QUERY, found)

    return call


def profile(text):
    return lambda folder: pipeline.parse_profile("mine", text)


SWEEP = "# Why?\nprofile: smoke\n"


def swept(text):
    """Read a sweep, the file mine.yaml."""

    def call(folder):
        (folder / "mine.yaml").write_text(text)
        return sweeps.read(str(folder / "mine.yaml"))

    return call


def without_training(folder):
    """Read a sweep whose profile has no notebook 03."""
    alone = pipeline.parse_profile("smoke", "02_split: {}")
    with mock.patch.object(pipeline, "load_profile", return_value=alone):
        swept(f"{SWEEP}cells: {{a: {{}}}}")(folder)


def parameters_cell(line, tags=("parameters",)):
    """Read a notebook whose parameters cell has been edited."""
    cell = {"cell_type": "code", "metadata": {"tags": tags}, "source": f"seed: int = 0\n{line}"}
    content = json.dumps({"cells": [cell]}).encode()
    return written("02_split.ipynb", content, steps.read_notebook)


def without_links(folder):
    def refuse(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with mock.patch("os.symlink", refuse):
        provenance.check_links(folder / "database" / "demo")


def music(folder):
    (folder / "music").mkdir()
    soundfile.write(folder / "music" / "a.wav", NOISE, RATE)
    return folder / "music"


def refused(name):
    """Index a folder that has a file of this name, and say what is said of it."""

    def call(folder):
        path = os.path.join(os.fsencode(music(folder)), name)
        with open(path, "wb") as file:
            file.write(b"RIFF")
        said = indexing.index([folder / "music"], folder / "catalogue", workers=1).refused
        if said:
            raise InputError(said[0])

    return call


def target(there):
    """Extract into something that is there already."""

    def call(folder):
        source = music(folder)
        folder_.extract(source, there(folder), fingerprinters.find(), workers=1)

    return call


def taken(folder):
    (folder / "taken").write_text("mine")
    return folder / "taken"


def letters(folder):
    (folder / "letters").mkdir()
    (folder / "letters" / "a.txt").write_text("mine")
    return folder / "letters"


def spoilt_catalogue(folder):
    indexing.index([music(folder)], folder / "catalogue", workers=1)
    (folder / "catalogue" / store.DATABASE).write_bytes(b"no database" * 99)
    Catalogue.load(folder / "catalogue")


def cut_catalogue(folder):
    indexing.index([music(folder)], folder / "catalogue", workers=1)
    os.truncate(folder / "catalogue" / "frames-1.f32", 100)
    Catalogue.load(folder / "catalogue")


def other_tables(folder):
    indexing.index([music(folder)], folder / "catalogue", workers=1)
    with sqlite3.connect(folder / "catalogue" / store.DATABASE) as tables:
        tables.execute("ALTER TABLE places ADD COLUMN album TEXT")
    Catalogue.load(folder / "catalogue")


def locked_catalogue(folder):
    """Another program holds it for longer than one waits."""
    indexing.index([music(folder)], folder / "catalogue", workers=1)
    other = sqlite3.connect(folder / "catalogue" / store.DATABASE)
    other.execute("BEGIN EXCLUSIVE")
    with mock.patch.object(store, "WAIT_S", 0), contextlib.closing(other):
        Catalogue.load(folder / "catalogue")


def forbidden_catalogue(folder):
    """It is somebody else's, who keeps it to himself."""
    indexing.index([music(folder)], folder / "catalogue", workers=1)
    (folder / "catalogue").chmod(0)
    root = os.geteuid() == 0  # who may read everything
    if root:
        os.seteuid(65534)
    try:
        Catalogue.load(folder / "catalogue")
    finally:
        if root:
            os.seteuid(0)
        (folder / "catalogue").chmod(0o700)


def other_encoder(folder):
    indexing.index([music(folder)], folder / "catalogue", workers=1)
    indexing.index([folder / "music"], folder / "catalogue", models.load("mean"), workers=1)


def other_code(folder):
    """A catalogue whose record tells of a module that is not what it was."""
    made_by = models.load()
    made_by.about["code"]["amg.embedding.crops"] = "another"
    indexing.index([music(folder)], folder / "catalogue", made_by, workers=1)
    indexing.index([folder / "music"], folder / "catalogue", workers=1)


def fma(track, table):
    """Ask for the corpus fma in a folder of one file, with a table of tracks that holds this."""

    def call(folder):
        for name, content in ((track, b""), ("fma_metadata/tracks.csv", table)):
            if content is not None:
                (folder / "fma_full" / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / "fma_full" / name).write_bytes(content)
        corpora.check_source("fma", "fma_full")

    return call


def at(address):
    """Give a job to a Dask cluster."""

    def call(folder):
        with mock.patch.object(cluster, "WAIT_S", 0.5):
            list(progress.parallel(abs, [(-1,)], address))

    return call


def without_dask(folder):
    with mock.patch.dict("sys.modules", distributed=None):
        at("tcp://host:8786")(folder)


NPY_HEADER = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 128), }"
ROWS = [
    ("sound", "a text named .mp3", written("a.mp3", b"Dear Sir", lambda p: list(audio.blocks(p)))),
    ("sound", "a text named .au", written("a.au", b"Dear Sir", lambda p: list(audio.blocks(p)))),
    ("sound", "an empty file", written("a.wav", b"", lambda p: list(audio.blocks(p)))),
    ("sound", "bytes named .m4a", written("a.m4a", bytes(99), lambda p: list(audio.blocks(p)))),
    ("sound", "half a second", heard("a.wav", NOISE[: RATE // 2])),
    ("sound", "digital silence", heard("a.wav", 0 * NOISE)),
    ("sound", "two channels that cancel each other", heard("a.wav", np.stack([NOISE, -NOISE], 1))),
    ("sound", "samples that are NaN", heard("a.wav", NOISE * np.nan)),
    ("sound", "samples of 10^30", heard("a.wav", NOISE * np.float32(1e30))),
    (
        "sound",
        "a header with a rate of 2^31 - 1 Hz",
        heard("a.wav", subtype="PCM_16", spoil=patched(24, (2**31 - 1).to_bytes(4, "little"))),
    ),
    (
        "sound",
        "a file cut in its header",
        heard("a.wav", spoil=lambda path: path.write_bytes(path.read_bytes()[:20])),
    ),
    (
        "sound",
        "a FLAC file cut in its sound",
        heard(
            "a.flac",
            subtype="PCM_16",
            spoil=lambda path: path.write_bytes(path.read_bytes()[:9999]),
        ),
    ),
    (
        "sound",
        "a recorder's file whose size was never written",
        heard("a.wav", np.tile(NOISE, 5), subtype="PCM_16", spoil=patched(40, bytes(4))),
    ),
    ("sound", "a text whose name is not UTF-8", refused(b"\xff.wav")),
    ("sound", "a file that is not there", lambda folder: sounds.blocks(folder / "none.wav")),
    ("sound", "a folder instead of a file", lambda folder: sounds.blocks(letters(folder))),
    ("sound", "an open file", lambda folder: sounds.blocks(io.BytesIO(b"RIFF"))),
    ("sound", "samples that are complex", lambda folder: sounds.blocks((NOISE + 1j, RATE))),
    ("sound", "a rate in place of samples", lambda folder: sounds.blocks((RATE, NOISE))),
    ("fingerprints", "a text named .npy", written("a.npy", b"Dear Sir", features.load)),
    ("fingerprints", "an empty file", written("a.npy", b"", features.load)),
    (
        "fingerprints",
        "a header that claims 10^15 rows",
        written("a.npy", (NPY_HEADER % 10**15).ljust(127) + b"\n", features.load),
    ),
    (
        "fingerprints",
        "rows that are cut off",
        written("a.npy", (NPY_HEADER % 9).ljust(127) + b"\n" + bytes(512), features.load),
    ),
    ("fingerprints", "Python objects", array("a.npy", np.array([None, 1], object))),
    ("fingerprints", "NaN", array("a.npy", np.full((3, 128), np.nan, np.float32))),
    ("fingerprints", "zeros", array("a.npy", np.zeros((3, 128), np.float32))),
    ("fingerprints", "one axis", array("a.npy", np.ones(128, np.float32))),
    ("fingerprints", "letters", array("a.npy", np.full((3, 128), "a"))),
    ("weights", "a text", written("a.safetensors", b"Dear Sir", checkpoint.load)),
    ("weights", "a model card of other weights beside them", beside),
    ("weights", "NaN", checkpoint_of({"a": torch.full((2,), np.nan)}, {})),
    ("weights", "of another kind", checkpoint_of({"a": torch.zeros(2)}, {"kind": "nothing"})),
    (
        "weights",
        "a published checkpoint of another network",
        published_checkpoint({"model": {"linear1.weight": torch.zeros(256, 64)}}),
    ),
    ("weights", "a published checkpoint that would run a program", published_checkpoint(Poison())),
    ("weights", "an encoder that there is not", lambda folder: models.load("mlstm")),
    (
        "test ids",
        "a pickle that would run a program",
        written("ids.pkl", pickle.dumps(Poison()), published.load_test_ids),
    ),
    (
        "test ids",
        "a pickle of something else",
        written("ids.pkl", pickle.dumps([1, 2]), published.load_test_ids),
    ),
    (
        "test ids",
        "a pickle that claims 10^9 entries in a few bytes",
        written(
            "ids.pkl",
            b"\x80\x04K\x01r" + (10**9).to_bytes(4, "little") + b".",
            published.load_test_ids,
        ),
    ),
    (
        "test ids",
        "a pickle that claims 8 GB in a few bytes",
        written(
            "ids.pkl",
            b"\x80\x05\x96" + (8 * 10**9).to_bytes(8, "little") + b".",
            published.load_test_ids,
        ),
    ),
    ("database", "no songs", database([])),
    ("database", "a query more than songs", database([40], [40, 40])),
    ("database", "a test song that is a distractor, too", distractor_too),
    ("database", "a query longer than its song", database([40], [60])),
    ("fma", "no metadata", fma("000/000002.mp3", None)),
    ("fma", "a folder of other music", fma("Music/a.mp3", b"")),
    ("fma", "metadata that are a web page", fma("000/000002.mp3", b"<!DOCTYPE html>\n<html>")),
    ("parameter", "a seed below 0", lambda folder: check.seed(-1)),
    ("parameter", "a seed of 2^70", lambda folder: runs.Config(seed=2**70)),
    (
        "parameter",
        "a duration twice",
        lambda folder: check.each("durations", [5, 10, 5], check.integer, 1),
    ),
    ("profile", "no YAML", profile("a: [")),
    ("profile", "a parameter for all notebooks that none has", profile("all: {n_tests: 3}")),
    ("profile", "no notebook of that name", profile("99_nothing: {}\n")),
    ("profile", "a number", profile("3")),
    ("profile", "a notebook twice", profile("02_split: {}\n02_split: {}")),
    ("sweep", "no file", lambda folder: sweeps.read("none.yaml")),
    ("sweep", "no question", swept("profile: smoke\ncells: {a: {}}")),
    ("sweep", "no YAML", swept("# Why?\na: [")),
    (
        "sweep",
        "a profile without training",
        without_training,
    ),
    ("sweep", "nothing to compare", swept(SWEEP)),
    ("sweep", "no cells", swept(f"{SWEEP}cells: {{}}")),
    ("sweep", "an unknown key", swept(f"{SWEEP}cells: {{a: {{colour: red}}}}")),
    ("sweep", "an unknown encoder", swept(f"{SWEEP}cells: {{a: {{encoder: mp}}}}")),
    ("sweep", "an encoder that is no name", swept(f"{SWEEP}cells: {{a: {{encoder: [mt]}}}}")),
    ("sweep", "an unknown loss", swept(f"{SWEEP}cells: {{a: {{loss: amgg}}}}")),
    ("sweep", "a value of a wrong type", swept(f"{SWEEP}cells: {{a: {{lr: high}}}}")),
    ("sweep", "a setting out of its range", swept(f"{SWEEP}cells: {{a: {{crop_power: 0}}}}")),
    (
        "sweep",
        "a setting of what needs no training",
        swept(f"{SWEEP}cells: {{a: {{encoder: lift, bits: 1024}}}}"),
    ),
    ("sweep", "a seed in a cell", swept(f"{SWEEP}cells: {{a: {{seed: 3}}}}")),
    ("sweep", "other trials in a cell", swept(f"{SWEEP}cells: {{a: {{query_frames: [5]}}}}")),
    ("sweep", "a cell twice", swept(f"{SWEEP}cells: {{a: {{}}, a: {{lr: 0.1}}}}")),
    ("sweep", "two equal cells", swept(f"{SWEEP}cells: {{a: {{}}, b: {{layers: 1}}}}")),
    ("sweep", "names of one folder", swept(f"{SWEEP}cells: {{a b: {{}}, A-B: {{lr: 0.1}}}}")),
    ("sweep", "a value twice", swept(f"{SWEEP}grid: {{lr: [0.1, 0.1]}}")),
    ("sweep", "two budgets", swept(f"{SWEEP}budget: {{updates: 3, crops: 5}}\ncells: {{a: {{}}}}")),
    ("sweep", "no updates", swept(f"{SWEEP}budget: {{updates: 0}}\ncells: {{a: {{}}}}")),
    ("sweep", "no seeds", swept(f"{SWEEP}seeds: []\ncells: {{a: {{}}}}")),
    ("notebook", "an expression as a parameter", parameters_cell("seed = 2 * 21")),
    (
        "notebook",
        "a call as a parameter",
        parameters_cell("durations: list = list(range(5, 20, 5))"),
    ),
    ("notebook", "an import among the parameters", parameters_cell("import os")),
    ("notebook", "a parameter without a value", parameters_cell("n: int")),
    ("notebook", "two names for one value", parameters_cell("a = b = 3")),
    ("notebook", "a command among the parameters", parameters_cell("print('hello')")),
    ("notebook", "a magic", parameters_cell("%matplotlib inline")),
    ("notebook", "no tagged cell", parameters_cell("a = 3", tags=())),
    ("notebook", "a text", written("02_split.ipynb", b"<<<<<<< HEAD", steps.read_notebook)),
    ("place", "no symbolic links, as on exFAT", without_links),
    ("place", "a target that is a file", target(taken)),
    ("place", "a target that holds something else", target(letters)),
    ("place", "a target that is the music's folder", target(lambda folder: folder / "music")),
    ("place", "a target that is the root", target(lambda folder: Path("/"))),
    (
        "place",
        "a folder that is not there",
        lambda folder: indexing.index([folder / "none"], folder / "catalogue"),
    ),
    ("cluster", "no address", at("host")),
    ("cluster", "an address that nobody answers", at("tcp://127.0.0.1:1")),
    ("cluster", "no Dask", without_dask),
    ("catalogue", "none", lambda folder: Catalogue.load(folder / "none")),
    (
        "catalogue",
        "a folder of something else",
        lambda folder: indexing.index([music(folder)], letters(folder), workers=1),
    ),
    ("catalogue", "a damaged one", spoilt_catalogue),
    ("catalogue", "one whose arrays are cut off", cut_catalogue),
    ("catalogue", "one with other tables", other_tables),
    ("catalogue", "one that another program holds", locked_catalogue),
    ("catalogue", "one that may not be read", forbidden_catalogue),
    ("catalogue", "one of another encoder", other_encoder),
    ("catalogue", "one that other code has made", other_code),
]


def sentence(call) -> str | None:
    """What a call ends in, without the folder it ran in, where ffmpeg is not installed; None if
    nothing was refused."""
    without = mock.patch.object(decoding, "ffmpeg", lambda: None)
    with without, tempfile.TemporaryDirectory() as temporary:
        folder, before = Path(temporary).resolve(), os.environ.get("AMG_HOME")
        os.environ["AMG_HOME"] = str(folder)
        try:
            call(folder)
            return None
        except InputError as error:
            return str(error).replace(f"{folder}/", "").replace(str(folder), ".")
        finally:
            if (folder / "exploded").exists() or Path("exploded").exists():
                raise AssertionError("a pickle was executed")
            if before is None:
                del os.environ["AMG_HOME"]
            else:
                os.environ["AMG_HOME"] = before


def markdown() -> str:
    lines = ["| kind | what is wrong | what is said |", "|---|---|---|"]
    for kind, what, call in ROWS:
        lines.append(f"| {kind} | {what} | {str(sentence(call)).replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
