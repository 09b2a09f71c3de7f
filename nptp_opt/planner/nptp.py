"""``nptp``: segments, devices and partitions of a whole network together, for the clock.

Starts are shortest paths over (cut, partition) states under discounted exchange (``discounted``),
and the baselines. From the fastest ones the search goes on by random changes, each simulated
without barriers (``local_search``): which layers go together, where the cuts lie, who has which
tile, which rims are computed apart, who gets messages first. Anytime: the best plan so far, at
worst a baseline, is returned at the limit.
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from nptp_opt.cluster import Cluster
from nptp_opt.cost import RIMS
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.clock import Clock
from nptp_opt.evaluate.memory import overfull_devices
from nptp_opt.network.ir import Network
from nptp_opt.planner.baselines.pooled import plans_from_solved
from nptp_opt.planner.baselines.quick import QUICK, single_on
from nptp_opt.planner.candidates.catalogue import MANY_DEVICES, without
from nptp_opt.planner.candidates.pool import Solved, solved_layers, with_families
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.local_search.anneal import searched
from nptp_opt.planner.many_devices import MOST_SEARCHED, of_many
from nptp_opt.planner.objective import ObjectiveSearch, begin_search, by_objective
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.path.discounted import DISCOUNTS, FEW_DISCOUNTS, FEWER_DISCOUNTS, discounted
from nptp_opt.planner.path.shortest_path import ShortestPath
from nptp_opt.planner.path.state_costs import StateCosts


def nptp(network: Network, cluster: Cluster, options: PlanOptions) -> list[Choice]:
    """The best plan found that fits into memory, the baselines included."""
    if not network.spatial:  # nothing to choose: there is one plan
        return single_on(network, cluster.source)
    if options.objective != "latency":
        return by_objective(network, cluster, options, fastest)
    if len(cluster.devices) > MOST_SEARCHED:
        return of_many(network, cluster, options, fastest)
    return fastest(network, cluster, options)


def objective_search(
    network: Network, cluster: Cluster, options: PlanOptions
) -> tuple[ObjectiveSearch, list[Template]]:
    """A search that has seen the fastest plan and the baselines, and all candidates."""
    return begin_search(network, cluster, options, fastest)


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
    clock = Clock(network, cluster)
    with no_garbage():
        baselines = quick_plans(clock, options)
        deadline = time.monotonic() + options.limits.time_limit_s  # compiled by now, once for ever
        starts, templates = candidates(clock, options, baselines, solved, deadline)
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


@contextmanager
def no_garbage() -> Iterator[None]:
    """What is there now is no garbage: the collector passes it over, which took a fifth of a
    search's time beside torch. Nothing is done where someone else has said so of it."""
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


def quick_plans(clock: Clock, options: PlanOptions) -> list[list[Choice]]:
    """The baselines that solve no layer's problem."""
    found = [plan(clock.network, clock.cluster) for plan in QUICK.values()]
    options.watch(min(clock.seconds(plan) for plan in found))
    return found


def candidates(
    clock: Clock,
    options: PlanOptions,
    baselines: Sequence[list[Choice]],
    solved: Solved | None = None,
    deadline: float = math.inf,
) -> tuple[list[list[Choice]], list[Template]]:
    """What a search starts from: ``baselines`` and the shortest paths, some of which may not fit
    into memory; and the partitions that its plans may take."""
    network, cluster = clock.network, clock.cluster
    solved = solved or solved_layers(network, cluster, options)
    templates = with_families(network, cluster, solved)
    many, like = len(cluster.devices) > MANY_DEVICES, StateCosts(network, cluster, templates)
    runs = [
        paths(network, cluster, templates, deadline, FEW_DISCOUNTS if many else DISCOUNTS, like)
    ]
    for some in () if many else of_fewer(templates, len(cluster.devices)):
        runs.append(paths(network, cluster, some, deadline, FEWER_DISCOUNTS, like))
    found = itertools.chain.from_iterable(runs)
    begun = itertools.takewhile(lambda _: not options.stopped(), found)
    pooled = plans_from_solved(network, cluster, solved, deadline)
    return [*baselines, *pooled, *begun], templates


def of_fewer(templates: Sequence[Template], n: int) -> Iterator[list[Template]]:
    """Those of at most so many devices: all but one, three quarters, half, a quarter, two."""
    for most in sorted({n - 1, 3 * n // 4, n // 2, n // 4, 2} - {0, 1, n}, reverse=True):
        some = [template for template in templates if len(template.boxes) <= most]
        if some:
            yield some


def paths(
    network: Network,
    cluster: Cluster,
    templates: Sequence[Template],
    deadline: float = math.inf,
    discounts: Sequence[float] = DISCOUNTS,
    like: StateCosts | None = None,
) -> Iterator[list[Choice]]:
    """The shortest path under every discount, in one piece and with rims apart.

    While one does not fit into memory, the first overfull device is given up. ``like`` has costs
    of templates that include these (``StateCosts``).
    """
    like = like or StateCosts(network, cluster, templates)
    for discount in discounts:
        some = list(templates)
        while some:
            on = discounted(cluster, discount)
            path = ShortestPath(network, on, some, fuse=True, like=like)
            found = path.choices_by(deadline)
            if found is None:
                return
            for rims in RIMS:
                yield [c if c.is_global else replace(c, rims=rims) for c in found]
            some = without(some, overfull_devices(network, cluster, found))
