"""Is the imported network the model? One random input, answered by both.

The network is executed by the kernels that plans are executed by, whole; the model by its witness,
which shares no code with the import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from nptp_opt.errors import VerificationError
from nptp_opt.kernels import run_network
from nptp_opt.network.given import Given, random_inputs, tensors_of
from nptp_opt.network.load import LoadedModel
from nptp_opt.network.reference import module_outputs
from nptp_opt.verification.tolerance import OTHER_ENGINE, Rounding, difference, largest, rounding

SURELY_RIGHT = 1e-6
"""Relative error below which nobody asks what rounding explains."""


def check_import(model: LoadedModel, seed: int = 0) -> None:
    """Raise VerificationError, naming the first layer that differs, for a wrong import."""
    network = model.network
    x = random_inputs(network, seed)
    with torch.inference_mode():
        expected = model.witnessed(x)
        made = dict(run_network(network, model.weights(), x, keep=network.outputs))
        wrong = [name for name, values in expected.items() if not _surely_equal(made[name], values)]
        if wrong:
            allowed = _roundings(model, x, network.outputs)
            for name in wrong:
                _judge(model, x, name, made[name], expected[name], allowed[name])


def _surely_equal(found: Tensor, expected: Tensor) -> bool:
    error = difference(found, expected.float())
    return error <= SURELY_RIGHT * largest(expected)


def _judge(
    model: LoadedModel, x: Given, name: str, found: Tensor, expected: Tensor, allowed: Rounding
) -> None:
    error = difference(found, expected.float())
    if error <= OTHER_ENGINE * allowed.allowed(torch.float32):
        return
    first = next(_first_differences(model, x), f"output {name!r}")
    raise VerificationError(
        f"the imported network is not the model: {first} differs from {model.witness.name} (output "
        f"{name!r} by {error:.3g}, its largest value is {largest(expected):.3g}); this is a fault "
        "of the import: please report the model"
    )


def _roundings(model: LoadedModel, x: Given, keep: tuple[str, ...]) -> dict[str, Rounding]:
    double = model.in_double().reference([part.double() for part in tensors_of(x)], keep)
    single = model.reference(x, keep)
    return {name: rounding(single[name], double[name]) for name in keep}


def _first_differences(model: LoadedModel, x: Given) -> Iterator[str]:
    """Where network and exported program part, or where that program and the witness do."""
    keep = tuple(model.comparable)
    allowed = _roundings(model, x, keep)
    exported = model.reference(x, keep)
    for name, values in run_network(model.network, model.weights(), x):
        if name in exported and _differs(values, exported[name], allowed[name]):
            yield f"layer {name!r}"
    programmed = dict(module_outputs(model.imported, model.state, x))
    for name, values in model.witness.inner(*model.own_inputs(x)):
        if name in programmed and _parts(programmed, name, values):
            yield f"layer {name!r}"


def _differs(found: Tensor, expected: Tensor, allowed: Rounding) -> bool:
    return difference(found, expected) > OTHER_ENGINE * allowed.allowed(torch.float32)


def _parts(programmed: Mapping[str, Tensor], name: str, values: Tensor) -> bool:
    found = programmed[name].float()
    return difference(found, values.float()) > 1e-3 * max(largest(values), 1e-6)
