"""Energy and period, worked out by hand, and their place in the plan document."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.geometry import Tile
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.document import plan_from_json, plan_to_json
from nptp_opt.plan.model import Plan
from nptp_opt.planner.planners import plan_of
from nptp_opt.verification.static import paper_faults
from tests.builders import conv_chain, make_cluster


def with_power(cluster: Cluster, watts: list[float], joules_per_byte: list[float]) -> Cluster:
    content = cluster.to_json()
    for device, power, sending in zip(content["device"], watts, joules_per_byte, strict=True):
        device |= {"watts": power, "joules_per_byte": sending}
    return cluster_from_json(content)


def two_layers(shared: bool = False) -> Plan:
    """Two layers of 8 x 8 pixels in two strips on two devices, the input and the result on d0."""
    network = conv_chain((1, 3, 8, 8), [{"channels": 4}, {"channels": 2}])
    cluster = make_cluster((1e-3, 2e-3), rates=8.0, shared=shared, latency_ms=1.0)
    cluster = with_power(cluster, [2.0, 5.0], [1e-6, 3e-6])
    halves = {0: Tile(0, 4, 0, 8), 1: Tile(4, 8, 0, 8)}
    choices = [Choice((layer,), halves) for layer in network.layers]
    return plan_of(ModelRef("two", (1, 3, 8, 8)), network, cluster, choices)


FLOP = 32 * 2 * 9 * (3 * 4 + 4 * 2)
"""Of one device: 32 pixels of each layer."""
SENT_0 = 5 * 8 * 3 * 4 + 8 * 4 * 4
"""d0 sends rows 3 to 7 of the input, then its last row of the first layer."""
SENT_1 = 8 * 4 * 4 + 4 * 8 * 2 * 4
"""d1 sends its first row of the first layer, then its half of the result."""


def test_energy_of_two_layers_on_two_devices_worked_by_hand() -> None:
    joules = 2.0 * FLOP / 1e6 + 5.0 * FLOP / 2e6 + 1e-6 * SENT_0 + 3e-6 * SENT_1
    assert two_layers().energy_j == pytest.approx(joules, rel=1e-12)


def test_the_period_is_the_busiest_device_or_link() -> None:
    """8 Mbit/s are 1e6 bytes/s; the devices are made fast enough for the links to be busier."""
    assert two_layers().period_s == pytest.approx(FLOP / 1e6, rel=1e-12)
    for shared, size in ((False, max(SENT_0, SENT_1)), (True, SENT_0 + SENT_1)):
        slow = two_layers(shared)
        fast = make_cluster((1.0, 2.0), rates=8.0, shared=shared)
        choices = [Choice(slow.layers_of(step), step.tiles) for step in slow.steps[:-1]]
        plan = plan_of(slow.model, slow.network, fast, choices)
        assert plan.period_s == pytest.approx(size / 1e6, rel=1e-12)


def test_the_energy_is_unknown_where_a_device_has_no_watts() -> None:
    plan = two_layers()
    cluster = make_cluster((1.0, 1.0))
    choices = [Choice(plan.layers_of(step), step.tiles) for step in plan.steps[:-1]]
    assert plan_of(plan.model, plan.network, cluster, choices).energy_j is None


def test_plan_documents_keep_the_values_and_those_without_are_told() -> None:
    plan = two_layers()
    content = plan_to_json(plan)
    read = plan_from_json(content)
    assert (read.energy_j, read.period_s) == (plan.energy_j, plan.period_s)
    old = {key: value for key, value in content.items() if key not in ("energy_j", "period_s")}
    assert plan_from_json(old).period_s is None
    names = [fault.split()[0] for fault in paper_faults(plan_from_json(old))]
    assert names == ["energy_j", "period_s"]


def test_false_values_are_faults_on_paper() -> None:
    plan = two_layers()
    assert not paper_faults(plan)
    for name in ("energy_j", "period_s"):
        (fault,) = paper_faults(replace(plan, **{name: 2 * getattr(plan, name)}))
        assert name in fault


def test_an_energy_of_nothing_is_right() -> None:
    plan = two_layers()
    free = with_power(plan.cluster, [0.0, 0.0], [0.0, 0.0])
    choices = [Choice(plan.layers_of(step), step.tiles) for step in plan.steps[:-1]]
    found = plan_of(plan.model, plan.network, free, choices)
    assert found.energy_j == 0.0 and not paper_faults(found)


@pytest.mark.parametrize("name", ["latency_limit_s", "objective_bound"])
def test_a_limit_or_a_bound_that_the_plan_itself_breaks_is_a_fault(name: str) -> None:
    plan = two_layers()
    for share, broken in ((1.0, False), (1 + 1e-6, name == "objective_bound"),
                          (1 - 1e-6, name == "latency_limit_s")):  # fmt: skip
        stated = plan.provenance.model_copy(update={name: plan.latency_s * share})
        faults = paper_faults(replace(plan, provenance=stated))
        assert [fault.split()[0] for fault in faults] == [f"provenance.{name}"] * broken
