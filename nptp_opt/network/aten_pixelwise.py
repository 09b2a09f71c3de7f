"""ATen ops that read the same pixel of all their inputs: activations, sums, norms over channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from nptp_opt.geometry.axis_maps import Adaptive
from nptp_opt.network.aten_windows import reduction
from nptp_opt.network.calls import ALL, IGNORED, Call, NotLocalError, dim_of, handles, layout_of
from nptp_opt.network.casts import as_operand, result_type
from nptp_opt.network.graph import Const, Value, identity
from nptp_opt.network.layout import FEATURES, Axis, Layout, standard
from nptp_opt.network.ops import ELEMENTWISE


@handles(*ELEMENTWISE, reads=ALL)
def elementwise(call: Call) -> Value:
    """Any elementwise op of its operands, broadcast as torch does."""
    lead = _leading(call)
    layout = _aligned(layout_of(lead), lead.shape, call.shape)
    tensors: list[str] = []
    consts: dict[str, Const] = {}
    views: dict[str, dict[str, list[int]]] = {}

    def operand(given: Any) -> Any:
        if isinstance(given, Value):
            tensors.append(_lying(call, given, layout).tensor)
            return as_operand(given, len(tensors) - 1)
        if isinstance(given, Const):
            role = f"c{len(consts)}"
            consts[role], views[role] = given, const_view(given.shape, layout, call.shape)
            return {"param": role}
        return given

    args, kwargs = encoded(call, operand)
    attrs = {"overload": call.overload, "args": args, "kwargs": kwargs, "views": views}
    made = call.emit(call.op, tensors, layout, attrs=attrs, params=consts)
    return replace(made, dtype=result_type(call, ()))


def encoded(call: Call, operand: Any) -> tuple[list[Any], dict[str, Any]]:
    """A call's arguments with every tensor replaced by what ``operand`` makes of it.

    A type to compute in is left out: results are rounded to it afterwards.
    """
    given = {k: None if isinstance(v, torch.dtype) else v for k, v in call.args.items()}
    args = [operand(v) for k, v in given.items() if k not in call.keyword_only]
    kwargs = {
        k: operand(v) for k, v in call.args.items() if k in call.keyword_only and k not in IGNORED
    }
    return args, kwargs


def _leading(call: Call) -> Value:
    """The operand that gives the result its layout: a map if any is one, with most elements."""
    roles = [role for role, value in call.args.items() if isinstance(value, Value)]
    if not roles:
        raise NotLocalError("it reads no tensor of the network on its own")
    values = [call.args[role] for role in roles]
    maps = [value for value in values if value.layout is not None]
    if any(value.layout is None and len(value.shape) != 4 for value in values):
        return _leading_map(call, values, maps)
    features = maps if _lies_otherwise(call, maps) else [call.feature(role) for role in roles]
    return max(features, key=_extent)


def _leading_map(call: Call, values: Sequence[Value], maps: Sequence[Value]) -> Value:
    """The map that gathered operands are laid out like: each must be as large as the result."""
    whole = [value for value in values if value.layout is None and value.shape == call.shape]
    alike = [value for value in maps if value.shape == call.shape]
    if not alike or len(whole) + len(maps) != len(values):
        raise NotLocalError("it reads a gathered tensor, not only feature maps")
    return alike[0]


def _lies_otherwise(call: Call, maps: Sequence[Value]) -> bool:
    """True where a map as large as the result has other dimensions than (N, C, H, W)."""
    return any(v.shape == call.shape and not layout_of(v).is_standard for v in maps)


def _extent(value: Value) -> tuple[int, int]:
    return len(value.shape), math.prod(value.shape)


def _aligned(layout: Layout, shape: Sequence[int], result: Sequence[int]) -> Layout:
    """The layout of an operand carried over to the shape that broadcasting gives."""
    if len(shape) != len(result):
        raise NotLocalError("its result has more dimensions than its maps")
    factors = list(layout.factors)
    for axis, size, wanted in zip(layout.axes, shape, result, strict=True):
        if size != wanted and axis == "1":
            raise NotLocalError("it is broadcast over a dimension that is none of the map's")
        if isinstance(axis, int):
            factors[axis] = wanted
    return replace(layout, factors=tuple(factors))


def _lying(call: Call, value: Value, layout: Layout) -> Value:
    """An operand, checked to lie as the result does; a gathered one is brought to lie so."""
    if value.layout is None and value.shape == call.shape and not layout.is_standard:
        return laid_out(call, value, layout)
    lifted = (1,) * (len(call.shape) - len(value.shape)) + value.shape
    factors = _factors_under(value, layout, call.shape)
    if math.prod(factors) == 1 or factors == layout.factors:
        return value
    return _repeated(call, replace(value, shape=lifted), layout, factors)


def _repeated(call: Call, value: Value, layout: Layout, factors: Sequence[int]) -> Value:
    """Channels repeated along the factors that an operand has one of and the result several."""
    grown = dict(zip(layout.axes, value.shape, strict=True)) | dict(enumerate(layout.factors))
    shape = tuple(grown[axis] for axis in layout.axes)
    flat = grown.get("hw") == 1
    axes = tuple("h" if flat and axis == "hw" else axis for axis in layout.axes)
    out = replace(layout, axes=axes, pixels=None if flat else layout.pixels)
    attrs = {"factors": [list(factors), list(layout.factors)]}
    made = replace(call, name=f"{call.name}.broadcast", shape=shape)
    return replace(made.emit("broadcast", [value.tensor], out, attrs=attrs), dtype=value.dtype)


def laid_out(call: Call, value: Value, layout: Layout) -> Value:
    """A gathered tensor as the map of ``layout`` that it is: permuted and reshaped, on one device.

    Its shape must be what the layout describes.
    """
    order = list(layout.order())
    ordered = tuple(value.shape[i] for i in order)
    tensor, steps = value.tensor, ((ordered, "permute", order), (None, "reshape", None))
    canonical = layout.canonical(value.shape)
    for shape, op, numbers in steps:
        attrs = {
            "overload": "default",
            "args": [{"in": 0}, numbers or list(canonical)],
            "kwargs": {},
        }
        name = f"{value.tensor}.{op}"
        if order != sorted(order) or op != "permute":
            tensor = call.graph.add(name, op, [tensor], shape or canonical, attrs=attrs)
    return replace(value, tensor=tensor, layout=layout)


def _factors_under(value: Value, layout: Layout, result: Sequence[int]) -> tuple[int, ...]:
    """An operand's channels by the factors of the result, of which each may be of size 1.

    Raises NotLocalError where it lies otherwise than the result does, if it is not broadcast there.
    """
    own = value.layout or standard(value.shape[1])
    names = layout.axes[len(result) - len(own.axes) :]
    found: dict[Axis, int] = {}
    channels: list[tuple[int, int]] = []
    for axis, name, size in zip(own.axes, names, value.shape, strict=True):
        if size == 1:
            continue
        if isinstance(axis, int) and isinstance(name, int):
            channels.append((name, axis))
        elif axis != name or (axis == "hw" and own.pixels != layout.pixels):
            raise NotLocalError("its operands' dimensions lie differently")
        found[name] = size
    order = [axis for _, axis in sorted(channels)]
    if order != sorted(order):
        raise NotLocalError("its operands' channels are split differently")
    return tuple(found.get(i, 1) for i in range(len(layout.factors)))


def const_view(shape: Sequence[int], layout: Layout, result: Sequence[int]) -> dict[str, list[int]]:
    """How a weight becomes (N, C, H, W): a view, an expansion, a permutation and a reshape."""
    view = [1] * (len(result) - len(shape)) + list(shape)
    channels = [view[i] for i in layout.channels]
    expand = list(view)
    if math.prod(channels) != 1:
        for i in layout.channels:
            expand[i] = result[i]
    by_axis = dict(zip(layout.axes, expand, strict=True))
    flat = by_axis.get("hw", 1) != 1 and layout.pixels
    rows, columns = flat or (by_axis.get("h", 1), by_axis.get("w", 1))
    channels_in_all = math.prod(expand[i] for i in layout.channels)
    final = [by_axis.get("n", 1), channels_in_all, rows, columns]
    return {"view": view, "expand": expand, "order": list(layout.order()), "shape": final}


def _channels_of(call: Call, dims: Sequence[int]) -> Value:
    """The argument, whose dimensions ``dims`` must be all of its channels."""
    value = call.feature()
    layout = layout_of(value)
    if sorted(dim_of(value, d) for d in dims) != sorted(layout.channels) or not layout.channels:
        raise NotLocalError("it works along other dimensions than all channels of a pixel")
    return value


def _over(value: Value, dims: Sequence[int]) -> dict[str, list[int]]:
    """How a node is told that it works along some channel factors; nothing where they are all.

    Raises NotLocalError for dimensions that are no channels.
    """
    layout = layout_of(value)
    over = sorted(axis for d in dims if isinstance(axis := layout.axes[dim_of(value, d)], int))
    if not over or len(over) != len(dims):
        raise NotLocalError("it works along other dimensions than the channels of a pixel")
    if len(over) == len(layout.factors):
        return {}
    return {"factors": list(layout.factors), "over": over}


@handles("batch_norm", reads="input weight bias running_mean running_var training eps")
def batch_norm(call: Call) -> Value:
    """Batch norm with its running statistics."""
    if call.args["training"] or call.args["running_mean"] is None:
        raise call.unsupported("it takes its statistics from the batch")
    return _with_running_statistics(call)


@handles(
    "_native_batch_norm_legit_no_training",
    reads="input weight bias running_mean running_var eps",
)
def batch_norm_of_inference(call: Call) -> list[Value]:
    """Batch norm after decomposition; what else it returns has no use at inference."""
    return [_with_running_statistics(call)]


def _leading_channels(value: Value) -> dict[str, Any]:
    """How a node is told that its weights are for the first factor of the channels (of volumes).

    Raises NotLocalError where the second dimension is not that factor.
    """
    attrs = _over(value, [1])
    if attrs and attrs["over"] != [0]:
        raise NotLocalError("its weights are not for the first of the channels' groups")
    return {"channels": attrs["factors"][0]} if attrs else {}


def _with_running_statistics(call: Call) -> Value:
    value, attrs = call.feature(), dict[str, Any](eps=float(call.args["eps"]))
    if value.layout == FEATURES:
        attrs["by_row"] = True
    else:
        value = call.feature()
        attrs |= _leading_channels(value)
    roles = ("weight", "bias", "running_mean", "running_var")
    params = {role: call.weight(role) for role in roles}
    return call.emit("batch_norm", [value.tensor], layout_of(value), attrs=attrs, params=params)


@handles("prelu", "_prelu_kernel", reads="self weight")
def prelu(call: Call) -> Value:
    """Leaky rectifier with a weight for each channel, or one for all."""
    value = call.feature()
    params, attrs = {"weight": call.weight("weight")}, _leading_channels(value)
    return call.emit("prelu", [value.tensor], layout_of(value), attrs=attrs, params=params)


@handles("layer_norm", "rms_norm", reads="input normalized_shape weight bias eps")
def layer_norm(call: Call) -> Value:
    """Layer norm over the channels; over anything else it needs the whole tensor."""
    rank = len(call.args["normalized_shape"])
    value = call.feature()
    if rank != 1:
        raise NotLocalError("it normalises over more than one dimension")
    params = {role: call.weight(role) for role in ("weight", "bias")}
    attrs = {"eps": call.args["eps"], **_over(value, [-1])}
    if call.op == "rms_norm":
        attrs["centred"] = False
    return call.emit("channel_norm", [value.tensor], layout_of(value), attrs=attrs, params=params)


@handles(
    "group_norm",
    "instance_norm",
    reads="input num_groups weight bias running_mean running_var use_input_stats eps",
)
def group_norm(call: Call) -> Value:
    """Statistics of whole maps, which every device needs, and a pixelwise op that applies them."""
    if call.args.get("running_mean") is not None and not call.args["use_input_stats"]:
        return _with_running_statistics(call)
    value = call.feature()
    layout = layout_of(value)
    if layout.axes[:2] != ("n", 0) or list(layout.channels) != sorted(layout.channels):
        raise NotLocalError("its input's dimensions are not sample, channels, then pixels")
    n = layout.canonical(value.shape)[0]
    groups = int(call.args.get("num_groups", layout.factors[0]))
    attrs = {
        "groups": groups,
        "eps": float(call.args["eps"]),
        "partial_elements": 3 * n * groups,
    }
    stats = call.graph.add(
        f"{call.name}.stats",
        "group_stats",
        [value.tensor],
        (n, 2 * groups, 1, 1),
        attrs=attrs,
        flop=3.0 * math.prod(value.shape),
    )
    params = {role: call.weight(role) for role in ("weight", "bias")}
    return call.emit(
        "group_normalise",
        [value.tensor, stats],
        layout,
        attrs={"groups": groups, **_leading_channels(value)},
        params=params,
    )


@handles("softmax", "log_softmax", reads="self dim")
def softmax(call: Call) -> Value:
    """Softmax over the channels, or over all pixels."""
    value = call.feature()
    dim = dim_of(value, call.args["dim"])
    if call.op == "softmax" and _pixels_of(value) == {dim}:
        return _softmax_of_pixels(call, value, dim)
    layout, attrs = layout_of(value), _over(value, [dim])
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
    value = _channels_of(call, [call.args["dim"]])
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
    tensors = [_lying(made, value, layout).tensor for value in values]
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
    return made.emit(f"channel_{how}", [value.tensor], layout, attrs=_over(value, dims))


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
