"""What code a made thing depends on: digests of modules, blind to how they are written down.

A module's digest follows from its syntax tree without docstrings, and from the data files in its
folder that it names. Comments, white space, docstrings and the version of Python change nothing;
nor do SHOW, which only show what was made. `of` takes a module with all that it imports from
`amg`, transitively; the members of a package that only registers them (encoders, losses) count
where they are named; in a step, all of them count.
"""

import ast
import functools
import hashlib
import inspect
import json
import re
import textwrap
from pathlib import Path

from amg import files

ROOT = Path(__file__).resolve().parent
DATA = r"[\w-]+\.(txt|yaml)"  # names of data files
SHOW = ("amg", "amg.progress", "amg.report")  # with all that is inside amg.report


def of(*modules, members=False) -> dict[str, str]:
    """Module -> digest, of `amg` modules by name and of all that they import from it.

    members: whether packages count with the members that they import.
    """
    waiting, closure = list(modules), {}
    while waiting:
        module = waiting.pop()
        if module in closure or module in SHOW or module.startswith("amg.report."):
            continue
        file = _file(module)
        source = _read(file, file.stat().st_mtime_ns)
        closure[module] = _digest(source)
        own = f"{module}." if file.name == "__init__.py" and not members else "-"
        waiting += [name for name in _imported(source["names"]) if not name.startswith(own)]
    return dict(sorted(closure.items()))


def digest(*modules) -> str:
    """Eight hexadecimal digits of `of`, for the name of a cache."""
    return files.digest(of(*modules))[:8]


def of_cells(trees) -> dict[str, str]:
    """The same for the parsed cells of a notebook: what they import, members included."""
    return of(*_imported(set().union(*map(_names, trees))), members=True)


def changed(record) -> list[str]:
    """Modules that are no longer what they were when something was made, by its `code`."""
    known = record.get("code", {}).items()
    return [name for name, was in known if name.startswith("amg.") and was != _now(name)]


def of_own(thing) -> str:
    """Digest of a class or function that is not the kit's: its source, attributes, static methods,
    the globals that its functions read, and its own base classes."""
    return files.digest(_own(thing, set()))


def tree_digest(tree) -> str:
    """Digest of a syntax tree without docstrings, the same in every version of Python."""
    return files.digest(_plain(tree))


def _now(module):
    file = _file(module)
    return _digest(_read(file, file.stat().st_mtime_ns)) if file.exists() else None


def _digest(source):
    """Eight hexadecimal digits of what `_read` gives, and of the data files that it names."""
    return files.digest([source["tree"], *map(files.sha256, source["data"])])[:8]


def _file(module):
    """Path of a module's source; of a package that of its `__init__`."""
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def _read(file, _):
    """Digest of a source's tree, its data files, and the names that it imports; once per date."""
    tree = ast.parse(file.read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    named = [text for text in texts if isinstance(text, str) and re.fullmatch(DATA, text)]
    paths = [file.with_name(name) for name in sorted(named)]
    data = [path for path in paths if path.is_file()]
    return {"tree": tree_digest(tree), "data": data, "names": _names(tree)}


def _names(tree):
    """Dotted names of `amg` that a tree imports: of `from amg import x` both amg and amg.x."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == "amg"}


def _imported(names):
    """Those of the names that are modules, and the packages that they lie in."""
    parts = [name.split(".") for name in names]
    whole = {".".join(part[:n]) for part in parts for n in range(1, len(part) + 1)}
    return sorted(name for name in whole if _file(name).is_file())


def _plain(node):
    """A syntax tree as lists: no docstrings, and nothing that is empty, for versions of Python
    differ in which empty fields there are."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, ast.AST):
        return f"{type(node).__name__} {node!r}"
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, [])}
    for name in ("ctx", "kind", "type_comment"):
        fields.pop(name, None)
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        fields["body"] = fields.get("body", [])[ast.get_docstring(node, clean=False) is not None :]
    return [type(node).__name__, {name: _plain(value) for name, value in fields.items()}]


def _own(thing, seen):
    """JSON-able description of somebody's own class, function or value."""
    thing = getattr(thing, "__func__", thing)  # of static and class methods
    thing = getattr(thing, "fget", thing)  # of properties
    if inspect.ismodule(thing) or str(getattr(thing, "__module__", "")).split(".")[0] == "amg":
        return getattr(thing, "__qualname__", None) or thing.__name__
    if isinstance(thing, functools.partial):
        parts = thing.func, *thing.args, *sorted(thing.keywords.items())
        return [_own(part, seen) for part in parts]
    if callable(thing) and hasattr(thing, "__dict__") and not hasattr(thing, "__name__"):
        return [_own(type(thing), seen), {k: _own(v, seen) for k, v in sorted(vars(thing).items())}]
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return _value(thing)
    if thing in seen or str(thing.__module__).split(".")[0] in ("torch", "builtins", "numpy"):
        return thing.__qualname__
    seen.add(thing)
    if inspect.isclass(thing):
        own = {
            name: _own(value, seen)
            for name, value in vars(thing).items()
            if not name.startswith("__") or inspect.isfunction(value)
        }
        return [own, [_own(base, seen) for base in thing.__bases__]]
    known = thing.__globals__
    read = {name: known[name] for name in _globals(thing.__code__) & known.keys()}
    read |= inspect.getclosurevars(thing).nonlocals
    defaults = [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
    return [
        _source(thing),
        {name: _own(read[name], seen) for name in sorted(read)},
        [_own(value, seen) for value in defaults],
    ]


def _globals(compiled):
    """Names that a function reads from outside, those of its inner functions included."""
    inner = [const for const in compiled.co_consts if inspect.iscode(const)]
    return {*compiled.co_names}.union(*map(_globals, inner))


def _source(function):
    try:
        source = textwrap.dedent(inspect.getsource(function))
        return tree_digest(ast.parse(source))
    except SyntaxError:  # a lambda within a longer line
        return source
    except OSError:  # typed into an interpreter
        consts = [const for const in function.__code__.co_consts if not inspect.iscode(const)]
        return [function.__code__.co_code.hex(), repr(consts)]


def _value(value):
    """A global or an attribute: numbers and texts by value, arrays by bytes, others by type."""
    try:
        return json.dumps(value, sort_keys=True)
    except TypeError:
        raw = getattr(value, "detach", lambda: value)()
        if hasattr(raw, "__array__"):
            return hashlib.sha256(raw.__array__().tobytes()).hexdigest()
        return type(value).__name__
