"""What each kind of step says of itself, worked out by hand on two devices."""

from __future__ import annotations

import math

import pytest

from nptp_opt.cost import RESULT, Load, Transfer
from nptp_opt.geometry import EMPTY, Tile
from nptp_opt.network.ir import Layer, Network, Node
from nptp_opt.plan.steps import GatherStep, GlobalStep, SpatialStep
from tests.builders import conv_chain, make_cluster

CHAIN = conv_chain((1, 4, 6, 6), [{}, {}])
HALVES = {0: Tile(0, 3, 0, 6), 1: Tile(3, 6, 0, 6)}
OWNED = {"conv0": HALVES, "conv1": HALVES}

CLUSTER = make_cluster((1.0, 2.0), rates=8.0, latency_ms=1.0)
"""1e6 bytes per second each way."""

ROW_BYTES = 6 * 4 * 4
HALF_FLOP = 18 * 2 * 9 * 4 * 4


def test_a_spatial_step_exchanges_rows_and_computes_its_tiles() -> None:
    """Each half needs one row of the other. The first device is the slower: it decides."""
    step = SpatialStep(("conv1",), HALVES).with_cost(CHAIN, CLUSTER, OWNED)
    assert step.needs(CHAIN) == {"conv0": {0: Tile(0, 4, 0, 6), 1: Tile(2, 6, 0, 6)}}
    assert step.transfers == (
        Transfer(1, 0, "conv0", Tile(3, 4, 0, 6), ROW_BYTES),
        Transfer(0, 1, "conv0", Tile(2, 3, 0, 6), ROW_BYTES),
    )
    assert step.loads(CHAIN, CLUSTER, OWNED) == [
        Load(HALF_FLOP / 1e9, ROW_BYTES, ROW_BYTES, 1),
        Load(HALF_FLOP / 2e9, ROW_BYTES, ROW_BYTES, 1),
    ]
    assert step.makespan_s == pytest.approx(ROW_BYTES / 1e6 + 1e-3 + HALF_FLOP / 1e9)
    assert step.makes == {"conv1": HALVES}


def test_a_spatial_step_in_pieces_computes_ahead_what_it_owns() -> None:
    """Two of three rows need no halo: 12 pixels ahead of it, 6 after it."""
    pieces = {0: (Tile(0, 2, 0, 6), Tile(2, 3, 0, 6)), 1: (Tile(4, 6, 0, 6), Tile(3, 4, 0, 6))}
    step = SpatialStep(("conv1",), HALVES, pieces=pieces).with_cost(CHAIN, CLUSTER, OWNED)
    ahead_s, rest_s = step.seconds(CHAIN, CLUSTER, 0, OWNED)
    assert (ahead_s, rest_s) == pytest.approx((2 / 3 * HALF_FLOP / 1e9, 1 / 3 * HALF_FLOP / 1e9))
    assert step.makespan_s == pytest.approx(ROW_BYTES / 1e6 + 1e-3 + rest_s)
    assert step.tiles_fault(CHAIN, {}) is None


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ((Tile(0, 2, 0, 6), Tile(1, 3, 0, 6)), "exactly once"),
        ((Tile(0, 1, 0, 6), Tile(2, 3, 0, 6)), "exactly once"),
        ((Tile(0, 2, 0, 6), Tile(2, 4, 0, 6)), "outside its tile"),
    ],
    ids=["twice", "missing", "outside"],
)
def test_pieces_that_do_not_cover_their_tile_are_a_fault(
    parts: tuple[Tile, ...], fault: str
) -> None:
    found = SpatialStep(("conv1",), HALVES, pieces={0: parts}).tiles_fault(CHAIN, {})
    assert found is not None and fault in found


def test_a_step_without_cost_has_no_makespan() -> None:
    step = SpatialStep(("conv0", "conv1"), {0: Tile(0, 6, 0, 6), 1: EMPTY})
    assert math.isnan(step.makespan_s)
    assert step.devices == (0,)
    assert step.inner == ("conv0",)


def pooled() -> Network:
    """A global pool behind the first convolution: 4 FLOP per pixel, and 10 for the result."""
    anchor = Node(
        "sum", "global_avg_pool", ("conv0",), (1, 4, 1, 1), {"partial_elements": 4}, flop=4.0 * 36
    )
    finish = Node("pool", "relu", ("sum",), (1, 4, 1, 1), flop=10.0)
    layer = Layer(
        "pool", "global", (anchor, finish), ("conv0",), (1, 4, 1, 1), {}, 4.0 * 36 + 10.0, 0
    )
    layers = (CHAIN.layers[0], layer)
    shapes = {"input": (1, 4, 6, 6), "conv0": (1, 4, 6, 6), "pool": (1, 4, 1, 1)}
    return Network("pooled", ("input",), ("pool",), layers, shapes)


def test_a_global_step_sends_partials_to_those_that_use_the_result() -> None:
    """Both own half of the map and compute a partial; the second alone gets the other's, finishes
    and has the result."""
    network = pooled()
    step = GlobalStep.used_by(network.layers[1], {1}).with_cost(network, CLUSTER, OWNED)
    assert step.needs(network) == {}
    assert step.transfers == (Transfer(0, 1, "pool", RESULT, 16),)
    assert step.source_of(network, "pool") == "conv0"
    assert step.devices == (1,)
    assert set(step.workers(network, OWNED)) == {0, 1}
    assert step.loads(network, CLUSTER, OWNED) == [
        Load(18 * 4 / 1e9, 0, 16, 0),
        Load((18 * 4 + 10) / 2e9, 16, 0, 1),
    ]
    assert step.makespan_s == pytest.approx(16 / 1e6 + 1e-3 + (18 * 4 + 10) / 2e9)


def test_a_global_step_must_be_where_its_result_is_used() -> None:
    network = pooled()
    step = GlobalStep.used_by(network.layers[1], {1})
    assert step.tiles_fault(network, {"pool": {1}}) is None
    assert "on the devices that use it" in str(step.tiles_fault(network, {"pool": {0, 1}}))


def test_a_gather_step_fetches_what_it_collects() -> None:
    """The first device lacks three rows of the result, and computes nothing."""
    step = GatherStep((), 0, ("conv1",)).with_cost(CHAIN, CLUSTER, OWNED)
    assert step.transfers == (Transfer(1, 0, "conv1", Tile(3, 6, 0, 6), 3 * ROW_BYTES),)
    assert step.makespan_s == pytest.approx(3 * ROW_BYTES / 1e6 + 1e-3)
    assert (step.device, step.devices, step.tiles, step.makes) == (0, (0,), {}, {})


def test_only_gathers_have_a_device() -> None:
    assert SpatialStep(("conv1",), HALVES).device is None
    assert GlobalStep(("pool",), {0: RESULT}).device is None
