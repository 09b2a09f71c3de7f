"""Planners and baselines: what each is, and what holds between them."""

from __future__ import annotations

import itertools

import pytest

from nptp_opt.cluster import cluster_from_json
from nptp_opt.cost import layer_key
from nptp_opt.errors import InputError
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.simulate import simulate, timeline
from nptp_opt.geometry import Tile, cover_fault
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network
from nptp_opt.planner.baselines.quick import coedge_shares, single, strip_equal
from nptp_opt.planner.candidates.catalogue import family_templates
from nptp_opt.planner.candidates.templates import Template, from_tiles, snaps
from tests.builders import conv_chain, make_cluster

CHAIN = conv_chain(
    (1, 3, 24, 24), [{"channels": 16}, {"channels": 16, "kernel": 2, "stride": 2, "padding": 0}] * 2
)
CLUSTERS = [
    make_cluster((4.0, 2.0, 1.0), rates=20.0, latency_ms=0.1, overhead_ms=0.05),
    make_cluster((1.0, 1.0, 1.0), rates=50.0, shared=True, latency_ms=0.2),
    make_cluster((1.0, 1.0), rates=1000.0, sink="d1"),
]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_nptp_is_never_slower_than_a_baseline_and_no_plan_beats_the_bound(cluster: object) -> None:
    plans = {
        name: plan_network(ModelRef("chain", (1, 3, 24, 24)), CHAIN, cluster, PlanOptions(name))
        for name in PLANNERS
    }
    best = plans["nptp"].latency_s
    for plan in plans.values():
        assert best <= plan.latency_s * (1 + 1e-12)
        assert plan.bound_s is not None and plan.bound_s <= plan.latency_s
        assert plan.latency_s > 0


def test_every_template_covers_every_map() -> None:
    cluster = make_cluster((3.0, 1.0, 2.0, 1.0, 1.0))
    for template in family_templates(cluster):
        for size, snap in itertools.product((1, 2, 7, 14, 30), (1, 2, 3)):
            tiles = template.at(size, size + 3, (snap, snap))
            assert cover_fault(tiles.values(), size, size + 3) is None, template.name


def test_a_template_of_tiles_gives_the_tiles_back() -> None:
    tiles = {0: Tile(0, 5, 0, 3), 2: Tile(0, 5, 3, 7), 1: Tile(5, 9, 0, 7)}
    assert from_tiles("t", tiles, 9, 7).at(9, 7) == tiles


def test_cuts_snap_to_the_stride_of_the_layer_that_reads_the_map() -> None:
    assert snaps(CHAIN)["conv0"] == (2, 2)
    assert snaps(CHAIN)["conv1"] == (1, 1)
    thirds = Template("t", {0: (0.0, 1 / 3, 0.0, 1.0), 1: (1 / 3, 1.0, 0.0, 1.0)})
    assert thirds.at(10, 10, (2, 1))[0] == Tile(0, 4, 0, 10)


def test_single_takes_the_fastest_device_unless_sending_costs_more() -> None:
    quick = single(CHAIN, make_cluster((1.0, 9.0), rates=1000.0))
    assert set(quick[0].tiles) == {1}
    near = single(CHAIN, make_cluster((1.0, 1.1), rates=0.1))
    assert set(near[0].tiles) == {0}


def test_equal_strips_are_equal() -> None:
    choices = strip_equal(CHAIN, make_cluster((1.0, 5.0)))
    assert choices[0].tiles == {0: Tile(0, 12, 0, 24), 1: Tile(12, 24, 0, 24)}


def test_coedge_shares_follow_the_speeds_when_links_are_free() -> None:
    shares = coedge_shares(CHAIN, make_cluster((3.0, 1.0), rates=1e9))
    assert shares == pytest.approx([0.75, 0.25], abs=1e-6)


def test_simulation_of_two_devices_worked_by_hand() -> None:
    """One layer, two strips, the input on d0, 8 Mbit/s = 1e6 bytes/s, 1 ms per message.

    d1 needs rows 3 to 7 of 8: 5 x 8 x 3 x 4 = 480 bytes, 0.48 ms, there at 1.48 ms. Each strip
    computes 32 pixels x 2 x 9 x 3 x 4 = 6912 FLOP at 1 MFLOP/s = 6.912 ms. Then d1 sends 4 x 8
    pixels of 4 channels, 512 bytes, to the sink d0: 0.512 ms and 1 ms.
    """
    network = conv_chain((1, 3, 8, 8), [{"channels": 4}])
    cluster = make_cluster((1e-3, 1e-3), rates=8.0, latency_ms=1.0)
    halves = {0: Tile(0, 4, 0, 8), 1: Tile(4, 8, 0, 8)}
    steps = assemble(network, cluster, [Choice(network.layers, halves)])
    assert simulate(network, cluster, steps) == pytest.approx(
        1e-3 * (1.48 + 6.912 + 0.512 + 1.0), rel=1e-12
    )


def test_handing_a_message_over_takes_its_senders_time() -> None:
    """As above, with 2 ms per message: d1 has its rows 2 ms later, d0 begins 2 ms later and ends
    first; d1's result leaves 2 ms after it is there."""
    network = conv_chain((1, 3, 8, 8), [{"channels": 4}])
    cluster = make_cluster((1e-3, 1e-3), rates=8.0, latency_ms=1.0, message_ms=2.0)
    halves = {0: Tile(0, 4, 0, 8), 1: Tile(4, 8, 0, 8)}
    steps = assemble(network, cluster, [Choice(network.layers, halves)])
    assert simulate(network, cluster, steps) == pytest.approx(
        1e-3 * (2.0 + 1.48 + 6.912 + 2.0 + 0.512 + 1.0), rel=1e-12
    )
    planned = timeline(network, cluster, steps)
    (d0,) = (item for item in planned if (item.kind, item.step, item.device) == ("compute", 0, 0))
    assert (d0.start_s, d0.end_s) == pytest.approx((2e-3, 2e-3 + 6.912e-3))


def test_messages_on_one_link_go_one_after_the_other() -> None:
    """d0 sends the input to d1 and d2 over its one uplink: both
    wait, and the results wait for each other on d0's downlink."""
    network = conv_chain((1, 3, 9, 8), [{"channels": 4, "kernel": 1, "padding": 0}])
    cluster = make_cluster((1e6, 1e6, 1e6), rates=8.0)
    thirds = {i: Tile(3 * i, 3 * i + 3, 0, 8) for i in range(3)}
    steps = assemble(network, cluster, [Choice(network.layers, thirds)])
    part = 3 * 8 * 3 * 4 / 1e6
    back = 3 * 8 * 4 * 4 / 1e6
    # d1's result fills d0's downlink from ``part`` on; d2's, ready at 2 * part, waits for it.
    assert part < back
    assert simulate(network, cluster, steps) == pytest.approx(part + 2 * back, abs=1e-6)


def test_unknown_planner_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'nptp'"):
        plan_network(ModelRef("m", (1,)), CHAIN, make_cluster(), PlanOptions("nptpp"))


@pytest.mark.parametrize(("known", "words"), [((0, 1, 2, 3), ""), ((), "0%"), ((1,), "24%")])
def test_a_profile_of_another_model_is_told(known: tuple[int, ...], words: str) -> None:
    """Every shape had its mean speed, without a word. Both strided layers, of one shape, are a
    quarter of the operations."""
    shapes = [layer_key(CHAIN.spatial[k]) for k in known]
    speeds = [{"layer": shape, "gflops": 1.0, "overhead_ms": 0.0} for shape in shapes]
    devices = [{"name": "a", "gflops": 1.0, "layers": speeds}, {"name": "b", "gflops": 1.0}]
    link = {"kind": "shared", "mbit_per_s": 10.0}
    cluster = cluster_from_json({"network": link, "device": devices})
    told: list[str] = []
    options = PlanOptions("single", tell=told.append)
    plan = plan_network(ModelRef("chain", (1, 3, 24, 24)), CHAIN, cluster, options)
    assert [text.split()[4] for text in told] == ([words] if words else [])
    assert list(plan.provenance.notes) == told
