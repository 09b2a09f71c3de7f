"""The reference: every layer by torch, one op after the other, as the kernels have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from nptp_opt.errors import InputError
from nptp_opt.kernels.crops import Crop
from nptp_opt.kernels.executors.program import Call, TileProgram
from nptp_opt.kernels.executors.registry import Capabilities, Executor, Opened, Prepared
from nptp_opt.kernels.run import run_gather, run_layer


def compute(call: Call, weights: Mapping[str, Tensor], held: Mapping[str, Crop]) -> Tensor:
    """What a call makes, from the values that are ``held``."""
    inputs = {tensor: held[name] for tensor, name in call.reads.items()}
    if call.whole:
        return run_gather(call.layer, weights, {name: crop[1] for name, crop in inputs.items()})
    return run_layer(call.layer, weights, inputs, call.tile)


def last_reads(program: TileProgram) -> list[list[str]]:
    """For every call the values that nobody reads after it."""
    seen, found = set(program.outputs), list[list[str]]()
    for call in reversed(program.calls):
        names = {call.layer.name, *call.reads.values()} - seen
        seen |= names
        found.append(sorted(names))
    return found[::-1]


def check_weights(calls: Sequence[Call], weights: Mapping[str, Tensor]) -> None:
    """Raise InputError for a weight that a program reads and that is not there."""
    for call in calls:
        missing = sorted(call.weight_keys - weights.keys())
        if missing:
            raise InputError(
                f"layer {call.layer.name!r} reads weight {missing[0]!r}, which is not there: "
                "the weights are those of another model than the plan's"
            )


class _TorchProgram(Prepared):
    """Calls in order; a value is forgotten after its last reader."""

    def __init__(self, program: TileProgram, weights: Mapping[str, Tensor]) -> None:
        self.program, self.weights = program, weights
        self.steps = list(zip(program.calls, last_reads(program), strict=True))

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        held = {value.name: (value.tile, inputs[value.name]) for value in self.program.inputs}
        for call, done in self.steps:
            held[call.layer.name] = call.tile, compute(call, self.weights, held)
            for name in done:
                del held[name]
        return {name: held[name][1] for name in self.program.outputs}


class _Opened(Opened):
    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights

    def prepare(self, program: TileProgram) -> Prepared:
        check_weights(program.calls, self.weights)
        return _TorchProgram(program, self.weights)


class Torch(Executor):
    """The process sets torch's threads; they are the same for all that it computes."""

    name, package, module = "torch", "torch", "torch"
    install = "pip install torch"
    capabilities = Capabilities(
        dtypes=("float32", "float64"), tolerance=0.0, threads=True, all_ops=True
    )

    def _open(self, weights: Mapping[str, Tensor], threads: int) -> Opened:
        return _Opened(weights)
