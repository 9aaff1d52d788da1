"""`amg extract music target`: fingerprints of every audio file below a folder.

Beside the target lies its record, `<target>.json`: which music, which fingerprinter, and for each
.npy the size and time of the file that it is made from. What does not agree with its file is
deleted before the record is renewed, and arrays are written whole: an array that is there is right.
So the same command continues after any interruption, and brings the target up to date.
"""

import os
from pathlib import Path

import amg
from amg import check, code, files, machine, progress, provenance
from amg.check import InputError, one_line
from amg.fingerprint import features, fingerprinters
from amg.sound import audio, recordings

LONGEST = 240  # bytes of a name: file systems take 255, and temporary names are longer


def extract(source, target, fingerprinter, workers=2, device="auto") -> tuple[int, list[str]]:
    """Fingerprint every audio file below `source`: `deep/b.flac` becomes `target/deep__b.flac.npy`.

    fingerprinter: a `fingerprinters.Source`. Returns (number of files with fingerprints, a sentence
    for each that has none). Raises InputError if there is no audio, if another process is at it, or
    if `target` holds anything but what was made from this folder by this fingerprinter.
    """
    check.integers(1, workers=workers)
    device = machine.device(device)
    source, target = recordings.root(source).resolve(), Path(target).resolve()
    fingerprinter.load(device)  # refused here, not in every worker
    if not target.name:  # /
        raise InputError(f"target is {target}, but must be a folder of its own.")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with provenance.lock(target):
            plan, refused = _plan(source)
            record = _claim(source, target, fingerprinter, device, plan)
            jobs = [
                (source / file, target / name, fingerprinter, device)
                for name, (file, *_) in plan.items()
                if not (target / name).exists()
            ]
            sentences = progress.parallel(_one, jobs, workers, desc="fingerprinting", unit="file")
            failed = [sentence for sentence in sentences if sentence]
            files.write_json(provenance.record_of(target), {**record, "finished": True})
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error}); choose another target.") from None
    return len(plan) - len(failed), refused + failed


def _plan(source):
    """({name of the .npy: [file below `source`, bytes, time in ns]}, sentences on other files)."""
    plan, refused = {}, []
    for file in recordings.find(source):
        parts = file.relative_to(source).parts
        name = "__".join(parts)
        if name.split("__") != list(parts):  # a__b.wav is not a/b.wav
            name += f"-{files.digest(parts)[:8]}"
        name += ".npy"
        raw = os.fsencode(name)
        if name.startswith(".") or len(raw) > LONGEST or raw.decode(errors="ignore") != name:
            shown = str(file).encode(errors="backslashreplace").decode()
            refused.append(
                f"{shown}: its name, with its folders', must be UTF-8 of at most "
                f"{LONGEST} bytes and not begin with a dot; rename it."
            )
        else:
            stat = file.stat()
            plan[name] = ["/".join(parts), stat.st_size, stat.st_mtime_ns]
    return plan, refused


def _claim(source, target, fingerprinter, device, plan):
    """Remove what is outdated from a target that is ours; writes its new record and returns it."""
    path, there = provenance.record_of(target), sorted(file.name for file in target.glob("[!.]*"))
    notes, music = files.read_json(path) or {}, {"music": files.digest(plan)}
    old = notes if "files" in notes else {}
    new = provenance.Recipe(
        "fingerprints",
        {"source": str(source)},
        {"fingerprinter": fingerprinter.digest, **music},
        {"device": device},
        {**code.of(__name__), **fingerprinter.code},
    ).identity
    # files may come and go, and code may change
    was = {**old, "inputs": {**old.get("inputs", {}), **music}, "code": new["code"]}
    known = old.get("files", {}) if new.items() <= was.items() else {}
    strange = [name for name in there if name not in known]
    if notes and not old:  # somebody else's
        strange = [path.name]
    if strange:
        raise InputError(
            f"{target} has {strange[0]}, which this command did not make of {source} by "
            f"fingerprinter {fingerprinter.digest} on {device}; choose another target, or delete "
            "it first."
        )
    earlier = provenance.differing(old, new) if old else []
    if earlier:
        print(f"{target}: {provenance.said_of(earlier)}.")
    anew = earlier and not os.environ.get(provenance.KEEP)
    outdated = [target / name for name in there if anew or known[name] != plan.get(name)]
    for file in [*outdated, *target.glob(".*.*.tmp.npy")]:  # half ones of a process that was killed
        file.unlink()
    if earlier and not anew:
        new = {**new, "code": old["code"]}
    record = {**new, "kit": amg.__version__, "finished": False, "files": plan}
    files.write_json(path, record)
    return record


def _one(file, array, fingerprinter, device):
    """Write the array of one file; returns a sentence if it gives none."""
    try:
        features.save(array, next(fingerprinter.load(device).extract([audio.blocks(file)])))
    except InputError as reason:
        return str(reason) if str(reason).startswith(str(file)) else f"{file}: {reason}"
    return ""


def command(audio, target, device, fingerprinter, workers) -> None:
    """`amg extract`: prints how many files have fingerprints, and why others have none."""
    made_by = fingerprinters.find(fingerprinter)
    written, refused = extract(audio, target, made_by, workers, device)
    told = f"{written} files fingerprinted, {len(refused)} left out"
    print(*map(one_line, refused), told, sep="\n")
