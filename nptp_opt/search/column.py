"""``column-dp``: the best column partition, and its transpose, by dynamic programming.

Vertical cuts go through and horizontal cuts stop at them (or the other way round). The strongest
cheap rival of general partitions. Switched networks: bisection over ``ColumnTables``. Shared
networks: ``column_shared``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nptp_opt.cost import LayerCost
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import LayerResult
from nptp_opt.search.bisection import minimise
from nptp_opt.search.column_shared import SharedColumns
from nptp_opt.search.column_tables import ColumnTables
from nptp_opt.search.family import FamilyRun
from nptp_opt.search.intervals import ComputeIntervals
from nptp_opt.search.pooling import pool
from nptp_opt.search.subsets import Subsets
from nptp_opt.search.support import Clock, Incumbent, OutOfTimeError, tight
from nptp_opt.search.unit_costs import UnitCosts, UnitRect, agree, unit_costs

NAME = "column-dp"
MOST_SPLITS = 2e7
MOST_ENTRIES = 1e8


@dataclass
class EitherWay:
    """Oracle over column partitions and their transposes."""

    costs: UnitCosts

    def __post_init__(self) -> None:
        self._tables = (ColumnTables(self.costs), ColumnTables(self.costs.transposed()))
        self._chosen = 0

    def update(self, target_s: float, check: Callable[[], None]) -> bool:
        for chosen, tables in enumerate(self._tables):
            if tables.update(target_s, check):
                self._chosen = chosen
                return True
        return False

    def rects(self) -> dict[int, UnitRect]:
        rects = self._tables[self._chosen].rects()
        if not self._chosen:
            return rects
        return {i: (x0, x1, y0, y1) for i, (y0, y1, x0, x1) in rects.items()}


def affordable(problem: LayerProblem) -> bool:
    """True where the tables over all device sets are small enough to build."""
    subsets = Subsets(tuple(len(group) for group in problem.device_classes))
    units = max(len(problem.cuts_x), len(problem.cuts_y))
    return subsets.split_count <= MOST_SPLITS and subsets.count * 16 * units <= MOST_ENTRIES


def improve(
    cost: LayerCost, best: Incumbent, low_s: float, limits: Limits, clock: Clock
) -> tuple[float, bool]:
    """Improve ``best`` by column partitions; returns (bound on the family, finished)."""
    if cost.cluster.shared:
        return _improve_shared(cost, best, limits, clock)
    return minimise(EitherWay, cost, best, low_s=low_s, limits=limits, clock=clock)


def improve_pooled(
    cost: LayerCost, best: Incumbent, low_s: float, limits: Limits, clock: Clock
) -> tuple[float, bool]:
    """Improve ``best`` by column partitions of pooled devices; the bound returned is 0."""
    for count in range(6, 0, -1):
        pooled = pool(cost.problem, count)
        if affordable(pooled):
            incumbent = Incumbent(LayerCost(pooled))
            improve(incumbent.cost, incumbent, 0.0, limits, clock)
            best.offer(incumbent.tiles, f"{NAME} on pooled devices")
            break
    return 0.0, True


def _improve_shared(
    cost: LayerCost, best: Incumbent, limits: Limits, clock: Clock
) -> tuple[float, bool]:
    """Upper costs find the partition, lower ones (where they differ) prove the bound."""
    upper, lower = unit_costs(cost), unit_costs(cost, lower=True)
    try:
        bound = _raise_bound(upper, cost, best, limits, clock, lower=False)
        if not agree(upper, lower):
            if not limits.prove:
                return 0.0, True
            bound = _raise_bound(lower, cost, best, limits, clock, lower=True)
    except OutOfTimeError:
        return 0.0, False
    return bound, True


def _raise_bound(
    costs: UnitCosts,
    cost: LayerCost,
    best: Incumbent,
    limits: Limits,
    clock: Clock,
    *,
    lower: bool,
) -> float:
    intervals = ComputeIntervals(cost, costs)
    search = SharedColumns(costs, intervals, best, clock, lower)
    gap = tight(limits.gap)
    while not intervals.raise_to(best.value_s * (1 - gap), search, clock, finest=gap / 2):
        pass
    return intervals.low


def column_dp(
    problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints
) -> LayerResult:
    """The registered method."""
    run = FamilyRun(NAME, "column", problem, limits, hints)
    if affordable(problem):
        run.prove(improve)
    return run.result()
