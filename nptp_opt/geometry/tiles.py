"""Tiles, receptive windows, overlaps and the exact-cover check: the only place that knows geometry.

Cuts are positions on **output** indices; the input range of a tile is derived from them, never
the other way round. Ranges are half-open. Sides are top, bottom, left, right everywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

Cuts = int | IntArray
"""A cut position, or many."""

MOST_POSITION = 2**24
"""Largest position on an axis: areas, times the bytes of a pixel, are carried by 64 bits."""

TOP, BOTTOM, LEFT, RIGHT = 1, 2, 4, 8
"""Bits of a contact set: the sides of a tile that lie on the map's border."""


class Tile(NamedTuple):
    """Half-open rectangle ``[y0, y1) x [x0, x1)`` of indices; any empty range makes it empty.

    A tuple: searches make and hash millions, in a third of a dataclass's time.
    """

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def height(self) -> int:
        return max(0, self.y1 - self.y0)

    @property
    def width(self) -> int:
        return max(0, self.x1 - self.x0)

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def is_empty(self) -> bool:
        return self.y1 <= self.y0 or self.x1 <= self.x0

    def intersect(self, other: Tile) -> Tile:
        """The common rectangle; empty (area 0) when the two do not meet."""
        return Tile(
            max(self.y0, other.y0),
            min(self.y1, other.y1),
            max(self.x0, other.x0),
            min(self.x1, other.x1),
        )

    def contains(self, other: Tile) -> bool:
        """True when every element of ``other`` lies in this tile; an empty tile lies in any."""
        return other.is_empty or self.intersect(other) == other

    def hull(self, other: Tile) -> Tile:
        """The smallest rectangle around both; an empty tile adds nothing."""
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        return Tile(
            min(self.y0, other.y0),
            max(self.y1, other.y1),
            min(self.x0, other.x0),
            max(self.x1, other.x1),
        )

    def minus(self, other: Tile) -> tuple[Tile, ...]:
        """This tile without ``other``, as at most four disjoint rectangles."""
        common = self.intersect(other)
        if common.is_empty:
            return () if self.is_empty else (self,)
        parts = (
            Tile(self.y0, common.y0, self.x0, self.x1),
            Tile(common.y1, self.y1, self.x0, self.x1),
            Tile(common.y0, common.y1, self.x0, common.x0),
            Tile(common.y0, common.y1, common.x1, self.x1),
        )
        return tuple(part for part in parts if not part.is_empty)

    def rows(self, y0: int, y1: int) -> Tile:
        """The tile of the same columns and other rows."""
        return Tile(y0, y1, self.x0, self.x1)

    def columns(self, x0: int, x1: int) -> Tile:
        """The tile of the same rows and other columns."""
        return Tile(self.y0, self.y1, x0, x1)

    def contacts(self, height: int, width: int) -> int:
        """Bits of the sides that lie on the border of a ``height x width`` map."""
        return (
            TOP * (self.y0 == 0)
            | BOTTOM * (self.y1 == height)
            | LEFT * (self.x0 == 0)
            | RIGHT * (self.x1 == width)
        )


EMPTY = Tile(0, 0, 0, 0)

Tiles = Mapping[int, Tile]
"""A partition: tiles by device number."""


class AxisMap(Protocol):
    """How one axis of an op's output reads one axis of its input."""

    @property
    def n_in(self) -> int: ...

    @property
    def n_out(self) -> int: ...

    def need(self, a: int, b: int) -> tuple[int, int]:
        """Input range, clipped to the map, that the output range ``[a, b)`` reads."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """Receptive window of a convolution or pooling along one axis.

    Output ``o`` reads the inputs ``o*stride - pad_lo + dilation*t`` for ``t < kernel``; indices
    outside ``[0, n_in)`` are padding. The defaults are the identity map.
    """

    n_in: int
    n_out: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    pad_lo: int = 0
    pad_hi: int = 0

    @property
    def span(self) -> int:
        """Inputs from the first to the last that one output reads."""
        return self.dilation * (self.kernel - 1) + 1

    def reach(self, a: int, b: int) -> tuple[int, int]:
        """Input range of ``[a, b)`` before clipping: it may leave the map on either side."""
        return a * self.stride - self.pad_lo, (b - 1) * self.stride - self.pad_lo + self.span

    def need(self, a: int, b: int) -> tuple[int, int]:
        """Input range of ``[a, b)`` clipped to the map; ``(0, 0)`` for an empty range."""
        if b <= a:
            return 0, 0
        lo, hi = self.reach(a, b)
        lo, hi = max(0, lo), min(self.n_in, hi)
        return (lo, hi) if lo < hi else (0, 0)

    def padding(self, a: int, b: int) -> tuple[int, int]:
        """Padding (before, after) that a device applies itself to the need of ``[a, b)``.

        When the window lies in the padding altogether, everything is padding before.
        """
        lo, hi = self.reach(a, b)
        if b <= a:
            return 0, 0
        if self.need(a, b) == (0, 0):
            return hi - lo, 0
        return max(0, -lo), max(0, hi - self.n_in)

    def own(self, a: int, b: int) -> tuple[int, int]:
        """Aligned pre-image of ``[a, b)``: an output cut at y lies at floor(y * n_in / n_out)."""
        return a * self.n_in // self.n_out, b * self.n_in // self.n_out


class AlignedLengths:
    """Aligned need and overlap of ranges ``[a, b)`` of an axis, from arrays as long as the axis.

    ``a`` and ``b`` are integers or arrays of them, broadcast together; a range with ``b <= a`` has
    the length 0.
    """

    def __init__(self, window: Window) -> None:
        cut = np.arange(window.n_out + 1, dtype=np.int64)
        own = cut * window.n_in // window.n_out
        self.first = np.maximum(0, cut * window.stride - window.pad_lo)
        """First input that a range from here reads (n_out + 1,); ``end`` is that of one to here."""
        self.end = np.minimum(window.n_in, (cut - 1) * window.stride - window.pad_lo + window.span)
        self.held_first = np.maximum(self.first, own)
        """The same of those inputs that the aligned pre-image holds."""
        self.held_end = np.minimum(self.end, own)

    def need(self, a: Cuts, b: Cuts) -> IntArray:
        """Inputs that ``[a, b)`` reads."""
        return np.where(np.less(a, b), np.maximum(0, self.end[b] - self.first[a]), 0)

    def held(self, a: Cuts, b: Cuts) -> IntArray:
        """Those of them that the aligned pre-image of ``[a, b)`` holds."""
        return np.where(np.less(a, b), np.maximum(0, self.held_end[b] - self.held_first[a]), 0)

    @cached_property
    def longest_clipped(self) -> int:
        """Ranges that are longer than this read and hold something, or just nothing."""
        at = np.arange(len(self.end))
        longest = 0
        for first, end in ((self.first, self.end), (self.held_first, self.held_end)):
            # The last range from each cut whose end lies before its first: both arrays grow.
            last = np.searchsorted(end, first, side="left") - 1
            longest = max(longest, int((last - at).max()))
        return longest


def need_ranges(axis: AxisMap, ranges: IntArray) -> IntArray:
    """``axis.need`` of many output ranges, both of shape (R, 2); empty ones become (0, 0)."""
    if not isinstance(axis, Window):
        distinct, place = np.unique(ranges, axis=0, return_inverse=True)
        needs = [axis.need(int(a), int(b)) if a < b else (0, 0) for a, b in distinct]
        return np.array(needs, dtype=np.int64).reshape(-1, 2)[place.reshape(-1)]
    lo = np.maximum(0, ranges[:, 0] * axis.stride - axis.pad_lo)
    hi = np.minimum(axis.n_in, (ranges[:, 1] - 1) * axis.stride - axis.pad_lo + axis.span)
    clipped = np.stack((lo, hi), axis=1)
    clipped[(lo >= hi) | (ranges[:, 0] >= ranges[:, 1])] = 0
    return clipped


def need_tile(tile: Tile, map_y: AxisMap, map_x: AxisMap) -> Tile:
    """Input rectangle that ``tile`` reads; EMPTY when either axis reads nothing."""
    if tile.is_empty:
        return EMPTY
    need = Tile(*map_y.need(tile.y0, tile.y1), *map_x.need(tile.x0, tile.x1))
    return EMPTY if need.is_empty else need


def area_without(need: Tile, tiles: Iterable[Tile]) -> int:
    """Elements per channel of ``need`` that lie in none of ``tiles``."""
    missing = [need]
    for tile in tiles:
        missing = [rest for part in missing for rest in part.minus(tile)]
    return sum(part.area for part in missing)


def cover_fault(tiles: Iterable[Tile], height: int, width: int) -> str | None:
    """What is wrong with ``tiles`` as a partition of a ``height x width`` map; None if nothing.

    Sweeps the rows between neighbouring cut positions, so it needs no per-element array.
    """
    kept = [tile for tile in tiles if not tile.is_empty]
    full = Tile(0, height, 0, width)
    for tile in kept:
        if not full.contains(tile):
            return f"tile {tile} leaves the {height} x {width} map"
    rows = sorted({0, height, *(t.y0 for t in kept), *(t.y1 for t in kept)})
    for y0, y1 in itertools.pairwise(rows):
        fault = _row_fault([t for t in kept if t.y0 <= y0 < t.y1], width)
        if fault:
            return f"rows {y0} to {y1 - 1}: {fault}"
    return None


def _row_fault(band: Sequence[Tile], width: int) -> str | None:
    at = 0
    for tile in sorted(band, key=lambda t: t.x0):
        if tile.x0 != at:
            kind = "covered twice" if tile.x0 < at else "covered by no tile"
            return f"columns {min(at, tile.x0)} to {max(at, tile.x0) - 1} are {kind}"
        at = tile.x1
    return None if at == width else f"columns {at} to {width - 1} are covered by no tile"


def transpose_tile(tile: Tile) -> Tile:
    """The tile with rows and columns exchanged."""
    return Tile(tile.x0, tile.x1, tile.y0, tile.y1)
