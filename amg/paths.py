"""The workspace: `data/`, `database/` and `reports/`, from any working directory.

It is the folder that the environment variable AMG_HOME names, or the checkout that holds this
package, or, where the package was installed without one, the working directory. Notebook
parameters name files relative to it.
"""

import os
from pathlib import Path

from amg.check import InputError


def checkout() -> Path:
    """Folder that holds `amg/` and `notebooks/`."""
    return Path(__file__).resolve().parent.parent


def is_checkout() -> bool:
    """Whether there is one: what was installed from a wheel has no notebooks beside it."""
    return (checkout() / "notebooks").is_dir()


def home() -> Path:
    """Root of the workspace (AMG_HOME, or the checkout, or else the working directory)."""
    return Path(os.environ.get("AMG_HOME") or (checkout() if is_checkout() else ".")).resolve()


def resolve(path) -> Path:
    """Absolute path of `path`, taken relative to the workspace root; InputError if it is no
    path."""
    if not isinstance(path, (str, Path)):
        raise InputError(f"{path!r} is given as a path, but must be a text.")
    return home() / Path(path).expanduser()


def relative(path) -> Path:
    """`path` relative to the workspace if it lies inside it; for messages and manifests."""
    path = Path(path)
    return path.relative_to(home()) if path.is_relative_to(home()) else path
