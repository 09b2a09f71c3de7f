"""Shared networks: best-first search over the largest compute time, for any family.

The makespan is (sending) + latency * (most messages) + (largest compute time). Cap the compute
time by k2 and the messages by m, and the rest is a problem in bytes alone; a partition whose
compute time lies in [k1, k2] takes at least k1 + m * latency + (least sending under these caps).
Intervals are split until none can hold a better partition.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from nptp_opt.cost import FloatArray, LayerCost
from nptp_opt.errors import InfeasibleError
from nptp_opt.search.bisection import compute_floor_s
from nptp_opt.search.configurations import ConfigurationLP
from nptp_opt.search.support import FINEST_GAP, Clock
from nptp_opt.search.unit_costs import UnitCosts


class SendBound:
    """Least seconds that any partition spends sending, given caps on compute and messages."""

    def __init__(self, costs: UnitCosts, byte_s: float, most_messages: int) -> None:
        penalty = 1e3 * compute_floor_s(costs)
        self.lp = ConfigurationLP(costs, byte_s, most_messages, penalty)
        self._proofs: list[FloatArray] = []

    def quick(self, compute_s: float) -> float:
        """From the multipliers known so far."""
        return max((self.lp.bound(y, compute_s) for y in self._proofs[-6:]), default=0.0)

    def full(self, compute_s: float) -> float:
        """The LP's own value at this cap; remembers its multipliers."""
        self._proofs.append(self.lp.multipliers(compute_s))
        return max(0.0, self.quick(compute_s))

    def impossible(self, compute_s: float) -> bool:
        """True when the LP shows that no partition at all respects the caps."""
        return self.full(compute_s) > 0.5 * self.lp.penalty


FIRST_SHARE = 1 / 16
"""How far above the bound the first target lies, as a share of the way to the best value."""

MOST_GROWTH = 1e3
"""Targets stay below this multiple of the bound while no partition is known."""


@dataclass(frozen=True, order=True)
class Interval:
    """Compute times ``low .. high`` with at most ``messages`` each; ``bound_s`` on the makespan."""

    bound_s: float
    low: float
    high: float
    messages: int


@dataclass(frozen=True)
class Answer:
    """What a family's search says about an interval.

    ``send_s`` bounds the sending of the family's partitions within the caps (infinite: none of
    them beats the goal). ``compute_s`` is the largest compute time of a partition that attains
    it: longer ones cannot be better. None of both: too hard, split.
    """

    send_s: float | None
    compute_s: float | None = None


class Family(Protocol):
    """A family's search for better partitions within the caps of an interval."""

    @property
    def value_s(self) -> float:
        """Best makespan so far, under the costs that the search uses."""
        ...

    def search(self, interval: Interval, goal_s: float) -> Answer: ...


class ComputeIntervals:
    """The intervals still open, and the bound that they leave."""

    def __init__(self, cost: LayerCost, costs: UnitCosts) -> None:
        self.costs = costs
        link = cost.cluster.network
        self.latency_s = link.latency_s
        caps = (0, 1, 2, 3, 4) if link.latency_s > 0 else (4,)
        self.sends = {m: SendBound(costs, 1.0 / link.bytes_per_s, m) for m in caps}
        area = cost.problem.height * cost.problem.width
        self.least_compute_s = low = compute_floor_s(costs)
        high = float((costs.pixel_s * area + costs.overhead_s).max()) * (1 + FINEST_GAP)
        self.infeasible = self.sends[4].impossible(high)
        self._open = [Interval(low + m * self.latency_s, low, high, m) for m in caps]
        heapq.heapify(self._open)

    def fixed_s(self, interval: Interval) -> float:
        """Least latency and compute in an interval."""
        return interval.low + interval.messages * self.latency_s

    @property
    def low(self) -> float:
        """Bound over all intervals."""
        return self._open[0].bound_s

    def tighten(self, precision: float, clock: Clock) -> float:
        """Bound on every partition by the LP alone, to a relative ``precision``."""
        while (first := self._open[0]).high - first.low > precision * first.bound_s:
            if clock.left_s <= 0:
                break
            heapq.heappop(self._open)
            self._split(first)
        return self.low

    def compute_range(self, goal_s: float, precision: float, clock: Clock) -> tuple[float, float]:
        """Least and largest compute time of a partition within ``goal_s``, by the LP alone."""
        done: list[Interval] = []
        while self._open and self.low < goal_s and clock.left_s > 0:
            first = heapq.heappop(self._open)
            if first.high - first.low > precision * goal_s:
                self._split(first)
            else:
                done.append(first)
        for interval in done:
            heapq.heappush(self._open, interval)
        below = [i for i in self._open if i.bound_s < goal_s] or self._open
        return min(i.low for i in below), max(i.high for i in below)

    def raise_to(self, goal_s: float, family: Family, clock: Clock, *, finest: float = 0.0) -> bool:
        """Raise the bound on the family to ``goal_s``; False as soon as a better value is found.

        Intervals shorter than ``finest`` (relative) are not split: the bound stays below the goal
        where costs are not exact. Raises OutOfTimeError; the intervals stay valid.
        """
        value = family.value_s
        while self.low < goal_s:
            clock.check()
            if self._open[0].high - self._open[0].low <= finest * self.low:
                return True
            self._step(self._open[0], family, goal_s)
            if family.value_s < value:
                return False
        return True

    def _step(self, first: Interval, family: Family, goal: float) -> None:
        answer = family.search(first, goal)
        heapq.heappop(self._open)
        if answer.send_s is None:
            self._split(first)
            return
        bound = max(first.bound_s, min(goal, self.fixed_s(first) + answer.send_s))
        if bound >= goal:
            heapq.heappush(self._open, replace(first, bound_s=goal))
            return
        rest = goal - answer.send_s - first.messages * self.latency_s
        high = min(first.high, rest, answer.compute_s or first.high)
        if high < first.high:
            heapq.heappush(self._open, replace(first, bound_s=goal, low=max(high, first.low)))
        if high > first.low:
            self._split(replace(first, bound_s=bound, high=high))

    def _split(self, parent: Interval) -> None:
        middle = (parent.low + parent.high) / 2
        for low, high in ((parent.low, middle), (middle, parent.high)):
            half = replace(parent, low=low, high=high)
            bound = max(parent.bound_s, self._bound(half))
            heapq.heappush(self._open, replace(half, bound_s=bound))

    def _bound(self, interval: Interval) -> float:
        """The LP runs only where known multipliers add nothing."""
        send, fixed = self.sends[interval.messages], self.fixed_s(interval)
        quick = fixed + send.quick(interval.high)
        return quick if quick > interval.bound_s * (1 + 1e-4) else fixed + send.full(interval.high)


def close(
    low_s: Callable[[], float],
    value_s: Callable[[], float],
    reach: Callable[[float], bool],
    gap: float,
) -> None:
    """Try targets between bound and value until they meet within ``gap``.

    Low targets first: they leave little to search, and what they find or prove makes the high
    ones cheaper. ``reach`` tells whether its target was proven out of reach.
    """
    share = FIRST_SHARE
    while (goal := value_s() * (1 - gap)) > (low := low_s()):
        target = low + share * (min(goal, MOST_GROWTH * low) - low)
        if share == 1.0 and goal == math.inf:
            target = math.inf
        proven = reach(target)
        if proven and target == math.inf:
            raise InfeasibleError(
                "the memory limits leave no partition of this family: raise memory_mib, add "
                "devices, or try a wider family such as auto"
            )
        share = min(1.0, 4 * share) if proven else FIRST_SHARE
