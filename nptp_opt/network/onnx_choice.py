"""ONNX operators that pick elements or put them somewhere: gathers, scatters, one-hot, einsum."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.network.onnx_rules import Attrs, op, refuse, tensor_of

Indices = np.ndarray[Any, Any]

RUNS = 8
"""Known indices that are at most so many runs are slices, joined; maps stay maps."""


@op("Gather", reads="axis", takes=2, either=(1,))
def gather(attrs: Attrs, x: Tensor, index: Any) -> Tensor:
    axis = attrs["axis"] % x.dim()
    if isinstance(index, Tensor):
        return x[(slice(None),) * axis + (index,)]
    return taken(x, axis, counted(index, x.shape[axis]))


def counted(index: Indices, size: int) -> Indices:
    """Indices counted from the front; refuses any that is none."""
    if index.size and (index.min() < -size or index.max() >= size):
        raise refuse(f"an index that is none of {size}")
    return np.where(index < 0, index + size, index)


def taken(x: Tensor, axis: int, index: Indices) -> Tensor:
    """Known indices of one axis: slices where they are few runs."""
    flat = index.reshape(-1)
    ends = _runs(flat)
    if len(ends) <= RUNS:
        parts = [_strided(x, axis, flat[a:b]) for a, b in ends]
        found = parts[0] if len(parts) == 1 else torch.cat(parts, axis)
    else:
        found = x.index_select(axis, torch.from_numpy(flat))
    return found.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _runs(flat: Indices) -> list[tuple[int, int]]:
    """Where the runs lie whose indices grow by one step each: first places and ends."""
    ends, start = [], 0
    while start < len(flat):
        step = flat[start + 1] - flat[start] if start + 1 < len(flat) else 1
        end = start + 1
        while end < len(flat) and step > 0 and flat[end] - flat[end - 1] == step:
            end += 1
        ends.append((start, end))
        start = end
    return ends


def _strided(x: Tensor, axis: int, run: Indices) -> Tensor:
    step = int(run[1] - run[0]) if len(run) > 1 else 1
    first, last = int(run[0]), int(run[-1])
    if (first, last, step) == (0, x.shape[axis] - 1, 1):
        return x
    found: Tensor = torch.ops.aten.slice(x, axis, first, last + 1, step)
    return found


@op("GatherElements", reads="axis", takes=2, either=(1,))
def gather_elements(attrs: Attrs, x: Tensor, index: Any) -> Tensor:
    axis = attrs["axis"] % x.dim()
    return torch.gather(x, axis, _counted(index, x.shape[axis]))


def _counted(index: Any, size: int) -> Tensor:
    known = isinstance(index, np.ndarray)
    found: Tensor = torch.from_numpy(counted(index, size)) if known else index
    return found.to(torch.int64)


@op("GatherND", reads="batch_dims", takes=2)
def gather_nd(attrs: Attrs, x: Tensor, index: Tensor) -> Tensor:
    batch = attrs["batch_dims"] or 0
    before = [
        torch.arange(n).reshape(-1, *[1] * (index.dim() - 2 - i))
        for i, n in enumerate(x.shape[:batch])
    ]
    return x[(*before, *_coordinates(index))]


def _coordinates(index: Tensor) -> list[Tensor]:
    """The last axis taken apart; known places stay known."""
    return [index.select(-1, i) for i in range(index.shape[-1])]


@op("ScatterElements", "Scatter", reads="axis reduction", takes=3, either=(1,))
def scatter_elements(attrs: Attrs, x: Tensor, index: Any, updates: Tensor) -> Tensor:
    axis, how = attrs["axis"] % x.dim(), attrs["reduction"] or "none"
    places = _counted(index, x.shape[axis])
    if how == "none":
        return torch.scatter(x, axis, places, updates)
    names = {"add": "sum", "mul": "prod", "min": "amin", "max": "amax"}
    return torch.scatter_reduce(x, axis, places, updates, names[how], include_self=True)


@op("ScatterND", reads="reduction", takes=3)
def scatter_nd(attrs: Attrs, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    how = attrs["reduction"] or "none"
    if how not in ("none", "add"):
        raise refuse(f"reduction={how}")
    return torch.index_put(x, tuple(_coordinates(index)), updates, accumulate=how == "add")


@op("Compress", reads="axis", takes=2, static=(1,))
def compress(attrs: Attrs, x: Tensor, kept: Indices) -> Tensor:
    if attrs["axis"] is None:
        return taken(x.reshape(-1), 0, np.flatnonzero(kept))
    return taken(x, attrs["axis"] % x.dim(), np.flatnonzero(kept))


@op("OneHot", reads="axis", takes=3, static=(1, 2))
def one_hot(attrs: Attrs, index: Tensor, depth: Indices, values: Indices) -> Tensor:
    """Places count from the back where they are negative; there are none elsewhere."""
    size, axis = int(depth.item()), attrs["axis"] % (index.dim() + 1)
    places = torch.arange(size).reshape(-1, *[1] * (index.dim() - axis))
    at = index.unsqueeze(axis)
    both = tensor_of(values)
    off, on = both[0:1], both[1:2]
    return torch.where((at == places) | (at == places - size), on, off)


@op("Einsum", reads="equation", takes=None)
def einsum(attrs: Attrs, *operands: Tensor) -> Tensor:
    return torch.einsum(attrs["equation"], *operands)


_SAMPLED = {"linear": "bilinear", "cubic": "bicubic"}


@op("GridSample", reads="align_corners mode padding_mode", takes=2)
def grid_sample(attrs: Attrs, x: Tensor, grid: Tensor) -> Tensor:
    mode = _SAMPLED.get(attrs["mode"], attrs["mode"])
    return F.grid_sample(x, grid, mode, attrs["padding_mode"], bool(attrs["align_corners"]))


@op("Col2Im", reads="dilations pads strides", takes=3, static=(1, 2))
def columns_to_image(attrs: Attrs, x: Tensor, size: Indices, block: Indices) -> Tensor:
    rank = len(size)
    pads = attrs["pads"] or [0] * 2 * rank
    if rank != 2 or pads[:rank] != pads[rank:]:
        raise refuse(f"{rank} spatial dimensions, or pads {pads}")
    out, kernel = (tuple(int(v) for v in each) for each in (size, block))
    stride, dilation = tuple(attrs["strides"] or (1, 1)), tuple(attrs["dilations"] or (1, 1))
    return F.fold(x, out, kernel, dilation, tuple(pads[:rank]), stride)
