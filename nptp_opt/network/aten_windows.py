"""ATen convolutions and poolings as nodes with receptive windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nptp_opt.geometry import Window
from nptp_opt.geometry.axis_maps import Adaptive, Transposed
from nptp_opt.network.calls import Call, NotLocalError, handles, layout_of, pair
from nptp_opt.network.graph import Const, Value
from nptp_opt.network.ir import AxisMaps
from nptp_opt.network.layout import Layout

Padding = tuple[list[int], list[int]]
"""Low and high ends, each (vertical, horizontal)."""


@dataclass(frozen=True)
class _Grid:
    """The spatial dimensions of an input, at most two of the letters h and w, in its order."""

    value: Value
    letters: tuple[str, ...]

    def spread(self, numbers: Sequence[int], fill: int) -> list[int]:
        """Per-dimension numbers as (vertical, horizontal)."""
        given = dict(zip(self.letters, numbers, strict=True))
        return [given.get("h", fill), given.get("w", fill)]

    def size(self, letter: str) -> int:
        layout = layout_of(self.value)
        return self.value.shape[layout.axes.index(letter)] if letter in self.letters else 1

    @property
    def swapped(self) -> bool:
        """True where the model has columns before rows: so has the kernel."""
        return self.letters == ("w", "h")

    def kernel(self, weight: Const) -> tuple[list[int], dict[str, Any]]:
        """The weight's shape as (out, in, rows, columns), and how a node is told to take it."""
        shape = [*weight.shape[:2], *self.spread(weight.shape[2:], 1)]
        if not self.swapped:
            return shape, {"weight_shape": shape}
        return shape, {"weight_shape": [*shape[:2], *shape[:1:-1]], "swapped": True}

    def out(self, channels: int) -> Layout:
        return layout_of(self.value).with_channels(channels)


def _grid(call: Call, rank: int) -> _Grid:
    value = call.maps_channels_first()
    letters = tuple(str(axis) for axis in layout_of(value).axes[2:])
    if len(letters) != rank:
        raise NotLocalError(f"its input has {len(letters)} spatial dimensions, not {rank}")
    return _Grid(value, letters)


def _windows(
    call: Call,
    grid: _Grid,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    low: Sequence[int],
    high: Sequence[int],
    dilation: Sequence[int],
) -> AxisMaps:
    """Windows of rows and columns; all numbers are (vertical, horizontal)."""
    _, _, height, width = grid.out(1).canonical(call.shape)
    y, x = (
        Window(grid.size(letter), n_out, kernel[i], stride[i], dilation[i], low[i], high[i])
        for i, (letter, n_out) in enumerate((("h", height), ("w", width)))
    )
    return y, x


def _with_pad_before(
    call: Call, grid: _Grid, low: list[int], high: list[int], fill: float
) -> tuple[_Grid, list[int], list[int]]:
    """Take a padding with ``fill`` right before this op into its own window."""
    node = call.graph.maker(grid.value.tensor)
    if node is None or node.op != "pad" or node.attrs["value"] != fill:
        return grid, low, high
    sides = [axis for axis in node.maps[0] if isinstance(axis, Window)]
    if min(min(axis.pad_lo, axis.pad_hi) for axis in sides) < 0:
        return grid, low, high
    layout = layout_of(grid.value)
    sizes = dict(zip(("h", "w"), (axis.n_in for axis in sides), strict=True))
    shape = [sizes.get(str(a), n) for a, n in zip(layout.axes, grid.value.shape, strict=True)]
    before = Value(node.inputs[0], tuple(shape), layout)
    low = [a + axis.pad_lo for a, axis in zip(low, sides, strict=True)]
    high = [a + axis.pad_hi for a, axis in zip(high, sides, strict=True)]
    return _Grid(before, grid.letters), low, high


def _same_padding(kernel: Sequence[int], dilation: Sequence[int]) -> Padding:
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return [t // 2 for t in total], [t - t // 2 for t in total]


@handles("conv1d", "conv2d", reads="input weight bias stride padding dilation groups")
def convolution(call: Call) -> Value:
    """Convolution of any stride, dilation, grouping and padding."""
    if call.op == "conv1d" and _runs_over_channels(call):
        return _over_channels(call)
    grid = _grid(call, 1 if call.op == "conv1d" else 2)
    weight = call.weight("weight")
    assert weight is not None
    rank, (shape, form) = len(grid.letters), grid.kernel(weight)
    stride = grid.spread(pair(call.args["stride"], [1] * rank, rank), 1)
    dilation = grid.spread(pair(call.args["dilation"], [1] * rank, rank), 1)
    padding = call.args["padding"]
    if padding == "same":
        low, high = _same_padding(shape[2:], dilation)
    else:
        given = [0] * rank if padding == "valid" else pair(padding, [0] * rank, rank)
        low = high = grid.spread(given, 0)
    grid, low, high = _with_pad_before(call, grid, low, high, 0.0)
    groups = int(call.args["groups"])
    return call.emit(
        "conv2d",
        [grid.value.tensor],
        grid.out(shape[0]),
        attrs={**form, "stride": stride, "dilation": dilation, "groups": groups},
        params={"weight": weight, "bias": call.weight("bias")},
        maps=[
            _windows(
                call, grid, kernel=shape[2:], stride=stride, low=low, high=high, dilation=dilation
            )
        ],
        flop=2.0 * math.prod(call.shape) * math.prod(shape[1:]),
    )


def _runs_over_channels(call: Call) -> bool:
    value = call.argument()
    axes = value.layout.axes if isinstance(value, Value) and value.layout is not None else ()
    return axes[1:] == ("1", 0) and len(layout_of(value).factors) == 1


def _over_channels(call: Call) -> Value:
    """A 1-D convolution with one filter along the channels of every pixel (ECA)."""
    value, weight = call.feature(), call.weight("weight")
    assert weight is not None
    padding = call.args["padding"]
    sides = padding if isinstance(padding, str) else pair(padding, [0], 1)
    if weight.shape[:2] != (1, 1):
        raise NotLocalError("it makes several values of each channel")
    attrs = {
        "padding": sides,
        "stride": pair(call.args["stride"], [1], 1),
        "dilation": pair(call.args["dilation"], [1], 1),
    }
    return call.emit(
        "channel_conv",
        [value.tensor],
        layout_of(value).with_channels(call.shape[2]),
        attrs=attrs,
        params={"weight": weight, "bias": call.weight("bias")},
        flop=2.0 * math.prod(call.shape) * weight.shape[2],
    )


@handles(
    "conv_transpose1d",
    "conv_transpose2d",
    reads="input weight bias stride padding output_padding groups dilation",
)
def transposed_convolution(call: Call) -> Value:
    """Transposed convolution; output padding only adds rows and columns that hold the bias."""
    grid = _grid(call, 1 if call.op == "conv_transpose1d" else 2)
    weight = call.weight("weight")
    assert weight is not None
    rank, (shape, form) = len(grid.letters), grid.kernel(weight)
    stride = grid.spread(pair(call.args["stride"], [1] * rank, rank), 1)
    dilation = grid.spread(pair(call.args["dilation"], [1] * rank, rank), 1)
    padding = grid.spread(pair(call.args["padding"], [0] * rank, rank), 0)
    groups = int(call.args["groups"])
    layout = grid.out(shape[1] * groups)
    _, _, height, width = layout.canonical(call.shape)
    y, x = (
        Transposed(grid.size(letter), n_out, shape[2 + i], stride[i], dilation[i], padding[i])
        for i, (letter, n_out) in enumerate((("h", height), ("w", width)))
    )
    return call.emit(
        "conv_transpose2d",
        [grid.value.tensor],
        layout,
        attrs={**form, "stride": stride, "dilation": dilation, "groups": groups},
        params={"weight": weight, "bias": call.weight("bias")},
        maps=[(y, x)],
        flop=2.0 * math.prod(grid.value.shape) * math.prod(shape[1:]),
    )


@handles(
    "max_pool1d",
    "max_pool2d",
    "max_pool2d_with_indices",
    "avg_pool1d",
    "avg_pool2d",
    reads="self kernel_size stride padding dilation ceil_mode count_include_pad divisor_override",
)
def pooling(call: Call) -> Value:
    """Max and average pooling, ceil mode and both ways of counting padding included."""
    rank = 1 if call.op.endswith("1d") else 2
    grid = _grid(call, rank)
    kernel = pair(call.args["kernel_size"], [], rank)
    stride = pair(call.args["stride"], kernel, rank)
    padding = pair(call.args["padding"], [0] * rank, rank)
    dilation = pair(call.args.get("dilation", 1), [1] * rank, rank)
    kernel, stride = grid.spread(kernel, 1), grid.spread(stride, 1)
    padding, dilation = grid.spread(padding, 0), grid.spread(dilation, 1)
    average = call.op.startswith("avg")
    attrs = {
        "count_include_pad": bool(call.args.get("count_include_pad")),
        "divisor": call.args.get("divisor_override"),
    }
    _, c, height, width = layout_of(grid.value).canonical(grid.value.shape)
    if average and kernel == [height, width] and padding == [0, 0] and not attrs["divisor"]:
        return reduction(call, grid.value, "global_avg_pool")
    low = high = padding
    if not average:
        grid, low, high = _with_pad_before(call, grid, low, high, -math.inf)
    return call.emit(
        "avg_pool2d" if average else "max_pool2d",
        [grid.value.tensor],
        grid.out(c),
        attrs=attrs if average else {},
        maps=[
            _windows(
                call,
                grid,
                kernel=kernel,
                stride=stride,
                low=low,
                high=high,
                dilation=dilation,
            )
        ],
        flop=float(math.prod(call.shape) * math.prod(kernel)),
    )


@handles(
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    reads="self output_size",
)
def adaptive_pooling(call: Call) -> Value:
    """Adaptive pooling to any size; to 1x1 it is a reduction, to the same size nothing."""
    grid = _grid(call, 1 if call.op.endswith("1d") else 2)
    value, maximum = grid.value, "max" in call.op
    if call.shape == value.shape:
        return value
    if call.shape[2:] == (1,) * len(grid.letters):
        return reduction(call, value, "global_max_pool" if maximum else "global_avg_pool")
    n, c, height, width = grid.out(value.shape[1]).canonical(call.shape)
    y, x = Adaptive(grid.size("h"), height), Adaptive(grid.size("w"), width)
    return call.emit(
        "resample_max" if maximum else "resample",
        [value.tensor],
        grid.out(value.shape[1]),
        maps=[(y, x)],
        flop=float(n * c * height * width * y.n_taps * x.n_taps),
    )


def reduction(call: Call, value: Value, op: str, kept: Layout | None = None) -> Value:
    """Node that reduces whole maps to (N, C, 1, 1), as which ``kept`` says how they lie."""
    layout = layout_of(value)
    n, c, height, width = layout.canonical(value.shape)
    kept = kept or layout
    if height == width == 1:
        return Value(value.tensor, call.shape, kept)
    return call.emit(
        op,
        [value.tensor],
        kept,
        attrs={"partial_elements": n * c, "pixels": height * width},
        maps=(),
        flop=float(n * c * height * width),
    )
