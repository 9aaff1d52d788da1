"""Encoders and losses by the name that a parameter gives them, and the settings that they take.

A class gets its name in its file, by `@registry.encoders.register("toy")`; in a module or a
notebook's cell of your own `encoders.register` is the same. Its settings are the arguments of its
constructor that have a default. Their types follow from the defaults; its attribute `limits`
may narrow their range (see `settings`). Arguments without a default are the kit's to give.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from torch import nn

from amg import check, code, paths
from amg.check import InputError


class Registry(dict):
    """Name -> class, of encoders or of losses."""

    def __init__(self, kind):
        self.kind, self.aliases = kind, {}

    def register(self, name, *aliases) -> Callable:
        """Class decorator: from now on parameters may say `name`, or an alias of it."""

        def keep(cls):
            self[name] = cls
            self.aliases |= dict.fromkeys(aliases, name)
            return cls

        check.texts(name=name)
        return keep

    def canonical(self, name) -> str:
        """The registered name, aliases resolved; InputError for any other."""
        hint = f" (or the name of your own {self.kind}, once it is registered)"
        check.one_of(self.kind, name, (*self, *self.aliases), hint)
        return self.aliases.get(name, name)

    def arguments(self, name) -> dict:
        """Arguments of a class's constructor by name, as of `inspect.signature`."""
        return dict(inspect.signature(self[name]).parameters)

    def build(self, name, known, **given) -> nn.Module:
        """An instance with its `settings`; given: argument -> function, for what has no default."""
        required = self.arguments(name).keys() - defaults(self[name])
        try:
            return self[name](**{a: given[a]() for a in required}, **settings(self[name], known))
        except (AssertionError, KeyError, TypeError) as error:
            raise InputError(
                f"the {self.kind} {name} cannot be built with {known}: {error}"
            ) from None

    def source(self, name) -> dict:
        """{kind: digest} of a class that is somebody's own, as `code.of_own`; {} of the kit's."""
        own = self[name].__module__.split(".")[0] != "amg"
        return {self.kind: code.of_own(self[name])} if own else {}


def defaults(cls) -> dict:
    """Arguments of a class's constructor that have a default, and it."""
    arguments = inspect.signature(cls).parameters.values()
    return {a.name: a.default for a in arguments if a.default is not a.empty}


def settings(cls, known) -> dict:
    """All settings of a class, from `known`, a dict, or by default; InputError if wrong.

    Its attribute `limits` narrows them: (low, high) of numbers, and of texts all that are allowed.
    """
    chosen, limits = defaults(cls), getattr(cls, "limits", {})
    for setting, default in chosen.items():
        value = chosen[setting] = known.get(setting, default)
        if type(default) is bool:
            check.one_of(setting, value, (False, True))
        elif type(default) is int:
            check.integer(setting, value, *limits.get(setting, (min(1, default),)))
        elif type(default) is float:
            low, high = limits.get(setting, (min(0, default), 1e9))
            chosen[setting] = float(check.number(setting, value, low, high))
        elif setting in limits:
            check.one_of(setting, value, limits[setting])
    return chosen


def load(module) -> None:
    """Import a module that registers encoders or losses of your own, by its name; "" is none.

    It lies in the working directory or in `notebooks/`. Raises InputError if it cannot be imported.
    """
    if module == "":
        return
    if not isinstance(module, str) or not module.isidentifier():
        raise InputError(
            f"own_module is {module!r}, but must be the name of a module, as my_encoder."
        )
    places = str(Path.cwd()), str(paths.checkout() / "notebooks")
    sys.path += [place for place in places if place not in sys.path]
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever somebody's own code raises
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"own_module is {module!r}, which cannot be imported ({reason}); put {module}.py "
            "beside the notebooks."
        ) from None


# here, so that members need not import the packages that import them
encoders, losses = Registry("encoder"), Registry("loss")
