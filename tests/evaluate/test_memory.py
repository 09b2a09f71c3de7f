"""Memory limits of whole plans: counted by hand, kept by the planner, refused by name."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from nptp_opt.errors import InfeasibleError
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.memory import overfull_devices, peak_bytes, weight_bytes
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.geometry import Tile
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.planner.baselines.quick import single_on
from tests.builders import conv_chain, make_cluster
from tests.runtime.plans import model_of

REF = ModelRef("chain", (1, 4, 8, 8))


def test_peak_of_two_strips_worked_by_hand() -> None:
    """4 channels of 4 bytes: 16 bytes per pixel, 576 bytes of weights per layer, 8x8 maps.

    d0 holds the input (64 pixels) while it makes its 32 of conv0: 96 pixels. d1 receives 5 rows,
    40 pixels, and makes 32: 72. In conv1 d0 has 32 own, a halo of 8, and makes 32: 72 pixels.
    In the end d0 holds 32 pixels, receives 32, and puts the result together.
    """
    network = conv_chain((1, 4, 8, 8), [{}, {}])
    halves = {0: Tile(0, 4, 0, 8), 1: Tile(4, 8, 0, 8)}
    steps = assemble(
        network, make_cluster(), [Choice((layer,), halves) for layer in network.layers]
    )
    assert peak_bytes(network, 2, steps, 0) == [2 * 576 + 96 * 16, 2 * 576 + 72 * 16]


def test_what_arrives_as_float16_is_held_twice_worked_by_hand() -> None:
    """As above; a received pixel has 8 bytes on its way and 16 once it is decoded.

    d0's peak is its input and its tile; d1 receives 40 pixels and makes 32.
    """
    network = conv_chain((1, 4, 8, 8), [{}, {}])
    halves = {0: Tile(0, 4, 0, 8), 1: Tile(4, 8, 0, 8)}
    cluster = make_cluster(transfer_dtype="float16")
    steps = assemble(network, cluster, [Choice((layer,), halves) for layer in network.layers])
    assert peak_bytes(network, 2, steps, 0) == [2 * 576 + 96 * 16, 2 * 576 + 72 * 16 + 40 * 8]


def test_a_fused_segment_counts_its_inner_maps() -> None:
    """One device, 8x8: input 64, conv0 64 and conv1 64 pixels are alive when conv1 is made."""
    network = conv_chain((1, 4, 8, 8), [{}, {}])
    steps = assemble(network, make_cluster((1.0,)), [Choice(network.layers, {0: Tile(0, 8, 0, 8)})])
    assert peak_bytes(network, 1, steps, 0) == [2 * 576 + 3 * 64 * 16]


def test_an_input_that_nothing_reads_is_held_by_nobody() -> None:
    network = conv_chain((1, 4, 8, 8), [{}])
    wide = replace(
        network,
        inputs=(*network.inputs, "unread"),
        shapes={**network.shapes, "unread": (1, 4, 800, 800)},
    )
    steps = assemble(wide, make_cluster((1.0,)), [Choice(wide.layers, {0: Tile(0, 8, 0, 8)})])
    assert peak_bytes(wide, 1, steps, 0) == [576 + 2 * 64 * 16]


def test_weights_of_a_linear_layer_are_those_of_its_features_worked_by_hand() -> None:
    """The classifier has 7 x 24 weights of 4 bytes and 7 of bias; 3 of 7 features take 3 / 7."""
    layers = model_of("chain").network.layers
    linear = next(layer for layer in layers if layer.op == "linear")
    whole = 4 * (7 * 24 + 7)
    assert weight_bytes([linear], None) == whole
    assert weight_bytes([linear], Tile(0, 3, 0, 1)) == whole * 3 // 7


def test_the_planner_leaves_out_a_device_without_room() -> None:
    network = conv_chain((1, 4, 8, 8), [{"channels": 64}, {"channels": 64}])
    free = make_cluster((0.001, 0.001), rates=1000.0)
    assert 1 in plan_network(REF, network, free).steps[0].tiles
    tight = make_cluster((0.001, 0.001), rates=1000.0, memory_mib={1: 0.01})
    assert all(1 not in step.tiles for step in plan_network(REF, network, tight).steps)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_one_device_can_run_alone_is_planned(seed: int) -> None:
    """Rounds after the first brought back devices that had been given up for want of memory, and
    feasible networks were called infeasible."""
    rng = random.Random(seed)
    network = conv_chain((1, 4, 8, 8), [{"channels": 32}] * 4)
    speeds = [0.01, rng.choice([0.4, 0.5]), rng.choice([0.4, 0.5])]
    limits = {i: rng.choice([0.02, 0.05, 0.1, 0.3, 1.0]) for i in range(3)}
    cluster = make_cluster(speeds, rates=100.0, memory_mib=limits)
    alone = [single_on(network, device) for device in range(3)]
    if any(not overfull_devices(network, cluster, plan) for plan in alone):
        for planner in ("nptp", "single", "strip-best"):
            plan_network(REF, network, cluster, PlanOptions(planner))
    else:
        with pytest.raises(InfeasibleError):
            plan_network(REF, network, cluster, PlanOptions("single"))


def test_the_fastest_plan_that_fits_is_found() -> None:
    """The fast d1 has room for the first layer's weights alone, all baselines but the best single
    device use it. Bugs: it came back after it was given up; what fitted was forgotten, and a slow
    baseline the answer.
    """
    network = conv_chain((1, 4, 16, 16), [{"channels": 64}] * 4)
    cluster = make_cluster((0.01, 0.5, 0.5), rates=100.0, memory_mib={1: 0.05})
    assert not overfull_devices(network, cluster, single_on(network, 2))
    plan = plan_network(REF, network, cluster)
    assert all(1 not in step.tiles for step in plan.steps[1:])
    alone = simulate(network, cluster, assemble(network, cluster, single_on(network, 2)))
    assert plan.latency_s <= alone * (1 + 1e-9)


def test_a_limit_that_nothing_fits_names_the_device() -> None:
    network = conv_chain((1, 4, 8, 8), [{"channels": 64}])
    cluster = make_cluster(memory_mib={0: 0.001, 1: 0.001})
    with pytest.raises(InfeasibleError, match=r"'d\d' needs .* MiB but has memory_mib = 0\.001"):
        plan_network(REF, network, cluster)


def test_a_baseline_that_does_not_fit_is_infeasible() -> None:
    network = conv_chain((1, 4, 8, 8), [{"channels": 64}])
    cluster = make_cluster(memory_mib={1: 0.001})
    with pytest.raises(InfeasibleError, match="'strip-equal': device 'd1'"):
        plan_network(REF, network, cluster, PlanOptions("strip-equal"))
