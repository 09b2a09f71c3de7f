"""ATen ops that only rename dimensions, or repeat what is there: views, permutations, expansion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nptp_opt.geometry import Window
from nptp_opt.geometry.axis_maps import Bordered, BorderMode, Shuffled
from nptp_opt.network.calls import (
    Call,
    NotLocalError,
    axis_of,
    dim_of,
    handles,
    layout_of,
)
from nptp_opt.network.graph import Value, identity
from nptp_opt.network.layout import Axis, Layout, groups, reshape_layout

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
    value = call.argument()
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
    reads="self size shape dim sizes start_dim end_dim other",
)
def reshape(call: Call) -> Value:
    """A reshape that keeps pixels apart is a change of layout; channels may have to move first.

    One that splits rows and columns, or merges them with channels, moves pixels to channels or
    back.
    """
    given = call.feature()
    for moved in (_unmoved, in_channel_order, merged_with_channels, split_to_channels):
        value = moved(call, given)
        new_layout = (
            None if value is None else reshape_layout(layout_of(value), value.shape, call.shape)
        )
        if value is not None and new_layout is not None:
            return replace(value, shape=call.shape, layout=new_layout)
    raise NotLocalError("the reshape mixes pixels, samples and channels")


def _unmoved(call: Call, value: Value) -> Value | None:
    return value


def in_channel_order(call: Call, value: Value) -> Value | None:
    """``value`` with its channel factors moved to the order in which its dimensions have them."""
    order = [axis for axis in layout_of(value).axes if isinstance(axis, int)]
    return with_factors(call, value, order)


def with_factors(call: Call, value: Value, order: Sequence[int]) -> Value:
    """``value`` with its channel factors moved to an order; as it is where it has others too."""
    layout = layout_of(value)
    if list(order) == sorted(order) or len(order) != len(layout.factors):
        return value
    factors = tuple(layout.factors[axis] for axis in order)
    axes = tuple(order.index(axis) if isinstance(axis, int) else axis for axis in layout.axes)
    moved = replace(call, shape=value.shape)
    attrs = {"factors": list(layout.factors), "order": list(order)}
    out = replace(layout, axes=axes, factors=factors)
    return moved.emit("channel_permute", [value.tensor], out, attrs=attrs)


def merged_with_channels(call: Call, value: Value) -> Value | None:
    """The map after a pixel shuffle, where the reshape merges rows and columns with channels."""
    layout, found = layout_of(value), dict[Axis, int]()
    for sources, _ in groups(value.shape, call.shape):
        names = [layout.axes[i] for i in sources]
        if len(names) == 2 and names[0] in ("h", "w") and isinstance(names[1], int):
            found[names[0]] = names[1]
    if set(found) != {"h", "w"} or layout.factors[found["h"]] != layout.factors[found["w"]]:
        return None
    last = [found["h"], found["w"]]
    others = [axis for axis in layout.axes if isinstance(axis, int) and axis not in last]
    factor = layout.factors[found["h"]]
    value = with_factors(call, value, [*others, *last])
    layout = layout_of(value)
    kept = [i for i, axis in enumerate(layout.axes) if axis not in (len(others), len(others) + 1)]
    grown = [factor if layout.axes[i] in ("h", "w") else 1 for i in kept]
    shape = tuple(value.shape[i] * times for i, times in zip(kept, grown, strict=True))
    out = Layout(tuple(layout.axes[i] for i in kept), layout.factors[:-2])
    if not out.channels:
        out = replace(out, factors=(1,))
    return _shuffled(call, value, "pixel_shuffle", factor, out, shape)


def split_to_channels(call: Call, value: Value) -> Value | None:
    """The map after space-to-depth, where the reshape splits rows and columns alike."""
    layout, found = layout_of(value), dict[Axis, list[int]]()
    for sources, targets in groups(value.shape, call.shape):
        names = [layout.axes[i] for i in sources]
        if len(targets) == 2 and len(names) == 1 and names[0] in ("h", "w"):
            found[names[0]] = [call.shape[t] for t in targets]
    if set(found) != {"h", "w"} or found["h"][1] != found["w"][1]:
        return None
    factor, count = found["h"][1], len(layout.factors)
    pieces: dict[Axis, list[tuple[Axis, int]]] = {
        letter: [(letter, sizes[0]), (count + i, factor)]
        for i, (letter, sizes) in enumerate((each, found[each]) for each in ("h", "w"))
    }
    split = [
        piece
        for axis, size in zip(layout.axes, value.shape, strict=True)
        for piece in pieces.get(axis, [(axis, size)])
    ]
    out = Layout(tuple(axis for axis, _ in split), (*layout.factors, factor, factor))
    shape = tuple(size for _, size in split)
    return _shuffled(call, value, "pixel_unshuffle", factor, out, shape)


def _shuffled(
    call: Call, value: Value, op: str, factor: int, out: Layout, shape: tuple[int, ...]
) -> Value:
    """``value`` with pixels moved to channels or back; ``out`` and ``shape`` are the result's."""
    _, _, *old = layout_of(value).canonical(value.shape)
    _, _, *new = out.canonical(shape)
    y, x = (
        Window(a, b, factor, factor) if op == "pixel_unshuffle" else Shuffled(a, b, factor)
        for a, b in zip(old, new, strict=True)
    )
    made = replace(call, shape=shape)
    return made.emit(op, [value.tensor], out, attrs={"factor": factor}, maps=[(y, x)])


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
        dims = _move_permutation(value, call.args["source"], call.args["destination"])
    else:
        raise NotLocalError(f"{call.op} of {rank} dimensions is not read as a permutation")
    return replace(value, shape=call.shape, layout=layout_of(value).permute(dims))


def _move_permutation(value: Value, source: Any, destination: Any) -> list[int]:
    """The permutation that brings dimensions ``source`` to the places ``destination``."""
    sources, places = ([v] if isinstance(v, int) else v for v in (source, destination))
    pairs = zip(sources, places, strict=True)
    placed = {dim_of(value, to): dim_of(value, at) for at, to in pairs}
    left = iter(d for d in range(len(value.shape)) if d not in placed.values())
    return [placed[i] if i in placed else next(left) for i in range(len(value.shape))]


@handles("flip", reads="self dims")
def flip(call: Call) -> Value:
    """Rows, columns or channels in reverse order."""
    value = call.feature()
    axes = {axis_of(value, dim) for dim in call.args["dims"]}
    return _taken(call, value, {axis: ("reflect", size - 1) for axis, size in _sizes(value, axes)})


@handles("roll", reads="self shifts dims")
def roll(call: Call) -> Value:
    """Rows or columns shifted, those that fall off one end coming in at the other."""
    value = call.feature()
    shifts, dims = (
        [given] if isinstance(given, int) else list(given)
        for given in (call.args["shifts"], call.args["dims"])
    )
    if not dims:
        raise NotLocalError("it rolls every dimension as one")
    by_axis: dict[Axis, int] = {}
    for dim, by in zip(dims, shifts, strict=True):
        axis = axis_of(value, dim)
        by_axis[axis] = by_axis.get(axis, 0) + by
    return _taken(
        call,
        value,
        {axis: ("circular", by_axis[axis] % size) for axis, size in _sizes(value, set(by_axis))},
    )


@handles("repeat", "tile", reads="self repeats dims")
def repeat(call: Call) -> Value:
    """Rows and columns several times over; of size 1 they are broadcast, and so are channels."""
    value = call.feature()
    if len(call.shape) != len(value.shape):
        raise NotLocalError("it adds dimensions")
    grown = [i for i, size in enumerate(value.shape) if call.shape[i] != size]
    if all(value.shape[i] == 1 for i in grown):
        return expand(call)
    sizes = _sizes(value, {axis_of(value, i) for i in grown})
    return _taken(call, value, {axis: ("circular", 0) for axis, _ in sizes})


def _sizes(value: Value, axes: set[Axis]) -> list[tuple[Axis, int]]:
    """The axes with their sizes; raises NotLocalError where one is neither rows nor columns."""
    if not axes <= {"h", "w"}:
        raise NotLocalError("it moves samples or channels")
    layout = layout_of(value)
    return [(axis, value.shape[layout.axes.index(axis)]) for axis in sorted(axes, key=str)]


def _taken(call: Call, value: Value, changed: dict[Axis, tuple[BorderMode, int]]) -> Value:
    """Rows and columns taken from others, as a padding of that mode and width takes them."""
    _, _, *old = layout_of(value).canonical(value.shape)
    _, _, *new = layout_of(value).canonical(call.shape)
    y, x = (
        Bordered(a, b, changed[axis][1], changed[axis][0]) if axis in changed else identity(a)
        for axis, a, b in zip(("h", "w"), old, new, strict=True)
    )
    return call.emit("resample", [value.tensor], layout_of(value), maps=[(y, x)], flop=0.0)


@handles("expand", "expand_as", reads="self size other")
def expand(call: Call) -> Value:
    """Repetition along axes of size 1."""
    value = call.feature()
    if call.shape == value.shape:
        return value
    layout = layout_of(value)
    if len(call.shape) != len(value.shape):
        raise NotLocalError("it adds dimensions")
    grown = {a for a, s, t in zip(layout.axes, value.shape, call.shape, strict=True) if s != t}
    if grown & {"n", "1", "hw"}:
        raise NotLocalError("it repeats samples")
    sizes = dict(zip(layout.axes, call.shape, strict=True))
    factors = tuple(sizes.get(i, size) for i, size in enumerate(layout.factors))
    attrs = {"factors": [list(layout.factors), list(factors)]} if len(factors) > 1 else {}
    return call.emit("broadcast", [value.tensor], replace(layout, factors=factors), attrs=attrs)
