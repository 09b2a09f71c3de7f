"""The bound is below every plan: exhaustive optima, random plans, and cases worked by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nptp_opt.bound import compute_bound, latency_bound, read_pixels
from nptp_opt.bound.chain import longest_chain
from nptp_opt.bound.path import PathBound
from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network, plan_of
from nptp_opt.planner.path.units import is_segment
from tests.builders import conv_chain, make_cluster
from tests.networks import branched_network, residual_network
from tests.planner.optimum import all_partitions, optimum

REF = ModelRef("chain", (1, 3, 7, 7))
SETTINGS = ((3, 1, False), (24, 1, False), (6, 4, False), (8, 2, True))
"""Intervals of levels, parts of these, and whether steps overlap."""

POOL = {"kernel": 2, "stride": 2, "padding": 0}


def test_a_pool_on_an_odd_map_leaves_a_row_unread() -> None:
    """7 rows and columns, pooled 2x2 to 3: the last of each is read by nothing."""
    network = conv_chain((1, 3, 7, 7), [{"channels": 8}, {"channels": 8, **POOL}])
    assert read_pixels(network) == {"conv0": 36, "conv1": 9}


def test_a_strided_pointwise_convolution_reads_single_pixels() -> None:
    network = conv_chain(
        (1, 3, 9, 9), [{"channels": 8}, {"channels": 8, "kernel": 1, "stride": 4, "padding": 0}]
    )
    assert read_pixels(network)["conv0"] == 9


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_one_device_with_fusion_is_not_faster_than_the_bound(stride: int) -> None:
    """A bound that counted whole maps was above this plan."""
    specs = [{"channels": 64}, {"channels": 4, "kernel": 1, "stride": stride, "padding": 0}]
    network = conv_chain((1, 3, 11, 11), specs)
    plan = plan_network(REF, network, make_cluster((1.0,)))
    assert plan.bound_s is not None and plan.bound_s <= plan.latency_s


def test_the_bound_of_one_device_is_its_latency() -> None:
    network = conv_chain((1, 3, 12, 12), [{"channels": 8}, {"channels": 8}])
    plan = plan_network(REF, network, make_cluster((2.0,), overhead_ms=0.3))
    assert latency_bound(network, plan.cluster) == pytest.approx(plan.latency_s, rel=1e-6)


def test_the_bound_sees_that_a_slow_link_leaves_the_work_to_the_source() -> None:
    """At 1 kbit/s a byte costs 8 ms: the optimum is one device, whatever the other could do."""
    network = conv_chain((1, 3, 12, 12), [{"channels": 8}] * 4)
    cluster = make_cluster((1.0, 1.0), rates=1e-3, shared=True)
    plan = plan_network(REF, network, cluster)
    assert compute_bound(network, cluster) < 0.6 * plan.latency_s
    assert latency_bound(network, cluster) == pytest.approx(plan.latency_s, rel=1e-3)


def test_two_strips_of_one_layer_worked_by_hand() -> None:
    """8 x 8 pixels of 2 * 9 * 3 * 4 FLOP at 1 MFLOP/s: 6.912 ms per half. d1 needs 5 of 8 rows of
    12 bytes per pixel, and d0 collects 4 rows of 16: (480 + 512) bytes at 1e6 bytes/s.

    Any other two tiles are further from equal.
    """
    network = conv_chain((1, 3, 8, 8), [{"channels": 4}])
    cluster = make_cluster((1e-3, 1e-3), rates=8.0, shared=True)
    assert optimum(network, cluster, "guillotine")[0] == pytest.approx(7.904e-3)
    assert 0.99 * 7.904e-3 <= latency_bound(network, cluster) <= 7.904e-3


def small_case(seed: int) -> tuple[Network, Cluster] | None:
    """A random chain of 1 to 4 layers on maps of up to 5 x 5, with 2 or 3 devices."""
    rng = random.Random(seed)
    size, specs = (rng.randint(1, 5), rng.randint(1, 5)), []
    at = size
    for _ in range(rng.randint(1, 4)):
        kernel, stride = rng.choice([1, 2, 3, 3, 5]), rng.choice([1, 1, 1, 2, 3])
        padding = rng.choice([0, kernel // 2, kernel - 1])
        made = tuple((n + 2 * padding - kernel) // stride + 1 for n in at)
        if all(1 <= n <= 5 for n in made):
            channels, at = rng.choice([1, 4, 16]), (made[0], made[1])
            specs.append(
                {"channels": channels, "kernel": kernel, "stride": stride, "padding": padding}
            )
    if not specs:
        return None
    n = 3 if max(size) < 4 and rng.random() < 0.5 else 2
    names = [f"d{i}" for i in range(n)]
    rate = rng.choice([1.0, 10.0, 100.0, 1e3, 1e5])
    cluster = make_cluster(
        [rng.choice([0.1, 1.0, 1.0, 2.0, 5.0]) for _ in names],
        rates=[rate] * n if rng.random() < 0.5 else [rate * rng.choice([0.3, 1, 3]) for _ in names],
        shared=rng.random() < 0.5,
        latency_ms=rng.choice([0, 0.01, 0.1]),
        overhead_ms=rng.choice([0, 0.001, 0.1]),
        source=rng.choice(names),
        sink=rng.choice(names),
    )
    return conv_chain((1, rng.choice([1, 3]), *size), specs), cluster


@pytest.mark.parametrize("block", range(8))
def test_no_bound_is_above_the_exhaustive_optimum(block: int) -> None:
    """800 random chains; every map has a partition of its own; coarse and fine levels."""
    for seed in range(100 * block, 100 * block + 100):
        case = small_case(seed)
        if case is not None:
            network, cluster = case
            value, _ = optimum(network, cluster, "guillotine")
            for intervals, parts, overlap in SETTINGS:
                path = PathBound(
                    network,
                    cluster,
                    read_pixels(network),
                    intervals=intervals,
                    parts=parts,
                    overlap=overlap,
                )
                assert path.latency_s() <= value * (1 + 1e-9), (seed, intervals, overlap)
            assert compute_bound(network, cluster) <= value * (1 + 1e-9), seed


def random_plans(network: Network, devices: int, rng: random.Random) -> Iterator[list[Choice]]:
    """Plans with random segments and, for each, a random partition with random owners."""
    layers, known = network.shared_out, {}
    while True:
        choices, at = [], 0
        while at < len(layers):
            ends = [
                end
                for end in range(at + 1, len(layers) + 1)
                if end == at + 1 or is_segment(network, layers[at:end])
            ]
            end = rng.choice(ends)
            last = layers[end - 1]
            key = last.height, last.width
            if key not in known:
                known[key] = all_partitions(*key, devices, "guillotine")
            choices.append(Choice(layers[at:end], rng.choice(known[key])))
            at = end
        yield choices


@pytest.mark.parametrize(
    "network", [residual_network(1, size=4), residual_network(2, size=4), branched_network()]
)
@pytest.mark.parametrize("shared", [False, True])
def test_no_random_plan_of_a_dag_is_faster_than_the_bound(network: Network, shared: bool) -> None:
    rng = random.Random(len(network.layers))
    for rate, overhead in ((1.0, 0.0), (100.0, 0.01), (1e5, 0.0)):
        cluster = make_cluster(
            (1.0, 3.0), rates=rate, shared=shared, latency_ms=0.01, overhead_ms=overhead
        )
        bound = latency_bound(network, cluster)
        plans = random_plans(network, 2, rng)
        for _ in range(300):
            steps = assemble(network, cluster, next(plans))
            assert bound <= sum(step.makespan_s for step in steps) * (1 + 1e-9)


def test_a_path_and_what_is_beside_it() -> None:
    network = residual_network(blocks=2)
    assert longest_chain(network, make_cluster()).layers == network.spatial
    chain = longest_chain(branched_network(), make_cluster())
    assert [layer.name for layer in chain.layers] == ["stem", "a", "b_add"]
    assert [(b.layer.name, b.position) for b in chain.beside] == [("side", 3)]
    assert chain.apart == ()


def test_the_planner_finds_the_optimum_of_small_chains() -> None:
    """Every partition in at most three rectangles is guillotine, so nothing is below the optimum.

    Seeds 100058, 100066, 100095 and 100159 were missed by up to 24 % before every partition of a
    small map became a candidate.
    """
    for seed in (*range(100_000, 100_050), 100_058, 100_066, 100_095, 100_159):
        case = small_case(seed)
        if case is None or max(y.height * y.width for y in case[0].spatial) < 3:
            continue
        network, cluster = case
        value, _ = optimum(network, cluster, "guillotine")
        found = plan_network(REF, network, cluster, PlanOptions("nptp")).latency_s
        assert found == pytest.approx(value, rel=1e-9), seed


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("n", [2, 3])
def test_the_planner_finds_the_optimum_of_five_layers_on_six_by_six(n: int, shared: bool) -> None:
    """All segmentations, and on every map all partitions with all owners."""
    specs = [{"channels": 8}, {"channels": 4}, {"kernel": 1, "padding": 0}, {"stride": 2}, {}]
    network = conv_chain((1, 3, 6, 6), specs if n == 2 else specs[:3])
    speeds = (0.2, 0.1, 0.3)[:n]
    cluster = make_cluster(speeds, rates=20.0, shared=shared, latency_ms=0.01, sink="d1")
    value, _ = optimum(network, cluster, "guillotine")
    found = plan_network(REF, network, cluster, PlanOptions("nptp")).latency_s
    assert found == pytest.approx(value, rel=1e-9)


specs = st.lists(
    st.fixed_dictionaries(
        {
            "channels": st.sampled_from([1, 8]),
            "kernel": st.sampled_from([1, 2, 3]),
            "stride": st.sampled_from([1, 2, 3]),
            "padding": st.just(0),
        }
    ),
    min_size=1,
    max_size=3,
)


@given(specs, st.integers(1, 3), st.booleans(), st.sampled_from([1.0, 100.0, 1e6]))
def test_no_plan_is_faster_than_the_bound(
    specs: list[dict[str, int]], devices: int, shared: bool, rate: float
) -> None:
    network = conv_chain((1, 2, 41, 43), specs)
    cluster = make_cluster([1.0, 2.0, 0.5][:devices], rates=rate, shared=shared, latency_ms=0.01)
    bound = latency_bound(network, cluster)
    assert compute_bound(network, cluster) <= bound
    for planner in ("nptp", "strip-best", "single"):
        options = PlanOptions(planner, "multilevel")
        choices = PLANNERS[planner].plan(network, cluster, options)
        plan = plan_of(REF, network, cluster, choices, bound_s=bound)
        assert bound <= plan.latency_s * (1 + 1e-12)


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("shared", [False, True])
def test_every_planner_s_plan_has_the_network_s_bound(planner: str, shared: bool) -> None:
    network = conv_chain((1, 2, 21, 23), [{"channels": 8, "stride": 2}, {"channels": 4}])
    cluster = make_cluster([1.0, 2.0, 0.5], rates=100.0, shared=shared, latency_ms=0.01)
    plan = plan_network(REF, network, cluster, PlanOptions(planner))
    assert plan.bound_s == latency_bound(network, cluster) <= plan.latency_s * (1 + 1e-12)


def test_every_partition_of_the_family_is_tried() -> None:
    """2 x 2 in at most two tiles: whole, two halves by rows or by columns; two devices each."""
    found = all_partitions(2, 2, 2, "guillotine")
    assert len(found) == 6
    assert {0: Tile(0, 1, 0, 2), 1: Tile(1, 2, 0, 2)} in found
