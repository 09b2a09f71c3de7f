"""What the steps of a plan use in all, and what that is worth under every objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import encode_s
from nptp_opt.cost.objectives import Usage, Weights, energy_j, period_s
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.evaluate.task_graph import task_seconds
from nptp_opt.network.ir import Network
from nptp_opt.plan.model import Plan
from nptp_opt.plan.steps import Step


@dataclass(frozen=True)
class Values:
    """A plan under every objective; ``energy_j`` is None where a device has no ``watts``."""

    latency_s: float
    bytes: int
    energy_j: float | None
    period_s: float

    def of(self, objective: str) -> float:
        """The value that ``objective`` minimises."""
        name = {"latency": "latency_s", "energy": "energy_j", "throughput": "period_s"}
        value = getattr(self, name.get(objective, objective))
        assert value is not None, "the energy is asked for only where it is known"
        return float(value)


def usage_of(network: Network, cluster: Cluster, steps: Sequence[Step]) -> Usage:
    """Seconds and bytes per device."""
    compute, recv, send = np.zeros((3, len(cluster.devices)))
    for (_, device), seconds in task_seconds(network, cluster, steps).items():
        compute[device] += seconds
    for move in (move for step in steps for move in step.transfers):
        recv[move.dst] += move.bytes
        send[move.src] += move.bytes
        compute[move.src] += encode_s(cluster, network, move)
    return Usage(compute, recv, send)


def values_of(network: Network, cluster: Cluster, steps: Sequence[Step]) -> Values:
    """The steps under every objective; the latency is the simulated one."""
    return values_of_usage(
        cluster, usage_of(network, cluster, steps), simulate(network, cluster, steps)
    )


def evaluated(plan: Plan) -> Plan:
    """The plan with the latency and the values that its steps give."""
    values = values_of(plan.network, plan.cluster, plan.steps)
    return replace(
        plan,
        latency_s=values.latency_s,
        energy_j=values.energy_j,
        period_s=values.period_s,
    )


def values_of_usage(cluster: Cluster, used: Usage, latency_s: float) -> Values:
    """As ``values_of``, for steps whose usage and latency are known."""
    return Values(
        latency_s=latency_s,
        bytes=int(used.recv_bytes.sum()),
        energy_j=energy_j(cluster, used),
        period_s=period_s(cluster, used),
    )


def cost_of(
    network: Network, cluster: Cluster, steps: Sequence[Step], weights: Weights | None
) -> float:
    """The sum of the steps' makespans, or their cost under ``weights``."""
    synchronous_s = sum(step.makespan_s for step in steps)
    if weights is None:
        return synchronous_s
    usage = float(weights.usage(usage_of(network, cluster, steps)))
    return weights.latency * synchronous_s + usage
