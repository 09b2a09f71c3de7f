"""Baselines that evaluate many plans at once find the best of the plans that they stand for."""

from __future__ import annotations

import itertools

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.cluster.profiles import LayerSpeed
from nptp_opt.cost import layer_key
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.network.ir import Network
from nptp_opt.planner.baselines import quick
from nptp_opt.planner.baselines.quick import (
    coedge_shares,
    coedge_style,
    follow,
    grid_equal,
    latency_s,
    single_on,
    strip_best,
    strip_proportional,
)
from nptp_opt.planner.candidates.catalogue import single_templates
from nptp_opt.planner.candidates.templates import grid, snaps, strips
from nptp_opt.planner.path.units import is_segment, units
from tests.builders import conv_chain, make_cluster
from tests.networks import residual_network

NETWORKS = [
    conv_chain((1, 3, 16, 16), [{"channels": 8}, {"channels": 16, "stride": 2}, {"channels": 16}]),
    residual_network(blocks=2),
]
CLUSTERS = [
    make_cluster((1.0, 2.0, 1.0, 0.5), rates=rate, shared=shared, latency_ms=0.05, source="d1")
    for rate in (5.0, 500.0)
    for shared in (False, True)
]


@pytest.mark.parametrize("network", NETWORKS, ids=["chain", "residual"])
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_grid_equal_is_the_best_number_of_fused_layers(network: Network, cluster: Cluster) -> None:
    """Against every number of fused units and every device for the rest, each assembled."""
    template, snap, parts = grid("g", 2, 2), snaps(network), units(network)
    options = [single_on(network, i) for i in range(4)]
    for count, device in itertools.product(range(1, len(parts) + 1), range(4)):
        fused = tuple(layer for unit in parts[:count] for layer in unit)
        if is_segment(network, fused):
            last = fused[-1]
            tiles = template.at(last.height, last.width, snap[last.name])
            options.append([Choice(fused, tiles), *single_on(network, device)[len(fused) :]])
    wanted = min(latency_s(network, cluster, choices) for choices in options)
    found = latency_s(network, cluster, grid_equal(network, cluster))
    assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_strip_best_is_no_worse_than_any_strips(cluster: Cluster) -> None:
    """Every set of devices, proportional and LP heights, across rows and across columns."""
    network = NETWORKS[0]
    found = latency_s(network, cluster, strip_best(network, cluster))
    for count in range(1, 5):
        for chosen in itertools.combinations(range(4), count):
            speeds = [cluster.devices[i].gflops for i in chosen]
            for shares in (speeds, coedge_shares(network, cluster, chosen)):
                for vertical in (False, True):
                    template = strips("s", chosen, shares, vertical=vertical)
                    cost = latency_s(network, cluster, follow(network, template))
                    assert found <= cost * (1 + 1e-12)


def test_coedge_shares_balance_compute_and_exchange() -> None:
    """Without exchange, heights follow the speeds: 1 to 3; all shares add up to 1."""
    network = conv_chain((1, 3, 16, 16), [{"kernel": 1, "padding": 0}])
    cluster = make_cluster((1.0, 3.0), rates=1000.0)
    assert coedge_shares(network, cluster) == pytest.approx([0.25, 0.75])


def test_of_many_devices_some_numbers_are_tried() -> None:
    """Every one up to 64, then a sixteenth more each time, and all; single devices by kind."""
    few, many = [*quick._counts(20)], [*quick._counts(1000)]
    assert few == [*range(1, 21)]
    assert many[:64] == [*range(1, 65)] and many[64:66] == [68, 72] and many[-1] == 1000
    assert len(many) < 120 and many == sorted(set(many))
    cluster = make_cluster([1.0 + k % 3 for k in range(70)])
    assert len([*single_templates(cluster)]) == len(cluster.unlike) <= 5
    assert len([*single_templates(make_cluster([1.0] * 64))]) == 64


def test_one_device_has_no_strips_to_evaluate() -> None:
    """No choice of several devices is an empty list of candidates, not an error."""
    cluster = make_cluster((1.0,))
    found = strip_best(conv_chain((1, 3, 8, 8), [{}]), cluster)
    assert [set(choice.tiles) for choice in found] == [{0}]


# Two layers of equal work, 2 x 4 x 8 x 30 x 16 FLOP: UNIT_S seconds on a device of 1 GFLOP/s. On
# links this fast nothing but computing counts.
TWO = conv_chain(
    (1, 4, 30, 16),
    [{"channels": 8, "kernel": 1, "padding": 0}, {"channels": 4, "kernel": 1, "padding": 0}],
)
UNIT_S = 2 * 4 * 8 * 30 * 16 / 1e9


def profiled(gflops: tuple[float, float], overhead_s: float = 0.0) -> Cluster:
    """Two devices of 1 GFLOP/s; the second has a profile with other speeds on the layers of TWO."""
    plain = make_cluster((1.0, 1.0), rates=1e9)
    layers = tuple(
        LayerSpeed(layer=layer_key(layer), gflops=speed, overhead_ms=overhead_s * 1e3)
        for layer, speed in zip(TWO.layers, gflops, strict=True)
    )
    device = plain.devices[1].model_copy(update={"layers": layers})
    return plain.model_copy(update={"devices": (plain.devices[0], device)})


def test_strips_follow_a_profile_layer_by_layer() -> None:
    """Mean speeds were used where a profile says more: an unfair baseline.

    The second device takes 1/4 and 3/4 of UNIT_S for the two layers. With a share h of the rows on
    the first one a plan takes max(h, (1-h)/4) + max(h, 3(1-h)/4) units, which is least at h = 1/5:
    4/5. By the mean of 2 GFLOP/s h is 1/3: 5/6; by the device's own 1 GFLOP/s it was 1/2: 1.
    """
    cluster = profiled((4.0, 4 / 3))
    for plan, rows, units_s in (
        (coedge_style, 6, 4 / 5),
        (strip_best, 6, 4 / 5),
        (strip_proportional, 10, 5 / 6),
    ):
        choices = plan(TWO, cluster)
        assert [choice.tiles[0].y1 for choice in choices] == [rows, rows]
        assert latency_s(TWO, cluster, choices) == pytest.approx(units_s * UNIT_S, rel=1e-3)


def test_coedge_shares_have_the_measured_fixed_cost_of_a_call() -> None:
    """Equal rates, and half a unit per call on the second device: h = 1/2 + (1 - h) at h = 3/4."""
    cluster = profiled((1.0, 1.0), overhead_s=UNIT_S / 2)
    assert coedge_shares(TWO, cluster) == pytest.approx([0.75, 0.25], abs=1e-6)


def test_the_fastest_of_many_devices_are_those_of_the_profiles() -> None:
    """Of nine devices the fastest one, two, ... are tried, not all sets: by profile d8 is it."""
    plain, fast = make_cluster((1.0,) * 9, rates=1e9), profiled((1e4, 1e4)).devices[1]
    devices = (*plain.devices[:8], fast.model_copy(update={"name": "d8"}))
    cluster = plain.model_copy(update={"devices": devices})
    assert [set(choice.tiles) for choice in strip_best(TWO, cluster)] == [{8}, {8}]
