"""What a whole plan uses, and its value under every objective but the latency.

Over all steps of one inference device i computes C_i seconds, receives R_i and sends S_i bytes.

* bytes: sum_i R_i.
* energy: sum_i (watts_i C_i + joules_per_byte_i S_i): computing and sending, no idle power.
* period (of ``throughput``): seconds between results of an ideal pipeline with enough inputs in
  flight, max_i C_i or the busiest link's seconds, whichever is larger. Links are R_i / down_i and
  S_i / up_i on a switched network, sum_i R_i / rate on a shared one. Latencies of messages overlap.

All but the period's maximum are linear in the loads, so ``Weights`` of loads and makespan add up
over the steps: that is what the planner's shortest path minimises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost.loads import FloatArray, Links, LoadArrays, makespans_s

Objective = Literal["latency", "bytes", "energy", "throughput"]


@dataclass(frozen=True)
class Usage:
    """Seconds and bytes (n,) of every device over all steps of one inference."""

    compute_s: FloatArray
    recv_bytes: FloatArray
    send_bytes: FloatArray


@dataclass(frozen=True)
class Weights:
    """Cost of a step: latency x makespan + the devices' (n,) weights x their loads."""

    latency: float
    compute: FloatArray
    recv: FloatArray
    send: FloatArray

    def plus(self, other: Weights, factor: float) -> Weights:
        """These weights and ``factor`` times the other ones."""
        return Weights(
            self.latency + factor * other.latency,
            self.compute + factor * other.compute,
            self.recv + factor * other.recv,
            self.send + factor * other.send,
        )

    def with_latency(self, factor: float) -> Weights:
        """These weights, the makespan's ``factor`` times as large."""
        return replace(self, latency=factor * self.latency)

    def usage(self, loads: Usage | LoadArrays) -> FloatArray:
        """The linear part for loads (..., n)."""
        return np.asarray(
            loads.compute_s @ self.compute
            + loads.recv_bytes @ self.recv
            + loads.send_bytes @ self.send
        )


def step_costs(cluster: Cluster, loads: LoadArrays, weights: Weights | None) -> FloatArray:
    """Costs (...) of steps: their makespans, or what ``weights`` make of them."""
    makespans = makespans_s(cluster, loads)
    return makespans if weights is None else weights.latency * makespans + weights.usage(loads)


def step_values(cluster: Cluster, loads: LoadArrays, rows: Sequence[Weights]) -> FloatArray:
    """Costs (..., R) of steps under every one of ``rows``."""
    values: FloatArray = (
        loads.compute_s @ np.stack([row.compute for row in rows], axis=-1)
        + loads.recv_bytes @ np.stack([row.recv for row in rows], axis=-1)
        + loads.send_bytes @ np.stack([row.send for row in rows], axis=-1)
    )
    latency = np.array([row.latency for row in rows])
    return values + makespans_s(cluster, loads)[..., None] * latency if latency.any() else values


def least_costs(compute_s: FloatArray, weights: Weights | None) -> FloatArray:
    """What steps that compute (..., n) seconds cost at least, whatever they exchange."""
    longest: FloatArray = compute_s.max(axis=-1)
    return longest if weights is None else weights.latency * longest + compute_s @ weights.compute


def energy_known(cluster: Cluster) -> bool:
    """Has every device its ``watts``? Sending is free where ``joules_per_byte`` is not given."""
    return all(device.watts is not None for device in cluster.devices)


def energy_j(cluster: Cluster, usage: Usage) -> float | None:
    """Joules of one inference; None where a device has no ``watts``."""
    return float(energy_weights(cluster).usage(usage)) if energy_known(cluster) else None


def energy_weights(cluster: Cluster) -> Weights:
    """Joules per second computed and per byte sent."""
    zero = np.zeros(len(cluster.devices))
    watts = np.array([device.watts or 0.0 for device in cluster.devices])
    sending = np.array([device.joules_per_byte or 0.0 for device in cluster.devices])
    return Weights(0.0, watts, zero, sending)


def bytes_weights(cluster: Cluster) -> Weights:
    """One per byte received."""
    zero = np.zeros(len(cluster.devices))
    return Weights(0.0, zero, zero + 1.0, zero)


def latency_weights(cluster: Cluster) -> Weights:
    """The makespan alone."""
    zero = np.zeros(len(cluster.devices))
    return Weights(1.0, zero, zero, zero)


def resources(cluster: Cluster) -> list[Weights]:
    """Everything that can be busy: a device, a link or the medium, in seconds per input."""
    n = len(cluster.devices)
    zero, one = np.zeros(n), np.eye(n)
    rows, links = [Weights(0.0, one[i], zero, zero) for i in range(n)], Links.of(cluster)
    if cluster.shared:
        return [*rows, Weights(0.0, zero, 1 / links.down, zero)]
    for i in range(n):
        rows.append(Weights(0.0, zero, one[i] / links.down[i], zero))
        rows.append(Weights(0.0, zero, zero, one[i] / links.up[i]))
    return rows


def rows_of(cluster: Cluster, objective: Objective) -> list[Weights]:
    """What ``objective`` is the maximum of; one entry alone for a sum."""
    if objective == "throughput":
        return resources(cluster)
    linear = {"latency": latency_weights, "bytes": bytes_weights, "energy": energy_weights}
    return [linear[objective](cluster)]


@dataclass(frozen=True)
class Carried:
    """Seconds that bytes keep the links busy: every device's (n,), or one medium's."""

    up_s: FloatArray
    down_s: FloatArray
    medium_s: float | None
    """None where every device has links of its own; then the others count, else they are zero."""


def carried(cluster: Cluster, usage: Usage) -> Carried:
    """How long the links, or the medium, carry what is sent; latencies left out."""
    links, zero = Links.of(cluster), np.zeros(len(cluster.devices))
    if cluster.shared:
        return Carried(zero, zero, float(usage.recv_bytes.sum()) / cluster.network.bytes_per_s)
    return Carried(usage.send_bytes / links.up, usage.recv_bytes / links.down, None)


def busy_s(cluster: Cluster, usage: Usage) -> FloatArray:
    """Seconds per input of every entry of ``resources``."""
    return np.array([float(weights.usage(usage)) for weights in resources(cluster)])


def period_s(cluster: Cluster, usage: Usage) -> float:
    """Seconds between results in steady state: the busiest resource's."""
    return float(busy_s(cluster, usage).max())
