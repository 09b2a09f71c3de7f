"""ATen ops that only rename dimensions, or repeat what is there: views, permutations, expansion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nptp_opt.network.calls import (
    Call,
    NotLocalError,
    dim_of,
    handles,
    layout_of,
)
from nptp_opt.network.graph import Value
from nptp_opt.network.layout import Layout, reshaped

ALIASES = [
    "alias",
    "alpha_dropout",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "clone",
    "contiguous",
    "detach",
    "dropout",
    "dropout1d",
    "dropout2d",
    "feature_dropout",
    "identity",
    "lift_fresh",
    "lift_fresh_copy",
    "native_dropout",
    "positive",
    "feature_alpha_dropout",
]


@handles(*ALIASES, reads="self input p train")
def same(call: Call) -> Value:
    """Ops that change nothing at inference; dropout that is on is refused before."""
    value = call.given()
    if not isinstance(value, Value) or value.shape != call.shape:
        raise NotLocalError("its input is no tensor of the network, or gets other dimensions")
    return value


@handles(
    "view",
    "reshape",
    "_unsafe_view",
    "flatten",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "view_as",
    "reshape_as",
    reads="self input size shape dim sizes start_dim end_dim other",
)
def reshape(call: Call) -> Value:
    """A reshape that keeps pixels apart is a change of layout; channels may have to move first."""
    value = call.feature()
    layout = layout_of(value)
    found = reshaped(layout, value.shape, call.shape)
    if found is None:
        value = in_channel_order(call, value)
        found = reshaped(layout_of(value), value.shape, call.shape)
    if found is None:
        raise NotLocalError("the reshape mixes pixels, samples and channels")
    return replace(value, shape=call.shape, layout=found)


def in_channel_order(call: Call, value: Value) -> Value:
    """``value`` with its channel factors moved to the order in which its dimensions have them."""
    layout = layout_of(value)
    order = [axis for axis in layout.axes if isinstance(axis, int)]
    if order == sorted(order) or len(order) != len(layout.factors):
        return value
    factors = tuple(layout.factors[axis] for axis in order)
    axes = tuple(order.index(axis) if isinstance(axis, int) else axis for axis in layout.axes)
    moved = replace(call, shape=value.shape)
    attrs = {"factors": list(layout.factors), "order": order}
    return moved.emit("channel_permute", [value.tensor], Layout(axes, factors), attrs=attrs)


@handles(
    "permute",
    "transpose",
    "t",
    "mT",
    "mH",
    "adjoint",
    "movedim",
    "swapaxes",
    reads="self dims dim0 dim1 axis0 axis1 source destination",
)
def permute(call: Call) -> Value:
    """A permutation of dimensions moves no data between pixels."""
    value = call.feature()
    rank = len(value.shape)
    if call.op == "permute":
        dims = [dim_of(value, d) for d in call.args["dims"]]
    elif call.op in ("mT", "mH", "adjoint"):
        dims = [*range(rank - 2), rank - 1, rank - 2]
    elif call.op in ("transpose", "t", "swapaxes") and rank >= 2:
        roles = ("axis0", "axis1") if call.op == "swapaxes" else ("dim0", "dim1")
        a, b = (dim_of(value, call.args.get(role, i)) for i, role in enumerate(roles))
        dims = list(range(rank))
        dims[a], dims[b] = b, a
    elif call.op == "movedim":
        dims = _moved(value, call.args["source"], call.args["destination"])
    else:
        raise NotLocalError(f"{call.op} of {rank} dimensions is not read as a permutation")
    return replace(value, shape=call.shape, layout=layout_of(value).permuted(dims))


def _moved(value: Value, source: Any, destination: Any) -> list[int]:
    """The permutation that brings dimensions ``source`` to the places ``destination``."""
    sources, places = ([v] if isinstance(v, int) else v for v in (source, destination))
    pairs = zip(sources, places, strict=True)
    placed = {dim_of(value, to): dim_of(value, at) for at, to in pairs}
    left = iter(d for d in range(len(value.shape)) if d not in placed.values())
    return [placed[i] if i in placed else next(left) for i in range(len(value.shape))]


@handles("expand", "expand_as", reads="self size other")
def expand(call: Call) -> Value:
    """Repetition along axes of size 1."""
    value = call.feature()
    if call.shape == value.shape:
        return value
    layout = layout_of(value)
    if len(call.shape) != len(value.shape) or len(layout.factors) != 1:
        raise NotLocalError("it adds dimensions, or the channels are split into groups")
    grown = {a for a, s, t in zip(layout.axes, value.shape, call.shape, strict=True) if s != t}
    if not grown <= {0, "h", "w"}:
        raise NotLocalError("it repeats samples")
    factors = (call.shape[layout.axes.index(0)],) if 0 in layout.axes else layout.factors
    return call.emit("broadcast", [value.tensor], Layout(layout.axes, factors))
