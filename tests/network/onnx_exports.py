"""Small stand-ins of ONNX files that people have, node by node as their exporters write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

I64 = np.int64


class Exported:
    """A graph that grows node by node; weights are drawn from one seed."""

    def __init__(self, opset: int = 17) -> None:
        self.opset, self.nodes, self.weights = opset, [], {}
        self.rng = np.random.default_rng(0)

    def drawn(self, *shape: int) -> str:
        """The name of a weight of this shape."""
        scale = 1.0 / max(1, int(np.prod(shape[1:]))) ** 0.5
        return self.const(self.rng.standard_normal(shape) * scale, np.float32)

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(value, dtype)
        return name

    def add(self, op: str, inputs: Sequence[str], count: int = 1, **attrs: Any) -> Any:
        """A node; its result's name, or the names of several."""
        names = [f"{op}{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(op, inputs, names, name=names[0], **attrs))
        return names[0] if count == 1 else names

    def save(
        self, path: Path, shape: Sequence[Any], outputs: Mapping[str, int], kind: int = 1
    ) -> str:
        """The file's path; ``outputs`` are names with their ranks, ``kind`` the type of all."""
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info(n, kind, [None] * r) for n, r in outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
        return str(path)


def _silu(g: Exported, x: str, into: int, out: int, kernel: int = 3, stride: int = 1) -> str:
    pads = [kernel // 2] * 4
    weights = [g.drawn(out, into, kernel, kernel), g.drawn(out)]
    y = g.add("Conv", [x, *weights], pads=pads, strides=[stride, stride])
    return g.add("Mul", [y, g.add("Sigmoid", [y])])


def _c2f(g: Exported, x: str, channels: int) -> str:
    a, b = g.add("Split", [_silu(g, x, channels, channels, 1)], 2, axis=1)
    half = channels // 2
    c = g.add("Add", [b, _silu(g, _silu(g, b, half, half), half, half)])
    return _silu(g, g.add("Concat", [a, b, c], axis=1), 3 * half, channels, 1)


def _sppf(g: Exported, x: str, channels: int) -> str:
    pools = [x]
    for _ in range(3):
        pools.append(g.add("MaxPool", [pools[-1]], kernel_shape=[5, 5], pads=[2] * 4))
    return _silu(g, g.add("Concat", pools, axis=1), 4 * channels, channels, 1)


def _anchors(g: Exported, x: str) -> str:
    """Cell centres of a map, 1 x 2 x cells, worked out from its shape as exporters have it."""
    shape = g.add("Shape", [x])
    sides = [g.add("Gather", [shape, g.const(axis, I64)]) for axis in (2, 3)]
    steps = []
    for side in sides:
        limit = g.add("Cast", [side], to=TensorProto.FLOAT)
        ends = g.const(0.0), limit, g.const(1.0)
        steps.append(g.add("Add", [g.add("Range", ends), g.const(0.5)]))
    both = g.add("Concat", [g.add("Unsqueeze", [s, g.const([0], I64)]) for s in sides], axis=0)
    rows = g.add("Expand", [g.add("Unsqueeze", [steps[0], g.const([1], I64)]), both])
    columns = g.add("Expand", [g.add("Unsqueeze", [steps[1], g.const([0], I64)]), both])
    lines = [g.add("Reshape", [each, g.const([1, 1, -1], I64)]) for each in (columns, rows)]
    return g.add("Concat", lines, axis=1)


def yolo8(path: Path) -> str:
    """C2f blocks, SPPF, a resized neck, and a head with distances as distributions (DFL)."""
    g, classes, bins = Exported(), 3, 4
    low = _c2f(g, _silu(g, _silu(g, "x", 3, 8, 3, 2), 8, 16, 3, 2), 16)
    deep = _sppf(g, _silu(g, low, 16, 16, 3, 2), 16)
    up = g.add("Resize", [deep, "", g.const([1, 1, 2, 2])], mode="nearest", nearest_mode="floor",
               coordinate_transformation_mode="asymmetric")  # fmt: skip
    neck = _c2f(g, _silu(g, g.add("Concat", [up, low], axis=1), 32, 16, 1), 16)
    flat, centres = [], []
    for scale in (neck, deep):
        made = [
            g.add("Conv", [_silu(g, scale, 16, 16), g.drawn(n, 16, 1, 1), g.drawn(n)])
            for n in (4 * bins, classes)
        ]
        joined = g.add("Concat", made, axis=1)
        flat.append(g.add("Reshape", [joined, g.const([1, 4 * bins + classes, -1], I64)]))
        centres.append(_anchors(g, scale))
    sizes = g.const([4 * bins, classes], I64)
    box, scores = g.add("Split", [g.add("Concat", flat, axis=2), sizes], 2, axis=1)
    sides = g.add("Transpose", [g.add("Reshape", [box, g.const([1, 4, bins, -1], I64)])],
                  perm=[0, 2, 1, 3])  # fmt: skip
    weights = g.const(np.arange(bins).reshape(1, bins, 1, 1))
    means = g.add("Conv", [g.add("Softmax", [sides], axis=1), weights])
    ends = g.add("Reshape", [means, g.const([1, 4, -1], I64)])
    first, last = (
        g.add("Slice", [ends, *(g.const([v], I64) for v in (a, a + 2, 1))]) for a in (0, 2)
    )
    at = g.add("Concat", centres, axis=2)
    corners = g.add("Sub", [at, first]), g.add("Add", [at, last])
    middle = g.add("Div", [g.add("Add", corners), g.const(2.0)])
    size = g.add("Sub", [corners[1], corners[0]])
    result = g.add("Concat", [middle, size, g.add("Sigmoid", [scores])], axis=1)
    return g.save(path, [1, 3, 64, 64], {result: 3})


def yolo5(path: Path) -> str:
    """A head that brings anchors to the front: five dimensions, powers, grids as constants."""
    g, each = Exported(13), 7
    y = _silu(g, _silu(g, "x", 3, 8, 3, 2), 8, 16, 3, 2)
    y = g.add("Conv", [y, g.drawn(3 * each, 16, 1, 1), g.drawn(3 * each)])
    y = g.add("Reshape", [y, g.const([1, 3, each, 8, 8], I64)])
    y = g.add("Sigmoid", [g.add("Transpose", [y], perm=[0, 1, 3, 4, 2])])
    xy, wh, rest = g.add("Split", [y, g.const([2, 2, each - 4], I64)], 3, axis=4)
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(1, 1, 8, 8, 2)
    xy = g.add("Mul", [g.add("Add", [xy, g.const(grid)]), g.const(8.0)])
    wh = g.add("Mul", [g.add("Pow", [wh, g.const(2.0)]), g.drawn(1, 3, 1, 1, 2)])
    joined = g.add("Concat", [xy, wh, rest], axis=4)
    result = g.add("Reshape", [joined, g.const([1, -1, each], I64)])
    return g.save(path, [1, 3, 32, 32], {result: 3})


def _same(g: Exported, x: str, into: int, out: int, kernel: int, **attrs: Any) -> str:
    """A convolution on N, H, W, C: brought to channels first, and back."""
    first = g.add("Transpose", [x], perm=[0, 3, 1, 2])
    weights = [g.drawn(out, into // attrs.get("group", 1), kernel, kernel), g.drawn(out)]
    y = g.add("Conv", [first, *weights], auto_pad="SAME_UPPER", **attrs)
    return g.add("Transpose", [y], perm=[0, 2, 3, 1])


def channels_last(path: Path) -> str:
    """A TensorFlow network: every map N, H, W, C, and back to it around every window."""
    g = Exported(13)
    y = g.add("Sub", ["x", g.const([0.1, 0.2, 0.3])])
    stem = g.add("Clip", [_same(g, y, 3, 8, 3, strides=[2, 2]), g.const(0.0), g.const(6.0)])
    y = _same(g, stem, 8, 8, 3, group=8)
    y = g.add("Relu", [g.add("Add", [g.add("Mul", [y, g.drawn(8)]), g.drawn(8)])])
    y = g.add("Add", [_same(g, y, 8, 8, 1), stem])
    y = g.add("Pad", [y, g.const([0, 1, 1, 0, 0, 1, 1, 0], I64)])
    first = g.add("Transpose", [y], perm=[0, 3, 1, 2])
    pooled = g.add("MaxPool", [first], kernel_shape=[3, 3], strides=[2, 2])
    y = g.add("Transpose", [pooled], perm=[0, 2, 3, 1])
    gate = g.add("Sigmoid", [_same(g, g.add("ReduceMean", [y], axes=[1, 2]), 8, 8, 1)])
    first = g.add("Transpose", [g.add("Mul", [y, gate])], perm=[0, 3, 1, 2])
    y = g.add("Resize", [first, "", "", g.const([1, 8, 16, 16], I64)], mode="linear")
    y = g.add("Transpose", [y], perm=[0, 2, 3, 1])
    both = g.add("Concat", [y, stem], axis=3)
    means = g.add("ReduceMean", [both], axes=[1, 2], keepdims=0)
    classes = g.add(
        "Softmax", [g.add("Add", [g.add("MatMul", [means, g.drawn(16, 5)]), g.drawn(5)])]
    )
    pixels = g.add("Softmax", [_same(g, both, 16, 4, 1)], axis=-1)
    return g.save(path, [1, 32, 32, 3], {classes: 2, pixels: 4})


def quantised(path: Path) -> str:
    """Quantised and dequantised around every operator, weights in 8 bits, biases in 32."""
    g = Exported(13)

    def both(x: str, scale: float, zero: int) -> str:
        parts = [g.const(scale), g.const(zero, np.uint8)]
        return g.add("DequantizeLinear", [g.add("QuantizeLinear", [x, *parts]), *parts])

    def conv(x: str, into: int, out: int) -> str:
        numbers = g.const(g.rng.integers(-127, 128, (out, into, 3, 3)), np.int8)
        scales = g.rng.uniform(0.002, 0.01, out)
        zeros = g.const(np.zeros(out), np.int8)
        weight = g.add("DequantizeLinear", [numbers, g.const(scales), zeros], axis=0)
        sums = g.const(g.rng.integers(-500, 500, out), np.int32)
        bias = g.add("DequantizeLinear", [sums, g.const(scales * 0.02)])
        return g.add("Conv", [x, weight, bias], pads=[1] * 4)

    y = both(g.add("Relu", [conv(both("x", 0.02, 128), 3, 8)]), 0.02, 0)
    pooled = g.add("MaxPool", [y], kernel_shape=[2, 2], strides=[2, 2])
    y = both(g.add("Add", [both(conv(pooled, 8, 8), 0.05, 120), pooled]), 0.05, 100)
    result = both(g.add("GlobalAveragePool", [y]), 0.01, 50)
    return g.save(path, [1, 3, 16, 16], {result: 4})


def half(path: Path) -> str:
    """Input, weights and result in float16."""
    g = Exported()
    y = g.add("Relu", [g.add("Conv", ["x", g.drawn(8, 3, 3, 3), g.drawn(8)], pads=[1] * 4)])
    y = g.add("AveragePool", [y], kernel_shape=[2, 2], strides=[2, 2])
    result = g.add("Sigmoid", [g.add("Conv", [y, g.drawn(4, 8, 3, 3)])])
    g.weights = {name: value.astype(np.float16) for name, value in g.weights.items()}
    return g.save(path, [1, 3, 16, 16], {result: 4}, TensorProto.FLOAT16)


def reader(path: Path) -> str:
    """Text lines: convolutions, columns as steps of an LSTM in both directions, a GRU, classes."""
    g, hidden = Exported(14), 6
    y = g.add("Relu", [g.add("Conv", ["x", g.drawn(8, 1, 3, 3), g.drawn(8)], pads=[1] * 4)])
    y = g.add("MaxPool", [y], kernel_shape=[8, 2], strides=[8, 2])
    steps = g.add("Transpose", [g.add("Squeeze", [y, g.const([2], I64)])], perm=[2, 0, 1])
    gates = g.drawn(2, 4 * hidden, 8), g.drawn(2, 4 * hidden, hidden), g.drawn(2, 8 * hidden)
    y, _, _ = g.add("LSTM", [steps, *gates], 3, hidden_size=hidden, direction="bidirectional")
    y = g.add("Reshape", [g.add("Transpose", [y], perm=[0, 2, 1, 3]), g.const([0, 0, -1], I64)])
    gates = g.drawn(1, 15, 2 * hidden), g.drawn(1, 15, 5), g.drawn(1, 30)
    y, _ = g.add("GRU", [y, *gates], 2, hidden_size=5, linear_before_reset=1, direction="reverse")
    result = g.add("Softmax", [g.add("Squeeze", [y, g.const([1], I64)])], axis=2)
    return g.save(path, [1, 1, 8, 20], {result: 3})
