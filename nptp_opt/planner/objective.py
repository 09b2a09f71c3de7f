"""Plans for objectives other than the latency, under a latency limit: Lagrangian shortest paths.

With a multiplier m on the latency, the price of a path is the sum of objective + m x makespan over
its steps, which the shortest path minimises exactly over its templates. m is bisected: too small
and the limit is broken, too large and the objective is worse than it need be. The throughput's
period is a maximum of sums (``cost.objectives.resources``): each resource has a weight, raised
while it is busy (multiplicative weights). The best plan *seen* that respects the limit is returned,
the baselines and the fastest plan included: with a limit it may leave a duality gap.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray
from nptp_opt.cost.objectives import (
    Objective,
    Weights,
    busy_s,
    bytes_weights,
    energy_known,
    energy_weights,
    latency_weights,
    resources,
)
from nptp_opt.errors import InfeasibleError, InputError, NoSolutionError
from nptp_opt.network.ir import Network
from nptp_opt.planner.assemble import Choice, assemble
from nptp_opt.planner.baselines import QUICK
from nptp_opt.planner.candidates import distinct
from nptp_opt.planner.memory import overfull
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.pooled import layerwise, pooled
from nptp_opt.planner.shortest_path import ShortestPath
from nptp_opt.planner.templates import Template
from nptp_opt.planner.usage import Values, usage_of, values_of

ROUNDS = 10
"""Paths per search: bisections of the multiplier, or updates of the resources' weights."""

Planner = Callable[[Network, Cluster, PlanOptions], list[Choice]]
Pair = tuple[Objective, Objective]
Pool = Callable[[Network, Cluster, PlanOptions], list[Template]]


def by_objective(
    network: Network, cluster: Cluster, options: PlanOptions, pool: Pool, fastest: Planner
) -> list[Choice]:
    """The best plan seen under ``options.objective``."""
    search, templates = begun(network, cluster, options, pool, fastest)
    search.run(templates)
    return search.best()


def begun(
    network: Network, cluster: Cluster, options: PlanOptions, pool: Pool, fastest: Planner
) -> tuple[ObjectiveSearch, list[Template]]:
    """A search that has seen the known plans, which have a sixth of the time each; templates."""
    began, limit = time.monotonic(), options.limits.time_limit_s
    part = replace(options, limits=replace(options.limits, time_limit_s=limit / 6))
    solving = (fastest, layerwise, pooled("column-dp"), pooled("multilevel"))
    known = [plan(network, cluster) for plan in QUICK.values()]
    for plan in solving:
        with contextlib.suppress(NoSolutionError):  # a rival that has no plan in this time
            known.append(plan(network, cluster, part))
    search = ObjectiveSearch(network, cluster, options, began + limit)
    for choices in known:
        search.see(choices)
    return search, distinct(pool(network, cluster, part), network.spatial)


class ObjectiveSearch:
    """Shortest paths under changing weights; remembers every plan that it has seen."""

    def __init__(
        self, network: Network, cluster: Cluster, options: PlanOptions, deadline: float
    ) -> None:
        self.network, self.cluster, self.options = network, cluster, options
        self.deadline = deadline
        self.seen: list[tuple[list[Choice], Values, bool]] = []

    def see(self, choices: list[Choice]) -> Values:
        """Price a plan and remember it."""
        steps = assemble(self.network, self.cluster, choices)
        values = values_of(self.network, self.cluster, steps)
        self.seen.append((choices, values, not overfull(self.network, self.cluster, steps)))
        return values

    def best(self) -> list[Choice]:
        """Within memory before within the limit, then the objective; if none is, the fastest."""
        limit, objective = self.options.latency_limit_s, self.options.objective

        def key(entry: tuple[list[Choice], Values, bool]) -> tuple[bool, bool, float, float]:
            _, values, fits = entry
            late = values.latency_s > limit
            first = values.latency_s if late else values.of(objective)
            return not fits, late, first, values.latency_s

        return min(self.seen, key=key)[0]

    def run(self, templates: Sequence[Template]) -> None:
        """Search over ``templates`` until the rounds or the time are used up."""
        weights = self.weights(self.options.objective, templates)
        self._bisect(templates, weights)

    def weights(self, objective: Objective, templates: Sequence[Template]) -> Weights:
        """What a shortest path minimises for ``objective``; of the throughput, levelled weights."""
        if objective == "throughput":
            return self._level(templates)
        linear = {"latency": latency_weights, "bytes": bytes_weights, "energy": energy_weights}
        return linear[objective](self.cluster)

    def path(self, templates: Sequence[Template], weights: Weights) -> list[Choice] | None:
        """The cheapest path under ``weights``; None when time is up."""
        path = ShortestPath(self.network, self.cluster, templates, fuse=True, weights=weights)
        return path.choices_by(self.deadline)

    def _bisect(self, templates: Sequence[Template], weights: Weights) -> None:
        """Multipliers of the latency, from free of it to many times the objective's scale."""
        latency = latency_weights(self.cluster)
        first = self.path(templates, weights.plus(latency, 0.0))
        if first is None or self.see(first).latency_s <= self.options.latency_limit_s:
            return
        scale = self._scale()
        low, high = math.log(scale * 1e-4), math.log(scale * 1e4)
        for _ in range(ROUNDS):
            middle = (low + high) / 2
            found = self.path(templates, weights.plus(latency, math.exp(middle)))
            if found is None:
                return
            late = self.see(found).latency_s > self.options.latency_limit_s
            low, high = (middle, high) if late else (low, middle)

    def _scale(self) -> float:
        """Objective per second, from the plans seen."""
        pairs = [(v.of(self.options.objective), v.latency_s) for _, v, _ in self.seen]
        return max(*(value / latency_s for value, latency_s in pairs), 1e-12)

    def _level(self, templates: Sequence[Template]) -> Weights:
        """Weights of the resources after raising those of the busy ones, round by round."""
        every = resources(self.cluster)
        share = np.full(len(every), 1 / len(every))
        total = np.zeros(len(every))
        for number in range(ROUNDS):
            found = self.path(templates, _sum(every, share))
            if found is None:
                break
            self.see(found)
            steps = assemble(self.network, self.cluster, found)
            busy = busy_s(self.cluster, usage_of(self.network, self.cluster, steps))
            total += busy / max(busy.max(), 1e-300)
            share = np.exp(total * 4 / math.sqrt(number + 1))
            share /= share.sum()
        return _sum(every, share)


def _sum(every: Sequence[Weights], share: FloatArray) -> Weights:
    nothing = every[0].plus(every[0], -1.0)
    for weights, factor in zip(every, share, strict=True):
        nothing = nothing.plus(weights, float(factor))
    return nothing


def check_objective(cluster: Cluster, objective: Objective) -> None:
    """Raise InputError for an energy objective without the devices' ``watts``."""
    if objective == "energy" and not energy_known(cluster):
        missing = next(device.name for device in cluster.devices if device.watts is None)
        raise InputError(f"objective energy: device {missing!r} has no watts in the cluster file")


def require_latency(latency_s: float, options: PlanOptions) -> None:
    """Raise InfeasibleError for a plan above the latency limit."""
    if latency_s > options.latency_limit_s:
        raise InfeasibleError(
            f"planner {options.planner}: no plan within {options.latency_limit_s * 1e3:g} ms "
            f"was found; the smallest latency found is {latency_s * 1e3:.6g} ms"
        )
