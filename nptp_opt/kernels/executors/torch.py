"""The reference: every layer by torch, one op after the other, as the kernels have them.

Arrays become tensors, and tensors arrays, without a copy. Torch is imported when a program is
prepared, and not before: an engine that needs no help computes without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nptp_opt.errors import ExecutionError, InputError
from nptp_opt.kernels.crops import Array, ArrayCrop
from nptp_opt.kernels.executors.program import Call, Shape, TileProgram
from nptp_opt.kernels.executors.registry import Capabilities, Executor, Opened, Prepared

if TYPE_CHECKING:
    from torch import Tensor


class Calls:
    """Layer calls that torch computes, in order.

    Raises ExecutionError where torch is not installed; ``reasons`` say, by layer, why it is needed.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        weights: Mapping[str, Array],
        reasons: Mapping[str, str] | None = None,
    ) -> None:
        if not TORCH.available:
            raise ExecutionError(_lacking(calls, reasons or {}))
        keys = sorted({key for call in calls for key in call.weight_keys})
        self.calls, self.weights = calls, as_tensors({key: weights[key] for key in keys})

    def run(self, held: dict[str, ArrayCrop], done: Sequence[Sequence[str]] | None = None) -> None:
        """Add what the calls make to the values that are ``held``; after each of them forget those
        that are ``done``."""
        import torch

        with torch.inference_mode():
            for number, call in enumerate(self.calls):
                held[call.layer.name] = call.tile, self._compute(call, held).numpy()
                for name in done[number] if done else ():
                    del held[name]

    def _compute(self, call: Call, held: Mapping[str, ArrayCrop]) -> Tensor:
        import torch

        from nptp_opt.kernels.run import run_gather, run_layer

        inputs = {
            tensor: (held[name][0], torch.from_numpy(held[name][1]))
            for tensor, name in call.reads.items()
        }
        if call.whole:
            whole = {name: values for name, (_, values) in inputs.items()}
            return run_gather(call.layer, self.weights, whole)
        return run_layer(call.layer, self.weights, inputs, call.tile)


def _lacking(calls: Sequence[Call], reasons: Mapping[str, str]) -> str:
    layers = ", ".join(
        f"{call.layer.name!r} ({reasons[call.layer.name]})"
        if call.layer.name in reasons
        else repr(call.layer.name)
        for call in calls
    )
    return (
        f"torch is not installed here, and these layers need it: {layers}: install nptp-opt "
        "instead of nptp-opt-worker on this device, or plan without it"
    )


def as_tensors(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """Tensors that lie in the arrays' memory."""
    import torch

    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def set_threads(count: int) -> None:
    """Let torch compute with ``count`` threads, where it is installed."""
    if TORCH.available:
        import torch

        torch.set_num_threads(count)


def last_reads(program: TileProgram) -> list[list[str]]:
    """For every call the values that nobody reads after it."""
    seen, found = set(program.outputs), list[list[str]]()
    for call in reversed(program.calls):
        names = {call.layer.name, *call.reads.values()} - seen
        seen |= names
        found.append(sorted(names))
    return found[::-1]


def check_weights(program: TileProgram, weights: Mapping[str, Array]) -> None:
    """Raise InputError for a weight that a program reads and that is not there, or does not fit."""
    for call in program.calls:
        for key in sorted(call.weight_keys):
            fault = _misfit(key, program.params, weights)
            if fault:
                raise InputError(
                    f"layer {call.layer.name!r} reads weight {key!r}, which {fault}: "
                    "the weights are those of another model than the plan's"
                )


def _misfit(key: str, params: Mapping[str, Shape], weights: Mapping[str, Array]) -> str:
    """What is wrong with a weight; empty where nothing is."""
    if key not in weights:
        return "is not there"
    found, expected = weights[key].shape, params.get(key)
    if expected is None or tuple(expected) == found:
        return ""
    return f"is of shape {found} instead of {tuple(expected)}"


class _TorchProgram(Prepared):
    """Calls in order; a value is forgotten after its last reader."""

    def __init__(self, program: TileProgram, weights: Mapping[str, Array]) -> None:
        self.program, self.calls = program, Calls(program.calls, weights)
        self.done = last_reads(program)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        held: dict[str, ArrayCrop] = {
            value.name: (value.tile, inputs[value.name]) for value in self.program.inputs
        }
        self.calls.run(held, self.done)
        return {name: held[name][1] for name in self.program.outputs}


class _Opened(Opened):
    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights = weights

    def prepare(self, program: TileProgram) -> Prepared:
        check_weights(program, self.weights)
        return _TorchProgram(program, self.weights)


class Torch(Executor):
    """The process sets torch's threads; they are the same for all that it computes."""

    name, package, module = "torch", "torch", "torch"
    install = "pip install torch"
    capabilities = Capabilities(
        dtypes=("float32", "float64"), tolerance=0.0, threads=True, all_ops=True
    )

    def _open(self, weights: Mapping[str, Array], threads: int) -> Opened:
        return _Opened(weights)


TORCH = Torch()
