"""The clock, which costs plans by differences in compiled code, against the plain simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.clock import Clock
from nptp_opt.evaluate.memory import peak_bytes
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.network.ir import Density, Network
from nptp_opt.planner.baselines.quick import QUICK
from nptp_opt.planner.candidates.catalogue import family_templates
from nptp_opt.planner.local_search.operators import Operators
from tests.builders import conv_chain, make_cluster
from tests.networks import branched_network, residual_network
from tests.tangled import tangled

NETWORKS = {
    "chain": conv_chain((1, 3, 24, 24), [{}, {"stride": 2}, {"kernel": 5, "padding": 2}]),
    "residual": residual_network(blocks=2),
    "branched": branched_network(),
    "reductions": tangled(3).network,
    "large": tangled(11).network,
}


def clusters() -> list[Cluster]:
    made = [
        make_cluster((0.01, 0.02, 0.01), rates=(5.0, 20.0, 5.0), latency_ms=0.1),
        make_cluster((0.01, 0.02, 0.01), rates=5.0, shared=True, latency_ms=0.05),
    ]
    slow = made[0].network.model_copy(update={"message_ms": 0.3, "transfer_dtype": "int8"})
    devices = tuple(
        device.model_copy(update={"program_ms": program_ms})
        for device, program_ms in zip(made[0].devices, (0.2, None, 0.05), strict=True)
    )
    return [*made, made[0].model_copy(update={"network": slow, "devices": devices})]


def sparse(network: Network, seed: int) -> Network:
    """With densities of most maps: some dense, some nearly empty."""
    rng = Random(seed)
    names = [name for name in network.shapes if rng.random() < 0.8]
    return replace(network, densities={n: Density(d, d) for n in names if (d := rng.random())})


def unlike(cluster: Cluster) -> Cluster:
    """With codecs for which a bitmask pays between some devices only."""
    rates = [(1e3, 5e2), (0.4, 1.0), (30.0, 0.3)]
    devices = [
        device.model_copy(update={"encode_mb_per_s": encode, "decode_mb_per_s": decode})
        for device, (encode, decode) in zip(cluster.devices, rates, strict=True)
    ]
    return cluster.model_copy(update={"devices": tuple(devices)})


def walked(network: Network, clock: Clock, count: int) -> list[list[Choice]]:
    """Plans by random changes, one after the other, from the baselines."""
    rng = Random(0)
    operators = Operators(clock, [*family_templates(clock.cluster)], rng)
    found = [plan(network, clock.cluster) for plan in QUICK.values()]
    for _ in range(count):
        changed = operators.draw(rng.choice(found[-6:]))
        found += [] if changed is None else [changed]
    return found


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_clock_equals_the_simulation(network: Network) -> None:
    for cluster in clusters():
        clock = Clock(network, cluster)
        for choices in walked(network, clock, 120):
            expected = simulate(network, cluster, assemble(network, cluster, choices))
            assert clock.seconds(choices) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_clock_equals_the_simulation_with_encodings(network: Network) -> None:
    """Bytes, seconds of encoding and of decoding differ from pair to pair of devices."""
    seen = set()
    for seed, cluster in enumerate(clusters()):
        known, where = sparse(network, seed), unlike(cluster)
        clock = Clock(known, where)
        for choices in walked(known, clock, 40):
            steps = assemble(known, where, choices)
            seen |= {move.encoding for step in steps for move in step.transfers}
            expected = simulate(known, where, steps)
            assert clock.seconds(choices) == pytest.approx(expected, rel=1e-12)
    assert seen == {"dense", "bitmask"}


@pytest.mark.parametrize("seed", range(12))
def test_the_clock_equals_the_simulation_on_tangled_networks(seed: int) -> None:
    network = tangled(seed).network
    if network.spatial:
        test_the_clock_equals_the_simulation(network)
        test_the_clock_counts_the_memory_of_plans(network)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_clock_counts_the_memory_of_plans(network: Network) -> None:
    """Bug: it made the steps of every plan that a search takes to count their memory, and planning
    took ten times as long where a device has a limit."""
    for seed, cluster in enumerate(clusters()):
        for known, where in ((network, cluster), (sparse(network, seed), unlike(cluster))):
            clock = Clock(known, where)
            for choices in walked(known, clock, 30):
                steps = assemble(known, where, choices)
                expected = peak_bytes(known, len(where.devices), steps, where.source)
                assert clock.peak_bytes(choices) == expected


def test_a_clock_that_forgets_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network, cluster = NETWORKS["residual"], clusters()[0]
    plans = walked(network, Clock(network, cluster), 60)
    expected = [Clock(network, cluster).seconds(plan) for plan in plans]
    monkeypatch.setattr("nptp_opt.evaluate.clock.MOST_STEPS", 8)
    clock = Clock(network, cluster)
    assert [clock.seconds(plan) for plan in plans] == expected


def test_a_limit_ends_the_simulation_of_slower_plans_alone() -> None:
    network, cluster = NETWORKS["chain"], clusters()[1]
    clock = Clock(network, cluster)
    for choices in walked(network, clock, 40):
        value = clock.seconds(choices)
        assert clock.seconds(choices, value * (1 + 1e-9)) == value
        cut = clock.seconds(choices, value * 0.5)
        assert cut == value or math.isinf(cut)
    alone = [Choice((layer,), {1: layer.full}) for layer in network.spatial]
    assert math.isinf(clock.seconds(alone, clock.seconds(alone) * 0.5))
