"""Why a request has no plan, and the smallest change of it that has one: planned, not guessed.

A request is a network, a cluster, and perhaps a limit of the latency. Its answer is a plan, or
findings: what stands in the way, then what would be enough, the smallest first of each kind. Every
"it is possible" is a plan that was found for the changed request by the search that ``solve`` uses,
so ``solve`` finds one, too. "Smallest" is the smallest that was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from nptp_opt.cluster import Cluster
from nptp_opt.errors import InfeasibleError
from nptp_opt.explanation.faster import enough_for_limit
from nptp_opt.explanation.roomier import enough_memory, weights_that_do_not_fit
from nptp_opt.explanation.sentences import Finding, ms
from nptp_opt.network.ir import Network
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network


def request_findings(
    ref: ModelRef, network: Network, cluster: Cluster, latency_limit_s: float = math.inf
) -> Iterator[Finding]:
    """What there is to say of a request; the first finding tells whether it has a plan."""
    try:
        plan = plan_network(ref, network, cluster, PlanOptions())
    except InfeasibleError:
        text = "No plan was found that fits into the devices' memory."
        yield Finding("request", text, {"feasible": False})
        yield from weights_that_do_not_fit(network, cluster)
        yield from enough_memory(network, cluster, latency_limit_s)
        return
    if plan.latency_s <= latency_limit_s:
        figures = {"feasible": True, "latency_s": plan.latency_s}
        yield Finding("request", f"There is a plan: it takes {ms(plan.latency_s)}.", figures)
        return
    yield _too_slow(plan, latency_limit_s)
    yield from enough_for_limit(plan, latency_limit_s)


def _too_slow(plan: Plan, limit_s: float) -> Finding:
    text = f"No plan within {ms(limit_s)} was found: the fastest takes {ms(plan.latency_s)}"
    proven = plan.bound_s is not None and plan.bound_s > limit_s
    if proven and plan.bound_s is not None:
        text += f", and on these devices none can take less than {ms(plan.bound_s)} (proven)"
    figures = {
        "feasible": False,
        "proven": proven,
        "latency_s": plan.latency_s,
        "bound_s": plan.bound_s,
        "latency_limit_s": limit_s,
    }
    return Finding("request", f"{text}.", figures)
