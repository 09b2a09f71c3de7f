"""ATen ops that read the same pixel of all their inputs: activations, sums, norms over channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from nptp_opt.network.aten_windows import reduction
from nptp_opt.network.calls import ALL, IGNORED, Call, NotLocalError, dim_of, handles, layout_of
from nptp_opt.network.casts import as_operand, result_type
from nptp_opt.network.graph import Const, Value
from nptp_opt.network.layout import FEATURES, Axis, Layout
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
            _check_operand(given, layout, call.shape)
            tensors.append(given.tensor)
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
    """The operand that gives the result its layout: the one with most elements."""
    values = [value for value in call.args.values() if isinstance(value, Value)]
    if any(value.layout is None and len(value.shape) != 4 for value in values):
        raise NotLocalError("it reads a gathered tensor, not only feature maps")
    roles = [role for role, value in call.args.items() if isinstance(value, Value)]
    if not roles:
        raise NotLocalError("it reads no tensor of the network on its own")
    features = [call.feature(role) for role in roles]
    return max(features, key=lambda value: (len(value.shape), math.prod(value.shape)))


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
    return Layout(layout.axes, tuple(factors))


def _check_operand(value: Value, layout: Layout, result: Sequence[int]) -> None:
    """An operand must lie as the result does, wherever it is not broadcast."""
    axes = value.layout.axes if value.layout else ("n", 0, "h", "w")
    factors = value.layout.factors if value.layout else (value.shape[1],)
    names = layout.axes[len(result) - len(axes) :]
    for axis, name, size in zip(axes, names, value.shape, strict=True):
        if size != 1 and axis != name:
            raise NotLocalError("its operands' dimensions lie differently")
    if math.prod(factors) != 1 and factors != layout.factors:
        raise NotLocalError("its operands' channels are split differently")


def const_view(shape: Sequence[int], layout: Layout, result: Sequence[int]) -> dict[str, list[int]]:
    """How a weight becomes (N, C, H, W): a view, an expansion, a permutation and a reshape."""
    view = [1] * (len(result) - len(shape)) + list(shape)
    channels = [view[i] for i in layout.channels]
    expand = list(view)
    if math.prod(channels) != 1:
        for i in layout.channels:
            expand[i] = result[i]
    by_axis = dict(zip(layout.axes, expand, strict=True))
    final = [
        by_axis.get("n", 1),
        math.prod(expand[i] for i in layout.channels),
        by_axis.get("h", 1),
        by_axis.get("w", 1),
    ]
    return {"view": view, "expand": expand, "order": list(layout.order()), "shape": final}


def _channels_of(call: Call, dims: Sequence[int]) -> Value:
    """The argument, whose dimensions ``dims`` must be all of its channels."""
    value = call.feature()
    layout = layout_of(value)
    if sorted(dim_of(value, d) for d in dims) != sorted(layout.channels) or not layout.channels:
        raise NotLocalError("it works along other dimensions than all channels of a pixel")
    return value


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


def _with_running_statistics(call: Call) -> Value:
    value, attrs = call.feature(), {"eps": float(call.args["eps"])}
    if value.layout == FEATURES:
        attrs["by_row"] = True
    else:
        value = _channels_of(call, [1])
    roles = ("weight", "bias", "running_mean", "running_var")
    params = {role: call.weight(role) for role in roles}
    return call.emit("batch_norm", [value.tensor], layout_of(value), attrs=attrs, params=params)


@handles("prelu", "_prelu_kernel", reads="self weight")
def prelu(call: Call) -> Value:
    """Leaky rectifier with a weight for each channel, or one for all."""
    value = _channels_of(call, [1])
    params = {"weight": call.weight("weight")}
    return call.emit("prelu", [value.tensor], layout_of(value), params=params)


@handles("layer_norm", reads="input normalized_shape weight bias eps")
def layer_norm(call: Call) -> Value:
    """Layer norm over the channels; over anything else it needs the whole tensor."""
    rank = len(call.args["normalized_shape"])
    value = _channels_of(call, range(-rank, 0))
    if rank != 1:
        raise NotLocalError("it normalises over more than one dimension")
    params = {role: call.weight(role) for role in ("weight", "bias")}
    attrs = {"eps": float(call.args["eps"])}
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
    value = call.maps_channels_first()
    layout = layout_of(value)
    n, c, _, _ = layout.canonical(value.shape)
    groups = int(call.args.get("num_groups", c))
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
        attrs={"groups": groups},
        params=params,
    )


@handles("softmax", "log_softmax", reads="self dim")
def softmax(call: Call) -> Value:
    """Softmax over the channels."""
    value = _channels_of(call, [call.args["dim"]])
    return call.emit(f"channel_{call.op}", [value.tensor], layout_of(value))


@handles("mean", "sum", "amax", reads="self dim keepdim")
def reduce(call: Call) -> Value:
    """Mean, sum or maximum over the channels, or over rows and columns."""
    return _reduced(call, call.feature(), call.op)


@handles("max", reads="self dim keepdim")
def largest(call: Call) -> Value:
    """Largest values over the channels, or over rows and columns; where they are is found whole."""
    if call.overload != "dim":
        raise NotLocalError("it reduces every dimension")
    return _reduced(call, call.feature(), "amax")


@handles("amin", "min", reads="self dim keepdim")
def smallest(call: Call) -> Value:
    """Smallest values: the largest of the negated ones, negated."""
    if call.op == "min" and call.overload != "dim":
        raise NotLocalError("it reduces every dimension")
    value = call.feature()
    negated = _computed(call, value, "neg", "default", {"in": 0})
    return _computed(call, _reduced(call, negated, "amax"), "neg", "default", {"in": 0})


@handles("glu", reads="self dim")
def gated(call: Call) -> Value:
    """Half of the channels, times the sigmoid of the other half."""
    value = _channels_of(call, [call.args["dim"]])
    layout, half = layout_of(value), layout_of(value).factors[0] // 2
    out = Layout(layout.axes, (half,))
    halves = [
        replace(call, name=f"{call.name}.{i}").emit(
            "channel_slice",
            [value.tensor],
            out,
            attrs={"start": i * half, "stop": (i + 1) * half, "step": 1},
        )
        for i in range(2)
    ]
    gate = _computed(call, halves[1], "sigmoid", "default", {"in": 0})
    attrs = {"overload": "Tensor", "args": [{"in": 0}, {"in": 1}], "kwargs": {}, "views": {}}
    return call.emit("mul", [halves[0].tensor, gate.tensor], out, attrs=attrs)


@handles("linalg_vector_norm", reads="self ord dim keepdim")
def vector_norm(call: Call) -> Value:
    """Euclidean norm over the channels, or over rows and columns: the root of a sum of squares."""
    if float(call.args["ord"]) != 2.0:
        raise NotLocalError(f"ord = {call.args['ord']}: only the Euclidean norm is known of maps")
    value = call.feature()
    squares = _computed(call, value, "mul", "Tensor", {"in": 0}, {"in": 0})
    return _computed(call, _reduced(call, squares, "sum"), "sqrt", "default", {"in": 0})


def _computed(call: Call, value: Value, op: str, overload: str, *args: Any) -> Value:
    """An elementwise op of one map, in the middle of a call."""
    attrs = {"overload": overload, "args": list(args), "kwargs": {}, "views": {}}
    made = replace(call, name=f"{call.name}.{op}", shape=value.shape)
    return made.emit(op, [value.tensor], layout_of(value), attrs=attrs)


def _reduced(call: Call, value: Value, how: str) -> Value:
    """``mean``, ``sum`` or ``amax`` of a map over the dimensions that the call names."""
    given = call.args.get("dim")
    dims = [given] if isinstance(given, int) else given
    if not dims:
        raise NotLocalError("it reduces every dimension")
    gone = {dim_of(value, d) for d in dims}
    layout = layout_of(value)
    names = {layout.axes[d] for d in gone}
    kept = tuple(
        axis for i, axis in enumerate(layout.axes) if call.args["keepdim"] or i not in gone
    )
    if gone == set(layout.channels):
        axes: tuple[Axis, ...] = tuple(0 if isinstance(axis, int) else axis for axis in kept)
        if axes.count(0) > 1:
            raise NotLocalError("it keeps the dimensions of split channels")
        return call.emit(f"channel_{how}", [value.tensor], Layout(axes, (1,)))
    if names != {axis for axis in layout.axes if axis in ("h", "w")}:
        raise NotLocalError(
            "it reduces other dimensions than all channels, or all rows and columns"
        )
    found = reduction(call, value, "global_max_pool" if how == "amax" else "global_avg_pool", kept)
    pixels = math.prod(value.shape[d] for d in gone)
    return found if how != "sum" else _computed(call, found, "mul", "Scalar", {"in": 0}, pixels)
