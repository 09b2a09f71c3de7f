"""Densities of a network's maps: how many of their elements are not zero, on samples of inputs, and
what the first bytes of these take in Huffman codes.

Samples are .npy or .npz files with inputs as the model takes them, in its own shape (a batch of
them, or one without the batch), of the user's own data; the network runs on each in torch, with its
own weights. Every array is a sample; of a model with several inputs every .npz is one, with an
array by the name of each.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nptp_opt.errors import InputError
from nptp_opt.kernels.huffman import coded_first_bytes
from nptp_opt.kernels.run import run_network
from nptp_opt.network.ir import Density

if TYPE_CHECKING:
    from nptp_opt.network.load import LoadedModel
    from nptp_opt.network.signature import TensorSpec

LEAST = 1e-6
"""A map that was zero on all samples need not be on the next input."""


def measure_densities(model: LoadedModel, folder: Path) -> dict[str, Density]:
    """Mean and 90th percentile over the samples of ``folder``, by map of the model's network, and
    the mean bits of first bytes.

    Raises InputError for a folder without samples, and for one of another shape or of values that
    are not finite.
    """
    network, weights = model.network, model.weights()
    found: dict[str, list[_Seen]] = {}
    with torch.inference_mode():
        for sample in samples(model, folder):
            for name, values in zip(network.inputs, sample, strict=True):
                found.setdefault(name, []).append(_seen(values))
            for name, values in run_network(network, weights, sample):
                if network.by_name[name].kind == "spatial":
                    found.setdefault(name, []).append(_seen(values))
    return {name: _density(seen) for name, seen in found.items()}


def samples(model: LoadedModel, folder: Path) -> Iterator[tuple[Tensor, ...]]:
    """The samples of a folder in the order of their names: tensors as the network shapes its
    inputs, in its order."""
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix in (".npy", ".npz"))
    except OSError as error:
        raise InputError(f"{folder}: `samples` is no folder that can be read: {error}") from None
    if not paths:
        raise InputError(f"{folder}: no samples: files .npy or .npz with inputs of the model")
    specs = {each.name: each for each in model.signature.inputs if model.signature.reads(each.name)}
    for path in paths:
        for named in _named(specs, path):
            own = {name: _tensor(specs[name], *found) for name, found in named.items()}
            yield model.signature.network_inputs(own)


_Found = tuple[str, Any]
"""Where an array is, and the array."""


def _named(specs: Mapping[str, TensorSpec], path: Path) -> Iterator[dict[str, _Found]]:
    """The arrays of every sample in a file, by the name of the input."""
    if len(specs) == 1:
        yield from ({name: found} for _, found in _arrays(path) for name in specs)
        return
    found, names = dict(_arrays(path)), ", ".join(specs)
    if path.suffix == ".npy":
        raise InputError(f"{path}: one array for {len(specs)} inputs ({names}): use .npz")
    if found.keys() != specs.keys():
        raise InputError(f"{path}: has {', '.join(found) or 'nothing'}; the model reads {names}")
    yield found


def _arrays(path: Path) -> Iterator[tuple[str, _Found]]:
    """By name, one at a time."""
    try:
        content: Any = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            yield "", (str(path), content)
            return
        with content:
            for name in content.files:
                yield name, (f"{path}: {name}", content[name])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as {path.suffix}: {error}") from None


def _tensor(spec: TensorSpec, where: str, array: Any) -> Tensor:
    """A sample in the model's own shape and type."""
    shape = spec.shape
    if array.shape not in (shape, shape[1:]) or (shape[0] != 1 and array.shape != shape):
        raise InputError(f"{where}: shape {array.shape}, the model's input is {shape}")
    if array.dtype.kind not in "fiub":
        raise InputError(f"{where}: elements of {array.dtype}; numbers are wanted")
    values = np.asarray(array, dtype=np.float32).reshape(shape)
    if not np.isfinite(values).all():
        raise InputError(f"{where}: values that are not finite (NaN, infinite)")
    whole = (values == np.rint(values)) & (values >= 0) & (values <= 255)
    if spec.dtype == torch.uint8 and not whole.all():
        raise InputError(f"{where}: the input is uint8: whole numbers from 0 to 255 are wanted")
    return torch.from_numpy(values).to(spec.dtype)


class _Seen(NamedTuple):
    """Share of elements whose bits are not all zero, and bits of a first byte of theirs."""

    share: float
    first_byte_bits: float


def _seen(values: Tensor) -> _Seen:
    flat = values.detach().float().contiguous().numpy().view(np.uint32).reshape(-1)
    kept = flat[flat != 0]
    coded = coded_first_bytes(kept, len(kept) - 1)
    bits = 8.0 if coded is None else 8 * len(coded) / len(kept)
    return _Seen(len(kept) / max(flat.size, 1), bits)


def _density(seen: list[_Seen]) -> Density:
    shares = np.clip([each.share for each in seen], LEAST, 1.0)
    bits = float(np.mean([each.first_byte_bits for each in seen]))
    return Density(float(shares.mean()), float(np.quantile(shares, 0.9)), bits)
