"""Column partitions of sets of devices within a target: stacks of tiles side by side.

H[S, f, u] is the height that the devices of S, stacked, reach at width u with contacts f. A set
fills a column of width u when it reaches the whole height; ``reach[S]`` is how far from the left
border columns of S get when at least one more column follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nptp_opt.compiling import compiled
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, IntArray
from nptp_opt.search.guillotine_tables import stack_heights
from nptp_opt.search.subsets import DevicePool, Subsets
from nptp_opt.search.unit_costs import UnitCosts, UnitRect

_TALL = TOP | BOTTOM


@compiled
def _fill_stacks(table, whole, classes, strides, single, rows, first, last):  # type: ignore[no-untyped-def]
    for cls in classes:
        rest = whole - strides[cls]
        for f in range(16):
            target = table[whole, f]
            if rest == 0:
                target[:] = np.maximum(target, single[cls, f])
                continue
            target[:] = np.maximum(target, table[rest, f])
            upper, lower = table[rest, f & ~2], single[cls, f & ~1]
            stack_heights(target, upper, lower, f, first[f], last[f], rows)
            upper, lower = single[cls, f & ~2], table[rest, f & ~1]
            stack_heights(target, upper, lower, f, first[f], last[f], rows)


@compiled
def _reach(reach, whole, parts, alone, middle, cols):  # type: ignore[no-untyped-def]
    best = alone[whole]
    for part in parts:
        left = reach[whole - part]
        if left > 0 and middle[part] > 0:
            best = max(best, left + middle[part])
    reach[whole] = min(best, cols - 1)


@dataclass
class ColumnTables:
    """H and reach for one set of costs; vertical cuts go through, horizontal ones stop."""

    costs: UnitCosts

    def __post_init__(self) -> None:
        self.subsets = Subsets(tuple(len(group) for group in self.costs.members))
        self.rows, self.cols = self.costs.rows.units, self.costs.cols.units
        self.table = np.zeros((self.subsets.count, 16, self.cols + 1), dtype=np.int32)
        self.parts = self.subsets.all_parts()
        self._first = np.array([self.cols if f & 12 == 12 else 1 for f in range(16)])
        most = [self.costs.cols.most(bool(f & LEFT) + bool(f & RIGHT)) for f in range(16)]
        self._last = np.where(self.costs.exists, np.array(most), 0)
        self._widest: dict[int, IntArray] = {}
        self._reach = np.zeros(self.subsets.count, dtype=np.int64)

    def update(self, target_s: float, check: Callable[[], None]) -> bool:
        """Fill the tables for ``target_s``; True when all devices together cover the map."""
        self._fill(target_s, check)
        full = self.subsets.full
        if self._widest[LEFT | RIGHT][full] == self.cols:
            return True
        for s in self.subsets.by_size:
            whole = int(s)
            _reach(
                self._reach,
                whole,
                self.parts[whole],
                self._widest[LEFT],
                self._widest[0],
                self.cols,
            )
        return self._last_column() is not None

    def widest(
        self, target_s: float, check: Callable[[], None], most_messages: int = 4
    ) -> dict[int, IntArray]:
        """Widest column, in units, by its left and right contacts and by set."""
        self._fill(target_s, check, most_messages)
        return self._widest

    def _fill(self, target_s: float, check: Callable[[], None], most_messages: int = 4) -> None:
        self._single = self.costs.tallest(target_s, most_messages).astype(np.int32)
        self.table[:] = 0
        strides = self.subsets.strides
        for s in self.subsets.by_size:
            check()
            classes = self.subsets.classes_in(s)
            _fill_stacks(
                self.table, s, classes, strides, self._single, self.rows, self._first, self._last
            )
        units = np.arange(self.cols + 1)
        for ends in (0, LEFT, RIGHT, LEFT | RIGHT):
            full_height = self.table[:, _TALL | ends] == self.rows
            self._widest[ends] = np.where(full_height, units, 0).max(axis=1)

    def _last_column(self) -> int | None:
        parts = self.parts[self.subsets.full]
        left, right = self._reach[self.subsets.full - parts], self._widest[RIGHT][parts]
        done = (left > 0) & (right > 0) & (left + right >= self.cols)
        return int(parts[done.argmax()]) if done.any() else None

    def rects(self) -> dict[int, UnitRect]:
        """Unit rectangles by device, after an ``update`` that returned True."""
        return self.fill_columns(self._columns())

    def _columns(self) -> list[tuple[int, int, int]]:
        """Chosen columns as (set, x0, x1)."""
        full = self.subsets.full
        if self._widest[LEFT | RIGHT][full] == self.cols:
            return [(full, 0, self.cols)]
        last = self._last_column()
        assert last is not None
        x = max(1, self.cols - int(self._widest[RIGHT][last]))
        columns = [(last, x, self.cols)]
        rest = full - last
        while self._widest[LEFT][rest] < x:
            part, start = self._inner_column(rest, x)
            columns.append((part, start, x))
            rest, x = rest - part, start
        return [*columns, (rest, 0, x)]

    def _inner_column(self, whole: int, x: int) -> tuple[int, int]:
        parts = self.parts[whole]
        left, middle = self._reach[whole - parts], self._widest[0][parts]
        part = int(parts[((left > 0) & (middle > 0) & (left + middle >= x)).argmax()])
        return part, max(1, x - int(self._widest[0][part]))

    def fill_columns(self, columns: list[tuple[int, int, int]]) -> dict[int, UnitRect]:
        """Unit rectangles of columns given as (set, x0, x1), each within its set's reach."""
        pool = DevicePool(self.costs.members)
        rects: dict[int, UnitRect] = {}
        for whole, x0, x1 in columns:
            ends = LEFT * (x0 == 0) | RIGHT * (x1 == self.cols)
            for cls, y0, y1 in self._stack(whole, ends, x1 - x0):
                rects[pool.take(cls)] = (y0, y1, x0, x1)
        return rects

    def _stack(self, whole: int, ends: int, width: int) -> list[tuple[int, int, int]]:
        tiles: list[tuple[int, int, int]] = []
        contacts, y0, y1 = _TALL | ends, 0, self.rows
        while True:
            cls = self._alone(whole, contacts, width, y1 - y0)
            if cls is not None:
                return [*tiles, (cls, y0, y1)]
            whole, cls, at_bottom, height = self._peel(whole, contacts, width, y1 - y0)
            if height == 0:
                continue
            tiles.append((cls, y1 - height, y1) if at_bottom else (cls, y0, y0 + height))
            y0, y1 = (y0, y1 - height) if at_bottom else (y0 + height, y1)
            contacts &= ~(BOTTOM if at_bottom else TOP)

    def _alone(self, whole: int, contacts: int, width: int, height: int) -> int | None:
        for cls in self.subsets.classes_in(whole):
            if self._single[cls, contacts, width] >= height:
                return int(cls)
        return None

    def _peel(
        self, whole: int, contacts: int, width: int, height: int
    ) -> tuple[int, int, bool, int]:
        """One device of a stack: (rest, class, whether it is the lowest, its height or 0)."""
        for cls in self.subsets.classes_in(whole):
            rest = whole - int(self.subsets.strides[cls])
            if self.table[rest, contacts, width] >= height:
                return rest, int(cls), False, 0
            for at_bottom in (True, False):
                mine, others = (TOP, BOTTOM) if at_bottom else (BOTTOM, TOP)
                one = int(self._single[cls, contacts & ~mine, width])
                rows = int(self.table[rest, contacts & ~others, width])
                if min(one, rows) > 0 and one + rows >= height:
                    return rest, int(cls), at_bottom, min(one, height - 1)
        raise AssertionError("a table entry has no stack behind it")
