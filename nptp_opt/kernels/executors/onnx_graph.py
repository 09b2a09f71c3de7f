"""An ONNX graph under construction, and the weights that all graphs of a device share.

Weights are not in the graphs: a graph names them, and every session is handed the same memory.
What is derived from a weight (rows of it, another shape) is made once, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from nptp_opt.geometry import Tile

OPSET, IR_VERSION = 20, 10

Array = np.ndarray[Any, Any]


class InexpressibleError(Exception):
    """A layer that has no ONNX graph here; the message says why, for whoever is told."""


class SharedWeights:
    """Arrays by name: a device's weights in float32, and what graphs derive from them."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors, self.arrays = tensors, dict[str, Array]()

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
        tensor = self.tensors[key]
        if tensor.dtype != torch.float32:
            raise InexpressibleError(f"weight {key} is {str(tensor.dtype).removeprefix('torch.')}")
        found: Array = tensor.detach().numpy()
        return found


class Graph:
    """Nodes in order. Values are named by who makes them; rules only call ``add`` and the like."""

    def __init__(self, weights: SharedWeights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        """Append a node; returns the name of its output."""
        name = f"value {len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attrs))
        return name

    def floats(self, values: Any) -> str:
        """A constant in float32, of any shape."""
        return self._constant(np.asarray(values, dtype=np.float32))

    def integers(self, values: Sequence[int]) -> str:
        """A constant vector of int64: shapes, indices, positions."""
        return self._constant(np.asarray(values, dtype=np.int64))

    def _constant(self, values: Array) -> str:
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
        self, inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]]
    ) -> tuple[bytes, list[str]]:
        """The model as bytes, and the names of the shared weights that it has to be handed.

        ``inputs`` and ``outputs`` are shapes by value; all are float32.
        """
        used = {name for node in self.nodes for name in node.input}
        shared = sorted(used & self.weights.arrays.keys())
        small = sorted(used & self.constants.keys())
        graph = helper.make_graph(
            self.nodes,
            "tile program",
            _infos(inputs),
            _infos(outputs),
            [_elsewhere(name, self.weights.arrays[name]) for name in shared]
            + [numpy_helper.from_array(self.constants[name], name) for name in small],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return made.SerializeToString(), shared


def _infos(shapes: Mapping[str, Sequence[int]]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
        for name, shape in shapes.items()
    ]


def _elsewhere(name: str, values: Array) -> TensorProto:
    """A weight whose elements the session is handed as memory; no file is read."""
    found = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape)
    found.data_location = TensorProto.EXTERNAL
    entry = found.external_data.add()
    entry.key, entry.value = "location", "memory"
    return found
