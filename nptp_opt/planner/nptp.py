"""``nptp``: segments, devices and partitions of a whole network together, for the clock.

Starts are shortest paths over (cut, partition) states under discounted exchange (``discounted``),
and the baselines. From the fastest ones the search goes on by random changes, each simulated
without barriers (``local_search``): which layers go together, where the cuts lie, who has which
tile, which segments compute while their halos are on the way. Anytime: the best plan so far, at
worst a baseline, is returned at the limit.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.clock import Clock
from nptp_opt.evaluate.memory import overfull_devices
from nptp_opt.network.ir import Network
from nptp_opt.planner.baselines.pooled import from_solved
from nptp_opt.planner.baselines.quick import QUICK, single_on
from nptp_opt.planner.candidates.catalogue import MANY_DEVICES, without
from nptp_opt.planner.candidates.pool import Solved, solved_layers, with_families
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.local_search.anneal import searched
from nptp_opt.planner.objective import ObjectiveSearch, begun, by_objective
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.path.discounted import DISCOUNTS, FEW_DISCOUNTS, discounted
from nptp_opt.planner.path.shortest_path import ShortestPath


def nptp(network: Network, cluster: Cluster, options: PlanOptions) -> list[Choice]:
    """The best plan found that fits into memory, the baselines included."""
    if not network.spatial:  # nothing to choose: there is one plan
        return single_on(network, cluster.source)
    if options.objective != "latency":
        return by_objective(network, cluster, options, fastest)
    return fastest(network, cluster, options)


def objective_search(
    network: Network, cluster: Cluster, options: PlanOptions
) -> tuple[ObjectiveSearch, list[Template]]:
    """A search that has seen the fastest plan and the baselines, and all candidates."""
    return begun(network, cluster, options, fastest)


def fastest(
    network: Network,
    cluster: Cluster,
    options: PlanOptions,
    solved: Solved | None = None,
    *,
    effort: float = 1.0,
) -> list[Choice]:
    """The plan with the least simulated latency that is found; twice the ``effort`` simulates twice
    as many plans."""
    deadline = time.monotonic() + options.limits.time_limit_s
    clock = Clock(network, cluster)
    starts = [plan(network, cluster) for plan in QUICK.values()]
    options.watch(min(clock.seconds(plan) for plan in starts))
    solved = solved or solved_layers(network, cluster, options)
    templates = with_families(network, cluster, solved)
    starts += from_solved(network, cluster, solved)
    many = len(cluster.devices) > MANY_DEVICES
    found = paths(network, cluster, templates, deadline, FEW_DISCOUNTS if many else DISCOUNTS)
    starts += itertools.takewhile(lambda _: not options.stopped(), found)
    return searched(
        clock,
        starts,
        templates,
        deadline=deadline,
        watch=options.watch,
        effort=effort,
        seed=options.limits.seed,
        stopped=options.stopped,
    )


def paths(
    network: Network,
    cluster: Cluster,
    templates: Sequence[Template],
    deadline: float = math.inf,
    discounts: Sequence[float] = DISCOUNTS,
) -> Iterator[list[Choice]]:
    """The shortest path under every discount, with and without overlap.

    While one does not fit into memory, the first overfull device is given up.
    """
    for discount in discounts:
        some = list(templates)
        while some:
            path = ShortestPath(network, discounted(cluster, discount), some, fuse=True)
            found = path.choices_by(deadline)
            if found is None:
                return
            yield found
            yield [Choice(c.layers, c.tiles, not c.is_global) for c in found]
            some = without(some, overfull_devices(network, cluster, found))
