"""ONNX operators that move data: reshapes, slices, joins, padding, pixel shuffles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.network.onnx_choice import taken
from nptp_opt.network.onnx_ops import TYPES
from nptp_opt.network.onnx_reduce import axes_of
from nptp_opt.network.onnx_rules import Attrs, op, refuse


@op("Shape", reads="start end")
def shape_of(attrs: Attrs, x: Tensor) -> np.ndarray[Any, Any]:
    return np.array(x.shape, dtype=np.int64)[attrs["start"] : attrs["end"]]


@op("Size")
def size_of(attrs: Attrs, x: Tensor) -> np.ndarray[Any, Any]:
    return np.array(math.prod(x.shape), dtype=np.int64)


@op("Reshape", reads="allowzero shape", takes=2, static=(1,))
def reshape(attrs: Attrs, x: Tensor, shape: Any = None) -> Tensor:
    wanted = [int(v) for v in (attrs["shape"] if shape is None else shape)]
    if not attrs["allowzero"]:
        wanted = [x.shape[i] if v == 0 else v for i, v in enumerate(wanted)]
    return x.reshape(wanted)


@op("Flatten", reads="axis")
def flatten(attrs: Attrs, x: Tensor) -> Tensor:
    """The axis may be the rank itself; a negative one counts back from the rank."""
    axis = attrs["axis"] if attrs["axis"] >= 0 else attrs["axis"] + x.dim()
    return x.reshape(math.prod(x.shape[:axis]), -1)


@op("Squeeze", reads="axes", takes=2, static=(1,))
def squeeze(attrs: Attrs, x: Tensor, axes: Any = None) -> Tensor:
    dims = axes_of(attrs, axes)
    return x.squeeze() if dims is None else x.squeeze(tuple(dims))


@op("Unsqueeze", reads="axes", takes=2, static=(1,))
def unsqueeze(attrs: Attrs, x: Tensor, axes: Any = None) -> Tensor:
    dims = axes_of(attrs, axes) or []
    for axis in sorted(a % (x.dim() + len(dims)) for a in dims):
        x = x.unsqueeze(axis)
    return x


@op("Transpose", reads="perm")
def transpose(attrs: Attrs, x: Tensor) -> Tensor:
    return x.permute(attrs["perm"] or list(range(x.dim()))[::-1])


@op("Expand", takes=2, static=(1,))
def expand(attrs: Attrs, x: Tensor, shape: Any) -> Tensor:
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(int(v) for v in shape)))


@op("Concat", reads="axis", takes=None)
def concat(attrs: Attrs, *parts: Any) -> Tensor:
    """Before opset 4 along the channels, where nothing is stated; parts may be empty."""
    filled = [part for part in parts if part.numel()]
    return torch.cat(filled, 1 if attrs["axis"] is None else attrs["axis"])


@op("Split", reads="axis num_outputs split", takes=2, makes=None, static=(1,))
def split(attrs: Attrs, x: Tensor, sizes: Any = None) -> list[Tensor]:
    axis = attrs["axis"] or 0
    given = attrs["split"] if sizes is None else [int(v) for v in sizes]
    if attrs["num_outputs"] not in (None, attrs.outputs):
        raise refuse(f"num_outputs={attrs['num_outputs']} and {attrs.outputs} outputs")
    if given and 0 in given:
        return _with_empty_parts(x, given, axis)
    parts = list(torch.split(x, given or math.ceil(x.shape[axis] / attrs.outputs), axis))
    if len(parts) != attrs.outputs:
        raise refuse(f"{attrs.outputs} outputs of {x.shape[axis]} elements")
    return parts


def _with_empty_parts(x: Tensor, sizes: list[int], axis: int) -> list[Tensor]:
    """Parts of which nobody is told that they come from the map where they have nothing of it."""
    filled = iter(torch.split(x, [size for size in sizes if size], axis))
    shape = list(x.shape)
    shape[axis] = 0
    return [next(filled) if size else torch.zeros(shape, dtype=x.dtype) for size in sizes]


@op("Slice", reads="axes starts ends", takes=5, static=(1, 2, 3, 4))
def slice_(
    attrs: Attrs, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None,
    steps: Any = None,
) -> Tensor:  # fmt: skip
    low = [int(v) for v in (attrs["starts"] if starts is None else starts)]
    high = [int(v) for v in (attrs["ends"] if ends is None else ends)]
    dims = axes_of(attrs, axes) or list(range(len(low)))
    strides = [1] * len(low) if steps is None else [int(v) for v in steps]
    for dim, a, b, step in zip(dims, low, high, strides, strict=True):
        x = torch.ops.aten.slice(x, dim, a, b, step) if step > 0 else _back(x, dim, a, b, step)
    return x


def _back(x: Tensor, dim: int, start: int, stop: int, step: int) -> Tensor:
    """A slice that runs backwards: that of the flipped dimension, whose ends are counted anew."""
    size = x.shape[dim]
    first, last = (v + size if v < 0 else v for v in (start, stop))
    first, last = min(max(first, 0), size - 1), max(min(last, size - 1), -1)
    ends = size - 1 - first, size - 1 - last
    found: Tensor = torch.ops.aten.slice(x.flip(dim), dim, *ends, -step)
    return found


@op("Tile", takes=2, static=(1,))
def tile(attrs: Attrs, x: Tensor, repeats: Any) -> Tensor:
    return x.repeat([int(v) for v in repeats])


@op("EyeLike", reads="dtype k")
def eye_like(attrs: Attrs, x: Tensor) -> Tensor:
    dtype = x.dtype if attrs["dtype"] is None else TYPES.get(attrs["dtype"])
    if dtype is None:
        raise refuse(f"dtype={attrs['dtype']}")
    places = torch.arange(x.shape[0]).unsqueeze(1) + attrs["k"] == torch.arange(x.shape[1])
    found: Tensor = places.to(dtype)
    return found


@op("Trilu", reads="upper", takes=2, static=(1,))
def triangle(attrs: Attrs, x: Tensor, shift: Any = None) -> Tensor:
    k = 0 if shift is None else int(shift)
    return x.triu(k) if attrs["upper"] else x.tril(k)


_PAD_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@op("Pad", reads="mode pads paddings value", takes=4, static=(1, 2, 3))
def pad(attrs: Attrs, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    given = attrs["pads"] or attrs["paddings"] if pads is None else [int(v) for v in pads]
    dims = list(range(x.dim())) if axes is None else [int(v) % x.dim() for v in axes]
    sides = {dim: (given[i], given[i + len(dims)]) for i, dim in enumerate(dims)}
    ordered = [v for dim in reversed(range(x.dim())) for v in sides.get(dim, (0, 0))]
    while ordered[-2:] == [0, 0]:
        ordered = ordered[:-2]
    if not ordered:
        return x
    if attrs["mode"] == "constant":
        fill = attrs["value"] or 0.0 if value is None else value.item()
        return F.pad(x, ordered, value=fill)
    if len(ordered) > 2 * (x.dim() - 2) or min(ordered) < 0:
        return _repeated(x, attrs["mode"], sides)
    ordered += [0] * (2 * (x.dim() - 2) - len(ordered))
    return F.pad(x, ordered, mode=_PAD_MODES[attrs["mode"]])


def _repeated(x: Tensor, mode: str, sides: Mapping[int, tuple[int, int]]) -> Tensor:
    """Padding with elements of the input, by their places: torch's own has not every axis."""
    for dim, (low, high) in sides.items():
        kept = np.arange(max(-low, 0), x.shape[dim] + min(high, 0))
        x = taken(x, dim, np.pad(kept, (max(low, 0), max(high, 0)), mode=mode))  # type: ignore[call-overload]
    return x


@op("DepthToSpace", reads="blocksize mode")
def depth_to_space(attrs: Attrs, x: Tensor) -> Tensor:
    block = attrs["blocksize"]
    if attrs["mode"] != "CRD":
        x = _shuffle_channels(x, block * block, x.shape[1] // block**2)
    return F.pixel_shuffle(x, block)


@op("SpaceToDepth", reads="blocksize mode")
def space_to_depth(attrs: Attrs, x: Tensor) -> Tensor:
    block, channels = attrs["blocksize"], x.shape[1]
    deep = F.pixel_unshuffle(x, block)
    return deep if attrs["mode"] == "CRD" else _shuffle_channels(deep, channels, block * block)


def _shuffle_channels(x: Tensor, outer: int, inner: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, outer, inner, h, w).transpose(1, 2).reshape(n, c, h, w)
