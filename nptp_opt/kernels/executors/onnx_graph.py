"""An ONNX graph under construction, and the weights that all graphs of a device share.

Weights are not in the graphs: a graph names them, and every session is handed the same memory.
What is derived from a weight (rows of it, another shape) is made once, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nptp_opt.geometry import Tile
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors import onnx_bytes
from nptp_opt.kernels.executors.onnx_bytes import Attribute, OnnxNode

OPSET, IR_VERSION = 20, 10


class InexpressibleError(Exception):
    """A layer that has no ONNX graph here; the message says why, for whoever is told."""


class SharedWeights:
    """Arrays by name: a device's weights in float32, and what graphs derive from them."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights, self.arrays = weights, dict[str, Array]()

    def named(self, key: str, view: str, make: Callable[[Array], Array]) -> str:
        """Name of the array that ``make`` gives of a weight; ``view`` says in words what it does.

        The weight's own memory is used where ``make`` gives a contiguous view of it.
        """
        name = f"{key}|{view}" if view else key
        if name not in self.arrays:
            self.arrays[name] = np.ascontiguousarray(make(self.array(key)), dtype=np.float32)
        return name

    def array(self, key: str) -> Array:
        """A weight itself, without a copy; raises InexpressibleError for another type."""
        found = self.weights[key]
        if found.dtype != np.float32:
            raise InexpressibleError(f"weight {key} is {found.dtype}")
        return found


class Graph:
    """Nodes in order. Values are named by who makes them; rules only call ``add`` and the like."""

    def __init__(self, weights: SharedWeights) -> None:
        self.weights = weights
        self.nodes: list[OnnxNode] = []
        self.constants: dict[str, Array] = {}

    def add(self, op: str, *inputs: str, **attrs: Attribute) -> str:
        """Append a node; returns the name of its output."""
        name = f"value {len(self.nodes)}"
        self.nodes.append(OnnxNode(op, inputs, name, attrs))
        return name

    def floats(self, values: Any) -> str:
        """A constant in float32, of any shape."""
        return self.constant(np.asarray(values, dtype=np.float32))

    def byte(self, value: float) -> str:
        """One number of uint8."""
        return self.constant(np.array(value, dtype=np.uint8))

    def integers(self, values: Sequence[int]) -> str:
        """A constant vector of int64: shapes, indices, positions."""
        return self.constant(np.asarray(values, dtype=np.int64))

    def constant(self, values: Array) -> str:
        """A constant of the array's own type."""
        name = f"constant {len(self.constants)}"
        self.constants[name] = values
        return name

    def weight(
        self, key: str, view: str = "", make: Callable[[Array], Array] = lambda values: values
    ) -> str:
        """A weight, or what ``make`` gives of it; see ``SharedWeights.named``."""
        return self.weights.named(key, view, make)

    def reshaped(self, value: str, shape: Sequence[int]) -> str:
        return self.add("Reshape", value, self.integers(shape))

    def sliced(
        self, value: str, spans: Sequence[tuple[int, int]], axes: Sequence[int], step: int = 1
    ) -> str:
        """``[start, stop)`` of each of ``axes``."""
        starts, stops = ([span[end] for span in spans] for end in (0, 1))
        steps = [step] * len(spans)
        return self.add("Slice", value, *map(self.integers, (starts, stops, axes, steps)))

    def cropped(self, value: str, held: Tile, need: Tile) -> str:
        """The rectangle ``need`` of a value that is ``held``."""
        if held == need:
            return value
        spans = [
            (need.y0 - held.y0, need.y1 - held.y0),
            (need.x0 - held.x0, need.x1 - held.x0),
        ]
        return self.sliced(value, spans, (2, 3))

    def padded(self, value: str, pads: Sequence[int], fill: float) -> str:
        """Grown by ``pads`` (top, left, bottom, right)."""
        if not any(pads):
            return value
        top, left, bottom, right = pads
        sides = self.integers([0, 0, top, left, 0, 0, bottom, right])
        return self.add("Pad", value, sides, self.floats(fill), mode="constant")

    def model(
        self,
        inputs: Mapping[str, Sequence[int]],
        outputs: Mapping[str, Sequence[int]],
        elsewhere: Callable[[str, Array], bytes],
    ) -> tuple[bytes, list[str]]:
        """The model as bytes, and the names of the shared weights that it has to be handed.

        ``inputs`` and ``outputs`` are shapes by value; all are float32. ``elsewhere`` writes what
        the model says of a shared weight.
        """
        used = {name for node in self.nodes for name in node.inputs}
        shared = sorted(used & self.weights.arrays.keys())
        small = sorted(used & self.constants.keys())
        tensors = [
            *(elsewhere(name, self.weights.arrays[name]) for name in shared),
            *(onnx_bytes.tensor(name, self.constants[name]) for name in small),
        ]
        graph = onnx_bytes.graph("tile program", self.nodes, tensors, inputs, outputs)
        return onnx_bytes.model(graph, OPSET, IR_VERSION), shared
