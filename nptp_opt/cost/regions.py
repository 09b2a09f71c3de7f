"""Regions of many tiles of a segment at once: ``network.ir.regions`` axis by axis.

Tiles of a partition share few row ranges and few column ranges, and windows are separable, so each
axis is followed towards the input on its own and areas are products. Only where a window lies in
the padding altogether do the axes depend on each other; ``SegmentRegions.of`` sees that and
follows such segments tile by tile.

Legend of shapes: Q candidate partitions, n devices, R distinct row ranges, C column ranges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nptp_opt.geometry import EMPTY, IntArray, Tile, need_ranges
from nptp_opt.network.ir import Layer, regions

Ranges = dict[str, IntArray]
"""Range (R, 2) of every tensor along one axis; (0, 0) where nothing is read."""


@dataclass(frozen=True)
class CandidateTiles:
    """Q partitions of one map as an array (Q, n, 4); a device without a tile has zeros."""

    array: IntArray

    @cached_property
    def rows(self) -> tuple[IntArray, IntArray]:
        """Distinct row ranges (R, 2), and which one each tile has (Q, n)."""
        return self._axis(self.array[..., :2])

    @cached_property
    def columns(self) -> tuple[IntArray, IntArray]:
        """Distinct column ranges (C, 2), and which one each tile has (Q, n)."""
        return self._axis(self.array[..., 2:])

    @cached_property
    def filled(self) -> IntArray:
        """1 where a device has a tile, 0 where it has none: (Q, n)."""
        y0, y1, x0, x1 = np.moveaxis(self.array, -1, 0)
        return np.asarray((y1 > y0) & (x1 > x0), dtype=np.int64)

    def _axis(self, ranges: IntArray) -> tuple[IntArray, IntArray]:
        keys = ranges[..., 0] << 32 | ranges[..., 1]
        distinct, place = np.unique(keys, return_inverse=True)
        pairs = np.stack((distinct >> 32, distinct & 0xFFFFFFFF), axis=1)
        return pairs, place.reshape(keys.shape)


@dataclass(frozen=True)
class SegmentRegions:
    """Rectangles of every tensor of a segment that the tiles of its output take.

    ``whole`` has them (Q, n, 4) where the axes depend on each other; elsewhere they are put
    together from the ranges of the axes when they are asked for.
    """

    candidates: CandidateTiles
    along_y: Ranges
    along_x: Ranges
    whole: Mapping[str, IntArray] | None = None

    @classmethod
    def of(cls, layers: Sequence[Layer], candidates: CandidateTiles) -> SegmentRegions:
        """Regions of ``candidates``, partitions of the last layer's output."""
        along_y = _follow(layers, candidates.rows[0], 0)
        along_x = _follow(layers, candidates.columns[0], 1)
        if along_y is None or along_x is None:
            return cls(candidates, {}, {}, _tile_by_tile(layers, candidates.array))
        return cls(candidates, along_y, along_x)

    def tiles(self, tensor: str) -> IntArray:
        """The rectangles (Q, n, 4) of one tensor."""
        if self.whole is not None:
            return self.whole[tensor]
        array = np.zeros_like(self.candidates.array)
        array[..., :2] = self.along_y[tensor][self.candidates.rows[1]]
        array[..., 2:] = self.along_x[tensor][self.candidates.columns[1]]
        return np.asarray(array * self.candidates.filled[..., None])

    def area(self, tensor: str) -> IntArray:
        """Elements per channel (Q, n) of one tensor's regions."""
        if self.whole is not None:
            y0, y1, x0, x1 = np.moveaxis(self.whole[tensor], -1, 0)
            return np.asarray((y1 - y0) * (x1 - x0))
        rows, columns = (np.diff(r[tensor])[:, 0] for r in (self.along_y, self.along_x))
        pixels = rows[self.candidates.rows[1]] * columns[self.candidates.columns[1]]
        return np.asarray(pixels * self.candidates.filled)


def _follow(layers: Sequence[Layer], ranges: IntArray, axis: int) -> Ranges | None:
    """Ranges of all tensors along one axis; None when a window reads nothing of a non-empty one."""
    ranges_of: Ranges = {layers[-1].name: ranges}
    filled = ranges[:, 0] < ranges[:, 1]
    nothing = np.zeros_like(ranges)
    for layer in reversed(layers):
        wanted = ranges_of.setdefault(layer.name, nothing)
        for tensor in layer.inputs:
            need = need_ranges(layer.maps[tensor][axis], wanted)
            if not np.array_equal(need[:, 0] < need[:, 1], filled):
                return None
            known = ranges_of.get(tensor)
            ranges_of[tensor] = need if known is None else _hull(known, need)
    return ranges_of


def _hull(one: IntArray, other: IntArray) -> IntArray:
    """Smallest ranges around both; both are empty in the same places."""
    return np.stack(
        (np.minimum(one[:, 0], other[:, 0]), np.maximum(one[:, 1], other[:, 1])), axis=1
    )


def _tile_by_tile(layers: Sequence[Layer], array: IntArray) -> dict[str, IntArray]:
    distinct, place = np.unique(array.reshape(-1, 4), axis=0, return_inverse=True)
    regions_of = [regions(layers, Tile(*(int(v) for v in sides))) for sides in distinct]
    place = place.reshape(array.shape[:-1])
    return {
        tensor: np.array([_sides(each[tensor]) for each in regions_of], dtype=np.int64)[place]
        for tensor in regions_of[0]
    }


def _sides(tile: Tile) -> tuple[int, int, int, int]:
    tile = EMPTY if tile.is_empty else tile
    return tile.y0, tile.y1, tile.x0, tile.x1
