"""`python -m amg index` and `python -m amg identify`, as functions of their arguments."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from amg import check, paths
from amg.catalogue import calibration, indexing, models
from amg.catalogue.catalogue import Catalogue
from amg.catalogue.identify import identify as name_it
from amg.check import InputError
from amg.fingerprint import features
from amg.retrieval import databases
from amg.sound import recordings


def index(arguments) -> None:
    """Index folders; InputError if nothing in them can be used."""
    made_by = models.load(arguments.encoder, arguments.duration_max, arguments.fingerprinter)
    catalogue = arguments.catalogue or indexing.CATALOGUE
    report = indexing.index(arguments.folders, catalogue, made_by, arguments.workers)
    print(report)
    if not report.usable:
        raise InputError("no file can be used.")


def identify(arguments) -> None:
    """Print the answer for each sound, or why there is none; InputError if no sound can be used."""
    catalogue = arguments.catalogue or indexing.CATALOGUE
    catalogue, n_answers = Catalogue.load(catalogue, arguments.fingerprinter), 0
    for sound in _sounds(arguments.sounds):
        listen = _standard_input if sound == "-" else name_it
        try:
            answer = listen(sound, catalogue, arguments.method)
        except InputError as error:
            print(f"amg: {error}", file=sys.stderr)
            continue
        print(json.dumps(answer.to_dict()) if arguments.json else answer, flush=True)
        n_answers += 1
    if not n_answers:
        raise InputError("no sound can be used.")


def calibrate(arguments) -> None:
    """Fit what ships with the kit, and print what held-out songs say of it."""
    check.texts(train_set=arguments.train_set, database=arguments.database)
    data = features.pack(paths.resolve(f"data/train/{arguments.train_set}"))
    database, _ = databases.load(paths.resolve(arguments.database))
    print(calibration.calibrate(data, database, arguments.n_valid).round(3).to_string(index=False))


def _sounds(given):
    """Files as they were given, and those below folders."""
    for sound in given:
        if sound != "-" and os.path.isdir(sound):
            yield from recordings.find(recordings.root(os.path.abspath(sound)))
        else:
            yield sound


def _standard_input(_, catalogue, method):
    """The answer for a file that comes without a name: one that libsndfile reads, or else
    ffmpeg."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "standard input.wav"
        with file.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        try:
            return name_it(file, catalogue, method, name="standard input")
        except InputError:
            file = file.rename(file.with_suffix(".mp4"))
            return name_it(file, catalogue, method, name="standard input")
