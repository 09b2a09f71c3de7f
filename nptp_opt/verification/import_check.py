"""Is the imported network the model? One random input, answered by both.

The network is executed by the kernels that plans are executed by, whole; the model by its witness,
which shares no code with the import. A model whose maps are too large to be held twice is imported
and answered on a smaller input: the import depends on sizes only where it divides them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from nptp_opt.errors import InputError, VerificationError
from nptp_opt.kernels import run_network
from nptp_opt.network.given import Given, random_inputs, tensors_of
from nptp_opt.network.load import LoadedModel
from nptp_opt.network.ref import Shape, shapes_of
from nptp_opt.network.reference import module_outputs
from nptp_opt.verification.tolerance import (
    OTHER_ENGINE,
    Rounding,
    difference,
    largest,
    rounding,
    steps,
)

SURELY_RIGHT = 1e-6
"""Relative error below which nobody asks what rounding explains."""

MOST_ELEMENTS = 1 << 26
"""Elements of all maps together up to which a network is run at its own input shape: 256 MiB."""

MULTIPLE = 32
"""Smaller inputs have a multiple of so many rows and columns, which most models want."""


def check_import(model: LoadedModel, seed: int = 0) -> None:
    """Raise VerificationError, naming the first layer that differs, for a wrong import."""
    model = within_memory(model)
    network = model.network
    x = random_inputs(network, seed)
    with torch.inference_mode():
        expected = model.witness_outputs(x)
        made = dict(run_network(network, model.weights(), x, keep=network.outputs))
        wrong = [name for name, values in expected.items() if not _surely_equal(made[name], values)]
        if wrong:
            allowed = _roundings(model, x, network.outputs)
            for name in wrong:
                _judge(model, x, name, made[name], expected[name], allowed[name])


def within_memory(model: LoadedModel) -> LoadedModel:
    """The model at a smaller input where its maps have too many elements and it runs there."""
    elements = sum(math.prod(shape) for shape in model.network.shapes.values())
    if elements <= MOST_ELEMENTS:
        return model
    factor = math.sqrt(elements / MOST_ELEMENTS)
    smaller = [_shrunk(shape, factor) for shape in shapes_of(model.ref.input)]
    try:
        return model.sized(smaller)
    except InputError:  # an input size that the model does not take
        return model


def _shrunk(shape: Shape, factor: float) -> Shape:
    """Rows and columns by ``factor`` fewer, but for multiples; other inputs stay."""
    if len(shape) != 4:
        return shape
    sides = (min(n, math.ceil(n / factor / MULTIPLE) * MULTIPLE) for n in shape[2:])
    return (*shape[:2], *sides)


def _surely_equal(actual: Tensor, expected: Tensor) -> bool:
    error = difference(actual, expected.float())
    return error <= SURELY_RIGHT * largest(expected)


def _judge(
    model: LoadedModel, x: Given, name: str, actual: Tensor, expected: Tensor, allowed: Rounding
) -> None:
    error = difference(actual, expected.float())
    if error <= allowed.allowed(torch.float32, OTHER_ENGINE):
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
    worth = steps(model.network, model.weights())
    return {name: rounding(single[name], double[name], step=worth.get(name, 0.0)) for name in keep}


def _first_differences(model: LoadedModel, x: Given) -> Iterator[str]:
    """Where network and exported program part, or where that program and the witness do."""
    keep = tuple(model.comparable)
    allowed = _roundings(model, x, keep)
    exported = model.reference(x, keep)
    for name, values in run_network(model.network, model.weights(), x):
        if name in exported and _differs(values, exported[name], allowed[name]):
            yield f"layer {name!r}"
    programmed = dict(module_outputs(model.imported, model.state, model.taken(x)))
    for name, values in model.witness.inner(*model.own_inputs(x)):
        if name in programmed and _departs(programmed, name, values):
            yield f"layer {name!r}"


def _differs(actual: Tensor, expected: Tensor, allowed: Rounding) -> bool:
    return difference(actual, expected) > allowed.allowed(torch.float32, OTHER_ENGINE)


def _departs(programmed: Mapping[str, Tensor], name: str, values: Tensor) -> bool:
    actual = programmed[name].float()
    return difference(actual, values.float()) > 1e-3 * max(largest(values), 1e-6)
