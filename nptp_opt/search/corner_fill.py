"""Compiled depth-first search over all dissections: fill the topmost, then leftmost, free corner.

A tile of class c with contacts f, width w and height h uses up ``slope[k, f, w] * h +
const[k, f, w] - base[k, c]`` of budget k; every partition worth finding stays within all budgets,
so the heights worth trying are the range ``lo[c, f, w] .. hi[c, f, w]``. Sizes are in units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nptp_opt.compiling import compiled, inner
from nptp_opt.cost import FloatArray, LayerCost
from nptp_opt.geometry import IntArray
from nptp_opt.search.unit_costs import TOLERANCE, UnitCosts, UnitRect

EXHAUSTED, FOUND, PAUSED = 0, 1, 2

_C, _W, _H, _Y, _X, _GAP = range(6)


@inner
def _exact(exact, budget_s, byte_s, pixel_s, overhead_s, wait_s, limit, y0, y1, x0, x1):  # type: ignore[no-untyped-def]
    """Exact bytes and seconds of a tile; bytes are -1 where it misses target or memory limit."""
    need_y, held_y, need_x, held_x, size_y, size_x, scale = exact
    need = need_y[y0, y1] * need_x[x0, x1]
    sent = scale[3] * (need - held_y[y0, y1] * held_x[x0, x1])
    area = (size_y[y1] - size_y[y0]) * (size_x[x1] - size_x[x0])
    if scale[2] + scale[0] * need + scale[1] * area > limit:
        return -1.0, 0.0
    seconds = pixel_s * area + overhead_s + wait_s + byte_s * sent
    return (sent if seconds <= budget_s else -1.0), seconds


@compiled
def _open(sky, at, depth, rows):  # type: ignore[no-untyped-def]
    """Point ``at[depth]`` to the next free corner; False when the map is full."""
    line = sky[depth]
    x = line.argmin()
    y = line[x]
    if y == rows:
        return False
    gap = 1
    while x + gap < len(line) and line[x + gap] == y:
        gap += 1
    at[depth, _C], at[depth, _W], at[depth, _H] = 0, gap, -1
    at[depth, _Y], at[depth, _X], at[depth, _GAP] = y, x, gap
    return True


@inner
def _next(at, depth, left, lo, hi, least_width, rows, cols):  # type: ignore[no-untyped-def]
    """Advance ``at[depth]`` to its next candidate; its contacts, or -1 when there is none."""
    row = at[depth]
    y, x, gap = row[_Y], row[_X], row[_GAP]
    while row[_C] < len(left):
        c, w = row[_C], row[_W]
        if left[c] == 0 or w == 0:
            row[_C], row[_W], row[_H] = c + 1, gap, -1
            continue
        f = (y == 0) + 4 * (x == 0) + 8 * (x + w == cols)
        if row[_H] < 0:
            if 0 < gap - w < least_width:
                row[_W] = w - 1
                continue
            row[_H] = rows - y
            if lo[c, f | 2, w] <= rows - y <= hi[c, f | 2, w]:
                return f | 2
        row[_H] = min(row[_H] - 1, hi[c, f, w])
        if row[_H] >= lo[c, f, w]:
            return f
        row[_W], row[_H] = w - 1, -1
    return -1


@inner
def _has_smaller_mirror(f, c, first, symmetric):  # type: ignore[no-untyped-def]
    """True when a mirror image with a smaller class in the first corner exists."""
    lr, tb = symmetric[0], symmetric[1]
    if c >= first:
        return False
    if lr and f & 9 == 9:
        return True
    if tb and f & 6 == 6:
        return True
    return lr and tb and f & 10 == 10


@inner
def _admit(spent, sums, depth, f, tile, budgets, classes, exact, limits):  # type: ignore[no-untyped-def]
    """Whether a tile keeps within all budgets and limits; writes the sums of the next depth."""
    slope, const, base, slack = budgets
    pixel_s, overhead_s, byte_s, memory = classes
    target_s, goal_s, medium_byte_s, latency_s, wait_s = limits
    c, w, h, y, x = tile
    for k in range(len(slack)):
        spent[depth + 1, k] = spent[depth, k] + slope[k, f, w] * h + const[k, f, w] - base[k, c]
        if spent[depth + 1, k] > slack[k]:
            return False
    bytes_, seconds = _exact(
        exact, target_s, byte_s[c], pixel_s[c], overhead_s[c], wait_s[f], memory[c],
        y, y + h, x, x + w,
    )  # fmt: skip
    if bytes_ < 0:
        return False
    total = sums[depth + 1]
    total[0] = sums[depth, 0] + bytes_
    total[1] = max(sums[depth, 1], seconds)
    total[2] = max(sums[depth, 2], 4 - (f & 1) - (f >> 1 & 1) - (f >> 2 & 1) - (f >> 3))
    return total[0] * medium_byte_s + total[1] + total[2] * latency_s <= goal_s


@compiled
def fill_corners(  # type: ignore[no-untyped-def]
    state, left, shape, budgets, windows, classes, exact, limits, symmetric, steps
):
    """Run until a partition is found, all are tried, or ``steps`` tiles were looked at.

    Keeps its place in ``state``, so that a paused search goes on where it stopped.
    """
    sky, at, spent, sums, top = state
    rows, cols, least_width = shape
    lo, hi = windows
    depth = top[0]
    while depth >= 0:
        if steps <= 0:
            top[0] = depth
            return PAUSED
        steps -= 1
        f = _next(at, depth, left, lo, hi, least_width, rows, cols)
        if f < 0:
            depth -= 1
            if depth >= 0:
                left[at[depth, _C]] += 1
            continue
        c, w, h, y, x = at[depth, _C], at[depth, _W], at[depth, _H], at[depth, _Y], at[depth, _X]
        if depth > 0 and _has_smaller_mirror(f, c, at[0, _C], symmetric):
            continue
        if not _admit(spent, sums, depth, f, (c, w, h, y, x), budgets, classes, exact, limits):
            continue
        top[1] += 1
        sky[depth + 1] = sky[depth]
        sky[depth + 1, x : x + w] = y + h
        left[c] -= 1
        if not _open(sky, at, depth + 1, rows):
            top[0] = depth
            return FOUND
        if depth + 2 < len(sky):
            depth += 1
        else:
            left[c] += 1
    top[0] = -1
    return EXHAUSTED


@dataclass(frozen=True)
class Budget:
    """Per tile: slope * units of height + const [contacts, units]; base per class; slack in all."""

    slope: FloatArray
    const: FloatArray
    base: FloatArray
    slack: float


class CornerFill:
    """The search for one target: within all ``budgets`` and, exactly, ``target_s`` per device.

    On a shared network ``target_s`` caps the compute time and ``goal_s`` the makespan.
    """

    def __init__(
        self,
        cost: LayerCost,
        costs: UnitCosts,
        tallest: IntArray,
        budgets: list[Budget],
        *,
        target_s: float,
        goal_s: float = np.inf,
    ) -> None:
        self._members = costs.members
        rows, cols = costs.rows.units, costs.cols.units
        depth = int(costs.counts.sum()) + 1
        self._left = costs.counts.astype(np.int64).copy()
        self._budgets = (
            np.array([b.slope for b in budgets]),
            np.array([b.const for b in budgets]),
            np.array([b.base for b in budgets]),
            np.array([b.slack for b in budgets]),
        )
        self._windows = height_windows(tallest, budgets, rows)
        lo, hi = self._windows
        widths = np.nonzero((hi >= lo).any(axis=(0, 1)))[0]
        self._shape = (rows, cols, int(widths.min()) if len(widths) else cols + 1)
        self._state = (
            np.zeros((depth, cols), dtype=np.int64),
            np.zeros((depth, 6), dtype=np.int64),
            np.zeros((depth, len(budgets))),
            np.zeros((depth, 3)),
            np.zeros(2, dtype=np.int64),
        )
        self._classes = (costs.pixel_s, costs.overhead_s, costs.byte_s, costs.memory_limit)
        self._exact = exact_tables(cost)
        link = cost.cluster.network
        shared = (1.0 / link.bytes_per_s, link.latency_s) if cost.cluster.shared else (0.0, 0.0)
        self._limits = (target_s * (1 + TOLERANCE), goal_s, *shared, costs.wait_s)
        self._symmetric = symmetry(cost)
        _open(self._state[0], self._state[1], 0, rows)

    def run(self, steps: int) -> int:
        """Look at ``steps`` more tiles at most; FOUND, EXHAUSTED or PAUSED."""
        return int(
            fill_corners(
                self._state,
                self._left,
                self._shape,
                self._budgets,
                self._windows,
                self._classes,
                self._exact,
                self._limits,
                self._symmetric,
                steps,
            )
        )

    def skip(self) -> None:
        """Reject the partition just found, so that ``run`` looks for the next one."""
        at, last = self._state[1], int(self._state[4][0])
        self._left[at[last, _C]] += 1

    @property
    def nodes(self) -> int:
        """Tiles placed so far."""
        return int(self._state[4][1])

    def rects(self) -> dict[int, UnitRect]:
        """Unit rectangles by device, after FOUND."""
        at, last = self._state[1], int(self._state[4][0])
        free = [list(group) for group in self._members]
        rects: dict[int, UnitRect] = {}
        for c, w, h, y, x, _ in at[: last + 1].tolist():
            rects[free[c].pop(0)] = (y, y + h, x, x + w)
        return rects


def height_windows(
    tallest: IntArray, budgets: list[Budget], rows: int
) -> tuple[IntArray, IntArray]:
    """Least and largest height worth trying, [class, contacts, units of width]; lo > hi: none."""
    lo = np.ones(tallest.shape, dtype=np.int64)
    hi = tallest.copy()
    for b in budgets:
        room = b.base[:, None, None] + b.slack - b.const[None]
        with np.errstate(divide="ignore", invalid="ignore"):
            edge = room / b.slope[None]
        edge = np.clip(np.nan_to_num(edge), -1, rows + 1)
        hi = np.where(b.slope > 0, np.minimum(hi, np.floor(edge + 1e-9)), hi).astype(np.int64)
        lo = np.where(b.slope < 0, np.maximum(lo, np.ceil(edge - 1e-9)), lo).astype(np.int64)
        hi = np.where((b.slope == 0) & (room < 0), 0, hi)
    return lo, hi


def exact_tables(cost: LayerCost) -> tuple[FloatArray, ...]:
    """Need and held lengths between allowed cuts, the cuts, and the sizes of one element."""
    ys, xs = np.array(cost.problem.cuts_y), np.array(cost.problem.cuts_x)
    tables = [
        length(at[:, None], at[None]).astype(float)
        for axis, at in ((cost.lengths_y, ys), (cost.lengths_x, xs))
        for length in (axis.need, axis.held)
    ]
    memory = (cost.pixel_bytes, cost.out_pixel_bytes, cost.weight_bytes)
    scale = np.array([*memory, cost.sent_pixel_bytes], dtype=float)
    return (*tables, ys.astype(float), xs.astype(float), scale)


def symmetry(cost: LayerCost) -> tuple[bool, bool]:
    """Whether costs stay the same when the map is mirrored (left-right, top-bottom)."""
    need_y, held_y, need_x, held_x, ys, xs, _ = exact_tables(cost)

    def mirrored(need: FloatArray, held: FloatArray, cuts: FloatArray) -> bool:
        same = all((table == table[::-1, ::-1].T).all() for table in (need, held))
        return bool(same and (cuts[-1] - cuts[::-1] == cuts).all())

    return mirrored(need_x, held_x, xs), mirrored(need_y, held_y, ys)
