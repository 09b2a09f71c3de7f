"""Heights that device sets reach by guillotine cuts within a target, by recursion.

T[S, f, u] is the largest height in units that the devices of S can cover at width u with border
contacts f; 0 where they cannot. One device: closed form. Stacked sets: heights add. Side by side:
the best split of the width maximises the lower of two monotone functions, found in one sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nptp_opt.compiling import compiled, inner
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP
from nptp_opt.search.subsets import DevicePool, Subsets
from nptp_opt.search.unit_costs import UnitCosts, UnitRect


@inner
def _cap(height, contacts, units):  # type: ignore[no-untyped-def]
    """Height that a piece with these contacts can have: all or nothing where it touches both."""
    both = (contacts & 1) + ((contacts >> 1) & 1)
    if both == 2:
        return units if height >= units else 0
    return max(0, min(height, units - 2 + both))


@inner
def stack_heights(target, upper, lower, contacts, first, last, units):  # type: ignore[no-untyped-def]
    """Raise ``target`` to the heights of one piece above another, where both exist."""
    for u in range(first, last + 1):
        if upper[u] > 0 and lower[u] > 0:
            target[u] = max(target[u], _cap(upper[u] + lower[u], contacts, units))


@inner
def _beside(target, left, right, first, last):  # type: ignore[no-untyped-def]
    """``left`` falls and ``right[u - p]`` rises in p; the crossing moves right as u grows."""
    p = 1
    for u in range(max(first, 2), last + 1):
        while p + 1 < u and left[p + 1] >= right[u - p - 1]:
            p += 1
        best = min(left[p], right[u - p])
        if p + 1 < u:
            best = max(best, min(left[p + 1], right[u - p - 1]))
        target[u] = max(target[u], best)


@compiled
def _fill(table, whole, parts, rows, cols, first, last):  # type: ignore[no-untyped-def]
    for part in parts:
        rest = whole - part
        for f in range(16):
            if last[f] < first[f]:
                continue
            target = table[whole, f]
            stack_heights(
                target, table[part, f & ~2], table[rest, f & ~1], f, first[f], last[f], rows
            )
            _beside(target, table[part, f & ~8], table[rest, f & ~4], first[f], last[f])


@dataclass
class GuillotineTables:
    """T for one set of costs; ``update`` fills it for a target, ``rects`` reads a partition."""

    costs: UnitCosts

    def __post_init__(self) -> None:
        self.subsets = Subsets(tuple(len(group) for group in self.costs.members))
        self.rows, self.cols = self.costs.rows.units, self.costs.cols.units
        self.table = np.zeros((self.subsets.count, 16, self.cols + 1), dtype=np.int32)
        self._parts = {int(s): self.subsets.parts(s) for s in self.subsets.by_size}
        ends = [bool(f & LEFT) + bool(f & RIGHT) for f in range(16)]
        exists = self.costs.exists
        self._first = np.array([self.cols if e == 2 else 1 for e in ends])
        last = np.array([self.costs.cols.most(e) for e in ends])
        self._last = np.where(exists, last, 0)

    def update(self, target_s: float, check: Callable[[], None]) -> bool:
        """Fill the table for ``target_s``; True when all devices together cover the map."""
        self._single = self.costs.tallest(target_s)
        self.table[:] = 0
        for s in self.subsets.by_size:
            check()
            whole = int(s)
            self._start(whole)
            parts = self._parts[whole]
            _fill(self.table, whole, parts, self.rows, self.cols, self._first, self._last)
        return bool(self.table[self.subsets.full, 15, self.cols] == self.rows)

    def _start(self, whole: int) -> None:
        """What one device of the set, or the set with one device idle, covers."""
        for cls in self.subsets.classes_in(whole):
            rest = whole - int(self.subsets.strides[cls])
            best = self.table[rest] if rest else self._single[cls]
            np.maximum(self.table[whole], best, out=self.table[whole])

    def rects(self) -> dict[int, UnitRect]:
        """Unit rectangles by device, after an ``update`` that returned True."""
        pool = DevicePool(self.costs.members)
        rects: dict[int, UnitRect] = {}
        todo = [(self.subsets.full, 15, (0, self.rows, 0, self.cols))]
        while todo:
            whole, contacts, rect = todo.pop()
            cls = self._alone(whole, contacts, rect)
            if cls is not None:
                rects[pool.take(cls)] = rect
            else:
                todo.extend(self._split(whole, contacts, rect))
        return rects

    def _alone(self, whole: int, contacts: int, rect: UnitRect) -> int | None:
        for cls in self.subsets.classes_in(whole):
            if self._single[cls, contacts, rect[3] - rect[2]] >= rect[1] - rect[0]:
                return int(cls)
        return None

    def _split(self, whole: int, contacts: int, rect: UnitRect) -> list[tuple[int, int, UnitRect]]:
        y0, y1, x0, x1 = rect
        height, width = y1 - y0, x1 - x0
        for cls in self.subsets.classes_in(whole):
            rest = whole - int(self.subsets.strides[cls])
            if rest and self.table[rest, contacts, width] >= height:
                return [(rest, contacts, rect)]
        for part in self._parts[whole]:
            rest = whole - int(part)
            a, b = contacts & ~BOTTOM, contacts & ~TOP
            top, low = int(self.table[part, a, width]), int(self.table[rest, b, width])
            if min(top, low) > 0 and top + low >= height > 1:
                cut = y0 + min(top, height - 1)
                return [(int(part), a, (y0, cut, x0, x1)), (rest, b, (cut, y1, x0, x1))]
            a, b = contacts & ~RIGHT, contacts & ~LEFT
            reach = np.minimum(
                self.table[part, a, 1:width], self.table[rest, b, width - 1 : 0 : -1]
            )
            if width > 1 and reach.max() >= height:
                cut = x0 + 1 + int(reach.argmax())
                return [(int(part), a, (y0, y1, x0, cut)), (rest, b, (y0, y1, cut, x1))]
        raise AssertionError("a table entry has no partition behind it")
