"""Column partitions on a shared network: least bytes under a cap on the compute time.

All tiles of a column have its width, so their bytes depend on the column's width, its number of
tiles and its side contacts alone; which sets can fill a column of a width under the cap comes from
``ColumnTables``. V[S, x] is the least number of bytes with which devices of S cover the first x
units of the width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nptp_opt.compiling import compiled
from nptp_opt.cost import FloatArray
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, IntArray
from nptp_opt.search.column_tables import ColumnTables
from nptp_opt.search.intervals import Answer, ComputeIntervals, Interval
from nptp_opt.search.support import Clock, Incumbent
from nptp_opt.search.unit_costs import UnitCosts, UnitRect, to_tiles

Column = tuple[int, int, int]
"""A set of devices and the range of units that it covers."""


@compiled
def _extend(best, choice, whole, parts, widest, costs_of_part):  # type: ignore[no-untyped-def]
    """Best covers of the first x units by ``whole``: its last column is one of ``parts``."""
    cols = best.shape[1] - 1
    for part in parts:
        rest = best[whole - part]
        for w in range(1, widest[part] + 1):
            cost = costs_of_part[part, w]
            for x in range(w + 1, cols):
                if rest[x - w] + cost < best[whole, x]:
                    best[whole, x] = rest[x - w] + cost
                    choice[whole, x, 0], choice[whole, x, 1] = part, w


class LeastBytes:
    """V for one orientation and one set of costs."""

    def __init__(self, costs: UnitCosts, *, lower: bool = False) -> None:
        self.tables = ColumnTables(costs)
        self._per_row = np.min if lower else np.max
        count, cols = self.tables.subsets.count, self.tables.cols
        self._bytes_of = {ends: self._column_bytes(ends) for ends in (0, LEFT, RIGHT, LEFT | RIGHT)}
        self._best = np.zeros((count, cols + 1))
        self._choice = np.zeros((count, cols + 1, 2), dtype=np.int64)

    def _column_bytes(self, ends: int) -> FloatArray:
        """Bytes of a column by set and width in units."""
        p = self.tables.costs
        tiles = self.tables.subsets.vectors.sum(axis=1)[:, None]
        outer, inner = p.recv[[TOP | ends, BOTTOM | ends]].sum(axis=0), p.recv[ends]
        several = outer[None] + np.maximum(tiles - 2, 0) * inner[None]
        alone = p.recv[TOP | BOTTOM | ends][None]
        h, w, const = np.where(tiles == 1, alone, several).T
        # The heights sum to the map's, so the tiles' costs per row of height must be one cost.
        rows = [TOP | ends, BOTTOM | ends, *([ends] if p.exists[ends] else [])]
        h = np.where(tiles[:, 0] == 1, alone[0, 0], self._per_row(p.recv[rows, 0]))
        height = p.heights[TOP | BOTTOM, -1]
        width = np.nan_to_num(p.widths[TOP | BOTTOM | ends])
        bytes_: FloatArray = (h * height + const)[:, None] + w[:, None] * width[None]
        return bytes_

    def solve(self, cap_s: float, most_messages: int, clock: Clock) -> tuple[float, list[Column]]:
        """Least bytes under the caps (infinite: none) and the columns that attain them."""
        widest = self.tables.widest(cap_s, clock.check, most_messages)
        subsets, cols = self.tables.subsets, self.tables.cols
        units = np.arange(cols + 1)
        reach = units[None] <= widest[LEFT][:, None]
        self._best[:] = np.where(reach & (units > 0), self._bytes_of[LEFT], np.inf)
        self._choice[:] = 0
        for s in subsets.by_size:
            clock.check()
            parts = self.tables.parts[int(s)]
            _extend(self._best, self._choice, int(s), parts, widest[0], self._bytes_of[0])
            self._leave_idle(int(s))
        return self._finish(widest)

    def _leave_idle(self, whole: int) -> None:
        """Let a set do what it can do with one device idle; width 0 marks that choice."""
        for cls in self.tables.subsets.classes_in(whole):
            rest = whole - int(self.tables.subsets.strides[cls])
            better = self._best[rest] < self._best[whole]
            self._best[whole][better] = self._best[rest][better]
            self._choice[whole][better] = (rest, 0)

    def _finish(self, widest: dict[int, IntArray]) -> tuple[float, list[Column]]:
        cols, full = self.tables.cols, self.tables.subsets.full
        whole_map = np.where(widest[LEFT | RIGHT] == cols, self._bytes_of[12][:, cols], np.inf)
        lone = int(whole_map.argmin())
        best, columns = float(whole_map[lone]), [(lone, 0, cols)]
        units = np.arange(1, cols)
        for part in self.tables.parts[full]:
            total = self._best[full - part, cols - units] + self._bytes_of[RIGHT][part, units]
            total[widest[RIGHT][part] :] = np.inf
            w = int(total.argmin()) if len(total) else 0
            if len(total) and total[w] < best:
                x = cols - 1 - w
                best = float(total[w])
                columns = [*self._left_of(full - int(part), x), (int(part), x, cols)]
        return best, columns if best < np.inf else []

    def _left_of(self, whole: int, x: int) -> list[Column]:
        part, w = (int(v) for v in self._choice[whole, x])
        if part == 0:
            return [(whole, 0, x)]
        if w == 0:
            return self._left_of(part, x)
        return [*self._left_of(whole - part, x - w), (part, x - w, x)]

    def rects(self, columns: list[Column]) -> dict[int, UnitRect]:
        """Unit rectangles of the columns of the last ``solve``."""
        return self.tables.fill_columns(columns)


@dataclass
class SharedColumns:
    """Column partitions and their transposes within intervals of compute times."""

    costs: UnitCosts
    intervals: ComputeIntervals
    best: Incumbent
    clock: Clock
    lower: bool = False

    def __post_init__(self) -> None:
        self._ways = tuple(
            LeastBytes(p, lower=self.lower) for p in (self.costs, self.costs.transposed())
        )

    @property
    def value_s(self) -> float:
        return self.best.value_s

    def search(self, interval: Interval, goal_s: float) -> Answer:
        """The least bytes under the interval's caps; offers the partition that attains them."""
        byte_s = self.intervals.sends[interval.messages].lp.byte_s
        answers = []
        for swapped, way in enumerate(self._ways):
            bytes_, columns = way.solve(interval.high, interval.messages, self.clock)
            answers.append(bytes_)
            if columns:
                rects = way.rects(columns)
                self.best.offer(
                    to_tiles(self.best.cost.problem, rects, swapped=bool(swapped)), "column-dp"
                )
        return Answer(min(answers) * byte_s)
