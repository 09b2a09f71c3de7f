"""ATen ops that move data: slices, joins, writes, padding, resizing, pixel and channel shuffles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nptp_opt.geometry import AxisMap, Window
from nptp_opt.geometry.axis_maps import Bordered, Cubic, Linear, Nearest, Shuffled, TapMap
from nptp_opt.network.aten_pixelwise import const_view
from nptp_opt.network.calls import (
    Call,
    NotLocalError,
    axis_of,
    dim_of,
    handles,
    layout_of,
)
from nptp_opt.network.graph import Const, Value, identity
from nptp_opt.network.ir import AxisMaps
from nptp_opt.network.layout import Axis, Layout


def _pieces(call: Call) -> list[Value]:
    dim, at, pieces = int(call.args["dim"]), 0, []
    for i, shape in enumerate(call.shapes):
        size = shape[dim]
        piece = replace(call, name=f"{call.name}.{i}", shape=shape, shapes=())
        pieces.append(_slice(piece, dim, at, at + size, 1))
        at += size
    return pieces


@handles(
    "chunk",
    "split",
    "split_with_sizes",
    "tensor_split",
    reads="self chunks split_size split_sizes sections indices dim",
)
def split(call: Call) -> list[Value]:
    """Consecutive slices."""
    return _pieces(call)


@handles("slice", "narrow", reads="self dim start end length step")
def slice_(call: Call) -> Value:
    """Every ``step``-th index of one dimension."""
    value, dim = call.feature(), int(call.args["dim"])
    size = value.shape[dim]
    start = int(call.args["start"] or 0)
    start = min(max(start + size if start < 0 else start, 0), size)
    step = int(call.args.get("step", 1))
    return _slice(call, dim, start, start + step * call.shape[dim], step)


def _slice(call: Call, dim: int, start: int, stop: int, step: int) -> Value:
    """``stop`` counts whole steps, so it may lie behind the end."""
    value = call.feature()
    layout, axis = layout_of(value), axis_of(value, dim)
    if call.shape == value.shape:
        return value
    if isinstance(axis, int):
        attrs: dict[str, Any] = {"start": start, "stop": stop, "step": step}
        if len(layout.factors) != 1:
            attrs |= {"factors": list(layout.factors), "over": [axis]}
        factors = [call.shape[dim] if i == axis else n for i, n in enumerate(layout.factors)]
        out = layout.with_channels(*factors)
        return call.emit("channel_slice", [value.tensor], out, attrs=attrs)
    if axis not in ("h", "w"):
        raise NotLocalError("it cuts samples")
    cut = Window(value.shape[dim], call.shape[dim], stride=step, pad_lo=-start)
    maps = _along(layout, value.shape, call.shape, {axis: cut})
    return call.emit("slice", [value.tensor], layout, maps=[maps])


def _along(
    layout: Layout, old: Sequence[int], new: Sequence[int], changed: dict[Any, AxisMap]
) -> AxisMaps:
    """Maps of rows and columns: those in ``changed``, and the identity for the others."""
    (_, _, height, width), (_, _, h_out, w_out) = layout.canonical(old), layout.canonical(new)
    y, x = changed.get("h", identity(height)), changed.get("w", identity(width))
    assert (y.n_out, x.n_out) == (h_out, w_out), "a data-moving op has an unexpected output size"
    return y, x


@handles("copy", reads="self src")
def copy_over(call: Call) -> Value:
    """What is written over a whole tensor is what is read of it afterwards."""
    source = call.args["src"]
    if not isinstance(source, Value) or source.shape != call.shape:
        raise NotLocalError("what it writes is broadcast")
    return source


@handles("slice_scatter", reads="self src dim start end step")
def slice_scatter(call: Call) -> Value:
    """A map with some of its channels, rows or columns replaced: what a write through a view is."""
    value, part = call.feature("self"), call.feature("src")
    dim = dim_of(value, int(call.args["dim"]))
    size, count = value.shape[dim], part.shape[dim]
    start = int(call.args["start"] or 0)
    start = min(max(start + size if start < 0 else start, 0), size)
    if int(call.args["step"]) != 1:
        raise NotLocalError("it replaces every so many indices")
    kept = [(0, start), (start + count, size)]
    before, after = (_cut(call, value, dim, *ends) for ends in kept)
    tensors = [*before, part, *after]
    return tensors[0] if len(tensors) == 1 else _concat(call, tensors, dim)


def _cut(call: Call, value: Value, dim: int, start: int, stop: int) -> list[Value]:
    """Indices ``[start, stop)`` of one dimension; nothing where there are none."""
    if start >= stop:
        return []
    shape = (*value.shape[:dim], stop - start, *value.shape[dim + 1 :])
    made = replace(call, args={"self": value}, shape=shape, name=f"{call.name}.kept")
    return [_slice(made, dim, start, stop, 1)]


@handles("cat", "concat", "concatenate", reads="tensors dim")
def concat(call: Call) -> Value:
    """Joins maps over channels, rows or columns."""
    return _concat(call, call.args["tensors"], int(call.args["dim"]))


def _concat(call: Call, given: Sequence[Any], along: int) -> Value:
    values = _with_constants(call, given, along)
    first = layout_of(values[0])
    axis, dim = axis_of(values[0], along), dim_of(values[0], along)
    if any(not _lie_alike(layout_of(v), first) for v in values) or len(first.factors) != 1:
        raise NotLocalError("the maps that it joins lie differently, or their channels are split")
    tensors = [value.tensor for value in values]
    if isinstance(axis, int):
        return call.emit("channel_concat", tensors, first.with_channels(call.shape[dim]))
    if axis not in ("h", "w"):
        raise NotLocalError("it joins samples")
    maps, at = [], 0
    for value in values:
        size = value.shape[dim]
        part = Window(size, call.shape[dim], pad_lo=at)
        maps.append(_along(first, value.shape, call.shape, {axis: part}))
        at += size
    return call.emit("concat", tensors, first, attrs={"axis": axis}, maps=maps)


def _with_constants(call: Call, given: Sequence[Any], along: int) -> list[Value]:
    """The maps to join, those that are constants (coordinates, say) made beside the others."""
    maps = [
        replace(call, args={"input": each}).feature() for each in given if isinstance(each, Value)
    ]
    if len(maps) == len(given):
        return maps
    lead = maps[0] if maps else None
    if lead is None or not isinstance(axis_of(lead, along), int):
        raise NotLocalError("it joins a map with a constant, not over channels")
    left = iter(maps)
    return [
        next(left) if isinstance(each, Value) else _constant(call, lead, each, dim_of(lead, along))
        for each in given
    ]


def _constant(call: Call, lead: Value, const: Any, dim: int) -> Value:
    """A constant as a map that lies as ``lead`` does; each device takes its own part of it."""
    if not isinstance(const, Const) or len(layout_of(lead).factors) != 1:
        raise NotLocalError("it joins a map with what is no tensor, or the channels are split")
    layout = layout_of(lead).with_channels(const.shape[dim])
    made = replace(call, name=f"{call.name}.constant", shape=const.shape)
    attrs = {"view": const_view(const.shape, layout, const.shape)}
    return made.emit("constant", [lead.tensor], layout, attrs=attrs, params={"c0": const})


@handles("stack", reads="tensors dim")
def stack(call: Call) -> Value:
    """Maps as the groups of one map's channels."""
    given = call.args["tensors"]
    values = [replace(call, args={"input": each}).feature() for each in given]
    first, place = layout_of(values[0]), int(call.args["dim"]) % len(call.shape)
    if any(layout_of(value) != first for value in values):
        raise NotLocalError("the maps that it stacks lie differently")
    axes = [axis + 1 if isinstance(axis, int) else axis for axis in first.axes]
    factors = (len(values), *(first.factors if first.channels else ()))
    out = replace(first, axes=(*axes[:place], 0, *axes[place:]), factors=factors)
    return call.emit("channel_concat", [value.tensor for value in values], out)


@handles("select", reads="self dim index")
def select(call: Call) -> Value:
    """One group of channels, one row or one column."""
    value = call.feature()
    dim = dim_of(value, int(call.args["dim"]))
    at = int(call.args["index"]) % value.shape[dim]
    shape = (*value.shape[:dim], 1, *value.shape[dim + 1 :])
    found = _slice(replace(call, shape=shape), dim, at, at + 1, 1)
    return replace(found, shape=call.shape, layout=layout_of(found).reduced([dim], keep=False))


@handles("unbind", reads="self dim")
def unbind(call: Call) -> list[Value]:
    """Each group of channels, row or column on its own."""
    dim = int(call.args["dim"])
    return [
        select(replace(call, args={"self": call.argument(), "dim": dim, "index": i}, shape=shape))
        for i, shape in enumerate(call.shapes)
    ]


def _lie_alike(one: Layout, other: Layout) -> bool:
    return (one.axes, one.pixels) == (other.axes, other.pixels)


@handles(
    "pad",
    "constant_pad_nd",
    "reflection_pad1d",
    "reflection_pad2d",
    "replication_pad1d",
    "replication_pad2d",
    reads="self pad padding mode value",
)
def pad(call: Call) -> Value:
    """Padding with a constant, or by reflection, repetition or wrapping round; crops too."""
    value = call.feature()
    layout, numbers = layout_of(value), call.args.get("pad") or call.args["padding"]
    mode: Any = {"refl": "reflect", "repl": "replicate"}.get(call.op[:4], call.args.get("mode"))
    fill = float(call.args.get("value") or 0.0)
    by_axis: dict[Axis, Sequence[int]] = {
        layout.axes[-1 - i]: (numbers[2 * i], numbers[2 * i + 1]) for i in range(len(numbers) // 2)
    }
    changed = {axis: sides for axis, sides in by_axis.items() if tuple(sides) != (0, 0)}
    if set(changed) == {0} and mode in (None, "constant") and len(layout.factors) == 1:
        out = layout.with_channels(call.shape[layout.axes.index(0)])
        attrs: dict[str, Any] = {"pad": list(changed[0]), "value": fill}
        return call.emit("channel_pad", [value.tensor], out, attrs=attrs)
    if not set(changed) <= {"h", "w"}:
        raise NotLocalError("it pads samples, or channels with anything but a constant")
    size = dict(zip(layout.axes, value.shape, strict=True))
    out_size = dict(zip(layout.axes, call.shape, strict=True))
    if mode in (None, "constant"):
        windows: dict[Any, AxisMap] = {
            axis: Window(size[axis], out_size[axis], pad_lo=lo, pad_hi=hi)
            for axis, (lo, hi) in changed.items()
        }
        maps = _along(layout, value.shape, call.shape, windows)
        return call.emit("pad", [value.tensor], layout, attrs={"value": fill}, maps=[maps])
    if mode == "circular":
        value, changed = _crop_negative_padding(call, value, changed)
        size = dict(zip(layout.axes, value.shape, strict=True))
    borders: dict[Any, AxisMap] = {
        axis: Bordered(size[axis], out_size[axis], lo, mode) for axis, (lo, _) in changed.items()
    }
    maps = _along(layout, value.shape, call.shape, borders)
    return call.emit("resample", [value.tensor], layout, maps=[maps], flop=0.0)


def _crop_negative_padding(
    call: Call, value: Value, widths: Mapping[Axis, Sequence[int]]
) -> tuple[Value, dict[Axis, Sequence[int]]]:
    """What negative widths cut off, and the other widths: it is the rest that is wrapped round."""
    for axis, sides in widths.items():
        low, high = (max(-width, 0) for width in sides)
        dim = layout_of(value).axes.index(axis)
        (value,) = _cut(call, value, dim, low, value.shape[dim] - high)
    return value, {axis: (max(sides[0], 0), max(sides[1], 0)) for axis, sides in widths.items()}


def channel_window(call: Call) -> Value:
    """The mean over neighbouring channels inside a local response norm."""
    value = call.feature()
    layout, kernel = layout_of(value), call.args["kernel_size"]
    plain = list(call.args["padding"]) == [0] * 3 and not call.args["ceil_mode"]
    stride = call.args["stride"] or kernel
    if layout.axes[2] != 0 or list(kernel[1:]) != [1, 1] or not plain or list(stride) != [1] * 3:
        raise NotLocalError("only means over neighbouring channels are known of it")
    out = layout.with_channels(call.shape[2])
    attrs = {"size": kernel[0]}
    flop = float(kernel[0] * math.prod(call.shape))
    return call.emit("channel_avg_pool", [value.tensor], out, attrs=attrs, flop=flop)


@handles(
    "upsample_nearest1d",
    "upsample_nearest2d",
    "_upsample_nearest_exact2d",
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    reads="self input output_size align_corners scales scales_h scales_w scale_factors",
)
def resize(call: Call) -> Value:
    """Resizing by nearest neighbour, linear or cubic interpolation."""
    value = call.maps_channels_first()
    layout = layout_of(value)
    letters = layout.axes[2:]
    factors = call.args.get("scale_factors") or [
        call.args.get(role) for role in ("scales_h", "scales_w", "scales")[: len(letters)]
    ]
    scales = list(factors) + [None] * (len(letters) - len(factors))
    changed: dict[Any, AxisMap] = {
        letter: _resampling(call, value.shape[2 + i], call.shape[2 + i], scales[i])
        for i, letter in enumerate(letters)
    }
    y, x = _along(layout, value.shape, call.shape, changed)
    taps = math.prod(m.n_taps for m in (y, x) if isinstance(m, TapMap))
    flop = 0.0 if taps == 1 else 2.0 * taps * math.prod(call.shape)
    return call.emit("resample", [value.tensor], layout, maps=[(y, x)], flop=flop)


def _resampling(call: Call, n_in: int, n_out: int, factor: float | None) -> AxisMap:
    scale = 1.0 / factor if factor else n_in / n_out
    if "nearest" in call.op:
        return Nearest(n_in, n_out, scale, "exact" in call.op)
    align = bool(call.args["align_corners"])
    if align:
        scale = (n_in - 1) / (n_out - 1) if n_out > 1 else 0.0
    kind = Cubic if "bicubic" in call.op else Linear
    return kind(n_in, n_out, scale, align)


@handles("pixel_shuffle", "pixel_unshuffle", reads="self upscale_factor downscale_factor")
def pixel_shuffle(call: Call) -> Value:
    """Channels to pixels, or back."""
    value = call.maps_channels_first()
    if layout_of(value).axes[2:] != ("h", "w"):
        raise NotLocalError("rows and columns are swapped before it")
    out = layout_of(value).with_channels(call.shape[1])
    down = call.op == "pixel_unshuffle"
    factor = int(call.args["downscale_factor" if down else "upscale_factor"])
    sizes = zip(value.shape[2:], call.shape[2:], strict=True)
    y, x = (Window(a, b, factor, factor) if down else Shuffled(a, b, factor) for a, b in sizes)
    return call.emit(call.op, [value.tensor], out, attrs={"factor": factor}, maps=[(y, x)])


@handles("channel_shuffle", "native_channel_shuffle", reads="self input groups")
def channel_shuffle(call: Call) -> Value:
    """Channels of groups, interleaved."""
    value = call.maps_channels_first()
    groups = int(call.args["groups"])
    attrs = {"factors": [groups, value.shape[1] // groups], "order": [1, 0]}
    return call.emit("channel_permute", [value.tensor], layout_of(value), attrs=attrs)
