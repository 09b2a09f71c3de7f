"""Plans for objectives other than the latency, under limits.

Paths: the next shortest path minimises the objective's rows and what is limited at the dual prices
of the best mixture of the plans seen (``duals``); exact over its templates for those prices. Then,
in turn, the best path for the maximum of the rows within the limits is sought over some templates
and over the neighbours of what the best plan uses (``label_path``), and the best plan's partitions
are moved at the duals' prices (``polish``), and one by one under the objective itself, the limits
kept (``descent``). The best plan *seen* that respects the limits is returned, the baselines and the
fastest plan included: a local optimum, and with a limit or for the throughput not proven to be the
best, but on networks so small that all partitions are templates.
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
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.memory import overfull, overfull_devices
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.evaluate.usage import Values, usage_of, values_of_usage
from nptp_opt.network.ir import Network
from nptp_opt.planner.baselines.pooled import layerwise, plans_from_solved
from nptp_opt.planner.baselines.quick import QUICK
from nptp_opt.planner.candidates.catalogue import (
    distinct,
    single_templates,
    used_templates,
    without,
)
from nptp_opt.planner.candidates.pool import Solved, near_plan, solved_layers, with_families
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.local_search.descent import descend
from nptp_opt.planner.local_search.moves import most_neighbours
from nptp_opt.planner.local_search.polish import polish
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.path.aim import Aim
from nptp_opt.planner.path.duals import Duals, duals_of
from nptp_opt.planner.path.label_path import LabelPath, all_spans, most_templates
from nptp_opt.planner.path.shortest_path import ShortestPath, spans_of
from nptp_opt.planner.path.units import units

ROUNDS = 24
"""Paths over all templates per search; fewer where no mixture of plans can be bettered."""

CLOSE = 1e-4
"""Relative gain below which a search ends."""

Pair = tuple[Objective, Objective]
Planner = Callable[[Network, Cluster, PlanOptions, Solved], list[Choice]]


def by_objective(
    network: Network, cluster: Cluster, options: PlanOptions, fastest: Planner
) -> list[Choice]:
    """The best plan seen under ``options.objective``."""
    search, templates = begin_search(network, cluster, options, fastest)
    search.run(templates, search.aim)
    return search.best().choices


def begin_search(
    network: Network, cluster: Cluster, options: PlanOptions, fastest: Planner
) -> tuple[ObjectiveSearch, list[Template]]:
    """A search that has seen the known plans, and all templates.

    A third of the time limit is kept for its own paths: the pool has a twelfth, the fastest plan a
    sixth, ``layerwise`` a ninth. Those that find no plan in it are left out, and named.
    """
    began, limit = time.monotonic(), options.limits.time_limit_s
    search = ObjectiveSearch(network, cluster, options, began + limit)
    for quick in QUICK.values():
        search.see(quick(network, cluster))
    solved = solved_layers(network, cluster, _within(options, limit / 6))
    candidates = with_families(network, cluster, solved)
    for choices in plans_from_solved(network, cluster, solved, began + limit):
        search.see(choices)
    rivals: dict[str, tuple[float, Callable[[PlanOptions], list[Choice]]]] = {
        "nptp for the latency": (
            6,
            lambda part: fastest(network, cluster, part, solved),
        ),
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
    """A plan that the search has evaluated."""

    choices: list[Choice]
    values: Values
    usage: Usage
    fits: bool
    synchronous_s: float

    def under(self, weights: Weights) -> float:
        """The plan's value."""
        return weights.latency * self.values.latency_s + float(weights.usage(self.usage))

    def value(self, aim: Aim) -> float:
        """The maximum of the aim's rows."""
        return max(self.under(row) for row in aim.rows)

    def excess(self, aim: Aim) -> float:
        """How far the plan is above the aim's limits, relative to them; 0 where it keeps them."""
        return float(aim.excess(np.array([self.under(row) for row in aim.limited])))


class ObjectiveSearch:
    """Shortest paths under changing weights; remembers every plan that it has seen."""

    def __init__(
        self, network: Network, cluster: Cluster, options: PlanOptions, deadline: float
    ) -> None:
        self.network, self.cluster, self.options = network, cluster, options
        self.deadline = deadline
        self.late = (latency_weights(cluster), options.latency_limit_s)
        self.aim = Aim.of(rows_of(cluster, options.objective), [self.late])
        self.seen: list[Seen] = []
        self.random = random.Random(0)

    def see(self, choices: list[Choice]) -> Seen:
        """Evaluate a plan and remember it."""
        steps = assemble(self.network, self.cluster, choices)
        used = usage_of(self.network, self.cluster, steps)
        values = values_of_usage(self.cluster, used, simulate(self.network, self.cluster, steps))
        fits = not overfull(self.network, self.cluster, steps)
        synchronous_s = sum(step.makespan_s for step in steps)
        self.seen.append(Seen(choices, values, used, fits, synchronous_s))
        return self.seen[-1]

    @property
    def ratio(self) -> float:
        """Latency per second of the sum of makespans, in the fastest plan seen: paths and moves
        add up makespans, which no device runs by."""
        fastest = min(self._plans_within_limits(), key=lambda entry: entry.values.latency_s)
        return fastest.values.latency_s / max(fastest.synchronous_s, 1e-300)

    def best(self, aim: Aim | None = None) -> Seen:
        """Within memory before within the limits, then the least maximum of the rows."""
        return min(self.seen, key=lambda entry: self._rank(entry, aim or self.aim))

    def _rank(self, entry: Seen, aim: Aim) -> tuple[bool, float, float, float]:
        return not entry.fits, entry.excess(aim), entry.value(aim), entry.values.latency_s

    def run(self, templates: Sequence[Template], aim: Aim) -> None:
        """Search over ``templates``, then around the best plan, until nothing helps."""
        duals = self._paths(templates, aim)
        self.polish(self.seen[-1].choices, duals.weights(aim))
        before = math.inf, math.inf
        while self._better(aim, *before) and time.monotonic() < self.deadline:
            before = self.best(aim).excess(aim), self.best(aim).value(aim)
            duals = duals.towards(self.duals(aim), 0.5)
            self._improve(templates, aim, duals)

    def look(self, templates: Sequence[Template], aim: Aim) -> None:
        """As ``run``, where much has been seen already: one path, once around the best plan."""
        duals = self.duals(aim)
        choices = self.path(templates, duals.weights(aim))
        if choices is not None:
            self.see(choices)
            self._improve(templates, aim, self.duals(aim))

    def _improve(self, templates: Sequence[Template], aim: Aim, duals: Duals) -> None:
        """Search around the best plan for ``aim``."""
        self.polish(self.best(aim).choices, duals.weights(aim))
        self._descend(self.best(aim), aim)
        self._near(aim, duals)
        self._best_path(self._some(templates, aim, duals), aim, duals)

    def _better(self, aim: Aim, excess: float, value: float) -> bool:
        """Is the best plan better than one with these by more than a trifle?"""
        best = self.best(aim)
        return best.excess(aim) < excess or best.value(aim) < value * (1 - CLOSE)

    def _some(self, templates: Sequence[Template], aim: Aim, duals: Duals) -> list[Template]:
        """What the best plan and the cheapest ones use, single devices, then other templates; as
        many as can be searched together."""
        weights = duals.weights(aim)
        cheapest = sorted(self._plans_within_limits(), key=lambda entry: entry.under(weights))
        used = (t for entry in (self.best(aim), *cheapest) for t in used_templates(entry.choices))
        most = most_templates(len(all_spans(len(units(self.network)))), aim)
        first = distinct(used, self.network.spatial)[: most // 2]
        pool = [*first, *single_templates(self.cluster), *templates]
        return distinct(pool, self.network.spatial)[:most]

    def _best_path(
        self,
        templates: Sequence[Template],
        aim: Aim,
        duals: Duals,
        within: Sequence[Choice] | None = None,
    ) -> None:
        """See the best path for ``aim`` over ``templates``, in the segments of ``within``."""
        if len(aim.every) == 1:
            choices = self.path(templates, aim.rows[0], within)
        else:
            spans = None if within is None else spans_of(self.network, within)
            summed = aim.with_latency(self.ratio)
            path = LabelPath(self.network, self.cluster, templates, summed, duals.every, spans)
            choices = path.choices_by(self._best_known(aim), self.deadline)
        if choices is not None:
            self.see(choices)

    def _best_known(self, aim: Aim) -> float:
        """The best value within the limits; without one, more than any plan seen has."""
        best = self.best(aim)
        if best.fits and not best.excess(aim):
            return best.value(aim)
        return 2 * max(entry.value(aim) for entry in self.seen)

    def _paths(self, templates: Sequence[Template], aim: Aim) -> Duals:
        """Paths over the templates until no mixture of plans can be bettered; the last prices."""
        duals, pool = self.duals(aim), list(templates)
        for _ in range(ROUNDS):
            wanted = self.duals(aim)
            duals = duals.towards(wanted, 0.5)
            choices = self.path(pool, duals.weights(aim))
            if choices is None:
                break
            seen = self.see(choices)
            if not seen.fits:
                pool = without(pool, overfull_devices(self.network, self.cluster, choices)) or pool
            elif duals.close(wanted) and not self._helps(seen, aim, wanted):
                break
        return duals

    def duals(self, aim: Aim) -> Duals:
        """Prices of the best mixture of the plans seen."""
        entries = self._plans_within_limits()
        values = np.array([[entry.under(row) for row in aim.rows] for entry in entries])
        limited = np.array([[entry.under(row) for row in aim.limited] for entry in entries])
        return duals_of(values, limited.reshape(len(entries), -1), aim.most)

    def _plans_within_limits(self) -> list[Seen]:
        return [entry for entry in self.seen if entry.fits] or self.seen

    def _helps(self, plan: Seen, aim: Aim, duals: Duals) -> bool:
        """Is a plan cheaper at these prices than all that were seen before?"""
        weights = duals.weights(aim)
        others = [
            entry.under(weights) for entry in self._plans_within_limits() if entry is not plan
        ]
        known = min(others, default=math.inf)
        return math.isinf(known) or plan.under(weights) < known - CLOSE * abs(known)

    def polish(self, choices: Sequence[Choice], weights: Weights) -> None:
        """See what polishing under ``weights`` passes through."""
        summed = weights.with_latency(self.ratio)
        polish(self.network, self.cluster, choices, self.deadline, summed, self.see)

    def _near(self, aim: Aim, duals: Duals) -> None:
        """See the best path over the best plan's templates and their neighbours."""
        best = self.best(aim).choices
        most = most_neighbours(len(self.cluster.devices))
        if len(aim.every) > 1:
            most = min(most, most_templates(len(spans_of(self.network, best)), aim))
        near = near_plan(self.network, self.cluster, best, most, self.random)
        self._best_path(near, aim, duals, best)

    def _descend(self, start: Seen, aim: Aim) -> None:
        """See what descending from a plan passes through."""

        def accept(choices: list[Choice]) -> bool:
            return self.see(choices).fits

        summed = aim.with_latency(self.ratio)
        descend(self.network, self.cluster, start.choices, summed, self.deadline, accept)

    def path(
        self,
        templates: Sequence[Template],
        weights: Weights,
        within: Sequence[Choice] | None = None,
    ) -> list[Choice] | None:
        """The cheapest path under ``weights``; None when time is up."""
        spans = None if within is None else spans_of(self.network, within)
        summed = weights.with_latency(self.ratio)
        path = ShortestPath(
            self.network, self.cluster, templates, fuse=True, spans=spans, weights=summed
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
