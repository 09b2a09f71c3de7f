"""Tile programs of engines that read ONNX: graphs in order, with torch between them where it is
installed and ONNX lacks an op.

An engine is one method: it loads a graph and gives what runs it. All graphs of a device name the
same weights' memory, batch norms folded into it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from nptp_opt.kernels.crops import Array, ArrayCrop
from nptp_opt.kernels.executors.program import Shape, TileProgram
from nptp_opt.kernels.executors.registry import Opened, Prepared
from nptp_opt.kernels.executors.torch import Calls, check_weights
from nptp_opt.network.exact import Grid

if TYPE_CHECKING:
    from nptp_opt.kernels.executors.onnx_graph import Graph
    from nptp_opt.kernels.executors.onnx_lowering import Span


class Loaded(Protocol):
    """A graph in an engine: values of its outputs from those of its inputs, in the graph's order.

    What it gives is the caller's: no later run writes to it.
    """

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]: ...


class OpenedOnnx(Opened):
    """An engine with one device's weights. ``lacks`` are ops that it does not compute as ONNX
    means them."""

    lacks: ClassVar[frozenset[str]] = frozenset()

    @property
    def sums_bytes(self) -> bool:
        """Are its sums of products of bytes exact here?"""
        return False

    def __init__(self, weights: Mapping[str, Array]) -> None:
        from nptp_opt.kernels.executors.onnx_graph import SharedWeights

        self.weights, self.shared = weights, SharedWeights(weights)

    def prepare(self, program: TileProgram) -> Prepared:
        check_weights(program, self.weights)
        return OnnxProgram(program, self)

    @abstractmethod
    def load(
        self, graph: Graph, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
    ) -> Loaded:
        """Compile a graph for these shapes, by value; raises ExecutionError where that fails."""


class OnnxProgram(Prepared):
    """Stages in order; each reads what is given and what others made."""

    def __init__(self, program: TileProgram, opened: OpenedOnnx) -> None:
        from nptp_opt.kernels.executors.onnx_lowering import spans

        told: dict[str, str] = {}
        found = list(spans(program, opened.shared, told, opened.lacks))
        self.program, self.fallbacks = program, told
        self.stages: list[GraphStage | Calls] = []
        for number, span in enumerate(found):
            later = {
                name for s in found[number + 1 :] for c in s.calls for name in c.reads.values()
            }
            made = (call.layer.name for call in span.calls)
            wanted = [name for name in made if name in later or name in program.outputs]
            if span.graph is None:
                self.stages.append(Calls(span.calls, opened.weights, told))
            else:
                self.stages.append(GraphStage(program, span, wanted, opened))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        held: dict[str, ArrayCrop] = {
            value.name: (value.tile, inputs[value.name]) for value in self.program.inputs
        }
        for stage in self.stages:
            stage.run(held)
        return {name: held[name][1] for name in self.program.outputs}


class GraphStage:
    """A graph, loaded; ``wanted`` of the values that its calls make are handed on."""

    def __init__(
        self, program: TileProgram, span: Span, wanted: Sequence[str], opened: OpenedOnnx
    ) -> None:
        from nptp_opt.kernels.executors.onnx_integers import with_bytes, without_idle

        assert span.graph is not None
        shapes, self.wanted = program.shapes, list(wanted)
        self.inputs = list(span.inputs)
        self.tiles = [program.regions[name] for name in wanted]
        # what only renames a value is no node, and no graph may hand on its own input
        names = [span.graph.add("Identity", span.values[name]) for name in wanted]
        outputs = {value: shapes[name] for value, name in zip(names, wanted, strict=True)}
        if opened.sums_bytes:
            with_bytes(span.graph, _grids(program, span))
            without_idle(span.graph, outputs)
        inputs = {value: shapes[name] for name, value in span.inputs.items()}
        self.loaded = opened.load(span.graph, inputs, outputs)

    def run(self, held: dict[str, ArrayCrop]) -> None:
        """Add what the graph makes to the values that are ``held``."""
        found = self.loaded([np.ascontiguousarray(held[name][1]) for name in self.inputs])
        for name, tile, values in zip(self.wanted, self.tiles, found, strict=True):
            held[name] = tile, values


def _grids(program: TileProgram, span: Span) -> dict[str, Grid]:
    """The inputs of a graph whose elements are quantised."""
    found = {given.name: program.exact.get(given.tensor) for given in program.inputs}
    return {
        value: grid
        for name, value in span.inputs.items()
        if isinstance(grid := found.get(name), Grid)
    }
