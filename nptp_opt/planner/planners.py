"""The planners by name, and ``plan_network``: model and cluster in, plan out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from nptp_opt import __version__
from nptp_opt.bound import clock_bound
from nptp_opt.bound.objective import objective_bound
from nptp_opt.cluster import Cluster
from nptp_opt.cost import measured_share
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.densest import densest_s
from nptp_opt.evaluate.memory import require_fit
from nptp_opt.evaluate.usage import evaluated
from nptp_opt.layer import registry
from nptp_opt.layer.solve import pick_solver
from nptp_opt.network.ir import Network
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.plan.provenance import PlannerOptions, Provenance
from nptp_opt.planner.objective import check_objective, require_latency
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.registry import PLANNERS

LEAST_MEASURED = 0.5
"""Part of a network's operations that a profile should have measured."""


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
    check_objective(cluster, options.objective)
    began = time.monotonic()
    notes: list[str] = []

    def tell(text: str) -> None:
        notes.append(text)
        options.tell(text)

    for text in _of_another_model(network, cluster):
        tell(text)
    choices = PLANNERS.find(options.planner).plan(network, cluster, replace(options, tell=tell))
    searched = time.monotonic()
    plan = plan_of(model, network, cluster, choices)
    require_fit(network, cluster, plan.steps, options.planner)
    if (dense_s := densest_s(plan)) is not None:
        tell(f"{dense_s * 1e3:.4g} ms where every map has the density of its 90th percentile")
    cut = options.stopped() or searched - began >= options.limits.time_limit_s
    made = provenance(options, notes)
    made = made.model_copy(update={"search_cut": True}) if cut else made
    if options.bound:  # it takes a fraction of a second
        plan = replace(plan, bound_s=clock_bound(network, cluster))
        made = made.model_copy(update={"bound_s_seconds": time.monotonic() - searched})
    require_latency(plan.latency_s, options, plan.bound_s)
    if options.objective != "latency":
        least = objective_bound(network, cluster, options.objective, options.latency_limit_s)
        made = made if least is None else made.model_copy(update={"objective_bound": least})
    spent = {"search_s": searched - began, "solve_s": time.monotonic() - began}
    return replace(plan, provenance=made.model_copy(update=spent))


def _of_another_model(network: Network, cluster: Cluster) -> Iterator[str]:
    """What is to be said of devices whose profiles lack most of the network's work."""
    for device in cluster.devices:
        share = measured_share(device, network.layers)
        if share < LEAST_MEASURED:
            yield (
                f"{device.name}: its profile measured {share:.0%} of this model's operations, the "
                "others are costed at its mean speed; `nptp-opt profile` this model there"
            )


def plan_of(
    model: ModelRef,
    network: Network,
    cluster: Cluster,
    choices: Sequence[Choice],
    *,
    bound_s: float | None = None,
) -> Plan:
    """The plan of given segments and partitions: steps and what they take, no provenance.

    ``bound_s`` is the network's bound where it is known.
    """
    steps = assemble(network, cluster, choices)
    return evaluated(Plan(model, network, cluster, steps, math.nan, bound_s))


def check_planner(options: PlanOptions) -> None:
    """Raise InputError for a planner, formulation or solver that is not known, or for options that
    contradict each other.
    """
    PLANNERS.find(options.planner)
    pick_solver(registry.find(options.formulation)[0], options.solver)


def provenance(options: PlanOptions, notes: Sequence[str] = ()) -> Provenance:
    """How a plan was made, as its file says it."""
    limits = asdict(options.limits)
    if limits["time_limit_s"] == math.inf:
        limits["time_limit_s"] = None
    return Provenance(
        tool=f"nptp-opt {__version__}",
        planner=options.planner,
        formulation=options.formulation if PLANNERS.find(options.planner).solves else None,
        solver=options.solver,
        options=PlannerOptions(**limits),
        **_unusual(options, notes),
    )


def _unusual(options: PlanOptions, notes: Sequence[str]) -> dict[str, Any]:
    """Objective and limit where they are not the latency alone, and notes where there are any."""
    found: dict[str, Any] = {"notes": tuple(notes)} if notes else {}
    if options.objective != "latency":
        found["objective"] = options.objective
    if options.latency_limit_s < math.inf:
        found["latency_limit_s"] = options.latency_limit_s
    return found
