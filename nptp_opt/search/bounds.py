"""``configuration_bound``: seconds below which no partition comes (docs/bounds.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nptp_opt.cost import FloatArray, LayerCost
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.search.bisection import compute_floor_s
from nptp_opt.search.configurations import ConfigurationLP
from nptp_opt.search.intervals import ComputeIntervals
from nptp_opt.search.pooling import pool
from nptp_opt.search.support import FINEST_GAP, Clock, OutOfTimeError, memory_error
from nptp_opt.search.unit_costs import unit_costs

MOST_CLASSES = 24
STEP = 1e-4
"""Relative precision of the bounds: they may be this much below the LP's own value."""


def configuration_bound(problem: LayerProblem, limit_s: float = math.inf) -> float:
    """Lower bound in seconds on the makespan of every partition, for both network kinds.

    Valid whatever the time limit; a short one gives a weaker bound. Raises InfeasibleError where
    the memory limits leave no partition at all.
    """
    return bound_of(LayerCost(problem), Clock(limit_s)).low


def bound_of(cost: LayerCost, clock: Clock) -> SwitchedBound | ComputeIntervals:
    """The bound as an object with its value in ``low``, for searches that go on from there.

    Beyond ``MOST_CLASSES`` different devices, similar ones count as their strongest: still a bound.
    """
    if len(cost.problem.device_classes) > MOST_CLASSES:
        cost = LayerCost(pool(cost.problem, MOST_CLASSES, strongest=True))
    if not cost.cluster.shared:
        bound = SwitchedBound(cost)
        bound.tighten_all(clock)
        return bound
    intervals = ComputeIntervals(cost, unit_costs(cost, lower=True))
    if intervals.infeasible:
        raise memory_error(cost.problem)
    intervals.tighten(5 * STEP, clock)
    return intervals


@dataclass
class SwitchedBound:
    """Bound on a switched network, and the multipliers that prove it."""

    cost: LayerCost
    proofs: list[FloatArray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lp = ConfigurationLP(unit_costs(self.cost, lower=True))
        self.low = compute_floor_s(self.lp.costs)

    def tighten_all(self, clock: Clock) -> None:
        """Raise ``low`` to the largest target that the LP proves out of reach."""
        if self.lp.bound(self.lp.multipliers(math.inf), math.inf) > 0:
            raise memory_error(self.cost.problem)
        try:
            while self.tighten(self.low * (1 + STEP)):
                clock.check()
        except OutOfTimeError:
            return

    def tighten(self, target_s: float) -> bool:
        """Try to prove ``target_s`` out of reach; on success raise ``low`` as far as it goes."""
        y = self.lp.multipliers(target_s)
        if self.lp.bound(y, target_s) <= 0:
            return False
        self.proofs.append(y)
        self.low = max(self.low, self._reach(y, target_s))
        return True

    def _reach(self, y: FloatArray, proven: float) -> float:
        """Largest target that multipliers ``y`` still prove out of reach."""
        failed = proven
        while self.lp.bound(y, failed) > 0:
            proven, failed = failed, failed * 1.5
        while failed - proven > FINEST_GAP * failed:
            middle = (proven + failed) / 2
            if self.lp.bound(y, middle) > 0:
                proven = middle
            else:
                failed = middle
        return proven
