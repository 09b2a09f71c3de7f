"""Plans between two objectives: the non-dominated ones of all that a sweep of mixtures visits.

The price of a path is objective A + factor x objective B over its steps: each objective alone, then
the slopes between neighbours on the front so far. Baselines and the fastest plan are among the
plans. Points that no mixture prefers (off the lower convex hull) are found by chance only: a front
of plans seen, not proven complete.
"""

from __future__ import annotations

import itertools
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
from nptp_opt.planner.objective import ObjectiveSearch, Pair, check_objective, require_latency
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.planners import check_planner, check_size, plan_of, provenance
from nptp_opt.planner.templates import Template
from nptp_opt.planner.usage import Values
from nptp_opt.steps import ModelRef, Plan

Seen = tuple[list[Choice], Values]

Gap = tuple[tuple[float, float], tuple[float, float]]
"""Values of two neighbours on the front: (A, B) of the one with less A, then of the other."""


def parse_pair(text: str) -> Pair:
    """Read ``A,B``; raises InputError for anything but two different objectives."""
    names = text.split(",")
    every = {name: name for name in get_args(Objective)}
    known: dict[str, Objective] = {k: v for k, v in every.items() if k != "predicted"}
    for name in names:
        if name not in known:
            raise unknown_name("objective of --pareto", name, known)
    if len(names) != 2 or names[0] == names[1]:
        raise InputError(f"--pareto takes two different objectives, as latency,bytes: {text!r}")
    return known[names[0]], known[names[1]]


def check_pareto(cluster: Cluster, options: PlanOptions, pair: Pair) -> None:
    """Raise InputError for options or devices that a front of ``pair`` cannot be made with."""
    if options.planner != "nptp" or options.overlap or options.objective != "latency":
        raise InputError("--pareto is for the planner nptp without --objective and --overlap")
    check_planner(options)
    for objective in pair:
        check_objective(cluster, objective)


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
    check_pareto(cluster, options, pair)
    check_size(network, cluster)
    began = time.monotonic()
    search, templates = objective_search(network, cluster, options)
    _sweep(search, templates, pair, count)
    fitting = [(entry.choices, entry.values) for entry in search.seen if entry.fits]
    if not fitting:
        raise InfeasibleError("planner nptp: no plan was found that fits into the devices' memory")
    require_latency(min(values.latency_s for _, values in fitting), options)
    kept = [entry for entry in fitting if entry[1].latency_s <= options.latency_limit_s]
    return _plans(model, network, cluster, non_dominated(kept, pair), options, pair, began)


def _sweep(search: ObjectiveSearch, templates: Sequence[Template], pair: Pair, count: int) -> None:
    """See ``count`` paths: each objective's alone, then of mixtures, into the widest gaps first."""
    first, second = (search.weights(objective, templates) for objective in pair)
    tried: set[Gap] = set()
    for weights in (first, second):
        found = search.path(templates, weights)
        if found is not None:
            search.see(found)
    for _ in range(count - 2):
        gap = _widest([(e.choices, e.values) for e in search.seen if e.fits], pair, tried)
        if gap is None:
            return
        tried.add(gap)
        (a, b), (more_a, less_b) = gap
        found = search.path(templates, first.plus(second, (more_a - a) / (b - less_b)))
        if found is None:
            return
        search.see(found)


def _widest(seen: Sequence[Seen], pair: Pair, tried: set[Gap]) -> Gap | None:
    """The neighbours on the front with the largest rectangle between them that is not ``tried``.

    A mixture for which both are worth the same prefers every plan below the line between them.
    """
    front = [entry[1] for entry in non_dominated(seen, pair)]
    points = [(values.of(pair[0]), values.of(pair[1])) for values in front]
    gaps = [gap for gap in itertools.pairwise(points) if gap not in tried]
    return max(
        gaps, key=lambda gap: (gap[1][0] - gap[0][0]) * (gap[0][1] - gap[1][1]), default=None
    )


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
