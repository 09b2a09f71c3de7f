"""Exact search over all rectangular dissections, and over their subfamilies by a filter.

The configuration LP's multipliers give each tile a non-negative cost for not being the best one
its device could have (``configurations``). For a target that a partition reaches these costs sum
to at most -L(y), which is small where the bound is tight: few tiles remain, and a depth-first
search over free corners decides whether they tile the map. Switched: the target is the makespan.
Shared: the target caps the compute time, interval by interval (``intervals``), and the budget is
what the best known makespan leaves for sending. Tiles have their exact costs throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nptp_opt.cost import FloatArray, LayerCost
from nptp_opt.geometry import Tile
from nptp_opt.layer.families import belongs
from nptp_opt.layer.registry import Family
from nptp_opt.search.bounds import SwitchedBound
from nptp_opt.search.configurations import N_SUMS, ConfigurationLP
from nptp_opt.search.corner_fill import FOUND, PAUSED, Budget, CornerFill
from nptp_opt.search.intervals import Answer, ComputeIntervals, Interval, close
from nptp_opt.search.support import Clock, Incumbent, OutOfTimeError, tight
from nptp_opt.search.unit_costs import to_tiles

STEPS_PER_CHECK = 200_000_000
"""Work between two looks at the clock, in steps times (units of width + 40)."""
FINEST_SPLIT = 1e-4
"""Relative length of a compute interval below which a search is not given up for a split."""


def budget_of(lp: ConfigurationLP, y: FloatArray, target_s: float, most: float = 0.0) -> Budget:
    """What tiles use up under multipliers ``y`` where the total cost is at most ``most``."""
    slope, const = lp.slopes(y)
    p = lp.costs
    # Real height is units * step, less the short last step where the tile touches the bottom.
    short = np.array([p.rows.short * bool(f & 2) for f in range(16)])[:, None]
    slack = most - lp.bound(y, target_s)
    return Budget(slope * p.rows.step, const - slope * short, lp.base(y, target_s), slack)


def area_multipliers() -> FloatArray:
    """Multipliers that value area alone."""
    y = np.zeros(N_SUMS)
    y[0] = 1.0
    return y


@dataclass
class Leaves:
    """Runs corner searches and keeps the first partition of the family that improves."""

    cost: LayerCost
    best: Incumbent
    family: Family
    source: str
    nodes: int = 0

    def run(self, search: CornerFill, check: Callable[[], bool]) -> int:
        """FOUND when the incumbent improved; PAUSED when ``check`` says to give up."""
        steps = STEPS_PER_CHECK // (len(self.cost.problem.cuts_x) + 40)
        while True:
            before = search.nodes
            state = search.run(steps)
            self.nodes += search.nodes - before
            if state == FOUND and not self._keep(to_tiles(self.cost.problem, search.rects())):
                search.skip()
                state = PAUSED
            elif state != PAUSED:
                return state
            if not check():
                return PAUSED

    def _keep(self, tiles: dict[int, Tile]) -> bool:
        return belongs(self.family, tiles) and self.best.offer(tiles, self.source)


@dataclass
class SwitchedSearch:
    """Searches for targets below the incumbent, on a switched network."""

    leaves: Leaves
    bound: SwitchedBound
    clock: Clock

    def close(self, gap: float) -> None:
        """Raise the bound and lower the incumbent until they meet; OutOfTimeError on the way."""
        close(lambda: self.bound.low, lambda: self.leaves.best.value_s, self._out_of_reach, gap)

    def _out_of_reach(self, target_s: float) -> bool:
        if self._reaches(target_s):
            return False
        self.bound.low = max(self.bound.low, target_s)
        return True

    def _reaches(self, target_s: float) -> bool:
        """True when a partition within ``target_s`` was found; False when there is none."""
        lp = self.bound.lp
        budgets = [
            budget_of(lp, y, target_s) for y in (lp.multipliers(target_s), area_multipliers())
        ]
        if min(b.slack for b in budgets) < 0:
            return False
        tallest = lp.costs.tallest(target_s)
        search = CornerFill(self.leaves.cost, lp.costs, tallest, budgets, target_s=target_s)
        return self.leaves.run(search, self._in_time) == FOUND

    def _in_time(self) -> bool:
        self.clock.check()
        return True


@dataclass
class SharedSearch:
    """Searches within intervals of compute times, on a shared network."""

    leaves: Leaves
    intervals: ComputeIntervals
    clock: Clock

    def __post_init__(self) -> None:
        self._fits = {
            m: ConfigurationLP(send.lp.costs, 0.0, m) for m, send in self.intervals.sends.items()
        }

    @property
    def value_s(self) -> float:
        return self.leaves.best.value_s

    def close(self, gap: float) -> None:
        """Raise the bound and lower the incumbent until they meet; OutOfTimeError on the way."""
        close(
            lambda: self.intervals.low,
            lambda: self.value_s,
            lambda goal: self.intervals.raise_to(goal, self, self.clock),
            gap,
        )

    def search(self, interval: Interval, goal_s: float) -> Answer:
        """Look for a partition below ``goal_s``; long searches give up where a split may help."""
        budgets = self._budgets(interval, goal_s - self.intervals.fixed_s(interval))
        if min(b.slack for b in budgets) < 0:
            return Answer(math.inf)
        costs = self.intervals.costs
        cap = interval.high
        tallest = costs.tallest(cap, interval.messages)
        cost = self.leaves.cost
        search = CornerFill(cost, costs, tallest, budgets, target_s=cap, goal_s=goal_s)
        splittable = interval.high - interval.low > FINEST_SPLIT * goal_s
        state = self.leaves.run(search, lambda: self._goes_on(splittable))
        if state == PAUSED:
            return Answer(None)
        return Answer(0.0 if state == FOUND else math.inf)

    def _goes_on(self, splittable: bool) -> bool:
        self.clock.check()
        return not splittable

    def _budgets(self, interval: Interval, most: float) -> list[Budget]:
        cap = interval.high
        send, fits = self.intervals.sends[interval.messages].lp, self._fits[interval.messages]
        return [
            budget_of(send, send.multipliers(cap), cap, most),
            budget_of(fits, fits.multipliers(cap), cap),
            budget_of(fits, area_multipliers(), cap),
        ]


AnyBound = SwitchedBound | ComputeIntervals


@dataclass(frozen=True)
class Closed:
    """Outcome of ``close_family``: the family's bound, and whether the search ran to its end."""

    bound_s: float
    finished: bool
    nodes: int


def close_family(
    bound: AnyBound, best: Incumbent, family: Family, gap: float, clock: Clock, source: str
) -> Closed:
    """Improve ``best`` over a family until value and bound meet within ``gap`` or time is up."""
    leaves = Leaves(best.cost, best, family, source)
    search = (
        SharedSearch(leaves, bound, clock)
        if isinstance(bound, ComputeIntervals)
        else SwitchedSearch(leaves, bound, clock)
    )
    try:
        search.close(tight(gap))
        finished = True
    except OutOfTimeError:
        finished = False
    return Closed(min(bound.low, best.value_s), finished, leaves.nodes)
