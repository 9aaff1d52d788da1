"""Checkpoints: one safetensors file that holds weights, optimiser state and a JSON record.

Loading reads numbers only and never executes code. A checkpoint is replaced atomically, so
that a run killed at any moment finds the last whole one.
"""

import json

import safetensors.torch
from safetensors import safe_open

from amg import files, paths
from amg.check import InputError


def save(path, tensors, record):
    """Write `tensors` (name -> Tensor) and the JSON-able `record` to one file."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with files.atomic(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, {"record": json.dumps(record)})
        temporary.chmod(0o644)  # safetensors would leave it to its owner alone


def load(path):
    """Read a checkpoint: returns (tensors, record). Raises InputError for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return tensors, json.loads((file.metadata() or {}).get("record", "{}"))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{paths.relative(path)} is not a readable checkpoint ({error}); "
                         "delete it and train again.") from None


def prefixed(prefix, tensors):
    """Names of `tensors` with `prefix.` in front."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def part(prefix, tensors):
    """The inverse of `prefixed`: the tensors of one prefix, without it."""
    cut = len(prefix) + 1
    return {name[cut:]: t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def optimiser_tensors(optimiser):
    """Moments and step counts of a torch optimiser as flat, named tensors."""
    return {f"{index}.{key}": value
            for index, state in optimiser.state_dict()["state"].items()
            for key, value in state.items()}


def restore_optimiser(optimiser, tensors):
    """Put back what `optimiser_tensors` gave."""
    state = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
