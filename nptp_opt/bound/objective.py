"""Lower bounds on energy and period that hold for every plan, from its computing alone.

Let e[i, l] be device i's seconds for all of layer l: its call and every pixel that something reads.
A plan computes at least a share a[i, l] of those pixels on device i, sum_i a[i, l] = 1, and pays at
least that share of a call, so device i computes at least C_i = sum_l a[i, l] e[i, l] seconds, the
sink the head besides. The latency is at least every C_i. Hence, for any prices u_i >= 0,

    energy >= sum_l min_i (watts_i + u_i) e[i, l] + the head's - limit x sum_i u_i
    period >= sum_l min_i u_i e[i, l] + the head's,  where sum_i u_i = 1

The u_i are an LP's dual prices; whatever the solver says, the bound is what they prove, evaluated
here. What is sent costs nothing: where sending matters the bound is far from the plan. Of the bytes
nothing better than 0 is known: one device may do it all, unless the limit or the memory forbid it.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import block_array, csr_array, eye_array, kron

from nptp_opt.bound.reads import read_pixels
from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, gather_compute_s
from nptp_opt.cost.objectives import Objective
from nptp_opt.cost.speed import speeds_of
from nptp_opt.network.ir import Network

SAFETY = 1e-9
"""Relative margin for the rounding of sums."""


def objective_bound(
    network: Network, cluster: Cluster, objective: Objective, limit_s: float = math.inf
) -> float | None:
    """A value that no plan within the limit is below; None where none is known."""
    if objective == "bytes":
        return 0.0
    if objective == "energy":
        return energy_bound_j(network, cluster, limit_s)
    return period_bound_s(network, cluster) if objective == "throughput" else None


def energy_bound_j(network: Network, cluster: Cluster, limit_s: float) -> float:
    """Joules that every plan within the limit needs for computing."""
    seconds, head_s = layer_seconds(network, cluster)
    watts = np.array([device.watts or 0.0 for device in cluster.devices])
    prices = np.zeros(len(watts))
    if math.isfinite(limit_s):
        prices = _limit_prices(seconds, watts, limit_s - head_s)
    total = watts + prices
    found = (total[:, None] * seconds).min(axis=0).sum() + float(total @ head_s)
    if prices.any():
        found -= limit_s * float(prices.sum()) * (1 + SAFETY)
    return max(0.0, float(found) * (1 - SAFETY))


def period_bound_s(network: Network, cluster: Cluster) -> float:
    """Seconds per input of the busiest device at perfect balance of all layers."""
    seconds, head_s = layer_seconds(network, cluster)
    prices = _balance_prices(seconds, head_s)
    prices = prices / prices.sum()
    found = (prices[:, None] * seconds).min(axis=0).sum() + float(prices @ head_s)
    return float(found) * (1 - SAFETY)


def layer_seconds(network: Network, cluster: Cluster) -> tuple[FloatArray, FloatArray]:
    """Seconds (n, layers) of whole layers on every device, and (n,) of the head on the sink."""
    pixels = read_pixels(network)
    layers = [layer for layer in network.spatial if pixels[layer.name]]
    flop = np.array([layer.flop_per_pixel * pixels[layer.name] for layer in layers])
    head_s = np.zeros(len(cluster.devices))
    head_s[cluster.sink] = gather_compute_s(cluster, cluster.sink, network.head)
    return speeds_of(cluster.devices, layers).seconds(flop), head_s


def _limit_prices(seconds: FloatArray, watts: FloatArray, left_s: FloatArray) -> FloatArray:
    """Prices of the devices' seconds under a limit: zeros where the LP has no solution."""
    n, layers = seconds.shape
    found = linprog(
        (watts[:, None] * seconds).ravel(),
        A_ub=_used(seconds),
        b_ub=left_s,
        A_eq=kron(np.ones((1, n)), eye_array(layers), format="csr"),
        b_eq=np.ones(layers),
        method="highs",
    )
    if found.status != 0:
        return np.zeros(n)
    return np.asarray(np.maximum(-np.asarray(found.ineqlin.marginals), 0.0))


def _balance_prices(seconds: FloatArray, head_s: FloatArray) -> FloatArray:
    """Prices of the devices' seconds when the busiest has as few as possible."""
    n, layers = seconds.shape
    each = kron(np.ones((1, n)), eye_array(layers), format="csr")
    found = linprog(
        np.concatenate([np.zeros(n * layers), [1.0]]),
        A_ub=block_array([[_used(seconds), csr_array(-np.ones((n, 1)))]], format="csr"),
        b_ub=-head_s,
        A_eq=block_array([[each, csr_array((layers, 1))]], format="csr"),
        b_eq=np.ones(layers),
        method="highs",
    )
    if found.status != 0:
        return np.ones(n)
    return np.asarray(np.maximum(-np.asarray(found.ineqlin.marginals), 0.0) + 1e-12)


def _used(seconds: FloatArray) -> csr_array:
    """Rows (n, n x layers) that add up each device's seconds."""
    n, layers = seconds.shape
    rows = np.repeat(np.arange(n), layers)
    return csr_array((seconds.ravel(), (rows, np.arange(n * layers))), shape=(n, n * layers))
