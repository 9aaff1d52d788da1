"""Made things and how they were made: the one mechanism of provenance.

A training set, a database, a run: each is a folder `<name>-<digest>` with a record beside it,
`<name>-<digest>.json`: its `Recipe`, and whether it is finished. Another recipe has another folder,
so that going back to earlier parameters, or code, finds what they made. If code alone differs, the
changed modules are named; with the environment variable KEEP set, what earlier code made is taken
all the same. The plain `<name>` is a link to what was last asked for. A folder of that name, or a
link that leads elsewhere, is not ours: it is read, never written into.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import filelock

import amg
from amg import files, paths
from amg.check import InputError

IDENTITY = ("kind", "parameters", "inputs", "computed", "code")  # what two equal things share
KEEP = "AMG_KEEP_EARLIER"
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Recipe:
    """All that decides a made thing."""

    kind: str  # what it makes, in words
    parameters: dict  # JSON-able
    inputs: dict = field(default_factory=dict)  # name -> digest
    computed: dict = field(default_factory=dict)  # device and precision, where they matter
    code: dict = field(default_factory=dict)  # module -> digest, as `code.of`

    @property
    def identity(self) -> dict:
        """The part of the record that two equal things share."""
        return {name: getattr(self, name) for name in IDENTITY}

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that tell it apart."""
        return files.digest(self.identity)[:8]


@dataclass(frozen=True)
class Made:
    """A made thing, or a folder that came from elsewhere, which has no record and is finished."""

    folder: Path
    record: dict
    finished: bool

    @property
    def identity(self) -> str:
        """Digest to name it by as an input of something else."""
        if self.record:
            return files.digest({key: self.record[key] for key in IDENTITY})
        there = sorted(path for path in self.folder.rglob("[!.]*") if path.is_file())
        return files.digest([(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in there])


def is_ours(name) -> bool:
    """Whether a path is a link as `making` leaves: to a folder beside it that is named after it."""
    target = os.readlink(name) if name.is_symlink() else ""
    made = re.fullmatch(rf"{re.escape(name.name)}-([^/]+-)?[0-9a-f]{{8}}", target)
    return bool(made or _copied(name))


def _copied(name):
    """The made folder of which the folder `name` is a copy, file by file, as where somebody copied
    the workspace and the copying followed links; None if it is none."""
    if name.is_symlink() or not name.is_dir():
        return None
    made = [record.with_suffix("") for record in sorted(name.parent.glob(f"{name.name}-*.json"))]
    same = (folder for folder in made if folder.is_dir() and content(folder) == content(name))
    return next(same, None)


def content(folder) -> str:
    """Digest of the files in a folder: their names below it, and their bytes."""
    there = [
        Path(place, name)
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name[0] != "."
    ]
    return files.digest({str(f.relative_to(folder)): files.sha256(f) for f in there})


def record_of(folder) -> Path:
    """The JSON beside a made folder: inside are only arrays."""
    return folder.with_name(f"{folder.name}.json")


@contextmanager
def making(name, recipe, differs="", tried=False) -> Iterator[Made]:
    """Make what `recipe` says under the path `name`: yields its `Made`, finished or not.

    differs: words for its folder's name. It is locked meanwhile, `name` points to it, and after the
    block it counts as finished. tried: if `name` points to what was more than a try, it is left.
    Raises InputError if another process is at it, or if `name` holds what the kit did not make.
    """
    words = filter(None, [name.name, differs[:60], recipe.digest])
    folder = name.with_name("-".join(words))
    if (name.exists() or name.is_symlink()) and not is_ours(name):
        made = any(name.parent.glob(f"{name.name}-*.json"))
        copied = ", or is a copy that followed a link and was changed since," if made else ""
        raise InputError(
            f"{paths.relative(name)} was not made by this kit{copied} and is left alone; "
            "choose another name, or move it elsewhere."
        )
    check_links(name)
    earlier = None if record_of(folder).exists() else _by_earlier_code(name, recipe)
    if earlier and os.environ.get(KEEP):
        folder = earlier
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        record = files.read_json(record_of(folder)) or {}
        same = _but_code(record) == _but_code(recipe.identity)
        tried = tried and _tried(record)
        if not same or not record.get("finished"):
            record = {**recipe.identity, "kit": amg.__version__, "finished": False}
        if record.get("tried") != tried:
            record["tried"] = tried
            files.write_json(record_of(folder), record)
        if not tried or not name.is_dir() or _tried(find(name, "", unfinished=True).record):
            _link(name, folder)
        yield Made(folder, record, record["finished"])
        if not record["finished"]:
            files.write_json(record_of(folder), {**record, "finished": True})


def _tried(record):
    """Whether something is no more than a try; if nothing tells how it was made, it is not kept for
    more."""
    return record.get("tried", not record)


def _but_code(identity):
    """Digest of an identity without its code."""
    return files.digest({key: identity.get(key) for key in IDENTITY if key != "code"})


def _by_earlier_code(name, recipe):
    """Folder of the last finished thing whose recipe differs in its code alone; says so."""
    records = name.parent.glob(f"{name.name}-*.json")
    for path in sorted(records, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        record = files.read_json(path) or {}
        if record.get("finished") and _but_code(record) == _but_code(recipe.identity):
            print(f"{paths.relative(name)}: {said_of(differing(record, recipe.identity))}.")
            return path.with_suffix("")
    return None


def differing(one, other) -> list[str]:
    """Modules whose code is not the same in two identities."""
    return sorted({name for name, _ in one.get("code", {}).items() ^ other["code"].items()})


def said_of(modules) -> str:
    """That some modules have changed, and what becomes of what earlier code made."""
    anew = f"made anew ({KEEP}=1 would keep what there is)"
    end = "made by earlier code, kept" if os.environ.get(KEEP) else anew
    return f"{', '.join(modules)} changed since; {end}"


def find(name, made_by, unfinished=False) -> Made:
    """What lies under the path `name`: what was last made there, or a folder from elsewhere.

    made_by: the notebook that makes it. Raises InputError if there is nothing, or something
    unfinished (unless that is asked for).
    """
    if not name.is_dir():
        raise InputError(
            f"{paths.relative(name)} is missing; run notebook {made_by} first, or unpack your own "
            "there."
        )
    folder = _copied(name) or name.resolve()
    record = files.read_json(record_of(folder)) or {}
    if not record.keys() >= {*IDENTITY, "finished"}:  # somebody's own JSON, or there is none
        record = {}
    # a link of ours without a record is ours all the same: the record was lost
    made = Made(folder, record, record.get("finished", not is_ours(name)))
    if not made.finished and not unfinished:
        raise InputError(
            f"{paths.relative(folder)} is not finished; run notebook {made_by} again, "
            "it continues where it stopped."
        )
    return made


def lock(path) -> AbstractContextManager:
    """Keeps other processes out of `path`; InputError if one is there already."""
    try:
        return filelock.FileLock(path.with_name(f".{path.name}.lock")).acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(
            f"another process is working on {paths.relative(path)}; wait for it, or "
            "stop it and start this again."
        ) from None


def check_links(name) -> None:
    """InputError unless there can be a link at the path `name`."""
    _temporary_link(name, name.name).unlink()


def _temporary_link(name, target):
    temporary = name.with_name(f".{name.name}.{os.getpid()}.link")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        raise InputError(
            f"{paths.relative(name.parent)} cannot hold symbolic links ({error}), which this kit "
            "needs; set AMG_HOME to a folder on another drive."
        ) from None
    return temporary


def _link(name, folder):
    """Point `name` to `folder`, in one step; a copy of it there goes."""
    if name.is_symlink() and name.resolve() == folder.resolve():
        return
    temporary = _temporary_link(name, folder.name)
    if not name.is_symlink() and name.is_dir():
        copy = name.with_name(f".{name.name}.{os.getpid()}.copy")
        os.replace(name, copy)
        shutil.rmtree(copy)
    os.replace(temporary, name)
