"""Plans between two objectives: the non-dominated ones of all that a sweep of limits visits.

First the search for each objective alone. Then, in the widest gap between neighbours on the front
so far: least A among the plans whose B is at most half-way down the gap, then least B among those
that have no more than this A. Each is a search under limits as for one objective (``objective``):
paths at dual prices, the best path within the limits, polishing and descent. An empty half of a gap
is not searched again. Baselines and the fastest plan are among the plans. It is a front of plans
seen, not proven complete.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from nptp_opt.bound import clock_bound
from nptp_opt.cluster import Cluster
from nptp_opt.cost.objectives import Objective, Weights, rows_of
from nptp_opt.errors import InfeasibleError, InputError, unknown_name
from nptp_opt.network.ir import Network
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.nptp import objective_search
from nptp_opt.planner.objective import ObjectiveSearch, Pair, Seen, check_objective, require_latency
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.path.aim import Aim
from nptp_opt.planner.planners import check_planner, plan_of, provenance

ALIKE = 1e-9
"""Relative distance below which values are equal."""

FINEST = 1e-3
"""Part of the front's range of B below which a gap is not searched."""

Point = tuple[float, float]
"""A plan's values of both objectives."""

Query = tuple[float, float]
"""A limit of B and the least A that was found within it."""


def parse_pair(text: str) -> Pair:
    """Read ``A,B``; raises InputError for anything but two different objectives."""
    names = text.split(",")
    known: dict[str, Objective] = {name: name for name in get_args(Objective)}
    for name in names:
        if name not in known:
            raise unknown_name("objective of `pareto`", name, known)
    if len(names) != 2 or names[0] == names[1]:
        raise InputError(f"`pareto` takes two different objectives, as latency,bytes: {text!r}")
    return known[names[0]], known[names[1]]


def check_pareto(cluster: Cluster, options: PlanOptions, pair: Pair) -> None:
    """Raise InputError for options or devices that a front of ``pair`` cannot be made with."""
    if options.planner != "nptp" or options.objective != "latency":
        raise InputError("`pareto` is for the planner nptp without `objective`")
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
    """At most ``count`` mutually non-dominated plans in rising order of the first objective.

    Raises InfeasibleError where no plan fits into memory or within the latency limit.
    """
    check_pareto(cluster, options, pair)
    began = time.monotonic()
    notes: list[str] = []

    def tell(text: str) -> None:
        notes.append(text)
        options.tell(text)

    search, templates = objective_search(network, cluster, replace(options, tell=tell))
    _sweep(search, templates, pair, count)
    fitting = [entry for entry in search.seen if entry.fits]
    if not fitting:
        raise InfeasibleError("planner nptp: no plan was found that fits into the devices' memory")
    require_latency(min(entry.values.latency_s for entry in fitting), options)
    front = thinned(_front(search, pair), pair, count)
    if len(front) == 1:
        tell(_why_one(front[0], pair))
    searched = time.monotonic()
    bound_s = clock_bound(network, cluster) if options.bound else None
    now = time.monotonic()
    spent = {"search_s": searched - began, "bound_s_seconds": now - searched} | {
        "solve_s": now - began
    }
    how = provenance(options, notes).model_copy(update={"objective": " and ".join(pair), **spent})
    plans = (plan_of(model, network, cluster, entry.choices, bound_s=bound_s) for entry in front)
    return [replace(plan, provenance=how) for plan in plans]


def _sweep(search: ObjectiveSearch, templates: Sequence[Template], pair: Pair, count: int) -> None:
    """Search for each objective alone, then ``count`` - 2 times into the widest gap."""
    if not search.network.spatial:  # nothing to choose: the one plan has been seen
        return
    rows = [rows_of(search.cluster, objective) for objective in pair]
    for own in rows:
        search.run(templates, Aim.of(own, [search.late]))
    queries: list[Query] = []
    for _ in range(count - 2):
        most = _next_limit([_point(entry, pair) for entry in _front(search, pair)], queries)
        if most is None or time.monotonic() > search.deadline:
            return
        first = _least(search, templates, rows[0], rows[1], most)
        queries.append((most, first.values.of(pair[0])))
        _least(search, templates, rows[1], rows[0], first.values.of(pair[0]) * (1 + ALIKE))


def _least(
    search: ObjectiveSearch,
    templates: Sequence[Template],
    rows: Sequence[Weights],
    limited: Sequence[Weights],
    most: float,
) -> Seen:
    """The best plan for ``rows`` whose ``limited`` rows are at most ``most``."""
    aim = Aim.of(rows, [search.late, *((row, most) for row in limited)])
    search.look(templates, aim)
    return search.best(aim)


def _next_limit(points: Sequence[Point], queries: Sequence[Query]) -> float | None:
    """Half-way down the part of B that is not searched of the gap with the largest such part."""
    width = points[0][1] - points[-1][1] if points else 0.0
    best, found = 0.0, None
    for (a, b), (more_a, less_b) in itertools.pairwise(points):
        empty = [most for most, least in queries if least >= more_a * (1 - ALIKE) and most < b]
        floor = max([less_b, *empty])
        if b - floor > FINEST * width and (more_a - a) * (b - floor) > best:
            best, found = (more_a - a) * (b - floor), (b + floor) / 2
    return found


def _point(entry: Seen, pair: Pair) -> Point:
    return entry.values.of(pair[0]), entry.values.of(pair[1])


def _front(search: ObjectiveSearch, pair: Pair) -> list[Seen]:
    """The plans within memory and latency limit that no other one equals or betters in both."""
    late = Aim.of([], [search.late])
    front: list[Seen] = []
    kept = [entry for entry in search.seen if entry.fits and not entry.excess(late)]
    for entry in sorted(kept, key=lambda entry: _point(entry, pair)):
        a, b = _point(entry, pair)
        if not front or b < _point(front[-1], pair)[1] * (1 - ALIKE):
            while front and _point(front[-1], pair)[0] >= a * (1 - ALIKE):
                front.pop()  # the same but for the rounding of sums
            front.append(entry)
    return front


def thinned(front: Sequence[Seen], pair: Pair, count: int) -> list[Seen]:
    """At most ``count`` plans: both ends, and those that stand out most from their neighbours."""
    kept = list(front)
    while len(kept) > count:
        points = [_point(entry, pair) for entry in kept]
        areas = [
            (after[0] - here[0]) * (before[1] - here[1])
            for before, here, after in zip(points, points[1:], points[2:], strict=False)
        ]
        del kept[1 + areas.index(min(areas))]
    return kept


def _why_one(entry: Seen, pair: Pair) -> str:
    devices = {i for choice in entry.choices for i in choice.tiles}
    alone = ": one device does it all" if len(devices) == 1 else ""
    return f"one plan is the best seen in both {pair[0]} and {pair[1]}{alone}"
