"""Refusals in one sentence: what was wrong, what is allowed, what to do.

Every entry point (notebook, command) validates with these helpers before it does any work, so that
bad input never surfaces as a stack trace.
"""

import re

# control characters, ends of lines, and what turns the direction of writing
UNSEEN = r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"


class InputError(ValueError):
    """Input the kit cannot work with; its message is written for the user."""

    def _render_traceback_(self):
        """IPython hook: a notebook shows the sentence alone, without a stack trace."""
        return [f"InputError: {one_line(self)}"]


def one_line(text) -> str:
    """A text as it can be printed, whatever a tag or a file's name brought into it: what a terminal
    would obey is escaped."""
    return re.sub(UNSEEN, lambda match: ascii(match[0])[1:-1], str(text))


class Interrupted(KeyboardInterrupt):
    """An interrupt in a notebook; its message says what is kept."""

    def _render_traceback_(self):
        return [f"Interrupted: {str(self) or 'what was finished is kept'}; run the cell again."]


def one_of(name, value, allowed, hint="") -> object:
    """Return `value` if it is one of `allowed`, else raise InputError naming them all."""
    # True == 1 == 1.0 in Python, but a parameter of the wrong type is a mistake
    if not any(type(value) is type(option) and value == option for option in allowed):
        raise InputError(
            f"{name} is {value!r}, but must be one of: {', '.join(map(str, allowed))}{hint}."
        )
    return value


def integer(name, value, low, high=None) -> int:
    """Return `value` if it is an int with low <= value (<= high), else raise InputError."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        allowed = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise InputError(f"{name} is {value!r}, but must be a whole number {allowed}.")
    return value


def number(name, value, low, high) -> float:
    """Return `value` if it is a number with low <= value <= high, else raise InputError."""
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not numeric or not low <= value <= high:
        hint = " (in YAML, write 1.0e-3 for 1e-3)" if isinstance(value, str) else ""
        raise InputError(f"{name} is {value!r}, but must be a number from {low} to {high}{hint}.")
    return value


def integers(low, **named) -> None:
    """Check several whole numbers of at least `low`, given as name=value."""
    for name, value in named.items():
        integer(name, value, low)


def seed(value) -> int:
    """Return a seed if every generator takes it, else raise InputError."""
    return integer("seed", value, 0, 2**32 - 1)


def texts(**named) -> None:
    """Check that each is a non-empty string usable as the name of a set, folder or file."""
    for name, value in named.items():
        if not isinstance(value, str) or not value.strip() or ".." in value.split("/"):
            raise InputError(f"{name} is {value!r}, but must be a non-empty name without '..'.")


def each(name, values, checker, *args) -> tuple:
    """Return `values` as a tuple if it is a non-empty list of different items that pass
    `checker`."""
    if not isinstance(values, (list, tuple)) or not values:
        raise InputError(f"{name} is {values!r}, but must be a list with at least one item.")
    for number, value in enumerate(values):
        checker(f"an item of {name}", value, *args)
        if value in values[:number]:
            raise InputError(f"{name} has {value!r} twice, but must have it once.")
    return tuple(values)
