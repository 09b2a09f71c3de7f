"""Plans between two objectives: the non-dominated ones of all that a sweep of mixtures visits.

The price of a path is objective A + factor x objective B over its steps, for factors from A alone
to B alone; baselines and the fastest plan are among the plans. Points that no mixture prefers (off
the lower convex hull) are found by chance only: a front of plans seen, not proven complete.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from nptp_opt.cluster import Cluster
from nptp_opt.cost.objectives import Objective
from nptp_opt.errors import InfeasibleError, InputError, unknown_name
from nptp_opt.network.ir import Network
from nptp_opt.planner.assemble import Choice
from nptp_opt.planner.nptp import objective_search
from nptp_opt.planner.objective import Pair, check_objective, require_latency
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.planners import check_planner, check_size, plan_of, provenance
from nptp_opt.planner.usage import Values
from nptp_opt.steps import ModelRef, Plan

Seen = tuple[list[Choice], Values]


def parse_pair(text: str) -> Pair:
    """Read ``A,B``; raises InputError for anything but two different objectives."""
    names = text.split(",")
    known: dict[str, Objective] = {name: name for name in get_args(Objective)}
    for name in names:
        if name not in known:
            raise unknown_name("objective of --pareto", name, known)
    if len(names) != 2 or names[0] == names[1]:
        raise InputError(f"--pareto takes two different objectives, as latency,bytes: {text!r}")
    return known[names[0]], known[names[1]]


def pareto_front(
    model: ModelRef,
    network: Network,
    cluster: Cluster,
    options: PlanOptions,
    pair: Pair,
    count: int,
) -> list[Plan]:
    """Mutually non-dominated plans in rising order of the first objective.

    Raises InfeasibleError where no plan fits into memory or within the latency limit.
    """
    if options.planner != "nptp" or options.overlap or options.objective != "latency":
        raise InputError("--pareto is for the planner nptp without --objective and --overlap")
    check_planner(options)
    for objective in pair:
        check_objective(cluster, objective)
    check_size(network, cluster)
    began = time.monotonic()
    search, templates = objective_search(network, cluster, options)
    search.sweep(templates, pair, count)
    fitting = [(choices, values) for choices, values, fits in search.seen if fits]
    if not fitting:
        raise InfeasibleError("planner nptp: no plan was found that fits into the devices' memory")
    require_latency(min(values.latency_s for _, values in fitting), options)
    kept = [entry for entry in fitting if entry[1].latency_s <= options.latency_limit_s]
    return _plans(model, network, cluster, non_dominated(kept, pair), options, pair, began)


def non_dominated(seen: Sequence[Seen], pair: Pair) -> list[Seen]:
    """The plans that no other one equals or betters in both objectives."""
    front: list[Seen] = []
    for entry in sorted(seen, key=lambda entry: [entry[1].of(objective) for objective in pair]):
        if not front or entry[1].of(pair[1]) < front[-1][1].of(pair[1]) * (1 - 1e-9):
            front.append(entry)
    return front


def _plans(
    model: ModelRef,
    network: Network,
    cluster: Cluster,
    front: Sequence[Seen],
    options: PlanOptions,
    pair: Pair,
    began: float,
) -> list[Plan]:
    made: list[Plan] = []
    for choices, _ in front:  # the bound is that of the network: computed once
        bound_s = made[0].bound_s if made else None
        made.append(plan_of(model, network, cluster, choices, bound_s=bound_s))
    how = provenance(options, time.monotonic() - began) | {"objective": " and ".join(pair)}
    return [replace(plan, provenance=how) for plan in made]
