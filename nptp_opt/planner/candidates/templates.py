"""Templates: partitions in relative coordinates, so that one fits every map of a network."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nptp_opt.cost import FloatArray
from nptp_opt.geometry import IntArray, Tile
from nptp_opt.network.ir import Network

Box = tuple[float, float, float, float]
"""y0, y1, x0, x1 as fractions of the map."""

UNIT: Box = (0.0, 1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Template:
    """Relative tiles by device number; they cover the unit square exactly once.

    Where ``snapped``, cuts prefer positions between the windows of the next layer.
    """

    name: str
    boxes: Mapping[int, Box]
    snapped: bool = True

    def at(self, height: int, width: int, snap: tuple[int, int] = (1, 1)) -> dict[int, Tile]:
        """The partition of a map; equal fractions become equal cuts, so it covers exactly.

        ``snap`` moves cuts to multiples of the next layer's stride, where they fall between
        windows; a snap as large as the map leaves one tile, whoever's. Tiles that round to nothing
        are left out.
        """
        sides = self.sides(height, width, snap)
        tiles = zip(self.boxes, itertools.starmap(Tile, sides.tolist()), strict=True)
        return {device: tile for device, tile in tiles if not tile.is_empty}

    def sides(self, height: int, width: int, snap: tuple[int, int] = (1, 1)) -> IntArray:
        """The tiles (devices of ``boxes``, 4) of ``at``; all 0 where one rounds to nothing."""
        step = np.array(snap if self.snapped or snap == (height, width) else (1, 1))
        return _sides(self.fractions, (height, width), step)

    @cached_property
    def fractions(self) -> FloatArray:
        """The boxes as an array (devices of ``boxes``, 4)."""
        return np.array(list(self.boxes.values()))


class TemplateStack:
    """Many templates, placed on a map all at once."""

    def __init__(self, templates: Sequence[Template], n: int) -> None:
        self.shape = (len(templates), n, 4)
        devices = [i + n * k for k, t in enumerate(templates) for i in t.boxes]
        self._rows = np.array(devices, dtype=np.int64)
        parts = [template.fractions for template in templates]
        self._fractions = np.concatenate([np.zeros((0, 4)), *parts])
        snapped = np.array([template.snapped for template in templates], dtype=bool)
        self._snapped = snapped[self._rows // n][:, None]

    def placed(self, size: tuple[int, int], snap: tuple[int, int] = (1, 1)) -> IntArray:
        """Every template's ``sides`` by device number: (templates, n, 4)."""
        found = np.zeros((self.shape[0] * self.shape[1], 4), dtype=np.int64)
        forced = self._snapped | (snap == size)
        step = np.where(forced, snap, 1) if snap != (1, 1) else np.ones(2, dtype=np.int64)
        found[self._rows] = _sides(self._fractions, size, step)
        return found.reshape(self.shape)


def _sides(fractions: FloatArray, size: tuple[int, int], step: IntArray) -> IntArray:
    """Boxes (B, 4) on a map, cuts at multiples of ``step`` (2,) or (B, 2); 0 where empty."""
    length = np.repeat(size, 2)
    steps = np.repeat(step, 2, axis=-1)
    rounded = (steps * np.rint(fractions * length / steps)).astype(np.int64)
    found = np.where(fractions >= 1.0, length, np.minimum(length, rounded))
    found[(found[:, 0] >= found[:, 1]) | (found[:, 2] >= found[:, 3])] = 0
    return np.asarray(found)


def rescaled(
    tiles: Mapping[int, Tile],
    size: tuple[int, int],
    other: tuple[int, int],
    snap: tuple[int, int] = (1, 1),
) -> dict[int, Tile]:
    """A partition of a map of one size on a map of the ``other``, as a template would place it."""
    if size == other and snap == (1, 1):
        return dict(tiles)
    y = _cuts({p for t in tiles.values() for p in (t.y0, t.y1)}, size[0], other[0], snap[0])
    x = _cuts({p for t in tiles.values() for p in (t.x0, t.x1)}, size[1], other[1], snap[1])
    found = {i: Tile(y[t.y0], y[t.y1], x[t.x0], x[t.x1]) for i, t in tiles.items()}
    return {i: tile for i, tile in found.items() if not tile.is_empty}


def _cuts(positions: Iterable[int], length: int, other: int, step: int) -> dict[int, int]:
    """Where cuts of one axis lie on another one, at multiples of ``step``."""
    return {
        at: other if at == length else min(other, step * round(at * other / length / step))
        for at in positions
    }


def snaps(network: Network) -> dict[str, tuple[int, int]]:
    """For every spatial layer the largest stride with which a later layer reads it.

    A whole layer's is its map's size: no cut goes through that.
    """
    found = {layer.name: (1, 1) for layer in network.spatial}
    for layer in network.spatial:
        for tensor, (map_y, map_x) in layer.maps.items():
            if tensor in found:
                strides = (getattr(map_y, "stride", 1), getattr(map_x, "stride", 1))
                y, x = found[tensor]
                found[tensor] = (max(y, strides[0]), max(x, strides[1]))
    return found | {
        each.name: (each.height, each.width) for each in network.spatial if each.is_whole
    }


def strips(
    name: str, devices: Sequence[int], shares: Sequence[float], *, vertical: bool
) -> Template:
    """One strip per device with the given shares, cut across the rows (or columns)."""
    cuts = _cumulative(shares)
    boxes: dict[int, Box] = {}
    for device, (lo, hi) in zip(devices, itertools.pairwise(cuts), strict=True):
        boxes[device] = (0.0, 1.0, lo, hi) if vertical else (lo, hi, 0.0, 1.0)
    return Template(name, boxes)


def columns(
    name: str, groups: Sequence[Sequence[int]], share: Mapping[int, float], *, transpose: bool
) -> Template:
    """Groups of devices side by side, each group stacked; areas are proportional to ``share``."""
    boxes: dict[int, Box] = {}
    across = _cumulative([sum(share[i] for i in group) for group in groups])
    for group, (x0, x1) in zip(groups, itertools.pairwise(across), strict=True):
        down = _cumulative([share[i] for i in group])
        for device, (y0, y1) in zip(group, itertools.pairwise(down), strict=True):
            boxes[device] = (x0, x1, y0, y1) if transpose else (y0, y1, x0, x1)
    return Template(name, boxes)


def grid(name: str, rows: int, across: int) -> Template:
    """Equal cells, one per device, row by row."""
    return Template(
        name,
        {
            r * across + c: (r / rows, (r + 1) / rows, c / across, (c + 1) / across)
            for r in range(rows)
            for c in range(across)
        },
    )


def from_tiles(
    name: str, tiles: Mapping[int, Tile], height: int, width: int, *, snapped: bool = True
) -> Template:
    """The template of a partition that was found on a ``height x width`` map."""
    return Template(
        name,
        {
            i: (t.y0 / height, t.y1 / height, t.x0 / width, t.x1 / width)
            for i, t in tiles.items()
            if not t.is_empty
        },
        snapped,
    )


def _cumulative(shares: Sequence[float]) -> list[float]:
    total = sum(shares)
    inner = [part / total for part in itertools.accumulate(shares)][:-1]
    return [0.0, *inner, 1.0]
