"""Extreme but legal values: plans are right on paper, finite, not below their bound, and scale.

Speeds and rates times k, and fixed times divided by k, divide every latency and bound by k.
"""

from __future__ import annotations

import json
import math
import resource
from dataclasses import replace
from random import Random

import pytest

from nptp_opt.bound import clock_bound
from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.usage import evaluated
from nptp_opt.network.ir import Network
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.document import plan_from_json, plan_to_json
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network
from nptp_opt.verification.static import paper_faults
from tests.builders import conv_chain, make_cluster
from tests.fuzz.documents import TIMES
from tests.networks import residual_network
from tests.tangled import tangled

SPEEDS, RATES = (1e-9, 1e9), (1e-6, 1e6)
"""GFLOP/s; Mbit/s, from 1 bit/s to 1 Tbit/s."""

FACTORS = (1e-3, 2.0**20)


def planned(network: Network, cluster: Cluster, planner: str = "nptp") -> Plan:
    shape = network.shapes[network.inputs[0]]
    plan = plan_network(ModelRef("extreme", shape), network, cluster, PlanOptions(planner))
    assert paper_faults(plan) == []
    assert 0 <= (plan.bound_s or 0.0) <= plan.latency_s * (1 + 1e-9) < math.inf
    return plan


def scaled(cluster: Cluster, k: float) -> Cluster:
    """The same cluster where everything is k times as fast."""
    link = cluster.network
    network = link.model_copy(
        update={
            "latency_ms": link.latency_ms / k,
            "mbit_per_s": link.mbit_per_s and link.mbit_per_s * k,
        }
    )
    devices = [
        device.model_copy(
            update={
                "gflops": device.gflops * k,
                "overhead_ms": device.overhead_ms / k,
                "up_mbit_per_s": device.up_mbit_per_s and device.up_mbit_per_s * k,
                "down_mbit_per_s": device.down_mbit_per_s and device.down_mbit_per_s * k,
            }
        )
        for device in cluster.devices
    ]
    return cluster.model_copy(update={"network": network, "devices": tuple(devices)})


@pytest.mark.parametrize("seed", range(2000, 2000 + TIMES))
def test_everything_k_times_as_fast_takes_a_kth_of_the_time(seed: int) -> None:
    rng, network = Random(seed), tangled(seed).network
    cluster = make_cluster(
        [rng.uniform(0.001, 1) for _ in range(3)],
        rates=rng.uniform(1, 100), shared=rng.random() < 0.5, latency_ms=0.3, overhead_ms=0.1,
    )  # fmt: skip
    plan = planned(network, cluster, "column-dp")
    for k in FACTORS:
        faster = scaled(cluster, k)
        priced = evaluated(replace(plan, cluster=faster))
        assert priced.latency_s * k == pytest.approx(plan.latency_s, rel=1e-9)
        assert priced.period_s * k == pytest.approx(plan.period_s, rel=1e-9)
        bound = clock_bound(network, faster) * k
        assert bound == pytest.approx(clock_bound(network, cluster), rel=1e-6)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("shared", [False, True])
def test_the_slowest_and_the_fastest_are_planned_for(
    speed: float, rate: float, *, shared: bool
) -> None:
    network = residual_network(1, size=8)
    others = (1.0, speed, speed * 3)
    plan = planned(network, make_cluster(others, rates=rate, shared=shared, latency_ms=1e-6))
    text = json.dumps(plan_to_json(plan), allow_nan=False)
    assert plan_from_json(json.loads(text)) == plan


@pytest.mark.parametrize("planner", sorted(PLANNERS))
def test_unlike_devices_are_planned_for_by_all(planner: str) -> None:
    """Speeds and rates that are 18 and 12 orders of magnitude apart in one cluster."""
    cluster = make_cluster((1e-9, 1.0, 1e9), rates=(1e-6, 100.0, 1e6), overhead_ms=1e-9)
    planned(residual_network(1, size=8), cluster, planner)


SHAPES = {
    "one pixel": ((1, 3, 1, 1), {}),
    "one row": ((1, 3, 1, 500), {}),
    "one column": ((1, 3, 300, 1), {}),
    "a batch of 64": ((64, 3, 12, 12), {}),
    "one channel": ((1, 1, 9, 9), {"channels": 1}),
    "70,000 channels": ((1, 70_000, 3, 3), {"channels": 70_000}),
    "a kernel beyond the map": ((1, 3, 5, 5), {"kernel": 9, "padding": 4}),
    "a stride beyond the map": ((1, 3, 9, 9), {"stride": 20}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_maps_of_odd_sizes_are_planned(name: str) -> None:
    shape, layer = SHAPES[name]
    network = conv_chain(shape, [{"channels": 4, **layer}, {"channels": 4, **layer}])
    planned(network, make_cluster((2.0, 1.0, 0.5)))


def test_a_map_of_16384_pixels_a_side_is_planned_within_2_gb() -> None:
    """Tables of all ranges of an axis took the square of it: 0.8 GB at 3,000 pixels."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    planned(conv_chain((1, 3, 16384, 16384), [{}, {"stride": 2}]), make_cluster((2.0, 1.0)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20


@pytest.mark.parametrize("planner", ["coedge-style", "strip-proportional"])
def test_300_devices_are_planned_for(planner: str) -> None:
    cluster = make_cluster([1.0 + k % 7 for k in range(300)], rates=1000.0)
    planned(conv_chain((1, 3, 320, 20), [{}, {}]), cluster, planner)
