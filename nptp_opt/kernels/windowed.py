"""Ops that read a window of each input: run on a crop, padded on the side that leaves the map.

Crops are (N, C, rows, columns) and hold exactly the need of ``tile``; every kernel gives the tile.
"""

from __future__ import annotations

from functools import reduce
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.geometry import Tile, Window
from nptp_opt.geometry.axis_maps import TapMap, Transposed
from nptp_opt.kernels.regions import counted, inside, overlap, ranges
from nptp_opt.network.ir import Node

Params = dict[str, Tensor]


def paste(crop: Tensor, shape: tuple[int, int], at: tuple[int, int], fill: float) -> Tensor:
    """``crop`` put at row and column ``at`` into a map of ``shape`` that is ``fill`` elsewhere."""
    (height, width), (top, left) = shape, at
    bottom, right = height - top - crop.shape[2], width - left - crop.shape[3]
    if crop.numel() == 0:
        return crop.new_full((*crop.shape[:2], height, width), fill)
    if top == bottom == left == right == 0:
        return crop
    return F.pad(crop, (left, right, top, bottom), value=fill)


def pad_to_window(node: Node, crop: Tensor, tile: Tile, fill: float) -> Tensor:
    """The crop grown to the whole window of ``tile``."""
    sizes, starts = [], []
    for axis, (a, b) in zip(node.maps[0], ranges(tile), strict=True):
        window = cast(Window, axis)
        lo, hi = window.reach(a, b)
        sizes.append(hi - lo)
        starts.append(window.padding(a, b)[0])
    return paste(crop, (sizes[0], sizes[1]), (starts[0], starts[1]), fill)


def conv2d(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    even = _even_padding(node, crops[0], tile)
    return F.conv2d(
        crops[0] if even else pad_to_window(node, crops[0], tile, 0.0),
        _kernel(node, params),
        params.get("bias"),
        padding=even or (0, 0),
        stride=node.attrs["stride"],
        dilation=node.attrs["dilation"],
        groups=node.attrs["groups"],
    )


def _kernel(node: Node, params: Params) -> Tensor:
    """The weight as (out, in, rows, columns), for a map whose rows and columns may be swapped."""
    weight = params["weight"].reshape(node.attrs["weight_shape"])
    return weight.transpose(2, 3) if node.attrs.get("swapped") else weight


def _even_padding(node: Node, crop: Tensor, tile: Tile) -> tuple[int, int] | None:
    """Padding that torch can apply itself, without a copy: the same on opposite sides."""
    sides = [
        cast(Window, axis).padding(a, b)
        for axis, (a, b) in zip(node.maps[0], ranges(tile), strict=True)
    ]
    if not crop.numel() or any(lo != hi for lo, hi in sides):
        return None
    return sides[0][0], sides[1][0]


def linear(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    """The features of the tile, from the whole input in the model's order."""
    lying = crops[0].reshape(node.attrs["ordered"]).permute(list(node.attrs["order"]))
    weight, bias, rows = params["weight"], params.get("bias"), slice(tile.y0, tile.y1)
    weight = weight.t()[rows] if node.attrs["transposed"] else weight[rows]
    result = F.linear(
        lying.reshape(node.shape[0], -1), weight, None if bias is None else bias[rows]
    )
    return result[:, None, :, None]


def conv_transpose2d(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    """The transposed convolution of the crop, cut or grown to the tile; then the bias."""
    weight = _kernel(node, params)
    crop, groups = crops[0], node.attrs["groups"]
    out = crop.new_zeros((crop.shape[0], weight.shape[1] * groups, tile.height, tile.width))
    if crop.numel():
        full = F.conv_transpose2d(
            crop,
            weight,
            stride=node.attrs["stride"],
            dilation=node.attrs["dilation"],
            groups=groups,
        )
        _put_overlap(node, full, out, tile)
    bias = params.get("bias")
    return out if bias is None else out + bias.view(1, -1, 1, 1)


def _put_overlap(node: Node, full: Tensor, out: Tensor, tile: Tile) -> None:
    """Copy what a crop's result has of the tile to where it lies in it."""
    spots = [
        overlap(cast(Transposed, axis), a, b, full.shape[2 + i])
        for i, (axis, (a, b)) in enumerate(zip(node.maps[0], ranges(tile), strict=True))
    ]
    (dst_y, src_y), (dst_x, src_x) = spots
    out[:, :, dst_y, dst_x] = full[:, :, src_y, src_x]


def max_pool2d(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    """Largest of the window's elements, rows first: torch's own loop takes ten times as long."""
    out = pad_to_window(node, crops[0], tile, -torch.inf)
    for dim, (axis, (a, b)) in enumerate(zip(node.maps[0], ranges(tile), strict=True), start=2):
        window = cast(Window, axis)
        taps = [_tap(out, dim, window, t, b - a) for t in range(window.kernel)]
        out = taps[0] if len(taps) == 1 else reduce(torch.maximum, taps)
    return out


def _tap(values: Tensor, dim: int, window: Window, t: int, count: int) -> Tensor:
    """The ``t``-th element of each of ``count`` windows along ``dim``."""
    start = t * window.dilation
    steps = slice(start, start + (count - 1) * window.stride + 1, window.stride)
    return values[:, :, steps] if dim == 2 else values[:, :, :, steps]


def avg_pool2d(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    """Sums of windows over the number of elements that torch counts in each."""
    y, x = (cast(Window, axis) for axis in node.maps[0])
    sums = F.avg_pool2d(
        pad_to_window(node, crops[0], tile, 0.0),
        (y.kernel, x.kernel),
        (y.stride, x.stride),
        divisor_override=1,
    )
    if node.attrs["divisor"]:
        return sums / float(node.attrs["divisor"])
    counts = [
        counted(axis, a, b, node.attrs["count_include_pad"])
        for axis, (a, b) in zip((y, x), ranges(tile), strict=True)
    ]
    rows, columns = (torch.tensor(count, dtype=sums.dtype) for count in counts)
    return sums / (rows[:, None] * columns[None, :]).to(sums.device)


def pad(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    return pad_to_window(node, crops[0], tile, node.attrs["value"])


def slice_(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    y, x = (cast(Window, axis) for axis in node.maps[0])
    return crops[0][:, :, :: y.stride, :: x.stride]


def concat(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    return torch.cat(
        [crop for crop in crops if crop.numel()], dim=2 if node.attrs["axis"] == "h" else 3
    )


def resample(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    """Weighted sums of taps, rows first."""
    out = crops[0]
    for dim, (axis, (a, b)) in enumerate(zip(node.maps[0], ranges(tile), strict=True), start=2):
        if isinstance(axis, TapMap):
            out = _resample(out, dim, axis, a, b)
    return out


def _resample(crop: Tensor, dim: int, axis: TapMap, a: int, b: int) -> Tensor:
    start = axis.need(a, b)[0]
    taps = [axis.taps(o) for o in range(a, b)]
    if axis.n_taps == 1:
        return crop.index_select(dim, _index([each[0][0] - start for each in taps], crop))
    total: Tensor | None = None
    for t in range(max(map(len, taps))):
        used = [each[t] if t < len(each) else (each[-1][0], 0.0) for each in taps]
        part = crop.index_select(dim, _index([i - start for i, _ in used], crop))
        weights = crop.new_tensor([weight for _, weight in used])
        part = part * (weights[:, None] if dim == 2 else weights)
        total = part if total is None else total + part
    assert total is not None
    return total


def _index(positions: list[int], like: Tensor) -> Tensor:
    return torch.tensor(positions, dtype=torch.int64, device=like.device)


def resample_max(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    """Largest tap instead of their sum."""
    out = crops[0]
    for dim, (axis, (a, b)) in enumerate(zip(node.maps[0], ranges(tile), strict=True), start=2):
        if isinstance(axis, TapMap):
            start = axis.need(a, b)[0]
            spans = [[i - start for i, _ in axis.taps(o)] for o in range(a, b)]
            out = torch.cat(
                [out.narrow(dim, s[0], len(s)).amax(dim, keepdim=True) for s in spans], dim
            )
    return out


def pixel_shuffle(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    factor = node.attrs["factor"]
    full = F.pixel_shuffle(crops[0], factor)
    (top, _), (left, _) = (
        inside(axis, a, b) for axis, (a, b) in zip(node.maps[0], ranges(tile), strict=True)
    )
    return full[:, :, top : top + tile.height, left : left + tile.width]


def pixel_unshuffle(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    return F.pixel_unshuffle(crops[0], node.attrs["factor"])


# -- volumes: the depth is among the channels, and never cut ---------------------------------------


def _volume(node: Node, crop: Tensor) -> Tensor:
    """The crop as (N, C, depth, rows, columns)."""
    n, _, height, width = crop.shape
    return crop.reshape(n, *node.attrs["volume"], height, width)


def conv3d(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    made = F.conv3d(
        _volume(node, pad_to_window(node, crops[0], tile, 0.0)),
        params["weight"],
        params.get("bias"),
        node.attrs["stride"],
        tuple(node.attrs["padding"]),
        node.attrs["dilation"],
        node.attrs["groups"],
    )
    return made.flatten(1, 2)


def conv_transpose3d(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    """As of maps; the depth is padded, and grown at its end, by torch."""
    crop, bias = crops[0], params.get("bias")
    out = crop.new_zeros((crop.shape[0], node.shape[1], tile.height, tile.width))
    if crop.numel():
        full = F.conv_transpose3d(
            _volume(node, crop),
            params["weight"],
            stride=node.attrs["stride"],
            padding=tuple(node.attrs["padding"]),
            output_padding=(node.attrs["more"], 0, 0),
            groups=node.attrs["groups"],
            dilation=node.attrs["dilation"],
        )
        _put_overlap(node, full.flatten(1, 2), out, tile)
    if bias is None:
        return out
    return out + bias.repeat_interleave(node.shape[1] // len(bias)).view(1, -1, 1, 1)


def max_pool3d(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    kernel, stride, padding = (node.attrs[role] for role in ("kernel", "stride", "padding"))
    volume = _volume(node, pad_to_window(node, crops[0], tile, -torch.inf))
    return F.max_pool3d(volume, kernel, stride, padding, node.attrs["dilation"]).flatten(1, 2)


def avg_pool3d(node: Node, params: Params, crops: list[Tensor], tile: Tile) -> Tensor:
    kernel, stride, padding = (node.attrs[role] for role in ("kernel", "stride", "padding"))
    volume = _volume(node, pad_to_window(node, crops[0], tile, 0.0))
    return F.avg_pool3d(volume, kernel, stride, padding).flatten(1, 2)
