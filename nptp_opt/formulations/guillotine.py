"""Guillotine partitions: recursive cuts, each through its own piece.

Sets      devices i with contacts k and widths w as in ``dissection-config``; cuts t = 0 .. n - 2,
          numbered breadth first; two parts a of each cut: 0 (left of or above it) and 1.
Variables all of ``dissection-config`` but d; m[t,a,i] = 1 if device i is in part a of cut t; v[t]
          = 1 if cut t is vertical; p[t] its position; q[s,a,t] = 1 if cut t cuts part a of cut s.
Objective the makespan, as in ``dissection-config``.
Rows      all of ``dissection-config`` but the disjunctions; cut 0 parts all used devices (one
          part may be empty); q[s,a,t] = 1 makes part a of cut s the set that cut t parts; a later
          cut parts at most one set, and each part is cut at most once; two devices in one part:
          the part is cut; a tile in part 0 ends at p[t] at the latest, one in part 1 begins there
          at the earliest, along the cut's axis; parents in ascending order.

The parts of a cut of a rectangle that is covered exactly are rectangles again, so no rectangle of
an inner piece has to be modelled: sets of devices are enough. Up to four tiles every dissection is
guillotine; from five on pinwheels are excluded.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from nptp_opt.formulations.boxes import Box, read_tiles
from nptp_opt.formulations.building import (
    Builder,
    BuiltModel,
    Terms,
    order_equal_devices,
    times,
    total,
)
from nptp_opt.formulations.configured import add_boxes, start_boxes
from nptp_opt.formulations.scaled_costs import ScaledCosts
from nptp_opt.geometry import Tile, Tiles
from nptp_opt.layer.families import split

Part = tuple[int, int]


class CutTree:
    """The slicing structure over the boxes."""

    def __init__(self, b: Builder, costs: ScaledCosts, boxes: Sequence[Box]) -> None:
        self.boxes = boxes
        self.cuts = range(len(boxes) - 1)
        self.parts: list[Part] = list(itertools.product(self.cuts, (0, 1)))
        self.member: dict[tuple[Part, int], Any] = {
            (part, box.device): b.binary(f"part_{part[0]}_{part[1]}_{box.device}")
            for part in self.parts
            for box in boxes
        }
        self.vertical = [b.binary(f"vertical_{t}") for t in self.cuts]
        self.child: dict[tuple[Part, int], Any] = {
            (part, t): b.binary(f"child_{part[0]}_{part[1]}_{t}")
            for t in self.cuts
            for part in self.parts[: 2 * t]
        }
        self._add_root(b)
        self._add_children(b)
        self._add_leaves(b)
        self._add_parent_order(b)
        self._add_geometry(b, costs)

    def _set(self, t: int, device: int) -> Terms:
        """1 if the device is in the set that cut t parts."""
        return [(1.0, self.member[(t, a), device]) for a in (0, 1)]

    def _parents(self, t: int) -> Terms:
        """1 if cut t parts a set at all (t > 0)."""
        return [(1.0, self.child[part, t]) for part in self.parts[: 2 * t]]

    def _add_root(self, b: Builder) -> None:
        """Cut 0 parts the set of all used devices."""
        for box in self.boxes if self.cuts else ():
            inside = self._set(0, box.device)
            b.row(f"root_{box.device}", [*inside, *times(-1.0, box.used)], "==")

    def _add_children(self, b: Builder) -> None:
        """A later cut parts one part of an earlier cut, or nothing."""
        for t in self.cuts[1:]:
            parents = self._parents(t)
            b.row(f"parent_{t}", parents, "<=", 1)
            for box in self.boxes:
                inside = self._set(t, box.device)
                b.row(f"empty_{t}_{box.device}", [*inside, *times(-1.0, parents)], "<=")
                for part in self.parts[: 2 * t]:
                    self._add_same(b, part, t, box.device)

    def _add_same(self, b: Builder, part: Part, t: int, device: int) -> None:
        inside, member, child = self._set(t, device), self.member[part, device], self.child[part, t]
        key = f"{part[0]}_{part[1]}_{t}_{device}"
        b.row(f"in_{key}", [*inside, (-1.0, member), (1.0, child)], "<=", 1)
        b.row(f"out_{key}", [*inside, (-1.0, member), (-1.0, child)], ">=", -1)

    def _add_leaves(self, b: Builder) -> None:
        """A part with two devices is cut; no part is cut twice."""
        for part in self.parts:
            cuts = total(self.child[part, t] for t in self.cuts if (part, t) in self.child)
            key = f"{part[0]}_{part[1]}"
            b.row(f"once_{key}", cuts, "<=", 1)
            for one, two in itertools.combinations(self.boxes, 2):
                both = [(1.0, self.member[part, box.device]) for box in (one, two)]
                name = f"leaf_{key}_{one.device}_{two.device}"
                b.row(name, [*both, *times(-1.0, cuts)], "<=", 1)

    def _add_parent_order(self, b: Builder) -> None:
        """Breadth-first numbers: used cuts first, parents in ascending order."""
        last = float(len(self.parts))
        for t in self.cuts[1:-1]:
            use, following = self._parents(t), self._parents(t + 1)
            b.row(f"used_{t}", [*use, *times(-1.0, following)], ">=")
            rank = [(float(r), self.child[part, t]) for r, part in enumerate(self.parts[: 2 * t])]
            later = enumerate(self.parts[: 2 * t + 2])
            next_rank = [(float(r) - last, self.child[part, t + 1]) for r, part in later]
            b.row(f"rank_{t}", [*rank, *times(-1.0, next_rank)], "<=", last)

    def _add_geometry(self, b: Builder, costs: ScaledCosts) -> None:
        """Tiles of part 0 end at the cut at the latest, tiles of part 1 begin there."""
        far = float(max(costs.problem.height, costs.problem.width))
        for t in self.cuts:
            at = b.real(f"cut_{t}", 0.0, far)
            turn = self.vertical[t]
            for box in self.boxes:
                first, second = (self.member[(t, a), box.device] for a in (0, 1))
                sides = (("x", box.x0, box.x1, far, 2 * far), ("y", box.y0, box.y1, -far, far))
                for axis, start, stop, off, rhs in sides:
                    key = f"{axis}_{t}_{box.device}"
                    free = [(off, turn), (-1.0, at)]
                    b.row(f"end_{key}", [*stop, (far, first), *free], "<=", rhs)
                    back = [(off, turn), (1.0, at)]
                    b.row(f"begin_{key}", [(-1.0, start), (far, second), *back], "<=", rhs)

    def start(self, tiles: Tiles) -> dict[str, float]:
        """Values of the binaries for a guillotine partition."""
        binaries = (*self.member.values(), *self.vertical, *self.child.values())
        values = {v.name: 0.0 for v in binaries}
        waiting: list[tuple[Part | None, dict[int, Tile]]] = [(None, dict(tiles))]
        t = 0
        while waiting and t < len(self.cuts):
            part, piece = waiting.pop(0)
            if len(piece) < 2 and part is not None:
                continue
            if part is not None:
                values[self.child[part, t].name] = 1.0
            waiting += self._cut(t, piece, values)
            t += 1
        return values

    def _cut(
        self, t: int, piece: dict[int, Tile], values: dict[str, float]
    ) -> list[tuple[Part | None, dict[int, Tile]]]:
        vertical, parts = split(piece)
        values[self.vertical[t].name] = float(vertical)
        for a, part in enumerate(parts):
            values.update({self.member[(t, a), i].name: 1.0 for i in part})
        return [((t, a), part) for a, part in enumerate(parts)]


def build(costs: ScaledCosts) -> BuiltModel:
    """The guillotine model."""
    b = Builder("guillotine")
    configured = add_boxes(b, costs)
    boxes = [c.box for c in configured]
    tree = CutTree(b, costs, boxes)

    def extract(values: Mapping[str, float]) -> dict[int, Tile]:
        return read_tiles(costs, boxes, values)

    def start(tiles: Tiles) -> dict[str, float]:
        renamed = order_equal_devices(costs.problem, tiles)
        return start_boxes(costs, configured, renamed) | tree.start(renamed)

    return BuiltModel(b.model(), extract, start)
