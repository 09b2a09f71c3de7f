"""Where ops read and what they give, for kernels of every engine: rectangles and places alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from nptp_opt.geometry import EMPTY, AxisMap, Tile, Window, need_tile
from nptp_opt.geometry.axis_maps import Shuffled, Transposed
from nptp_opt.network.ir import Node

Ranges = tuple[tuple[int, int], tuple[int, int]]


def node_regions(nodes: Sequence[Node], tile: Tile) -> dict[str, Tile]:
    """The rectangle that ``tile`` of the last node takes of every node, and of their inputs."""
    found = {nodes[-1].name: tile}
    for node in reversed(nodes):
        region = found.setdefault(node.name, EMPTY)
        for tensor, maps in zip(node.inputs, node.maps, strict=True):
            found[tensor] = found.get(tensor, EMPTY).hull(need_tile(region, *maps))
    return found


def ranges(tile: Tile) -> Ranges:
    """Rows and columns of a tile."""
    return (tile.y0, tile.y1), (tile.x0, tile.x1)


def overlap(axis: Transposed, a: int, b: int, length: int) -> tuple[slice, slice]:
    """Where the crop's result of ``length`` meets ``[a, b)``: place there, place in it."""
    start = axis.need(a, b)[0] * axis.stride - axis.pad
    lo, hi = max(a, start), min(b, start + length)
    hi = max(lo, hi)
    return slice(lo - a, hi - a), slice(lo - start, hi - start)


def counted(window: Window, a: int, b: int, with_padding: bool) -> list[int]:
    """Elements of each output's window; what ceil mode adds behind the padding never counts."""
    counts = []
    for o in range(a, b):
        lo, hi = window.reach(o, o + 1)
        if with_padding:
            counts.append(min(hi, window.n_in + window.pad_hi) - lo)
        else:
            counts.append(min(hi, window.n_in) - max(lo, 0))
    return counts


def inside(axis: AxisMap, a: int, b: int) -> tuple[int, int]:
    """Where a pixel shuffle's ``[a, b)`` lies in what the crop of its input gives."""
    shuffled = cast(Shuffled, axis)
    start = shuffled.need(a, b)[0] * shuffled.factor
    return a - start, b - start
