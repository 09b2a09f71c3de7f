"""ATen ops that reduce maps, over channels or pixels, and what is made of reductions.

Each is a few nodes: a softmax over pixels is a maximum, exponentials, their sum and a quotient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nptp_opt.geometry.axis_maps import Adaptive
from nptp_opt.network.aten_pixelwise import channels_of, lying, over
from nptp_opt.network.aten_windows import reduction
from nptp_opt.network.calls import Call, NotLocalError, dim_of, handles, layout_of
from nptp_opt.network.graph import Value, identity
from nptp_opt.network.layout import FEATURES, Layout


@handles("softmax", "log_softmax", reads="self dim")
def softmax(call: Call) -> Value:
    """Softmax over the channels, or over all pixels."""
    value = call.feature()
    dim = dim_of(value, call.args["dim"])
    features = layout_of(value).axes == FEATURES.axes  # few numbers, gathered for less than rounds
    if call.op == "softmax" and _pixels_of(value) == {dim} and not features:
        return _softmax_of_pixels(call, value, dim)
    layout, attrs = layout_of(value), over(value, [dim])
    return call.emit(f"channel_{call.op}", [value.tensor], layout, attrs=attrs)


def _softmax_of_pixels(call: Call, value: Value, dim: int) -> Value:
    """Exponentials over their sum: both the largest value and the sum are reductions."""
    peak = reduced(call, value, "amax", [dim], keep=True)
    above = _computed(call, [value, peak], "sub", "Tensor", {"in": 0}, {"in": 1})
    powers = _computed(call, [above], "exp", "default", {"in": 0})
    total = reduced(call, powers, "sum", [dim], keep=True)
    return _computed(call, [powers, total], "div", "Tensor", {"in": 0}, {"in": 1})


@handles("var", "std", reads="self dim keepdim correction unbiased")
def spread(call: Call) -> Value:
    """Variance or standard deviation: the mean of squared deviations from the mean."""
    return _spread(call, call.op)[0]


@handles("var_mean", "std_mean", reads="self dim keepdim correction unbiased")
def spread_and_mean(call: Call) -> list[Value]:
    """The same with the mean itself."""
    return list(_spread(call, call.op.removesuffix("_mean")))


def _spread(call: Call, how: str) -> tuple[Value, Value]:
    value, dims = call.feature(), _dims(call)
    count = math.prod(value.shape[dim_of(value, d)] for d in dims)
    correction = call.args.get("correction", 1)
    less = int(call.args["unbiased"]) if "unbiased" in call.args else correction
    less = 1 if less is None else less
    if count <= less:
        raise NotLocalError("it has no degree of freedom")
    keep = bool(call.args.get("keepdim"))
    centre = reduced(call, value, "mean", dims, keep=True)
    off = _computed(call, [value, centre], "sub", "Tensor", {"in": 0}, {"in": 1})
    squares = _computed(call, [off], "mul", "Tensor", {"in": 0}, {"in": 0})
    found = reduced(call, squares, "mean", dims, keep=keep)
    if less:
        found = _computed(call, [found], "mul", "Scalar", {"in": 0}, count / (count - less))
    if how == "std":
        found = _computed(call, [found], "sqrt", "default", {"in": 0})
    mean = centre if keep else replace(centre, shape=found.shape, layout=found.layout)
    return found, mean


@handles("mean", "sum", "amax", reads="self dim keepdim")
def reduce(call: Call) -> Value:
    """Mean, sum or maximum over the channels, or over rows and columns."""
    return reduced(call, call.feature(), call.op, _dims(call), keep=bool(call.args["keepdim"]))


@handles("max", reads="self dim keepdim")
def largest(call: Call) -> Value:
    """Largest values over the channels, or over rows and columns; where they are is found whole."""
    if call.overload != "dim":
        raise NotLocalError("it reduces every dimension")
    return reduced(call, call.feature(), "amax", _dims(call), keep=bool(call.args["keepdim"]))


@handles("amin", "min", reads="self dim keepdim")
def smallest(call: Call) -> Value:
    """Smallest values: the largest of the negated ones, negated."""
    if call.op == "min" and call.overload != "dim":
        raise NotLocalError("it reduces every dimension")
    negated = _computed(call, [call.feature()], "neg", "default", {"in": 0})
    most = reduced(call, negated, "amax", _dims(call), keep=bool(call.args["keepdim"]))
    return _computed(call, [most], "neg", "default", {"in": 0})


@handles("glu", reads="self dim")
def gated(call: Call) -> Value:
    """Half of the channels, times the sigmoid of the other half."""
    value = channels_of(call, [call.args["dim"]])
    layout, half = layout_of(value), layout_of(value).factors[0] // 2
    out = layout.with_channels(half)
    halves = [
        replace(call, name=f"{call.name}.{i}").emit(
            "channel_slice",
            [value.tensor],
            out,
            attrs={"start": i * half, "stop": (i + 1) * half, "step": 1},
        )
        for i in range(2)
    ]
    gate = _computed(call, [halves[1]], "sigmoid", "default", {"in": 0})
    attrs = {"overload": "Tensor", "args": [{"in": 0}, {"in": 1}], "kwargs": {}, "views": {}}
    return call.emit("mul", [halves[0].tensor, gate.tensor], out, attrs=attrs)


@handles("linalg_vector_norm", reads="self ord dim keepdim")
def vector_norm(call: Call) -> Value:
    """Euclidean norm over the channels, or over rows and columns: the root of a sum of squares."""
    if float(call.args["ord"]) != 2.0:
        raise NotLocalError(f"ord = {call.args['ord']}: only the Euclidean norm is known of maps")
    value = call.feature()
    squares = _computed(call, [value], "mul", "Tensor", {"in": 0}, {"in": 0})
    total = reduced(call, squares, "sum", _dims(call), keep=bool(call.args["keepdim"]))
    return _computed(call, [total], "sqrt", "default", {"in": 0})


def _computed(call: Call, values: Sequence[Value], op: str, overload: str, *args: Any) -> Value:
    """An elementwise op of maps in the middle of a call; the first one gives the result's shape."""
    attrs = {"overload": overload, "args": list(args), "kwargs": {}, "views": {}}
    first, layout = values[0], layout_of(values[0])
    made = replace(call, name=f"{call.name}.{op}", shape=first.shape)
    tensors = [lying(made, value, layout).tensor for value in values]
    return made.emit(op, tensors, layout, attrs=attrs)


def _dims(call: Call) -> list[int]:
    """The dimensions that a call reduces; raises NotLocalError where it names none: all."""
    given = call.args.get("dim")
    dims = [given] if isinstance(given, int) else list(given or ())
    if not dims:
        raise NotLocalError("it reduces every dimension")
    return dims


def _pixels_of(value: Value) -> set[int]:
    """The dimensions of rows and columns that hold more than one element."""
    return {i for i in layout_of(value).spatial if value.shape[i] != 1}


def reduced(call: Call, value: Value, how: str, dims: Sequence[int], *, keep: bool) -> Value:
    """``mean``, ``sum`` or ``amax`` of a map over ``dims``: channels first, then pixels."""
    gone = {dim_of(value, d) for d in dims}
    layout = layout_of(value)
    channels, pixels = gone & set(layout.channels), gone & set(layout.spatial)
    if any(value.shape[d] != 1 for d in gone - channels - pixels):
        raise NotLocalError("it reduces samples")
    if channels:
        value = _reduced_channels(call, value, how, sorted(channels))
    left = _pixels_of(value)
    if left & pixels == left:
        value = _reduced_pixels(call, value, how, sorted(left))
    else:
        value = _reduced_lines(call, value, how, sorted(left & pixels))
    if keep:
        return value
    shape = tuple(size for i, size in enumerate(value.shape) if i not in gone)
    return replace(value, shape=shape, layout=layout_of(value).reduced(sorted(gone), keep=False))


def _without(value: Value, dims: Sequence[int]) -> tuple[tuple[int, ...], Layout]:
    """Shape and layout of a map when ``dims`` are reduced to size 1."""
    shape = tuple(1 if i in dims else size for i, size in enumerate(value.shape))
    return shape, layout_of(value).reduced(dims, keep=True)


def _reduced_channels(call: Call, value: Value, how: str, dims: Sequence[int]) -> Value:
    shape, layout = _without(value, dims)
    made = replace(call, name=f"{call.name}.{how}" if call.op != how else call.name, shape=shape)
    return made.emit(f"channel_{how}", [value.tensor], layout, attrs=over(value, dims))


def _reduced_pixels(call: Call, value: Value, how: str, dims: Sequence[int]) -> Value:
    """A reduction of whole maps; a map of one pixel is its own."""
    shape, layout = _without(value, dims)
    made = replace(call, shape=shape)
    op = "global_max_pool" if how == "amax" else "global_avg_pool"
    found = reduction(made, value, op, layout)
    pixels = math.prod(value.shape[d] for d in dims)
    scaled = how == "sum" and pixels != 1
    return _computed(call, [found], "mul", "Scalar", {"in": 0}, pixels) if scaled else found


def _reduced_lines(call: Call, value: Value, how: str, dims: Sequence[int]) -> Value:
    """Rows or columns reduced to one: pooling with a window as long as the axis."""
    if not dims:
        return value
    shape, layout = _without(value, dims)
    made = replace(call, shape=shape)
    _, _, *old = layout_of(value).canonical(value.shape)
    _, _, *new = layout.canonical(shape)
    y, x = (identity(a) if a == b else Adaptive(a, b) for a, b in zip(old, new, strict=True))
    op = "resample_max" if how == "amax" else "resample"
    flop = float(math.prod(value.shape))
    found = made.emit(op, [value.tensor], layout, maps=[(y, x)], flop=flop)
    count = math.prod(value.shape[d] for d in dims)
    return _computed(call, [found], "mul", "Scalar", {"in": 0}, count) if how == "sum" else found
