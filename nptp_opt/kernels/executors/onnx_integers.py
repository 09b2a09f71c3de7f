"""Quantised values as the bytes that they stand for, so that an engine's int8 kernels compute them.

Rules lower what the network says, in floating point: a quantised value is rounded, bounded, moved
by its zero point and scaled. This pass reads the graph once, in order, and keeps for every value
that is (q - zero) * scale for bytes q the value that holds these bytes, always uint8. What rounds
to bytes makes them (``QuantizeLinear``; ``QLinearConv`` where it rounds a convolution of bytes with
whole weights), what only moves elements moves bytes, everything else reads floats as before, from
``DequantizeLinear``. Engines join such pairs with what lies between.

A weight of real numbers is taken for whole ones times a scale only where this gives it back bit by
bit. Sums of bytes are exact, and are scaled once, so that a value may lie one step from where sums
of rounded products put it, on the side of the engine that runs the whole quantised model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors.onnx_bytes import Attribute, OnnxNode
from nptp_opt.kernels.executors.onnx_graph import Graph
from nptp_opt.network.exact import Grid

MOVES = frozenset({"MaxPool", "Slice", "Concat", "Reshape", "Transpose"})
"""Operators whose outputs are elements of their inputs; they take bytes as they take floats."""

BOUNDS = {(0.0, 255.0): 0.0, (-128.0, 127.0): 128.0}
"""Bounds of quantised values, and what makes them bytes."""

NEIGHBOURS = (0, 1, -1, 2, -2)
"""Steps of float32 from a quotient within which a scale is looked for."""


@dataclass(frozen=True)
class Bytes:
    """A value's elements are (``name`` - zero) * scale; ``name`` is a value of uint8."""

    name: str
    zero: float
    scale: float


@dataclass(frozen=True)
class Rounding:
    """Elements are rounded after a division by ``scale``, moved by ``zero`` and bounded; or, of a
    convolution of whole numbers, multiplied by ``factor`` first."""

    value: str
    scale: float
    zero: float
    factor: str = ""


def with_bytes(graph: Graph, given: Mapping[str, Grid]) -> None:
    """Rewrite a graph's nodes; ``given`` are its inputs of which every element is on a grid."""
    nodes, graph.nodes = graph.nodes, []
    made = _Pass(graph, {node.output: node for node in nodes})
    for value, grid in given.items():
        made.give(value, grid)
    for node in nodes:
        made.take(node)


def without_idle(graph: Graph, outputs: Mapping[str, object]) -> None:
    """Drop the nodes from which no output is made."""
    wanted, kept = set(outputs), list[OnnxNode]()
    for node in reversed(graph.nodes):
        if node.output in wanted:
            wanted |= {*node.inputs}
            kept.append(node)
    graph.nodes = kept[::-1]


class _Pass:
    def __init__(self, graph: Graph, makers: Mapping[str, OnnxNode]) -> None:
        self.graph, self.makers, self.found = graph, makers, dict[str, Bytes]()
        self.count = 0

    def give(self, value: str, grid: Grid) -> None:
        """An input of the graph."""
        zero, scale = (
            default if key is None else float(self.graph.weights.array(key).reshape(-1)[0])
            for key, default in ((grid.zero, 0.0), (grid.scale, 1.0))
        )
        shift = BOUNDS.get((grid.low, grid.high))
        if shift is not None and _is_byte(zero + shift) and scale > 0:
            self.found[value] = self._quantised(value, scale, zero + shift)

    def take(self, node: OnnxNode) -> None:
        """One node, or what stands for it."""
        made: Bytes | None = None
        if node.op == "Clip":
            made = self._rounded(node)
        elif node.op in ("Sub", "Mul"):
            made = self._scaled(node)
        elif node.op in MOVES:
            made = self._moved(node)
        if made is None:
            self.graph.nodes.append(node)
            return
        self.found[node.output] = made
        self._float(made, node.output)

    def _float(self, held: Bytes, output: str) -> None:
        """The node that gives floats of bytes, for those who read them."""
        graph = self.graph
        inputs = held.name, graph.floats(held.scale), graph.byte(held.zero)
        graph.nodes.append(OnnxNode("DequantizeLinear", inputs, output, {}))

    def _add(self, op: str, inputs: tuple[str, ...], attributes: Mapping[str, Attribute]) -> str:
        self.count += 1
        name = f"bytes {self.count}"
        self.graph.nodes.append(OnnxNode(op, inputs, name, attributes))
        return name

    def _quantised(self, value: str, scale: float, zero: float) -> Bytes:
        inputs = value, self.graph.floats(scale), self.graph.byte(zero)
        return Bytes(self._add("QuantizeLinear", inputs, {}), zero, scale)

    # -- values that stay on their grid --------------------------------------------------------

    def _scaled(self, node: OnnxNode) -> Bytes | None:
        """A zero point that is taken off whole numbers, or the scale that they get."""
        held, number = self.found.get(node.inputs[0]), self._number(node.inputs[1])
        if held is None or number is None or held.scale != 1.0:
            return None
        if node.op == "Mul":
            return replace(held, scale=number) if number > 0 else None
        zero = held.zero + number
        return replace(held, zero=zero) if _is_byte(zero) else None

    def _moved(self, node: OnnxNode) -> Bytes | None:
        moved = node.inputs if node.op == "Concat" else node.inputs[:1]
        held = [self.found.get(name) for name in moved]
        first = held[0]
        if first is None or any(
            each is None or (each.zero, each.scale) != (first.zero, first.scale) for each in held
        ):
            return None
        names = tuple(each.name for each in held if each is not None)
        inputs = (*names, *node.inputs[len(moved) :])
        return replace(first, name=self._add(node.op, inputs, node.attributes))

    # -- values that are rounded to a grid -----------------------------------------------------

    def _rounded(self, node: OnnxNode) -> Bytes | None:
        """What a bound makes: whole numbers, whose bytes are q + shift."""
        low, high = (self._number(name) for name in node.inputs[1:3])
        shift = None if low is None or high is None else BOUNDS.get((low, high))
        rounding = self._rounding(node.inputs[0])
        if shift is None or rounding is None or not _is_byte(rounding.zero + shift):
            return None
        zero = rounding.zero + shift
        name = self._convolved(rounding, zero)
        if name is None and rounding.factor:
            return None
        if name is None:
            held = self.found.get(rounding.value)
            if held is None or (held.zero, held.scale) != (zero, rounding.scale):
                held = self._quantised(rounding.value, rounding.scale, zero)
            name = held.name
        return Bytes(name, shift, 1.0)

    def _rounding(self, value: str) -> Rounding | None:
        """How a value that is bounded came to be: divided, rounded, moved by a zero point."""
        maker, zero = self.makers.get(value), 0.0
        if maker is not None and maker.op == "Add":
            number = self._number(maker.inputs[1])
            if number is None:
                return None
            maker, zero = self.makers.get(maker.inputs[0]), number
        if maker is None or maker.op != "Round":
            return None
        before = self.makers.get(maker.inputs[0])
        if before is None or before.op not in ("Div", "Mul"):
            return None
        if before.op == "Div":
            scale = self._number(before.inputs[1])
            return Rounding(before.inputs[0], scale, zero) if scale else None
        factor = before.inputs[1]
        return (
            None if self._known(factor) is None else Rounding(before.inputs[0], 1.0, zero, factor)
        )

    def _convolved(self, rounding: Rounding, zero: float) -> str | None:
        """``QLinearConv``, where a convolution of bytes is what is rounded."""
        conv = self.makers.get(rounding.value)
        held = self.found.get(conv.inputs[0]) if conv is not None and conv.op == "Conv" else None
        if conv is None or held is None:
            return None
        if bool(rounding.factor) != (held.scale == 1.0):
            return None
        kernel = self._kernel(conv.inputs[1:], held.scale, rounding.factor)
        if kernel is None:
            return None
        graph = self.graph
        inputs = (
            held.name, graph.floats(held.scale), graph.byte(held.zero),
            kernel.weight, kernel.scales, graph.constant(np.array(0, dtype=np.int8)),
            graph.floats(rounding.scale), graph.byte(zero), *kernel.bias,
        )  # fmt: skip
        return self._add("QLinearConv", inputs, conv.attributes)

    def _kernel(self, names: tuple[str, ...], scale: float, factor: str) -> _Kernel | None:
        """None where the weights are no whole numbers of few bits, times a scale for each channel.

        ``scale`` is that of the input; ``factor``, where there is one, is what sums of whole
        numbers are multiplied by.
        """
        shared = self.graph.weights.arrays
        name = f"{' '.join(names)}|int8 {scale!r} {factor}"
        if name not in shared:
            weight = shared[names[0]]
            bias = shared[names[1]] if len(names) > 1 else np.zeros(len(weight), np.float32)
            multiplied = self._known(factor) if factor else None
            found = (
                _divided(weight, bias, np.float32(scale))
                if multiplied is None
                else _whole(weight, bias, multiplied)
            )
            if found is None:
                return None
            whole, scales, whole_bias = found
            shared[name] = whole.astype(np.int8)
            shared[f"{name} scales"] = scales.astype(np.float32)
            shared[f"{name} bias"] = whole_bias.astype(np.int32)
        bias_names = (f"{name} bias",) if len(names) > 1 else ()
        return _Kernel(name, f"{name} scales", bias_names)

    def _known(self, name: str) -> Array | None:
        return self.graph.constants.get(name, self.graph.weights.arrays.get(name))

    def _number(self, name: str) -> float | None:
        found = self._known(name)
        return None if found is None or found.size != 1 else float(found.reshape(-1)[0])


def _is_byte(value: float) -> bool:
    return value.is_integer() and 0.0 <= value <= 255.0


@dataclass(frozen=True)
class _Kernel:
    """Names of a convolution's int8 weight, its scales by channel, and its int32 bias."""

    weight: str
    scales: str
    bias: tuple[str, ...]


Whole = tuple[Array, Array, Array]
"""Whole weights, scales by channel (or one), whole bias."""


def _whole(weight: Array, bias: Array, factor: Array) -> Whole | None:
    """Weights that are whole numbers themselves."""
    few = abs(weight).max(initial=0.0) <= 127 and abs(bias).max(initial=0.0) < 2.0**24
    if not few or not np.array_equal(weight, np.rint(weight)):
        return None
    scales = factor.reshape(-1)
    return (weight, scales, bias) if scales.size in (1, len(weight)) else None


def _divided(weight: Array, bias: Array, scale: np.float32) -> Whole | None:
    """Weights that are whole numbers times a scale, one for all or one for each channel."""
    rows = weight.reshape(len(weight), -1)
    largest = abs(rows).max(1, initial=0.0)
    for most in (np.full_like(largest, largest.max(initial=0.0)), largest):
        found = _rows_divided(rows, bias, most, scale)
        if found is not None:
            whole, scales, whole_bias = found
            return whole.reshape(weight.shape), scales, whole_bias
    return None


def _rows_divided(rows: Array, bias: Array, most: Array, scale: np.float32) -> Whole | None:
    """The scale of each row is near its largest magnitude over 127; the one that gives back all of
    the row, and its bias, bit by bit."""
    best, done = np.ones(len(rows), np.float32), np.zeros(len(rows), bool)
    middle = np.where(most > 0, most / np.float32(127), np.float32(1)).astype(np.float32)
    for steps in NEIGHBOURS:
        near = (middle.view(np.int32) + np.int32(steps)).view(np.float32)
        whole, whole_bias = np.rint(rows / near[:, None]), np.rint(bias / (near * scale))
        right = np.all(whole * near[:, None] == rows, axis=1) & (
            whole_bias * (near * scale) == bias
        )
        best, done = np.where(right & ~done, near, best), done | right
    if not done.all():
        return None
    return np.rint(rows / best[:, None]), best, np.rint(bias / (best * scale))
