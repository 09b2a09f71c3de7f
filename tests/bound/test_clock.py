"""The bound on the latency without barriers is below every simulated plan, however it is made."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from nptp_opt.bound import clock_bound
from nptp_opt.bound.chain import fewest_per_output
from nptp_opt.cluster import Cluster
from nptp_opt.cost import RIMS, Rims, input_ownership
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network
from nptp_opt.network.load import load_module
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network
from nptp_opt.planner.path.units import is_segment
from tests.bound.cases import random_cluster, random_network, random_tiles, small_case
from tests.builders import conv_chain, make_cluster
from tests.networks import branched_network, residual_network
from tests.planner.optimum import all_partitions

EXACT = 1 + 1e-9
POINTWISE = {"kernel": 1, "padding": 0}


def simulated(network: Network, cluster: Cluster, choices: list[Choice], rims: Rims) -> float:
    each = [choice if choice.is_global else replace(choice, rims=rims) for choice in choices]
    return simulate(network, cluster, assemble(network, cluster, each))


def random_plan(network: Network, cluster: Cluster, rng: random.Random) -> list[Choice]:
    """Random segments, each with a random partition for random owners."""
    layers, choices, at = network.shared_out, [], 0
    speeds = [device.flop_per_s for device in cluster.devices]
    while at < len(layers):
        ends = [e for e in range(at + 1, len(layers) + 1) if is_segment(network, layers[at:e])]
        end = rng.choice([*ends, at + 1])
        last = layers[end - 1]
        choices.append(Choice(layers[at:end], random_tiles(rng, last.height, last.width, speeds)))
        at = end
    return choices


@pytest.mark.parametrize("seed", range(60))
def test_no_random_plan_is_faster(seed: int) -> None:
    """With all kinds of pieces; networks with joins, strides, layers that compute nothing."""
    rng = random.Random(seed)
    network = random_network(rng, rng.choice([6, 12, 24]))
    cluster = random_cluster(rng, network)
    if seed % 3 == 0:
        link = cluster.network.model_copy(update={"message_ms": 0.3})
        cluster = cluster.model_copy(update={"network": link})
    bound = clock_bound(network, cluster)
    for k in range(60):
        value = simulated(network, cluster, random_plan(network, cluster, rng), RIMS[k % 4])
        assert bound <= value * EXACT


def every_plan(network: Network, devices: int) -> Iterator[list[Choice]]:
    """All segmentations of a chain, and for every segment all partitions with all owners."""
    layers = network.spatial
    options = [all_partitions(layer.height, layer.width, devices, "guillotine") for layer in layers]
    for cuts in itertools.product((False, True), repeat=len(layers) - 1):
        ends = [k + 1 for k, cut in enumerate(cuts) if cut] + [len(layers)]
        starts = [0, *ends[:-1]]
        for tiles in itertools.product(*(options[end - 1] for end in ends)):
            yield [
                Choice(layers[start:end], tile)
                for start, end, tile in zip(starts, ends, tiles, strict=True)
            ]


MOST_PLANS = 1500


@pytest.mark.parametrize("block", range(4))
def test_no_bound_is_above_the_exhaustive_optimum(block: int) -> None:
    """Chains on tiny maps with few enough plans to simulate them all."""
    tried = 0
    for seed in range(40 * block, 40 * block + 40):
        case = small_case(seed)
        if case is None or len(case[0].spatial) > 3 or case[0].spatial[0].full.area > 12:
            continue
        network, cluster = case
        plans = [*itertools.islice(every_plan(network, len(cluster.devices)), MOST_PLANS + 1)]
        if len(plans) > MOST_PLANS:
            continue
        best = min(simulated(network, cluster, plan, "both") for plan in plans)
        assert clock_bound(network, cluster) <= best * EXACT, seed
        tried += 1
    assert tried > 5


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("shared", [False, True])
def test_no_planner_s_plan_is_faster(planner: str, shared: bool) -> None:
    network = conv_chain((1, 2, 21, 23), [{"channels": 8, "stride": 2}, {"channels": 4}, {}])
    for rate in (1.0, 100.0, 1e4):
        cluster = make_cluster([1.0, 2.0, 0.5], rates=rate, shared=shared, latency_ms=0.01)
        plan = plan_network(ModelRef("m", (1,)), network, cluster, PlanOptions(planner))
        assert clock_bound(network, cluster) <= plan.latency_s * EXACT


@pytest.mark.parametrize("network", [residual_network(2), branched_network(8)])
@pytest.mark.parametrize("shared", [False, True])
def test_no_plan_made_for_the_clock_is_faster(network: Network, shared: bool) -> None:
    for rate in (1.0, 30.0):
        cluster = make_cluster((0.02, 0.01, 0.03), rates=rate, shared=shared, sink="d2")
        plan = plan_network(ModelRef("m", (1,)), network, cluster)
        assert 0 < clock_bound(network, cluster) <= plan.latency_s * EXACT


def test_linear_layers_global_pools_and_a_head_are_bounded() -> None:
    """Partials do not wait for the seconds that they take, so nothing is taken off at the end."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 50)
    )
    network = load_module(model.eval(), "m", (1, 3, 9, 9)).network
    for shared in (False, True):
        cluster = make_cluster((0.001, 0.002), rates=10.0, shared=shared, latency_ms=2.0)
        for planner in PLANNERS:
            plan = plan_network(ModelRef("m", (1,)), network, cluster, PlanOptions(planner))
            assert clock_bound(network, cluster) <= plan.latency_s * EXACT


def test_the_bound_of_one_device_is_its_latency() -> None:
    network = conv_chain((1, 3, 12, 12), [{"channels": 8}, {"channels": 8}])
    cluster = make_cluster((2.0,), overhead_ms=0.3)
    steps = assemble(network, cluster, [Choice(network.spatial, {0: network.spatial[-1].full})])
    assert clock_bound(network, cluster) == pytest.approx(simulate(network, cluster, steps))


@pytest.mark.parametrize("shared", [False, True])
def test_without_a_usable_link_the_source_does_everything(shared: bool) -> None:
    """At 1 bit/s a byte takes 8 s: less than a millionth of a byte is worth its while."""
    network = conv_chain((1, 3, 12, 12), [{"channels": 8}] * 3)
    cluster = make_cluster((1.0, 1.0), rates=1e-6, shared=shared)
    alone_s = sum(layer.flop for layer in network.spatial) / 1e9
    assert clock_bound(network, cluster) == pytest.approx(alone_s, rel=1e-3)


def test_two_devices_of_one_pointwise_layer_worked_by_hand() -> None:
    """10 x 10 pixels of 1 channel each way: 4 bytes, 2 FLOP per pixel. At 1000 FLOP/s all of it
    takes 0.2 s, at 8 kbit/s a pixel moves in 4 ms, and what the other one does comes back: every
    second that it spares the source costs 2 + 2 s of the medium. T = 4 (0.2 - T): 0.16 s.
    """
    network = conv_chain((1, 1, 10, 10), [{"channels": 1, **POINTWISE}])
    assert network.spatial[0].flop == 200
    cluster = make_cluster((1e-6, 1e-6), rates=8e-3, shared=True)
    assert clock_bound(network, cluster) == pytest.approx(0.16, rel=1e-4)
    best = min(
        simulated(network, cluster, [Choice(network.spatial, tiles)], "none")
        for tiles in all_partitions(10, 10, 2, "guillotine")
    )
    assert 0.16 <= best < 0.2


def test_a_layer_that_reads_rows_of_its_own_is_sent_all_of_its_input() -> None:
    """30 x 10 pixels to 10 x 10, three rows for each: 1.2 s of the medium for all of the input and
    0.4 s back, against 0.6 s of computing. T = 0.6 (1 - b) = 1.6 b."""
    conv = nn.Conv2d(1, 1, (3, 1), stride=(3, 1), bias=False)
    network = load_module(conv.eval(), "m", (1, 1, 30, 10)).network
    assert network.spatial[0].flop == 600
    cluster = make_cluster((1e-6, 1e-6), rates=8e-3, shared=True)
    assert clock_bound(network, cluster) == pytest.approx(0.6 * 1.6 / 2.2, rel=1e-4)


def test_a_network_of_a_head_alone_takes_the_head_s_seconds() -> None:
    norm = nn.Sequential(nn.Flatten(), nn.LayerNorm(12))
    network = load_module(norm.eval(), "m", (1, 3, 2, 2)).network
    assert not network.shared_out and sum(layer.flop for layer in network.head) == 84
    bound = clock_bound(network, make_cluster((1e-6, 2e-6), sink="d1"))
    assert 0.042 * (1 - 1e-8) < bound < 0.042


def test_a_network_of_a_global_pool_alone_takes_the_seconds_of_perfect_balance() -> None:
    """There is no path of maps, so nothing else is known."""
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1))
    network = load_module(pool.eval(), "m", (1, 6, 2, 2)).network
    assert not network.spatial
    balanced_s = network.shared_out[0].flop / 3000
    found = clock_bound(network, make_cluster((1e-6, 2e-6), rates=1e9))
    assert 0 < balanced_s * (1 - 1e-8) < found < balanced_s


def test_nothing_but_the_source_begins_before_a_hop() -> None:
    """At infinite rates two devices with work for 2 s do not end after 1 s but half a hop later
    at either end: the other one has 2 hops less."""
    network = conv_chain((1, 1, 10, 10), [{"channels": 1, **POINTWISE}])
    cluster = make_cluster((1e-7, 1e-7), rates=1e9, shared=True, latency_ms=100.0)
    assert clock_bound(network, cluster) == pytest.approx(1.1)


def test_where_pixels_are_unread_no_hop_is_counted_at_the_end() -> None:
    """What nothing reads may be computed until the very end, if a hop after the source began."""
    specs = [{"channels": 1, **POINTWISE}, {"channels": 1, "stride": 2, **POINTWISE}]
    network = conv_chain((1, 1, 10, 10), specs)
    slow, fast = (
        clock_bound(network, make_cluster((1e-7, 1e-7), rates=1e9, latency_ms=ms, shared=True))
        for ms in (100.0, 0.0)
    )
    assert slow == pytest.approx(fast + 0.05)


def test_what_reads_nothing_may_be_computed_at_once() -> None:
    """Windows of kernel 1 that lie in the padding altogether need no input."""
    network = conv_chain((1, 1, 10, 10), [{"channels": 1, "kernel": 1, "padding": 2}])
    slow, fast = (
        clock_bound(network, make_cluster((1e-7, 1e-7), rates=1e9, latency_ms=ms, shared=True))
        for ms in (100.0, 0.0)
    )
    assert slow == pytest.approx(fast + 0.05)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_better_links_and_devices_never_raise_the_bound(seed: int, shared: bool) -> None:
    network = random_network(random.Random(seed), 16)
    rates = [clock_bound(network, make_cluster((0.1, 0.2), rates=10.0**k, shared=shared))
             for k in range(-3, 6)]  # fmt: skip
    assert (np.diff(rates) <= 1e-15).all()
    waits = [
        clock_bound(network, make_cluster((0.1, 0.2), latency_ms=ms, shared=shared))
        for ms in (0, 1, 10)
    ]
    assert (np.diff(waits) >= 0).all()
    more = clock_bound(network, make_cluster((0.1, 0.2, 0.1), shared=shared))
    assert more <= clock_bound(network, make_cluster((0.1, 0.2), shared=shared)) * EXACT


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_extreme_speeds_and_rates_give_a_finite_bound(scale: float) -> None:
    network = conv_chain((1, 3, 12, 12), [{"channels": 8}, {"channels": 8, "padding": 5}])
    for rate, shared in itertools.product((1e-9, 1e12), (False, True)):
        found = clock_bound(network, make_cluster((scale, 1.0), rates=rate, shared=shared))
        assert np.isfinite(found) and found > 0


@pytest.mark.parametrize("seed", range(30))
def test_outputs_read_at_least_so_many_positions_each(seed: int) -> None:
    """Of every set of outputs, in windows of any order; attained where they follow one another."""
    rng = np.random.default_rng(seed)
    n, ordered = rng.integers(1, 8), seed % 2 == 0
    first = rng.integers(0, 12, n)
    last = first + rng.integers(0 if seed % 5 == 0 else 1, 5, n)
    if ordered:
        first, last = np.sort(first), np.sort(last)
    least = min(
        len({p for o in some for p in range(first[o], last[o])}) / len(some)
        for size in range(1, n + 1)
        for some in itertools.combinations(range(n), size)
    )
    found = fewest_per_output(first, last)
    assert found <= least + 1e-12
    assert not ordered or found == pytest.approx(least) or (last <= first).any()


def test_the_input_is_on_the_source_alone() -> None:
    """The premise of the exchange's bound."""
    network, cluster = residual_network(1), make_cluster((1.0, 1.0), source="d1")
    assert input_ownership(network, cluster) == {"input": {1: Tile(0, 12, 0, 12)}}
