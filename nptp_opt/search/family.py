"""One run of an exact method over a family: configuration bound, family search, closing search."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property

from nptp_opt.cost import LayerCost
from nptp_opt.layer.families import belongs
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.registry import Family
from nptp_opt.layer.result import LayerResult, relative_gap
from nptp_opt.search.bounds import SwitchedBound, bound_of
from nptp_opt.search.dissection import AnyBound, close_family
from nptp_opt.search.support import Clock, Incumbent, result_of

SEARCH = "dissection-search"
MOST_DEVICES = 12
"""The closing search is tried up to this many devices."""

BOUND_SHARE = 0.3
"""Share of the time limit that the configuration bound may take."""

Improve = Callable[[LayerCost, Incumbent, float, Limits, Clock], tuple[float, bool]]


class FamilyRun:
    """State of one run. Raises InfeasibleError when memory leaves no partition of any family."""

    def __init__(
        self, name: str, family: Family, problem: LayerProblem, limits: Limits, hints: Hints
    ) -> None:
        self.name, self.family, self.limits, self.hints = name, family, limits, hints
        self.clock = Clock(limits.time_limit_s)
        self.cost = LayerCost(problem)
        self.best = Incumbent(self.cost)
        if hints.start and belongs(family, hints.start):
            self.best.offer(hints.start, "start")
        self.best.offer_single()
        self.any_bound_s = hints.bound_s
        self.bound_s = hints.bound_s or 0.0
        self.proofs: list[tuple[float, float]] = []
        """Time on the performance counter, and bound, of every better bound."""
        self.nodes: int | None = None
        self.finished = False

    @cached_property
    def any_bound(self) -> AnyBound:
        """The configuration bound, from which the closing search goes on."""
        return bound_of(self.cost, Clock(BOUND_SHARE * self.limits.time_limit_s))

    def seek_bound(self) -> None:
        """Take the configuration bound into account; raises InfeasibleError."""
        self.any_bound_s = max(self.any_bound.low, self.hints.bound_s or 0.0)
        self._prove(self.any_bound_s)

    def _prove(self, bound_s: float) -> None:
        if bound_s > self.bound_s:
            self.bound_s = bound_s
            self.proofs.append((time.perf_counter(), bound_s))

    @property
    def closed(self) -> bool:
        """True when value and bound have met."""
        gap = relative_gap(self.best.value_s, self.bound_s)
        return self.best.tiles is not None and gap is not None and gap <= self.limits.gap

    def improve(self, improve: Improve, clock: Clock | None = None) -> float:
        """Search a family from what is known; returns the bound on it."""
        low = self.any_bound_s or 0.0
        bound, self.finished = improve(self.cost, self.best, low, self.limits, clock or self.clock)
        return bound

    def prove(self, improve: Improve) -> None:
        """As ``improve``, for the run's own family: what it proves holds for the run."""
        self._prove(self.improve(improve))

    def close(self) -> None:
        """Search dissections of the family, at exact costs, until value and bound meet."""
        if isinstance(self.any_bound, SwitchedBound):
            self.any_bound.low = max(self.any_bound.low, self.bound_s)
        done = close_family(
            self.any_bound, self.best, self.family, self.limits.gap, self.clock, SEARCH
        )
        self._prove(done.bound_s)
        self.nodes = done.nodes
        self.finished = done.finished

    def result(self) -> LayerResult:
        """Close what is still open where the devices are few, and report."""
        few = len(self.cost.problem.devices) <= MOST_DEVICES
        if not self.closed and self.limits.prove:
            self.seek_bound()
            if not self.closed and few and self.clock.left_s > 0:
                self.close()
        return self.report()

    def report(self) -> LayerResult:
        """The result as things stand."""
        return result_of(
            self.name,
            self.best,
            self.bound_s,
            self.limits,
            self.clock,
            any_bound_s=self.any_bound_s,
            finished=self.finished,
            nodes=self.nodes,
            proofs=self.proofs,
        )
