"""Windowed ops as ONNX nodes: the crop holds exactly the need of the tile, pads are one-sided.

A rule appends to a graph and returns the value that is the node's tile. It raises
``InexpressibleError`` where ONNX has no such op; then torch computes the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from nptp_opt.geometry import Tile, Window
from nptp_opt.geometry.axis_maps import TapMap, Transposed
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors.onnx_graph import Graph, InexpressibleError
from nptp_opt.kernels.regions import counted, inside, overlap, ranges
from nptp_opt.network.ir import Node

Rule = Callable[[Graph, Node, Sequence[str], Sequence[Tile], Tile], str]
"""Graph, node, its inputs' values, the rectangles that these are, and the tile that is wanted."""

FEW_TAPS = 4
"""Up to so many taps are gathered one by one; of more, a product with their weights is made."""


def windows(node: Node) -> tuple[Window, Window]:
    """How rows and columns of a node's output read its first input."""
    y, x = node.maps[0]
    return cast(Window, y), cast(Window, x)


def pads(node: Node, tile: Tile) -> list[int]:
    """What the tile's window reads beyond the map: top, left, bottom, right."""
    (top, bottom), (left, right) = (
        axis.padding(a, b) for axis, (a, b) in zip(windows(node), ranges(tile), strict=True)
    )
    return [top, left, bottom, right]


def kernel(graph: Graph, node: Node) -> str:
    """The weight as (out, in, rows, columns), for a map whose rows and columns may be swapped."""
    shape, swapped = tuple(node.attrs["weight_shape"]), bool(node.attrs.get("swapped"))

    def make(values: Array) -> Array:
        lying = values.reshape(shape)
        return lying.transpose(0, 1, 3, 2) if swapped else lying

    return graph.weight(node.params["weight"], f"kernel {shape} {swapped}", make)


def _bias(graph: Graph, node: Node) -> list[str]:
    return [graph.weight(node.params["bias"])] if "bias" in node.params else []


def conv2d(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    weights = kernel(graph, node), *_bias(graph, node)
    return _conv(graph, node, values[0], weights, tile)


def _conv(graph: Graph, node: Node, value: str, weights: Sequence[str], tile: Tile) -> str:
    return graph.add(
        "Conv", value, *weights,
        pads=pads(node, tile),
        strides=list(node.attrs["stride"]),
        dilations=list(node.attrs["dilation"]),
        group=node.attrs["groups"],
    )  # fmt: skip


def conv_norm(
    graph: Graph, conv: Node, norm: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    """A convolution whose weights have the batch norm behind it in them, once for all programs."""
    scale, shift = _affine(graph, conv, norm)
    shape, swapped = tuple(conv.attrs["weight_shape"]), bool(conv.attrs.get("swapped"))

    def make(values: Array) -> Array:
        lying = values.reshape(shape) * scale[:, None, None, None]
        return lying.transpose(0, 1, 3, 2) if swapped else lying

    weight = graph.weight(conv.params["weight"], f"with {norm.name}", make)
    bias = graph.weight(norm.params["running_mean"], f"with {norm.name}", lambda _: shift)
    return _conv(graph, conv, values[0], (weight, bias), tile)


def _affine(graph: Graph, conv: Node, norm: Node) -> tuple[Array, Array]:
    """What a norm multiplies a convolution's channels by, and what both add, in float64."""
    mean, variance, gain, beta, bias = (
        graph.weights.array(params[role]).astype(float) if role in params else default
        for params, role, default in (
            (norm.params, "running_mean", 0.0),
            (norm.params, "running_var", 1.0),
            (norm.params, "weight", 1.0),
            (norm.params, "bias", 0.0),
            (conv.params, "bias", 0.0),
        )
    )
    scale = np.asarray(gain / np.sqrt(variance + norm.attrs["eps"]))
    return scale, np.asarray((bias - mean) * scale + beta)


def conv_transpose2d(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    """The crop's result, cut by pads to what lies in the tile; zeros where it does not reach."""
    size = node.attrs["weight_shape"][2:]
    size = size[::-1] if node.attrs.get("swapped") else size
    lengths = [
        (length - 1) * axis.stride + axis.dilation * (k - 1) + 1
        for axis, length, k in zip(
            cast(tuple[Transposed, Transposed], node.maps[0]),
            (needs[0].height, needs[0].width),
            size,
            strict=True,
        )
    ]
    cuts, grown = _transposed_sides(node, tile, lengths)
    bias = _bias(graph, node)
    made = graph.add(
        "ConvTranspose", values[0], kernel(graph, node), *(() if any(grown) else bias),
        pads=cuts,
        strides=list(node.attrs["stride"]),
        dilations=list(node.attrs["dilation"]),
        group=node.attrs["groups"],
    )  # fmt: skip
    if not any(grown) or not bias:
        return graph.padded(made, grown, 0.0)
    lying = graph.weight(node.params["bias"], "channels", lambda b: b.reshape(1, -1, 1, 1))
    return graph.add("Add", graph.padded(made, grown, 0.0), lying)


def _transposed_sides(
    node: Node, tile: Tile, lengths: Sequence[int]
) -> tuple[list[int], list[int]]:
    """What is cut off a crop's result, and what is added to it: top, left, bottom, right."""
    cuts, grown = [0] * 4, [0] * 4
    for i, (axis, (a, b)) in enumerate(zip(node.maps[0], ranges(tile), strict=True)):
        place, source = overlap(cast(Transposed, axis), a, b, lengths[i])
        if source.start >= source.stop:
            raise InexpressibleError("no input reaches the tile")
        cuts[i], cuts[i + 2] = source.start, lengths[i] - source.stop
        grown[i], grown[i + 2] = place.start, b - a - place.stop
    return cuts, grown


def linear(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    """The features of the tile, from the whole input in the model's order."""
    rows, transposed = slice(tile.y0, tile.y1), bool(node.attrs["transposed"])
    view = f"rows {tile.y0}:{tile.y1}"

    def make(values: Array) -> Array:
        return values[:, rows] if transposed else values[rows]

    lying = graph.reshaped(values[0], node.attrs["ordered"])
    lying = graph.add("Transpose", lying, perm=list(node.attrs["order"]))
    lying = graph.reshaped(lying, (node.shape[0], -1))
    weight = graph.weight(node.params["weight"], f"{view} {transposed}", make)
    bias = (
        [graph.weight(node.params["bias"], view, lambda b: b[rows])]
        if "bias" in node.params
        else []
    )
    found = graph.add("Gemm", lying, weight, *bias, transB=int(not transposed))
    return graph.reshaped(found, (node.shape[0], 1, tile.height, 1))


def max_pool2d(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    y, x = windows(node)
    beyond, value = pads(node, tile), values[0]
    if any(p >= k for p, k in zip(beyond, (y.kernel, x.kernel) * 2, strict=True)):
        value, beyond = graph.padded(value, beyond, -np.inf), [0] * 4
    return graph.add(
        "MaxPool", value,
        kernel_shape=[y.kernel, x.kernel],
        strides=[y.stride, x.stride],
        dilations=[y.dilation, x.dilation],
        pads=beyond,
    )  # fmt: skip


def avg_pool2d(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    """Means over whole windows, times the share of the elements that torch does not count."""
    y, x = windows(node)
    beyond, value = pads(node, tile), values[0]
    if any(p >= k for p, k in zip(beyond, (y.kernel, x.kernel) * 2, strict=True)):
        value, beyond = graph.padded(value, beyond, 0.0), [0] * 4
    means = graph.add(
        "AveragePool", value,
        kernel_shape=[y.kernel, x.kernel],
        strides=[y.stride, x.stride],
        pads=beyond,
        count_include_pad=1,
    )  # fmt: skip
    shares = _shares(node, tile)
    return means if np.all(shares == 1.0) else graph.add("Mul", means, graph.floats(shares))


def _shares(node: Node, tile: Tile) -> Array:
    """Elements of a window over those that count, by output: (rows, columns)."""
    y, x = windows(node)
    if node.attrs["divisor"]:
        return np.full((1, 1), y.kernel * x.kernel / float(node.attrs["divisor"]))
    rows, columns = (
        np.array(counted(axis, a, b, node.attrs["count_include_pad"]), dtype=float)
        for axis, (a, b) in zip((y, x), ranges(tile), strict=True)
    )
    shares: Array = y.kernel * x.kernel / (rows[:, None] * columns[None, :])
    return shares


def pad(graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile) -> str:
    return graph.padded(values[0], pads(node, tile), node.attrs["value"])


def slice_(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    value = values[0]
    sizes = needs[0].height, needs[0].width
    for dim, (axis, size) in enumerate(zip(windows(node), sizes, strict=True), start=2):
        if axis.stride > 1:
            value = graph.sliced(value, [(0, size)], [dim], axis.stride)
    return value


def concat(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    there = [value for value, need in zip(values, needs, strict=True) if not need.is_empty]
    return graph.add("Concat", *there, axis=2 if node.attrs["axis"] == "h" else 3)


def resample(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    """Weighted sums of taps, rows first."""
    value = values[0]
    for dim, (axis, (a, b)) in enumerate(zip(node.maps[0], ranges(tile), strict=True), start=2):
        if isinstance(axis, TapMap):
            value = _tapped(graph, value, dim, axis, a, b)
    return value


def _tapped(graph: Graph, value: str, dim: int, axis: TapMap, a: int, b: int) -> str:
    first, stop = axis.need(a, b)
    taps = [axis.taps(o) for o in range(a, b)]
    if axis.n_taps == 1:
        positions = [each[0][0] - first for each in taps]
        if positions == [*range(stop - first)]:
            return value
        return graph.add("Gather", value, graph.integers(positions), axis=dim)
    shares = np.zeros((b - a, stop - first))
    for o, each in enumerate(taps):
        for i, weight in each:
            shares[o, i - first] += weight
    if max(map(len, taps)) > FEW_TAPS:
        return _product(graph, value, dim, shares)
    return _gathered(graph, value, dim, [[(i - first, w) for i, w in each] for each in taps])


def _product(graph: Graph, value: str, dim: int, shares: Array) -> str:
    if dim == 2:
        return graph.add("MatMul", graph.floats(shares), value)
    return graph.add("MatMul", value, graph.floats(shares.T))


def _gathered(
    graph: Graph, value: str, dim: int, taps: Sequence[Sequence[tuple[int, float]]]
) -> str:
    total = ""
    for t in range(max(map(len, taps))):
        used = [each[t] if t < len(each) else (each[-1][0], 0.0) for each in taps]
        part = graph.add("Gather", value, graph.integers([i for i, _ in used]), axis=dim)
        weights = np.array([weight for _, weight in used])
        part = graph.add("Mul", part, graph.floats(weights[:, None] if dim == 2 else weights))
        total = graph.add("Add", total, part) if total else part
    return total


def pixel_shuffle(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    factor = node.attrs["factor"]
    value = values[0]
    if factor > 1:
        value = graph.add("DepthToSpace", value, blocksize=factor, mode="CRD")
    (top, _), (left, _) = (
        inside(axis, a, b) for axis, (a, b) in zip(node.maps[0], ranges(tile), strict=True)
    )
    full = Tile(-top, needs[0].height * factor - top, -left, needs[0].width * factor - left)
    return graph.cropped(value, full, Tile(0, tile.height, 0, tile.width))


def pixel_unshuffle(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    f, (n, c) = node.attrs["factor"], node.shape[:2]
    split = graph.reshaped(values[0], (n, c // f**2, tile.height, f, tile.width, f))
    turned = graph.add("Transpose", split, perm=[0, 1, 3, 5, 2, 4])
    return graph.reshaped(turned, (n, c, tile.height, tile.width))


RULES: dict[str, Rule] = {
    **{
        rule.__name__: rule
        for rule in (
            conv2d, conv_transpose2d, linear, max_pool2d, avg_pool2d, pad, concat, resample,
            pixel_shuffle, pixel_unshuffle,
        )
    },
    "slice": slice_,
}  # fmt: skip
"""By op."""
