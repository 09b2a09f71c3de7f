"""Weights of a file: read, told apart by their content, and put into a module that they fit."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from nptp_opt.errors import InputError, last_lines
from nptp_opt.network.ref import spelled

State = Mapping[str, torch.Tensor]

WRAPPED = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep a state dict beside epochs and optimisers."""
PARALLEL = "module."
"""What torch's DataParallel puts before every key."""
COUNTER = "num_batches_tracked"
"""Of batch norm: inference does not read it, and files of older versions lack it."""


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file, or of a state dict that ``torch.save`` has written.

    Nothing but tensors is unpickled. A state dict may lie under one of ``WRAPPED``, and its keys
    may begin with ``PARALLEL``. Raises InputError for a file that cannot be read or is none.
    """
    if not path.is_file():
        raise InputError(f"{path}: is no file with weights (.safetensors, or a state dict)")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    for key in WRAPPED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: holds no state dict but {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise InputError(f"{path}: {key!r} is no tensor: save model.state_dict() alone")
    state = {str(key): value.detach() for key, value in content.items()}
    if all(key.startswith(PARALLEL) for key in state):
        return {key.removeprefix(PARALLEL): value for key, value in state.items()}
    return state


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: is no safetensors file: {last_lines(error)}") from None


def _read_pickled(path: Path) -> Any:
    """torch refuses what is no tensor: code in a file is not run."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "Unsupported" in str(error):
            raise InputError(
                f"{path}: holds more than tensors, which is not read from a stranger's file: "
                "save model.state_dict() alone, or as .safetensors"
            ) from None
        raise InputError(f"{path}: cannot be read as a state dict: {last_lines(error)}") from None
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as a state dict: {last_lines(error)}") from None


def weights_hash(state: State) -> str:
    """sha256 of names, shapes, types and bytes; the order and the kind of file do not count."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().contiguous()
        digest.update(f"{key}\0{value.dtype}\0{spelled(tuple(value.shape))}\0".encode())
        if value.numel():
            digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_fits(module: torch.nn.Module, state: State, where: str) -> None:
    """Raise InputError with the first key, and its shapes, at which the weights are of another
    architecture."""
    own = module.state_dict()
    for key, value in own.items():
        if key not in state and not key.endswith(COUNTER):
            raise _misfit(where, f"lacks {key!r} {_shape(value)}, which the model has")
        if key in state and state[key].shape != value.shape:
            raise _misfit(where, f"has {key!r} {_shape(state[key])}, the model {_shape(value)}")
    for key, value in state.items():
        if key not in own and not key.endswith(COUNTER):
            raise _misfit(where, f"has {key!r} {_shape(value)}, which the model lacks")


def _misfit(where: str, what: str) -> InputError:
    return InputError(f"{where}: weights of another architecture: the file {what}")


def _shape(value: torch.Tensor) -> str:
    return f"of shape {spelled(tuple(value.shape)) or 'scalar'}"


def fill(module: torch.nn.Module, state: State) -> torch.nn.Module:
    """The module with these weights, which fit, converted to its own types."""
    module.load_state_dict(dict(state), strict=False)
    return module
