"""The planners by name, and ``plan_network``: model and cluster in, plan out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from nptp_opt import __version__, methods
from nptp_opt.cluster import Cluster
from nptp_opt.errors import InputError, unknown_name
from nptp_opt.methods import Limits
from nptp_opt.network.ir import Network
from nptp_opt.planner.assemble import Choice, assemble
from nptp_opt.planner.baselines import (
    coedge_shares,
    coedge_style,
    grid_equal,
    latency_s,
    single,
    strip_best,
    strip_equal,
    strip_proportional,
)
from nptp_opt.planner.bound import compute_bound
from nptp_opt.planner.candidates import (
    distinct,
    family_templates,
    near_templates,
    single_templates,
    used_templates,
)
from nptp_opt.planner.layerwise import layer_by_layer, solved_templates
from nptp_opt.planner.memory import overfull, require_fit
from nptp_opt.planner.polish import polish
from nptp_opt.planner.shortest_path import ShortestPath, spans_of
from nptp_opt.planner.simulate import simulate
from nptp_opt.planner.templates import Template, strips
from nptp_opt.solve import pick_solver
from nptp_opt.steps import ModelRef, Plan


@dataclass(frozen=True)
class PlanOptions:
    """How to plan. ``formulation`` and ``solver`` solve the single layers of ``nptp``."""

    planner: str = "nptp"
    formulation: str = "guillotine-dp"
    solver: str | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class PlannerSpec:
    """A planner and what it is."""

    name: str
    summary: str
    plan: Callable[[Network, Cluster, PlanOptions], list[Choice]]


def nptp(network: Network, cluster: Cluster, options: PlanOptions) -> list[Choice]:
    """Segments and partitions by the shortest path over templates and solved layers.

    The cheap baselines are priced too, and the best of all that fit into memory is returned.
    While none does, the templates that use the first overfull device are given up.
    """
    templates = distinct(_pool(network, cluster, options), network.spatial)
    rivals = [plan(network, cluster) for plan in _QUICK.values()]
    deadline = time.monotonic() + options.limits.time_limit_s
    while True:
        found = _search(network, cluster, templates, deadline)
        fitting = [c for c in (found, *rivals) if not _overfull(network, cluster, c)]
        if fitting:
            return min(fitting, key=lambda choices: latency_s(network, cluster, choices))
        left = _without(templates, _overfull(network, cluster, found))
        if not left:
            return found
        templates = left


def _search(
    network: Network, cluster: Cluster, templates: Sequence[Template], deadline: float
) -> list[Choice]:
    """Shortest path and polish in turn: polished partitions are candidates of the next path."""
    best = ShortestPath(network, cluster, templates, fuse=True).choices()
    value = math.inf
    while latency_s(network, cluster, best) < value * (1 - LEAST_GAIN):
        value = latency_s(network, cluster, best)
        best = polish(network, cluster, _recut(network, cluster, best, deadline), deadline)
        if time.monotonic() >= deadline:
            break
        pool = distinct([*used_templates(best), *single_templates(cluster)], network.spatial)
        path = ShortestPath(network, cluster, pool, fuse=True).choices()
        best = min(best, path, key=lambda choices: latency_s(network, cluster, choices))
    return best


def _recut(network: Network, cluster: Cluster, best: list[Choice], deadline: float) -> list[Choice]:
    """The same segments with the best of their partitions and all neighbours of these."""
    value = math.inf
    while latency_s(network, cluster, best) < value * (1 - LEAST_GAIN):
        value = latency_s(network, cluster, best)
        if time.monotonic() >= deadline:
            break
        used = distinct(used_templates(best), network.spatial)
        near = (around for template in used for around in near_templates(template))
        pool = distinct([*used, *near], network.spatial)
        spans = spans_of(network, best)
        path = ShortestPath(network, cluster, pool, fuse=True, spans=spans).choices()
        best = min(best, path, key=lambda choices: latency_s(network, cluster, choices))
    return best


LEAST_GAIN = 1e-4
"""Relative gain of a round of polishing below which the search ends."""


def _without(templates: Sequence[Template], devices: Sequence[int]) -> list[Template]:
    """Templates that leave out the first of ``devices`` that any uses; empty if that is all."""
    for device in devices:
        left = [template for template in templates if device not in template.boxes]
        if 0 < len(left) < len(templates):
            return left
    return []


def _overfull(network: Network, cluster: Cluster, choices: Sequence[Choice]) -> list[int]:
    return overfull(network, cluster, assemble(network, cluster, choices))


def _pool(network: Network, cluster: Cluster, options: PlanOptions) -> list[Template]:
    n = len(cluster.devices)
    pool = [
        *family_templates(cluster),
        strips("strip-equal", range(n), [1.0] * n, vertical=False),
        strips("coedge-style", range(n), coedge_shares(network, cluster), vertical=False),
    ]
    for formulation in dict.fromkeys((options.formulation, *_LAYER_METHODS)):
        solver = options.solver if formulation == options.formulation else None
        pool += solved_templates(network, cluster, formulation, solver, options.limits)
    return pool


def layerwise(network: Network, cluster: Cluster, options: PlanOptions) -> list[Choice]:
    """Every layer by the chosen formulation, on its own."""
    return layer_by_layer(network, cluster, options.formulation, options.solver, options.limits)


def _pooled(formulation: str) -> Callable[[Network, Cluster, PlanOptions], list[Choice]]:
    """Every layer may take any layer's partition by one method, or one device; no fusion."""

    def plan(network: Network, cluster: Cluster, options: PlanOptions) -> list[Choice]:
        pool = [
            *single_templates(cluster),
            *solved_templates(network, cluster, formulation, None, options.limits),
        ]
        templates = distinct(pool, network.spatial)
        return ShortestPath(network, cluster, templates, fuse=False).choices()

    return plan


def _plain(
    plan: Callable[[Network, Cluster], list[Choice]],
) -> Callable[[Network, Cluster, PlanOptions], list[Choice]]:
    return lambda network, cluster, _: plan(network, cluster)


_LAYER_METHODS = ("column-dp", "multilevel")

_QUICK: dict[str, Callable[[Network, Cluster], list[Choice]]] = {
    "single": single,
    "strip-equal": strip_equal,
    "strip-proportional": strip_proportional,
    "strip-best": strip_best,
    "coedge-style": coedge_style,
    "grid-equal": grid_equal,
}

_SUMMARIES = {
    "single": "baseline: the best single device",
    "strip-equal": "baseline: equal strips on all devices",
    "strip-proportional": "baseline: strips in proportion to speed on all devices (MoDNN)",
    "strip-best": "baseline: the best strips over every choice of devices",
    "coedge-style": "baseline: LP strips on all devices (CoEdge's idea, not its code)",
    "grid-equal": "baseline: equal grid on fused first layers, then one device (DeepThings)",
}

PLANNERS = {
    spec.name: spec
    for spec in (
        PlannerSpec("nptp", "fusion, devices and partitions by shortest path", nptp),
        *(PlannerSpec(name, _SUMMARIES[name], _plain(plan)) for name, plan in _QUICK.items()),
        PlannerSpec(
            "column-dp", "baseline: columns by dynamic programming, no fusion", _pooled("column-dp")
        ),
        PlannerSpec(
            "multilevel",
            "baseline: recursive splits, no fusion (reconstruction of NPTP's algorithm)",
            _pooled("multilevel"),
        ),
        PlannerSpec("layerwise", "every layer on its own by --formulation", layerwise),
    )
}


def plan_network(
    model: ModelRef, network: Network, cluster: Cluster, options: PlanOptions | None = None
) -> Plan:
    """Plan ``network`` on ``cluster``.

    Raises InputError for an unknown planner, InfeasibleError where the plan exceeds a device's
    memory.

    The plan's bound holds for every plan of the network, whatever the planner.
    """
    options = options or PlanOptions()
    check_planner(options)
    _check_size(network, cluster)
    began = time.monotonic()
    choices = PLANNERS[options.planner].plan(network, cluster, options)
    steps = assemble(network, cluster, choices)
    require_fit(network, cluster, steps, options.planner)
    return Plan(
        model=model,
        network=network,
        cluster=cluster,
        steps=steps,
        predicted_s=simulate(network, cluster, steps),
        bound_s=compute_bound(network, cluster),
        provenance=_provenance(options, time.monotonic() - began),
    )


def check_planner(options: PlanOptions) -> None:
    """Raise InputError for a planner, formulation or solver that is not known."""
    if options.planner not in PLANNERS:
        raise unknown_name("planner", options.planner, PLANNERS)
    pick_solver(methods.find(options.formulation)[0], options.solver)


def _check_size(network: Network, cluster: Cluster) -> None:
    if not network.spatial:
        raise InputError(f"model {network.name!r} has no layer that can be partitioned")
    pixels = max(layer.height * layer.width for layer in network.spatial)
    if len(cluster.devices) > pixels:
        raise InputError(
            f"{len(cluster.devices)} devices for maps of at most {pixels} pixels: "
            "use fewer devices or a larger --input"
        )


_SOLVING = ("nptp", "layerwise")
"""Planners that use the chosen formulation."""


def _provenance(options: PlanOptions, solve_s: float) -> dict[str, object]:
    limits = asdict(options.limits)
    if limits["time_limit_s"] == float("inf"):
        limits["time_limit_s"] = None
    return {
        "tool": f"nptp-opt {__version__}",
        "planner": options.planner,
        "formulation": options.formulation if options.planner in _SOLVING else None,
        "solver": options.solver,
        "options": limits,
        "solve_s": solve_s,
    }
