"""Smallest makespan target that a family reaches, by bisection over a table oracle (switched)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nptp_opt.cost import LayerCost
from nptp_opt.geometry import Tile
from nptp_opt.layer.limits import Limits
from nptp_opt.search.support import FINEST_GAP, Clock, Incumbent, OutOfTimeError, memory_error
from nptp_opt.search.unit_costs import UnitCosts, UnitRect, agree, to_tiles, unit_costs


class Oracle(Protocol):
    """Decides whether a family reaches a target under given costs."""

    @property
    def costs(self) -> UnitCosts: ...

    def update(self, target_s: float, check: Callable[[], None]) -> bool: ...

    def rects(self) -> dict[int, UnitRect]: ...


@dataclass
class Bracket:
    """What is known about the best target: infeasible at ``low``, feasible at ``high``."""

    low: float
    high: float = math.inf

    def closed(self, gap: float) -> bool:
        return self.high < math.inf and self.high - self.low <= gap * self.high

    @property
    def trial(self) -> float:
        """Halfway, or a little above ``low`` while nothing feasible is known."""
        return (self.low + self.high) / 2 if self.high < math.inf else 1.25 * self.low


def form_makespan_s(costs: UnitCosts, cost: LayerCost, tiles: dict[int, Tile]) -> float:
    """Largest form cost of a partition's tiles: what the tables believe it costs."""
    cls_of = {device: cls for cls, group in enumerate(costs.members) for device in group}
    size = cost.problem.height, cost.problem.width
    return max(
        costs.seconds(cls_of[i], tile.contacts(*size), tile.width, tile.height)
        for i, tile in tiles.items()
    )


def minimise(
    make: Callable[[UnitCosts], Oracle],
    cost: LayerCost,
    best: Incumbent,
    *,
    low_s: float,
    limits: Limits,
    clock: Clock,
) -> tuple[float, bool]:
    """Improve ``best`` over a family; returns (bound on the family, whether it finished).

    The upper form costs find partitions; where the lower ones differ, a second bisection with
    those gives the bound. Raises InfeasibleError where memory leaves no partition of the family.
    """
    upper, lower = unit_costs(cost), unit_costs(cost, lower=True)
    same = agree(upper, lower)
    gap = max(FINEST_GAP, min(limits.gap, 1e-7))
    bracket = Bracket(max(low_s, compute_floor_s(upper)))
    start = bracket.low
    if best.tiles is not None:
        bracket.high = max(bracket.low, form_makespan_s(upper, cost, best.tiles))
    try:
        _close(make(upper), cost, best, bracket, gap, clock)
        if same and best.tiles is None:
            raise memory_error(cost.problem)
        if same:
            return bracket.low, True
        if best.tiles is not None and not limits.prove:
            return start, True
        bracket = Bracket(start, max(start, best.value_s))
        _close(make(lower), cost, None, bracket, gap, clock)
    except OutOfTimeError:
        return (bracket.low if same else start), False
    return bracket.low, True


def compute_floor_s(costs: UnitCosts) -> float:
    """Makespan with all devices computing and nothing sent: below every partition."""
    area = (costs.rows.units * costs.rows.step - costs.rows.short) * (
        costs.cols.units * costs.cols.step - costs.cols.short
    )
    return float(area / (costs.counts / costs.pixel_s).sum()) * (1 - FINEST_GAP)


def _close(
    oracle: Oracle,
    cost: LayerCost,
    best: Incumbent | None,
    bracket: Bracket,
    gap: float,
    clock: Clock,
) -> None:
    """Shrink ``bracket`` to ``gap``; partitions go to ``best`` where one is given."""
    if bracket.high == math.inf and not oracle.update(math.inf, clock.check):
        if best is None:
            raise memory_error(cost.problem)
        return
    while not bracket.closed(gap):
        trial = bracket.trial
        if not oracle.update(trial, clock.check):
            bracket.low = trial
            continue
        bracket.high = trial
        if best is not None:
            tiles = to_tiles(cost.problem, oracle.rects())
            best.offer(tiles)
            bracket.high = min(trial, form_makespan_s(oracle.costs, cost, tiles))
            bracket.low = min(bracket.low, bracket.high)
