"""Planning again without a lost device: sound, and no worse than the mended old plan."""

from __future__ import annotations

from functools import cache

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.memory import overfull, peak_bytes
from nptp_opt.geometry import Tile, cover_fault
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network, replan
from nptp_opt.planner.local_search.moves import absorbed
from nptp_opt.planner.planners import plan_of
from nptp_opt.planner.replan import hand_over, replan_network
from nptp_opt.verification.static import bound_faults, paper_faults
from tests.builders import conv_chain, make_cluster
from tests.networks import residual_network

T_SHAPE = {0: Tile(0, 2, 0, 6), 1: Tile(2, 6, 0, 3), 2: Tile(2, 6, 3, 6)}


def without(cluster: Cluster, name: str) -> Cluster:
    left = tuple(device for device in cluster.devices if device.name != name)
    return cluster.model_copy(update={"devices": left})


def test_a_lost_tile_is_absorbed_by_those_along_one_of_its_sides() -> None:
    """Of a T-shape: the top goes to both below; a leg goes to the other leg, not to the top."""
    top = {-1: T_SHAPE[0], 1: T_SHAPE[1], 2: T_SHAPE[2]}
    assert list(absorbed(top, -1)) == [{1: Tile(0, 6, 0, 3), 2: Tile(0, 6, 3, 6)}]
    leg = {0: T_SHAPE[0], -2: T_SHAPE[1], 2: T_SHAPE[2]}
    assert list(absorbed(leg, -2)) == [{0: Tile(0, 2, 0, 6), 2: Tile(2, 6, 0, 6)}]


def test_a_pinwheel_s_tile_has_no_side_to_be_absorbed_by_but_an_idle_device() -> None:
    tiles = {
        0: Tile(0, 2, 0, 4),
        1: Tile(0, 4, 4, 6),
        2: Tile(4, 6, 2, 6),
        3: Tile(2, 6, 0, 2),
        -5: Tile(2, 4, 2, 4),
    }
    assert list(absorbed(tiles, -5)) == []
    found = list(hand_over(tiles, -5, (0, 1, 1, 1, 1, 1)))
    assert found == [{**{i: tiles[i] for i in range(4)}, 4: tiles[-5]}]


@cache
def before_the_loss(shared: bool) -> list[Plan]:
    cluster = make_cluster((1.0, 2.0, 1.0, 0.5), rates=50.0, shared=shared, latency_ms=0.05)
    networks = conv_chain((1, 3, 24, 24), [{}, {"stride": 2}]), residual_network(blocks=2)
    return [plan_network(ModelRef("m", (1,)), n, cluster, PlanOptions()) for n in networks]


@pytest.mark.parametrize("lost", ["d1", "d2", "d3"])
@pytest.mark.parametrize("shared", [False, True])
def test_the_new_plan_is_sound_on_paper(lost: str, shared: bool) -> None:
    for plan in before_the_loss(shared):
        found = replan_network(plan, without(plan.cluster, lost))
        assert paper_faults(found) == bound_faults(found) == []
        assert found.bound_s == plan.bound_s <= found.latency_s
        assert found.latency_s >= plan.latency_s * (1 - 0.05)
        for step in found.steps:
            if step.kind == "spatial":
                full = found.layers_of(step)[-1].full
                assert cover_fault(step.tiles.values(), full.y1, full.x1) is None


def _two_halves(cluster: Cluster) -> Plan:
    """Cut where no stride is: the search's templates round such cuts away."""
    network = conv_chain((1, 3, 25, 25), [{"channels": 32}, {"stride": 2}])
    cuts = zip(network.spatial, (12, 7), strict=True)
    choices = [
        Choice((layer,), {0: layer.full.rows(0, y), 1: layer.full.rows(y, layer.height)})
        for layer, y in cuts
    ]
    return plan_of(ModelRef("m", (1,)), network, cluster, choices)


def test_the_mended_old_plan_is_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tile goes to the idle twin, whatever a search would have found: there is no path here."""
    cluster = make_cluster((1.0, 1.0, 1.0), rates=1e4)
    plan = _two_halves(cluster)
    monkeypatch.setattr(replan, "paths", lambda *_, **__: iter(()))
    monkeypatch.setattr(replan, "EFFORT", 1e-9)
    found = replan_network(plan, without(cluster, "d1"))
    assert found.latency_s <= plan.latency_s * (1 + 1e-9)


def test_a_new_plan_fits_into_memory() -> None:
    """The device that would do it all is too small for that; so are the mended halves."""
    cluster = make_cluster((1.0, 1.0, 1.0, 1.0), rates=1e-2)
    plan = _two_halves(cluster)
    peak = max(peak_bytes(plan.network, 4, plan.steps, 0))
    devices = (d.model_copy(update={"memory_mib": 0.9 * peak / 2**20}) for d in cluster.devices)
    small = without(cluster.model_copy(update={"devices": tuple(devices)}), "d1")
    found = replan_network(plan, small)
    assert overfull(found.network, small, found.steps) == []


def test_a_mended_plan_does_not_claim_the_old_aim() -> None:
    """Bug: made for the latency, it said the objective, limit and bound of the plan before."""
    network, cluster = conv_chain((1, 3, 24, 24), [{}, {}]), make_cluster((1.0, 2.0, 1.0))
    options = PlanOptions(objective="bytes", latency_limit_s=10.0)
    plan = plan_network(ModelRef("m", (1,)), network, cluster, options)
    assert {"objective", "objective_bound", "latency_limit_s"} <= {*plan.provenance.to_json()}
    found = replan_network(plan, without(cluster, "d1"))
    assert not {"objective", "objective_bound", "latency_limit_s"} & {*found.provenance.to_json()}
    assert found.provenance.replanned
