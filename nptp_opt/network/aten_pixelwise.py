"""ATen ops that read the same pixel of all their inputs: activations, sums, norms over channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nptp_opt.network.aten_windows import reduction
from nptp_opt.network.calls import Call, NotLocalError, dim_of, handles, layout_of
from nptp_opt.network.graph import Const, Value
from nptp_opt.network.layout import FEATURES, Axis, Layout
from nptp_opt.network.ops import ELEMENTWISE


@handles(*ELEMENTWISE)
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
            return {"in": len(tensors) - 1}
        if isinstance(given, Const):
            role = f"c{len(consts)}"
            consts[role], views[role] = given, const_view(given.shape, layout, call.shape)
            return {"param": role}
        return given

    args, kwargs = encoded(call, operand)
    attrs = {"overload": call.overload, "args": args, "kwargs": kwargs, "views": views}
    return call.emit(call.op, tensors, layout, attrs=attrs, params=consts)


def encoded(call: Call, operand: Any) -> tuple[list[Any], dict[str, Any]]:
    """A call's arguments with every tensor replaced by what ``operand`` makes of it."""
    dropped = {"memory_format", "device", "layout", "pin_memory", "dtype", "generator"}
    args = [operand(v) for k, v in call.args.items() if k not in call.keyword_only]
    kwargs = {
        k: operand(v) for k, v in call.args.items() if k in call.keyword_only and k not in dropped
    }
    return args, kwargs


def _leading(call: Call) -> Value:
    """The operand that gives the result its layout: the one with most elements."""
    values = [value for value in call.args.values() if isinstance(value, Value)]
    if any(value.layout is None and len(value.shape) != 4 for value in values):
        raise NotLocalError
    roles = [role for role, value in call.args.items() if isinstance(value, Value)]
    if not roles:
        raise NotLocalError
    features = [call.feature(role) for role in roles]
    return max(features, key=lambda value: (len(value.shape), math.prod(value.shape)))


def _aligned(layout: Layout, shape: Sequence[int], result: Sequence[int]) -> Layout:
    """The layout of an operand carried over to the shape that broadcasting gives."""
    if len(shape) != len(result):
        raise NotLocalError
    factors = list(layout.factors)
    for axis, size, wanted in zip(layout.axes, shape, result, strict=True):
        if size != wanted and axis == "1":
            raise NotLocalError
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
            raise NotLocalError
    if math.prod(factors) != 1 and factors != layout.factors:
        raise NotLocalError


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
        raise NotLocalError
    return value


@handles("batch_norm")
def batch_norm(call: Call) -> Value:
    """Batch norm with its running statistics."""
    if call.args["training"] or call.args["running_mean"] is None:
        raise call.unsupported("it takes its statistics from the batch")
    return _with_running_statistics(call)


def _with_running_statistics(call: Call) -> Value:
    value, attrs = call.feature(), {"eps": float(call.args["eps"])}
    if value.layout == FEATURES:
        attrs["by_row"] = True
    else:
        value = _channels_of(call, [1])
    roles = ("weight", "bias", "running_mean", "running_var")
    params = {role: call.weight(role) for role in roles}
    return call.emit("batch_norm", [value.tensor], layout_of(value), attrs=attrs, params=params)


@handles("prelu")
def prelu(call: Call) -> Value:
    """Leaky rectifier with a weight for each channel, or one for all."""
    value = _channels_of(call, [1])
    params = {"weight": call.weight("weight")}
    return call.emit("prelu", [value.tensor], layout_of(value), params=params)


@handles("layer_norm")
def layer_norm(call: Call) -> Value:
    """Layer norm over the channels; over anything else it needs the whole tensor."""
    rank = len(call.args["normalized_shape"])
    value = _channels_of(call, range(-rank, 0))
    if rank != 1:
        raise NotLocalError
    params = {role: call.weight(role) for role in ("weight", "bias")}
    attrs = {"eps": float(call.args["eps"])}
    return call.emit("channel_norm", [value.tensor], layout_of(value), attrs=attrs, params=params)


@handles("group_norm", "instance_norm")
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


@handles("softmax", "log_softmax")
def softmax(call: Call) -> Value:
    """Softmax over the channels."""
    value = _channels_of(call, [call.args["dim"]])
    return call.emit(f"channel_{call.op}", [value.tensor], layout_of(value))


@handles("mean", "sum", "amax")
def reduce(call: Call) -> Value:
    """Mean, sum or maximum over the channels, or mean and maximum over rows and columns."""
    value = call.feature()
    dims = call.args.get("dim")
    if not dims:
        raise NotLocalError
    gone = {dim_of(value, d) for d in dims}
    layout = layout_of(value)
    names = {layout.axes[d] for d in gone}
    kept = tuple(
        axis for i, axis in enumerate(layout.axes) if call.args["keepdim"] or i not in gone
    )
    if gone == set(layout.channels):
        axes: tuple[Axis, ...] = tuple(0 if isinstance(axis, int) else axis for axis in kept)
        if axes.count(0) > 1:
            raise NotLocalError
        return call.emit(f"channel_{call.op}", [value.tensor], Layout(axes, (1,)))
    if names == {axis for axis in layout.axes if axis in ("h", "w")} and call.op != "sum":
        op = "global_avg_pool" if call.op == "mean" else "global_max_pool"
        return reduction(call, value, op, kept)
    raise NotLocalError
