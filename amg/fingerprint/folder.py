"""`python -m amg extract music target`: fingerprints of every audio file below a folder.

Beside the target lies its record, `<target>.json`: which music, which fingerprinter, and for each .npy
the size and time of the file that it is made from. What does not agree with its file is removed
before the record is renewed, and arrays are written whole: an array that is there is right. So the same
command continues after any interruption, and brings the target up to date with its music.
"""

import os
import re
from pathlib import Path

import joblib

import amg
from amg import check, files, machine, made, progress
from amg.check import InputError
from amg.fingerprint import features
from amg.sound import audio, recordings

GROUP = 16  # files whose windows share batches
LONGEST = 240  # bytes of a name: file systems take 255, and temporary names are longer


def extract(source, target, fingerprinter, workers=2, device="auto") -> tuple[int, list[str]]:
    """Fingerprint every audio file below `source`: `deep/b.flac` becomes `target/deep__b.flac.npy`.

    fingerprinter: a `fingerprinters.Source`. Returns (number of files with fingerprints, a sentence for
    each that has none). Raises InputError if there is no audio, if another process is at it, or if
    `target` holds anything but what was made from this folder by this fingerprinter.
    """
    check.integers(1, workers=workers)
    source, target, device = recordings.root(source).resolve(), Path(target).resolve(), machine.device(device)
    fingerprinter.load(device)  # refused here, not in every worker
    if not target.name or os.path.exists(target) and not target.is_dir():
        raise InputError(f"target is {target}, but must be a folder of its own for the fingerprints.")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with made.lock(target):
            plan, refused = _plan(source)
            record = _claim(source, target, fingerprinter, device, plan)
            jobs = [(source / file, target / name) for name, (file, *_) in plan.items()]
            failed = _run(jobs, fingerprinter, device, workers)
            files.write_json(made.record_of(target), {**record, "finished": True})
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error}); choose another target.") from None
    return len(plan) - len(failed), refused + failed


def _plan(source):
    """({name of the .npy: [file below `source`, bytes, time in ns]}, sentences about the others)."""
    plan, refused = {}, []
    for file in recordings.find(source):
        parts = file.relative_to(source).parts
        name = "__".join(parts)
        if name.split("__") != list(parts):  # a__b.wav is not a/b.wav
            name += f"-{files.digest(parts)[:8]}"
        problem = _problem(f"{name}.npy")
        if problem:
            refused.append(f"{file}: {problem}".encode(errors="backslashreplace").decode())
        else:
            stat = file.stat()
            plan[f"{name}.npy"] = ["/".join(parts), stat.st_size, stat.st_mtime_ns]
    return plan, refused


def _problem(name):
    """What is wrong with the name of a file to write; None if nothing is."""
    n_bytes = len(name.encode(errors="surrogateescape"))
    if name != name.encode(errors="replace").decode():
        return "its name is not UTF-8; rename it."
    if n_bytes > LONGEST:
        return f"its name, with its folders', makes {n_bytes} bytes of at most {LONGEST}; shorten it."
    return "its name begins with a dot; rename it." if name.startswith(".") else None


def _claim(source, target, fingerprinter, device, plan):
    """Remove what is not as planned from a target that is ours, and renew its record; returns it."""
    path, there = made.record_of(target), sorted(file.name for file in target.glob("[!.]*"))
    old = files.read_json(path) or {}
    known = old.get("files", {})
    strange = [path.name] if old and (old.get("kind") != "fingerprints" or "files" not in old) else [
        name for name in there if name not in known]
    if strange:
        raise InputError(f"{target} has {strange[0]}, which this command did not make; choose another "
                         "target.")
    new = made.Recipe("fingerprints", {"source": str(source)}, {"fingerprinter": fingerprinter.digest},
                      {"device": device}).identity
    if there:
        _check_same(target, old, new)
    for file in target.iterdir():
        half = re.fullmatch(r"\.(.+)\.\d+\.tmp\.npy", file.name)  # of a process that was killed
        if half or file.name in known and known[file.name] != plan.get(file.name):
            file.unlink()
    new["inputs"]["music"] = files.digest(plan)
    record = {**new, "kit": amg.__version__, "finished": False, "files": plan}
    files.write_json(path, record)
    return record


def _check_same(target, old, new):
    """InputError unless the identities `old` and `new` tell the same source, fingerprinter, device."""
    for group in ("parameters", "inputs", "computed"):
        for key, value in new[group].items():
            if old[group].get(key) != value:
                raise InputError(f"{target} was made with {key} {old[group].get(key)}, not {value}; "
                                 "choose another target, or delete it first.")
    if old["format"] != new["format"]:
        raise InputError(f"{target} was made by another version of this kit; choose another target, "
                         "or delete it first.")


def _run(jobs, fingerprinter, device, workers):
    """Write the arrays that are not there; returns sentences about files that give none."""
    jobs = [(file, array) for file, array in jobs if not array.exists()]
    groups = [jobs[i : i + GROUP] for i in range(0, len(jobs), GROUP)]
    results = joblib.Parallel(workers, return_as="generator")(
        joblib.delayed(_group)(group, fingerprinter, device) for group in groups)
    return [sentence for part in progress.bar(results, desc="fingerprinting", total=len(groups),
                                              unit=f"{GROUP} files") for sentence in part]


def _group(jobs, fingerprinter, device):
    """Fingerprint some files together; returns sentences about those that cannot be."""
    jobs = [(file, array) for file, array in jobs if not array.exists()]
    found = fingerprinter.load(device).extract(audio.blocks(file) for file, _ in jobs)
    try:
        for _, array in jobs:
            features.save(array, next(found))
    except InputError as reason:
        if len(jobs) == 1:
            name = str(jobs[0][0])
            return [str(reason) if str(reason).startswith(name) else f"{name}: {reason}"]
        return [sentence for job in jobs for sentence in _group([job], fingerprinter, device)]
    return []
