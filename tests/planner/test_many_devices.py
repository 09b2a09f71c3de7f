"""Very many devices: who takes part in the search, how many, and in whose numbers the plan is."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.errors import InfeasibleError
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.clock import Clock
from nptp_opt.layer.limits import Limits
from nptp_opt.network.ir import Network
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PlanOptions, many_devices, plan_network
from nptp_opt.planner.baselines.quick import QUICK
from nptp_opt.planner.many_devices import by_usefulness, of_many
from nptp_opt.planner.nptp import fastest
from nptp_opt.verification.static import paper_faults
from tests.builders import conv_chain, make_cluster

REF = ModelRef("m", (1,))
CHAIN = conv_chain((1, 4, 14, 14), [{"kernel": 3, "padding": 1}] * 3)


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_devices, "MOST_SEARCHED", 3)
    monkeypatch.setattr("nptp_opt.planner.nptp.MOST_SEARCHED", 3)


def searched_with(network: Network, cluster: Cluster, options: PlanOptions) -> list[list[str]]:
    """The names of the devices of every search, in order."""
    found = []

    def search(network: Network, part: Cluster, options: PlanOptions) -> list[Choice]:
        found.append([device.name for device in part.devices])
        return fastest(network, part, options)

    of_many(network, cluster, options, search)
    return found


def test_source_and_sink_come_first_then_the_fastest() -> None:
    """Two slow ones are source and sink; all links are alike, so the others come by their speed."""
    cluster = make_cluster((0.1, 2.0, 0.2, 1.0, 4.0), source="d0", sink="d2", rates=1e4)
    assert by_usefulness(CHAIN, cluster) == [2, 0, 4, 1, 3]


def test_a_fast_device_behind_a_slow_link_comes_later() -> None:
    """d1 computes twice as fast as d2, but its share of the input takes it longer than all else."""
    cluster = make_cluster((1.0, 2.0, 1.0, 0.9), rates=(100.0, 0.01, 100.0, 100.0))
    assert by_usefulness(CHAIN, cluster) == [0, 2, 3, 1]


def test_a_plan_is_in_the_numbers_of_the_whole_cluster() -> None:
    """The source is slow, so the fast d1 and d4 compute, which are others among the three."""
    speeds = (0.001, 1.0, 0.001, 0.001, 1.0, 0.001)
    cluster = make_cluster(speeds, rates=1000.0, source="d3", sink="d3")
    told: list[str] = []
    plan = plan_network(REF, CHAIN, cluster, PlanOptions(tell=told.append))
    assert {1, 4} <= {i for step in plan.steps for i in step.tiles} <= {1, 3, 4}
    assert not paper_faults(plan)
    assert told == ["searched with the 3 of 6 devices that can help most"]
    assert plan.provenance is not None and plan.provenance.notes == tuple(told)


def test_more_devices_are_searched_while_all_are_used() -> None:
    """Links cost next to nothing and there are rows for all seven: with 3, with 6, with all."""
    cluster = make_cluster((0.01,) * 7, rates=1e5)
    counts = [len(names) for names in searched_with(CHAIN, cluster, PlanOptions())]
    assert counts == [3, 6, 7]


def test_none_are_added_where_some_are_idle() -> None:
    """Sending takes longer than all computing: one device does all, of the three that may."""
    cluster = make_cluster((10.0,) * 7, rates=0.1)
    assert [len(names) for names in searched_with(CHAIN, cluster, PlanOptions())] == [3]


def test_more_devices_are_searched_where_their_memory_is_needed() -> None:
    """What one or three can hold is too little, however slow the links are."""
    limits = dict.fromkeys(range(7), 4.25 / 1024)
    cluster = make_cluster((10.0,) * 7, rates=0.1, memory_mib=limits)
    with pytest.raises(InfeasibleError):
        part = cluster.model_copy(update={"devices": cluster.devices[:3]})
        plan_network(REF, CHAIN, part, PlanOptions())
    assert len(searched_with(CHAIN, cluster, PlanOptions())) > 1
    plan_network(REF, CHAIN, cluster, PlanOptions())


@pytest.mark.parametrize("shared", [False, True])
def test_no_baseline_of_all_devices_is_faster(shared: bool) -> None:
    cluster = make_cluster((0.02, 0.01, 0.03, 0.01, 0.02, 0.01, 0.01), rates=30.0, shared=shared)
    clock = Clock(CHAIN, cluster)
    found = clock.seconds(of_many(CHAIN, cluster, PlanOptions(), fastest))
    assert all(found <= clock.seconds(plan(CHAIN, cluster)) + 1e-12 for plan in QUICK.values())


def test_a_search_out_of_time_ends_with_a_plan() -> None:
    """The limit is over when the first search is, which has a plan all the same."""
    cluster = make_cluster((0.01,) * 7, rates=1e5)
    options = PlanOptions(limits=Limits(time_limit_s=1e-6))
    assert [len(names) for names in searched_with(CHAIN, cluster, options)] == [3]
    plan = of_many(CHAIN, cluster, options, fastest)
    assert math.isfinite(Clock(CHAIN, cluster).seconds(plan))
    stopped = replace(PlanOptions(), stopped=lambda: True)
    assert [len(names) for names in searched_with(CHAIN, cluster, stopped)] == [3]
