"""Checkpoints: one safetensors file that holds weights, optimiser state and a JSON record.

Loading never executes code. A checkpoint is replaced atomically: a killed run finds the last one.
"""

import json

import safetensors.torch
import torch
from safetensors import safe_open

from amg import files, paths
from amg.check import InputError


def save(path, tensors, record) -> None:
    """Write `tensors` (name -> Tensor) and the JSON-able `record` to one file."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with files.atomic(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, {"record": json.dumps(record)})
        temporary.chmod(0o644)  # safetensors would leave it to its owner alone


def load(path, *needed) -> tuple[dict, dict]:
    """Read a checkpoint: (tensors by name, record).

    needed: keys that its record must have. Raises InputError for a damaged file, one that is not
    the one that a model card beside it describes, one that something else wrote, and weights that
    are not finite.
    """
    shown, card = paths.relative(path), path.with_suffix(".json")
    if card.exists() and path.is_file():
        stated = (files.read_json(card) or {}).get("sha256")
        if stated != files.sha256(path):
            raise InputError(
                f"{shown} does not have the SHA-256 that its model card states; "
                "restore both files from the repository."
            )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            record = json.loads((file.metadata() or {}).get("record", "{}"))
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{shown} is not a readable checkpoint ({error}); delete it and train again."
        ) from None
    if not isinstance(record, dict) or not record.keys() >= set(needed):
        raise InputError(
            f"{shown} is a safetensors file, but no such checkpoint of this kit; give "
            "one that a notebook wrote."
        )
    if not all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point()):
        raise InputError(
            f"{shown} holds infinite weights or NaN; delete it and train again, at a "
            "lower learning rate if that repeats."
        )
    return tensors, record


def part(prefix, tensors) -> dict:
    """Those of the tensors whose names begin with `prefix.`, as in `state_dict`, without it."""
    of_part = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in of_part.items()}


def optimiser_tensors(optimiser) -> dict:
    """Moments and step counts of a torch optimiser as flat tensors, `optimiser.<index>.<key>`."""
    return {
        f"optimiser.{index}.{key}": value
        for index, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
    }


def restore_optimiser(optimiser, tensors) -> None:
    """Put back what `optimiser_tensors` gave, from among `tensors`."""
    state = {}
    for name, value in part("optimiser", tensors).items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
