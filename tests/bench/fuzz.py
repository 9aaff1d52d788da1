"""Coverage-guided fuzzing of what reads foreign files.

`PYTHONPATH=tests python -m bench.fuzz SECONDS [READER ...]`: all of them, or some again.

Needs atheris (`pip install atheris`, Linux). Each reader is given files made from a few right ones,
for so many seconds; all but a result or an InputError is a finding, and its file is kept in the
temporary folder that is printed. `reports/reference/catalogue/fuzz.json` tells how many were tried.
"""

import contextlib
import io
import json
import pickle
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FORMATS = ("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", None)
SEED = 1  # libFuzzer takes 0 for none
READERS = ("audio", "fingerprints", "checkpoint", "test_ids", "profile")


def seeds(reader) -> list[bytes]:
    """Right files of a kind."""
    held = io.BytesIO()
    if reader == "audio":
        import soundfile

        sound, found = np.random.default_rng(0).uniform(-0.1, 0.1, 2000).astype(np.float32), []
        for kind, subtype in FORMATS:
            held = io.BytesIO()
            soundfile.write(held, sound, 8000, subtype, format=kind)
            found.append(held.getvalue())
        return found
    if reader == "fingerprints":
        np.save(held, np.full((2, 4), 0.5, np.float32))
        return [held.getvalue()]
    if reader == "checkpoint":
        import safetensors.numpy

        record = {"record": json.dumps({"kind": "a"})}
        return [safetensors.numpy.save({"a": np.zeros(2, np.float32)}, record)]
    if reader == "test_ids":
        return [pickle.dumps({5: {19: [1, 2]}}), pickle.dumps({5: {19: np.arange(3)}})]
    return [b"01_data_prep:\n  n_rooms: 3\n02_split: {durations: [5, 10]}\n"]


def fuzz(reader, corpus, seconds):
    """Never returns; libFuzzer prints what it did."""
    import atheris

    with atheris.instrument_imports(include=["amg", "numpy.lib", "yaml", "pickle", "soundfile"]):
        from amg import checkpoint
        from amg.check import InputError
        from amg.fingerprint import features
        from amg.report.running import pipeline
        from amg.retrieval import published
        from amg.sound import audio
    file = Path(tempfile.mkdtemp()) / "file"
    read = {
        "audio": lambda path: list(audio.blocks(path)),
        "fingerprints": features.load,
        "checkpoint": checkpoint.load,
        "test_ids": published.load_test_ids,
        "profile": lambda path: pipeline.parse_profile("mine", path.read_text("utf-8", "replace")),
    }

    def one(content):
        file.write_bytes(content)
        with contextlib.suppress(InputError):
            read[reader](file)

    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-max_total_time={seconds}",
            f"-seed={SEED}",
            "-max_len=8192",
            "-rss_limit_mb=8000",
            "-timeout=60",
            f"-artifact_prefix={corpus.parent}/{reader}-",
        ],
        one,
    )
    atheris.Fuzz()


def main():
    from amg import files, machine
    from bench.catalogue import REFERENCE

    seconds, folder = int(sys.argv[1]), Path(tempfile.mkdtemp())
    before = files.read_json(REFERENCE / "fuzz.json") or {}
    found = before["readers"] if before.get("seconds_each") == seconds else {}
    for reader in sys.argv[2:] or READERS:
        (folder / reader).mkdir()
        for number, content in enumerate(seeds(reader)):
            (folder / reader / str(number)).write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-m", "bench.fuzz", reader, folder / reader, str(seconds)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        said = done.stderr.decode(errors="replace")
        tried = re.findall(r"Done (\d+) runs", said) or re.findall(r"#(\d+)\s", said) or [0]
        found[reader] = {"files": int(tried[-1]), "findings": len(list(folder.glob(f"{reader}-*")))}
        if not found[reader]["files"]:  # no fuzzer there, or it fell over at once
            raise SystemExit(f"{reader}: no file was tried\n{said[-1500:]}")
        print(reader, found[reader], said[-1500:] if found[reader]["findings"] else "", flush=True)
    print(f"findings: {folder}")
    files.write_json(
        REFERENCE / "fuzz.json",
        {"seconds_each": seconds, "readers": found, "seed": SEED, **machine.describe()},
    )


if __name__ == "__main__":
    if sys.argv[1] in READERS:
        fuzz(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    main()
