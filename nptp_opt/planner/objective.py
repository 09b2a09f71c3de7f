"""Plans for objectives other than the latency, under a latency limit.

Paths: the next shortest path minimises the objective's rows and the latency at the dual prices of
the best mixture of the plans seen (``duals``); exact over its templates for those prices. Then the
best plan's partitions are moved at the same prices (``polish``, and a path over the neighbours of
what it uses), and at last one by one under the objective itself, the limit kept (``descent``). The
best plan *seen* that respects the limit is returned, the baselines and the fastest plan included:
it is a local optimum, and with a limit or for the throughput not proven to be the best.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost.objectives import (
    Objective,
    Usage,
    Weights,
    energy_known,
    latency_weights,
    rows_of,
)
from nptp_opt.errors import InfeasibleError, InputError, NoSolutionError
from nptp_opt.network.ir import Network
from nptp_opt.planner.assemble import Choice, assemble
from nptp_opt.planner.baselines import QUICK
from nptp_opt.planner.budget import BudgetPath
from nptp_opt.planner.candidate_pool import Solved, solved_layers, with_families
from nptp_opt.planner.candidates import (
    distinct,
    near_templates,
    single_templates,
    used_templates,
    without,
)
from nptp_opt.planner.descent import Aim, descend
from nptp_opt.planner.duals import Duals, duals_of
from nptp_opt.planner.memory import overfull
from nptp_opt.planner.moves import most_neighbours
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.polish import polish
from nptp_opt.planner.pooled import layerwise, pooled
from nptp_opt.planner.shortest_path import ShortestPath, spans_of
from nptp_opt.planner.templates import Template
from nptp_opt.planner.usage import Values, usage_of, valued

ROUNDS = 24
"""Paths over all templates per search; fewer where no mixture of plans can be bettered."""

BISECTIONS = 10
"""Prices of the latency that are tried for an objective that is a sum."""

STARTS = 12
"""Plans that the descent for a maximum starts from: the best one may be a poor start."""

MOST_USED = 60
"""Templates among which the best path within the limit is sought."""

CLOSE = 1e-4
"""Relative distance of mixture and path at which the search over all templates ends."""

Pair = tuple[Objective, Objective]
Planner = Callable[[Network, Cluster, PlanOptions, Solved], list[Choice]]


def by_objective(
    network: Network, cluster: Cluster, options: PlanOptions, fastest: Planner
) -> list[Choice]:
    """The best plan seen under ``options.objective``."""
    search, templates = begun(network, cluster, options, fastest)
    search.run(templates)
    return search.best().choices


def begun(
    network: Network, cluster: Cluster, options: PlanOptions, fastest: Planner
) -> tuple[ObjectiveSearch, list[Template]]:
    """A search that has seen the known plans, and all templates.

    A third of the time limit is kept for its own paths: the pool has a twelfth, the fastest plan a
    sixth, every other planner a ninth. Those that find no plan in it are left out, and named.
    """
    began, limit = time.monotonic(), options.limits.time_limit_s
    search = ObjectiveSearch(network, cluster, options, began + limit)
    for quick in QUICK.values():
        search.see(quick(network, cluster))
    solved = solved_layers(network, cluster, _within(options, limit / 6))
    candidates = with_families(network, cluster, solved)
    rivals: dict[str, tuple[float, Callable[[PlanOptions], list[Choice]]]] = {
        "nptp for the latency": (
            6,
            lambda part: fastest(network, cluster, part, solved),
        ),
        "column-dp": (9, lambda part: pooled("column-dp")(network, cluster, part)),
        "multilevel": (9, lambda part: pooled("multilevel")(network, cluster, part)),
        "layerwise": (9, lambda part: layerwise(network, cluster, part)),
    }
    for name, (share, plan) in rivals.items():
        left = began + limit * 2 / 3 - time.monotonic()
        part = min(limit / share, left)
        try:
            if left <= 0:
                raise NoSolutionError("no time was left for it")
            search.see(plan(_within(options, part)))
        except NoSolutionError as error:
            options.tell(f"not compared with {name}: {error}")
    return search, candidates


def _within(options: PlanOptions, seconds: float) -> PlanOptions:
    return replace(options, limits=replace(options.limits, time_limit_s=seconds))


@dataclass(frozen=True)
class Seen:
    """A plan that the search has priced."""

    choices: list[Choice]
    values: Values
    usage: Usage
    fits: bool

    def under(self, weights: Weights) -> float:
        """The plan's price."""
        return weights.latency * self.values.latency_s + float(weights.usage(self.usage))


class ObjectiveSearch:
    """Shortest paths under changing weights; remembers every plan that it has seen."""

    def __init__(
        self, network: Network, cluster: Cluster, options: PlanOptions, deadline: float
    ) -> None:
        self.network, self.cluster, self.options = network, cluster, options
        self.deadline = deadline
        self.rows = rows_of(cluster, options.objective)
        self.seen: list[Seen] = []
        self.random = random.Random(0)

    def see(self, choices: list[Choice]) -> Seen:
        """Price a plan and remember it."""
        steps = assemble(self.network, self.cluster, choices)
        used = usage_of(self.network, self.cluster, steps)
        values = valued(self.cluster, steps, used)
        fits = not overfull(self.network, self.cluster, steps)
        self.seen.append(Seen(choices, values, used, fits))
        return self.seen[-1]

    def best(self) -> Seen:
        """Within memory before within the limit, then the objective; if none is, the fastest."""
        return min(self.seen, key=self._rank)

    def _rank(self, entry: Seen) -> tuple[bool, bool, float, float]:
        values = entry.values
        late = values.latency_s > self.options.latency_limit_s
        first = values.latency_s if late else values.of(self.options.objective)
        return not entry.fits, late, first, values.latency_s

    def run(self, templates: Sequence[Template]) -> None:
        """Search over ``templates``, then around the best plan, until nothing helps."""
        limit_s = self.options.latency_limit_s
        if len(self.rows) == 1:
            duals = self._bisected(templates)
        else:
            duals = self._paths(templates, self.rows, limit_s)
        self.polish(self.seen[-1].choices, duals.weights(self.rows))
        before = None
        while self.best() is not before and time.monotonic() < self.deadline:
            before = self.best()
            self._within_budget(duals)
            duals = duals.towards(self._duals(self.rows, limit_s), 0.5)
            self.polish(self.best().choices, duals.weights(self.rows))
            self._descend(self.best())
            self._near(duals.weights(self.rows))
        if len(self.rows) > 1:
            for start in sorted(self._fitting(), key=self._rank)[1:STARTS]:
                self._descend(start)

    def _bisected(self, templates: Sequence[Template]) -> Duals:
        """Paths under prices of the latency from none to many times the objective's scale."""
        limit_s, row = self.options.latency_limit_s, self.rows[0]
        first = self.path(templates, row)
        if first is None or self.see(first).values.latency_s <= limit_s:
            return Duals(np.ones(1), 0.0)
        scale = max(1e-12, *(entry.under(row) / entry.values.latency_s for entry in self.seen))
        low, high = math.log(scale * 1e-4), math.log(scale * 1e4)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            found = self.path(templates, row.plus(latency_weights(self.cluster), math.exp(middle)))
            if found is None:
                break
            late = self.see(found).values.latency_s > limit_s
            low, high = (middle, high) if late else (low, middle)
        return Duals(np.ones(1), math.exp(high))

    def _within_budget(self, duals: Duals) -> None:
        """See the best path within the limit over what the cheapest plans seen use."""
        limit_s = self.options.latency_limit_s
        if len(self.rows) > 1 or math.isinf(limit_s):
            return
        weights = duals.weights(self.rows)
        cheapest = sorted(self._fitting(), key=lambda entry: entry.under(weights))
        used = [t for entry in (self.best(), *cheapest) for t in used_templates(entry.choices)]
        pool = [*distinct(used, self.network.spatial)[:MOST_USED], *single_templates(self.cluster)]
        few = distinct(pool, self.network.spatial)
        path = BudgetPath(self.network, self.cluster, few, self.rows[0], weights)
        found = path.choices_by(limit_s, self.deadline)
        if found is not None:
            self.see(found)

    def _paths(self, templates: Sequence[Template], rows: list[Weights], limit_s: float) -> Duals:
        """Paths over the templates until no mixture of plans can be bettered; the last prices."""
        duals, pool = self._duals(rows, limit_s), list(templates)
        for _ in range(ROUNDS):
            wanted = self._duals(rows, limit_s)
            duals = duals.towards(wanted, 0.5)
            found = self.path(pool, duals.weights(rows))
            if found is None:
                break
            seen = self.see(found)
            if not seen.fits:
                pool = without(pool, self._overfull(found)) or pool
            elif duals.close(wanted) and not self._helps(seen, rows, wanted):
                break
        return duals

    def _duals(self, rows: list[Weights], limit_s: float) -> Duals:
        entries = self._fitting()
        values = np.array([[entry.under(row) for row in rows] for entry in entries])
        latencies = np.array([entry.values.latency_s for entry in entries])
        return duals_of(values, latencies, limit_s)

    def _fitting(self) -> list[Seen]:
        return [entry for entry in self.seen if entry.fits] or self.seen

    def _helps(self, found: Seen, rows: list[Weights], duals: Duals) -> bool:
        """Is a plan cheaper at these prices than all that were seen before?"""
        weights = duals.weights(rows)
        others = [entry.under(weights) for entry in self._fitting() if entry is not found]
        known = min(others, default=math.inf)
        return math.isinf(known) or found.under(weights) < known - CLOSE * abs(known)

    def _overfull(self, choices: Sequence[Choice]) -> list[int]:
        steps = assemble(self.network, self.cluster, choices)
        return overfull(self.network, self.cluster, steps)

    def polish(self, choices: Sequence[Choice], weights: Weights) -> None:
        """See what polishing under ``weights`` passes through."""
        polish(self.network, self.cluster, choices, self.deadline, weights, self.see)

    def _near(self, weights: Weights) -> None:
        """See the best path over the best plan's templates and their neighbours."""
        best = self.best().choices
        used = distinct(used_templates(best), self.network.spatial)
        around = [near for t in used for near in near_templates(t, self.cluster.kinds)]
        most = most_neighbours(len(self.cluster.devices))
        some = around if len(around) <= most else self.random.sample(around, most)
        found = self.path(distinct([*used, *some], self.network.spatial), weights, best)
        if found is not None:
            self.see(found)

    def _descend(self, start: Seen) -> None:
        """See what descending from a plan passes through."""
        aim = Aim(self.rows, self.options.latency_limit_s)

        def accept(choices: list[Choice]) -> bool:
            return self.see(choices).fits

        descend(self.network, self.cluster, start.choices, aim, self.deadline, accept)

    def weights(self, objective: Objective, templates: Sequence[Template]) -> Weights:
        """What a shortest path minimises for ``objective``; of the throughput, levelled weights."""
        rows = rows_of(self.cluster, objective)
        if len(rows) == 1:
            return rows[0]
        return self._paths(templates, rows, math.inf).weights(rows)

    def path(
        self,
        templates: Sequence[Template],
        weights: Weights,
        within: Sequence[Choice] | None = None,
    ) -> list[Choice] | None:
        """The cheapest path under ``weights``; None when time is up."""
        spans = None if within is None else spans_of(self.network, within)
        path = ShortestPath(
            self.network, self.cluster, templates, fuse=True, spans=spans, weights=weights
        )
        return path.choices_by(self.deadline)


def check_objective(cluster: Cluster, objective: Objective) -> None:
    """Raise InputError for an energy objective without the devices' ``watts``."""
    if objective == "energy" and not energy_known(cluster):
        missing = ", ".join(repr(device.name) for device in cluster.devices if device.watts is None)
        raise InputError(
            f"objective energy: the cluster file has no watts for {missing}; "
            "give every [[device]] watts (and joules_per_byte, 0 where sending is free)"
        )


def require_latency(latency_s: float, options: PlanOptions, bound_s: float | None = None) -> None:
    """Raise InfeasibleError for a plan above the latency limit, proven where the bound is above."""
    if latency_s <= options.latency_limit_s:
        return
    proven = bound_s is not None and bound_s > options.latency_limit_s
    why = f"; no plan can have less than {bound_s * 1e3:.6g} ms" if proven and bound_s else ""
    raise InfeasibleError(
        f"planner {options.planner}: no plan within {options.latency_limit_s * 1e3:g} ms "
        f"was found; the smallest latency found is {latency_s * 1e3:.6g} ms{why}"
    )
