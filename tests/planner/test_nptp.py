"""``nptp``: the optimum of tiny networks by the clock, sound plans, never behind a baseline."""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.cost import RIMS
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.clock import Clock
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.geometry import Tile, cover_fault
from nptp_opt.layer.limits import Limits
from nptp_opt.network.ir import Network
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.steps import SpatialStep
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.planner.baselines.pooled import plans_from_solved
from nptp_opt.planner.baselines.quick import QUICK, single_on, strip_equal
from nptp_opt.planner.candidates.catalogue import family_templates
from nptp_opt.planner.candidates.pool import solved_layers
from nptp_opt.planner.local_search.anneal import WARM, anneal
from nptp_opt.planner.local_search.operators import Operators
from nptp_opt.planner.nptp import fastest, no_garbage
from nptp_opt.planner.path.discounted import discounted
from nptp_opt.planner.path.units import is_segment
from nptp_opt.verification.static import paper_faults
from tests.builders import conv_chain, make_cluster
from tests.networks import branched_network, residual_network
from tests.planner.optimum import all_partitions
from tests.tangled import tangled

REF = ModelRef("m", (1,))


def seconds(network: Network, cluster: Cluster, choices: list[Choice]) -> float:
    return simulate(network, cluster, assemble(network, cluster, choices))


def every_plan(network: Network, cluster: Cluster) -> Iterator[list[Choice]]:
    """All segmentations of a chain, with all partitions, each kind of rims apart, any of
    three devices served first."""
    layers, n = network.spatial, len(cluster.devices)
    firsts = [(), *((device,) for device in range(1, n) if n > 2)]
    known = {
        layer.name: all_partitions(layer.height, layer.width, len(cluster.devices), "guillotine")
        for layer in layers
    }
    for ends in itertools.product((False, True), repeat=len(layers) - 1):
        cuts = [0, *(k + 1 for k, end in enumerate(ends) if end), len(layers)]
        parts = [layers[a:b] for a, b in itertools.pairwise(cuts)]
        ways = [
            [
                Choice(part, t, rims, first)
                for t in known[part[-1].name]
                for rims in RIMS
                for first in firsts
            ]
            for part in parts
        ]
        yield from (list(plan) for plan in itertools.product(*ways))


TINY = [
    (conv_chain((1, 8, 4, 3), [{"channels": 8}, {"channels": 8}]), (0.01, 0.02)),
    (conv_chain((1, 4, 5, 4), [{"channels": 8, "stride": 2}, {"channels": 4}]), (0.01, 0.01)),
    (conv_chain((1, 4, 4, 2), [{"channels": 16}]), (0.01, 0.02, 0.01)),
]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("network", "speeds"), TINY, ids=["chain", "stride", "three"])
def test_the_plan_of_a_tiny_network_is_the_optimum(
    network: Network, speeds: tuple[float, ...], shared: bool
) -> None:
    """Of all segmentations, partitions, pieces and who gets messages first, by the simulation."""
    cluster = make_cluster(speeds, rates=20.0, shared=shared, latency_ms=0.01)
    clock = Clock(network, cluster)
    best = min(every_plan(network, cluster), key=clock.seconds)
    found = fastest(network, cluster, PlanOptions())
    optimum = seconds(network, cluster, best)
    assert seconds(network, cluster, found) == pytest.approx(optimum, rel=1e-9)


def ordered_cuts(tile: Tile) -> Iterator[tuple[Tile, ...]]:
    """A tile whole, and in any two rectangles in either order."""
    yield (tile,)
    for y in range(tile.y0 + 1, tile.y1):
        yield from itertools.permutations((tile.rows(tile.y0, y), tile.rows(y, tile.y1)))
    for x in range(tile.x0 + 1, tile.x1):
        yield from itertools.permutations((tile.columns(tile.x0, x), tile.columns(x, tile.x1)))


HIDING = conv_chain((1, 16, 4, 2), [{"channels": 16}] * 2), (0.01, 0.01)
"""Computing takes longer than exchange."""


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("network", "speeds"), [*TINY[1:], HIDING], ids=["stride", "three", "hiding"]
)
def test_no_two_pieces_in_any_order_are_faster_than_the_plans(
    network: Network, speeds: tuple[float, ...], shared: bool
) -> None:
    """All cuts of all tiles of the planner's partitions into two rectangles, in all orders."""
    cluster = make_cluster(speeds, rates=20.0, shared=shared, latency_ms=0.01)
    steps = assemble(network, cluster, fastest(network, cluster, PlanOptions()))
    found_s = simulate(network, cluster, steps)
    spatial = [step for step in steps if isinstance(step, SpatialStep)]
    ways = [[*ordered_cuts(tile)] for step in spatial for tile in step.tiles.values()]
    for picked in itertools.product(*ways):
        cuts = iter(picked)
        pieces = [{device: next(cuts) for device in step.tiles} for step in spatial]
        cut = [replace(s, pieces=own) for s, own in zip(spatial, pieces, strict=True)]
        assert found_s <= simulate(network, cluster, (*cut, *steps[len(cut) :])) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_changed_plans_are_plans(seed: int) -> None:
    """Whatever operators draw covers every map exactly, in segments that can be ones."""
    networks = residual_network(blocks=2), branched_network(), tangled(seed).network
    cluster = make_cluster((1.0, 2.0, 1.0, 0.5), rates=20.0)
    for network in networks:
        rng = Random(seed)
        operators = Operators(Clock(network, cluster), [*family_templates(cluster)], rng)
        plan = strip_equal(network, cluster)
        for _ in range(200):
            plan = operators.draw(plan) or plan
            assert [x for c in plan for x in c.layers] == list(network.shared_out)
            for choice in plan:
                last = choice.layers[-1]
                if choice.is_global:
                    continue
                assert is_segment(network, choice.layers)
                assert all(not tile.is_empty for tile in choice.tiles.values())
                assert cover_fault(choice.tiles.values(), last.height, last.width) is None
                assert not last.is_whole or len(choice.tiles) == 1


@pytest.mark.parametrize("shared", [False, True])
def test_no_baseline_is_faster_by_the_clock(shared: bool) -> None:
    cluster = make_cluster((1.0, 2.0, 0.5), rates=20.0, shared=shared, latency_ms=0.05)
    for network in (conv_chain((1, 3, 24, 24), [{}, {"stride": 2}]), residual_network(blocks=2)):
        found = plan_network(REF, network, cluster)
        assert paper_faults(found) == []
        for name in (*QUICK, "column-dp", "multilevel"):
            rival = plan_network(REF, network, cluster, PlanOptions(planner=name))
            assert found.latency_s <= rival.latency_s * (1 + 1e-9), name


def test_who_receives_later_gets_less_to_do() -> None:
    """Two equal devices, one layer: rows go to the second at 64 rows x 64 x 4 bytes / 1.25e5 per s.
    The source, which has its rows at once, takes more than half, until both end together.
    """
    network = conv_chain((1, 1, 64, 64), [{"channels": 64, "kernel": 1, "padding": 0}])
    cluster = make_cluster((0.002, 0.002), rates=1.0)
    start = strip_equal(network, cluster)
    found_s, found = anneal(Clock(network, cluster), start, [], 3e5, warm=WARM)
    assert found_s < 0.95 * seconds(network, cluster, start)
    assert found[0].tiles[0].area > start[0].tiles[0].area
    assert found_s == pytest.approx(seconds(network, cluster, found))


def test_a_walk_cuts_into_pieces_where_it_pays() -> None:
    """Halves of many rows: computing hides the halo; of two rows each, pieces cost more calls."""
    network = conv_chain((1, 16, 24, 24), [{"channels": 16}] * 3)
    cluster = make_cluster((1.0, 1.0), rates=100.0, latency_ms=0.1)
    halves = {0: Tile(0, 12, 0, 24), 1: Tile(12, 24, 0, 24)}
    start = [Choice((layer,), halves) for layer in network.spatial]
    clock = Clock(network, cluster)
    flipped = [start[0], *(replace(c, rims="incoming") for c in start[1:])]
    assert clock.seconds(flipped) < clock.seconds(start)
    sooner = [*(replace(c, rims="outgoing") for c in start[:-1]), start[-1]]
    assert clock.seconds(sooner) < clock.seconds(start)
    slow = make_cluster((1.0, 1.0), rates=1e5, latency_ms=0.0, overhead_ms=1.0)
    assert Clock(network, slow).seconds(flipped) > Clock(network, slow).seconds(start)
    found = fastest(network, slow, PlanOptions())
    assert not any(
        isinstance(step, SpatialStep) and step.pieces for step in assemble(network, slow, found)
    )


def test_equal_input_gives_equal_plans() -> None:
    network = residual_network(blocks=2)
    cluster = make_cluster((1.0, 2.0, 1.0), rates=20.0)
    one, other = (fastest(network, cluster, PlanOptions()) for _ in range(2))
    assert one == other


def test_no_time_leaves_a_baseline_at_least() -> None:
    network = residual_network(blocks=2)
    cluster = make_cluster((1.0, 2.0, 1.0), rates=20.0)
    hurried = PlanOptions(limits=Limits(time_limit_s=1e-3))
    found = seconds(network, cluster, fastest(network, cluster, hurried))
    rivals = [seconds(network, cluster, plan(network, cluster)) for plan in QUICK.values()]
    assert found <= min(rivals) * (1 + 1e-9)


def test_no_plan_from_solved_layers_is_begun_after_the_time() -> None:
    """Bug: with a thousand devices each took minutes, whatever the limit."""
    network, cluster = conv_chain((1, 3, 8, 8), [{}, {}]), make_cluster((1.0, 2.0))
    solved = solved_layers(network, cluster, PlanOptions("nptp"))
    assert [*plans_from_solved(network, cluster, solved)]
    assert [*plans_from_solved(network, cluster, solved, 0.0)] == []


def test_every_better_plan_is_told() -> None:
    network = residual_network(blocks=2)
    cluster = make_cluster((1.0, 2.0, 1.0), rates=20.0)
    told: list[float] = []
    found = fastest(network, cluster, PlanOptions(watch=told.append))
    assert min(told) == pytest.approx(seconds(network, cluster, found))


def test_half_of_the_exchange_is_half_of_its_seconds() -> None:
    for cluster in (make_cluster(rates=8.0, latency_ms=2.0), make_cluster(rates=8.0, shared=True)):
        network = conv_chain((1, 1, 8, 8), [{}])
        plan = single_on(network, 1)
        full, half = (seconds(network, discounted(cluster, part), plan) for part in (1.0, 0.5))
        free = seconds(network, discounted(cluster, 1e-12), plan)
        assert half - free == pytest.approx((full - free) / 2, rel=1e-6)
        assert math.isfinite(half)


def test_what_was_there_before_a_search_is_collected_after_it() -> None:
    """Also where the search fails; what the caller has set aside stays aside."""
    assert gc.get_freeze_count() == 0
    with pytest.raises(ZeroDivisionError), no_garbage():
        assert gc.get_freeze_count() > 0
        _ = 1 / 0
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        with no_garbage():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
