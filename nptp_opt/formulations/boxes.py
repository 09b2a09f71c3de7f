"""Rectangles at free positions: the geometry that the dissection models share."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nptp_opt.formulations.building import Builder, Terms, times
from nptp_opt.formulations.scaled_costs import ScaledCosts
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, Tile, Tiles

SIDES = (TOP, BOTTOM, LEFT, RIGHT)


@dataclass(frozen=True)
class Box:
    """A device's tile: position variables, and its size, use and contacts as linear terms.

    All terms are 0 for a device without a tile.
    """

    device: int
    x0: Any
    y0: Any
    width: Terms
    height: Terms
    used: Terms
    touches: Mapping[int, Terms]

    @property
    def x1(self) -> Terms:
        return [(1.0, self.x0), *self.width]

    @property
    def y1(self) -> Terms:
        return [(1.0, self.y0), *self.height]


def _add_axis(
    b: Builder, key: str, box: Box, sides: tuple[int, int], cuts: tuple[int, ...], size: Terms
) -> None:
    """A tile lies in the map, at the border exactly on the sides that it touches."""
    position = box.x0 if sides[0] == LEFT else box.y0
    low, high = box.touches[sides[0]], box.touches[sides[1]]
    end = float(cuts[-1])
    first, gap = float(cuts[1]), end - cuts[-2]
    stop: Terms = [(1.0, position), *size]
    b.row(f"at{sides[0]}_{key}", [(1.0, position), *times(end, low)], "<=", end)
    b.row(
        f"off{sides[0]}_{key}",
        [(1.0, position), *times(-first, box.used), *times(first, low)],
        ">=",
    )
    b.row(f"at{sides[1]}_{key}", [*stop, *times(-end, high)], ">=")
    b.row(f"off{sides[1]}_{key}", [*stop, *times(gap, box.used), *times(-gap, high)], "<=", end)


def add_positions(b: Builder, costs: ScaledCosts, boxes: Sequence[Box]) -> None:
    """Every tile lies in the map and touches exactly the sides of its contacts."""
    for box in boxes:
        _add_axis(b, str(box.device), box, (TOP, BOTTOM), costs.problem.cuts_y, box.height)
        _add_axis(b, str(box.device), box, (LEFT, RIGHT), costs.problem.cuts_x, box.width)


Before = Mapping[tuple[int, int, str], Any]


def add_disjunctions(b: Builder, costs: ScaledCosts, boxes: Sequence[Box]) -> Before:
    """Of any two tiles one lies left of, or above, the other."""
    before: dict[tuple[int, int, str], Any] = {}
    ends = {"x": float(costs.problem.width), "y": float(costs.problem.height)}
    for one, two in itertools.permutations(boxes, 2):
        for axis, end in ends.items():
            key = (one.device, two.device, axis)
            choice = before[key] = b.binary(f"before_{one.device}_{two.device}_{axis}")
            stop, at = (one.x1, two.x0) if axis == "x" else (one.y1, two.y0)
            name = f"apart_{one.device}_{two.device}_{axis}"
            b.row(name, [*stop, (-1.0, at), (end, choice)], "<=", end)
    for one, two in itertools.combinations(boxes, 2):
        i, j = one.device, two.device
        ways = [(1.0, before[a, c, axis]) for a, c in ((i, j), (j, i)) for axis in "xy"]
        b.row(f"pair_{i}_{j}", [*ways, *times(-1.0, [*one.used, *two.used])], ">=", -1)
    return before


def add_cover(b: Builder, costs: ScaledCosts, areas: Terms) -> None:
    """The areas sum to the map's: with no overlap, every element is covered exactly once."""
    b.row("cover", areas, "==", float(costs.problem.height * costs.problem.width))


def corners(boxes: Sequence[Box], values: Mapping[str, float]) -> dict[int, tuple[float, ...]]:
    """Sides (y0, y1, x0, x1) of every used tile."""

    def at(terms: Terms) -> float:
        return sum(coefficient * values[variable.name] for coefficient, variable in terms)

    return {
        box.device: (values[box.y0.name], at(box.y1), values[box.x0.name], at(box.x1))
        for box in boxes
        if at(box.used) > 0.5
    }


def read_tiles(
    costs: ScaledCosts, boxes: Sequence[Box], values: Mapping[str, float]
) -> dict[int, Tile]:
    """Tiles of a solution, every side moved to the nearest allowed cut."""
    return {i: costs.tile(*sides) for i, sides in corners(boxes, values).items()}


def start_before(before: Before, tiles: Tiles) -> dict[str, float]:
    """Values of the disjunctions for a partition."""
    values = {}
    for (i, j, axis), choice in before.items():
        apart = i in tiles and j in tiles and _is_before(tiles[i], tiles[j], axis)
        values[choice.name] = float(apart)
    return values


def _is_before(one: Tile, two: Tile, axis: str) -> bool:
    return one.x1 <= two.x0 if axis == "x" else one.y1 <= two.y0
