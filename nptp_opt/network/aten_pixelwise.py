"""ATen ops that read the same pixel of all their inputs: activations, sums, norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from nptp_opt.network.calls import ALL, IGNORED, Call, NotLocalError, dim_of, handles, layout_of
from nptp_opt.network.casts import as_operand, result_type
from nptp_opt.network.graph import Const, Value
from nptp_opt.network.layout import FEATURES, Axis, Layout, standard
from nptp_opt.network.ops import ELEMENTWISE


@handles(*ELEMENTWISE, reads=ALL)
def elementwise(call: Call) -> Value:
    """Any elementwise op of its operands, broadcast as torch does."""
    lead = _leading_operand(call)
    layout = _align_layout(layout_of(lead), lead.shape, call.shape)
    tensors: list[str] = []
    consts: dict[str, Const] = {}
    views: dict[str, dict[str, list[int]]] = {}

    def operand(given: Any) -> Any:
        if isinstance(given, Value):
            tensors.append(lying(call, given, layout).tensor)
            return as_operand(given, len(tensors) - 1)
        if isinstance(given, Const):
            role = f"c{len(consts)}"
            consts[role], views[role] = given, const_view(given.shape, layout, call.shape)
            return {"param": role}
        return given

    args, kwargs = encode_operands(call, operand)
    attrs = {"overload": call.overload, "args": args, "kwargs": kwargs, "views": views}
    made = call.emit(call.op, tensors, layout, attrs=attrs, params=consts)
    return replace(made, dtype=result_type(call, ()))


def encode_operands(call: Call, operand: Any) -> tuple[list[Any], dict[str, Any]]:
    """A call's arguments with every tensor replaced by what ``operand`` makes of it.

    A type to compute in is left out: results are rounded to it afterwards.
    """
    given = {k: None if isinstance(v, torch.dtype) else v for k, v in call.args.items()}
    args = [operand(v) for k, v in given.items() if k not in call.keyword_only]
    kwargs = {
        k: operand(v) for k, v in call.args.items() if k in call.keyword_only and k not in IGNORED
    }
    return args, kwargs


def _leading_operand(call: Call) -> Value:
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


def _align_layout(layout: Layout, shape: Sequence[int], result: Sequence[int]) -> Layout:
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


def lying(call: Call, value: Value, layout: Layout) -> Value:
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


def channels_of(call: Call, dims: Sequence[int]) -> Value:
    """The argument, whose dimensions ``dims`` must be all of its channels."""
    value = call.feature()
    layout = layout_of(value)
    if sorted(dim_of(value, d) for d in dims) != sorted(layout.channels) or not layout.channels:
        raise NotLocalError("it works along other dimensions than all channels of a pixel")
    return value


def over(value: Value, dims: Sequence[int]) -> dict[str, list[int]]:
    """How a node is told that it works along some channel factors; nothing where they are all.

    Raises NotLocalError for dimensions that are no channels.
    """
    layout = layout_of(value)
    along = sorted(axis for d in dims if isinstance(axis := layout.axes[dim_of(value, d)], int))
    if not along or len(along) != len(dims):
        raise NotLocalError("it works along other dimensions than the channels of a pixel")
    if len(along) == len(layout.factors):
        return {}
    return {"factors": list(layout.factors), "over": along}


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
    attrs = over(value, [1])
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
    attrs = {"eps": call.args["eps"], **over(value, [-1])}
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
