"""What a plan claims is so: whatever field of it is changed, it is refused.

Hashes are written anew, as whoever changes a file can. A changed document passes only where it
reads as the same plan, where it asks something else (of another cluster) that the plan answers
rightly, or in its provenance, which is not proven.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nptp_opt.errors import InputError
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.document import false_fields, plan_from_json, plan_to_json
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.verification.static import network_faults, paper_faults
from tests.builders import conv_chain, make_cluster
from tests.fuzz.documents import GONE, TIMES, Place, changed, others, places, rehashed, value_at

SHAPE = (1, 2, 12, 12)

HASHES = {("hash",), ("cluster_hash",), ("model", "network_hash")}

LOADED = {("model", "ref"), ("model", "seed"), ("model", "input")}
"""By these the model is loaded that the network is held against."""


@pytest.fixture(scope="module")
def plan() -> Plan:
    cluster = make_cluster((2.0, 1.0, 0.5), memory_mib={0: 8.0, 1: 4.0}, latency_ms=0.01)
    devices = [device.model_copy(update={"watts": 3.0}) for device in cluster.devices]
    cluster = cluster.model_copy(update={"devices": tuple(devices)})
    options = PlanOptions("column-dp", objective="energy")
    return plan_network(ModelRef("chain", SHAPE), conv_chain(SHAPE, [{}, {}]), cluster, options)


def accepted(document: dict[str, Any], right: Plan) -> Plan | None:
    """The plan of a document with hashes that fit, where nothing is found to be wrong with it."""
    try:
        content = rehashed(document)
    except (KeyError, TypeError, AttributeError):  # parts that are hashed are not there
        content = document
    try:
        plan = plan_from_json(content)
    except InputError:
        return None
    faults = [*false_fields(content, plan), *network_faults(plan, right.network)]
    return None if [*faults, *paper_faults(plan)] else plan


def as_asked(plan: Plan, right: Plan) -> Plan:
    """With the question and the provenance of the right plan: what is left are claims."""
    return replace(plan, cluster=right.cluster, provenance=right.provenance, model=right.model)


def every_change(document: dict[str, Any]) -> list[tuple[Place, Any]]:
    """Every place with other values: in the suite with three of them, in turn."""
    found = []
    for number, place in enumerate(places(document)):
        if place not in HASHES and place[:2] not in LOADED:
            values = others(value_at(document, place))
            start = number % len(values)
            found += [(place, value) for value in (values * 2)[start : start + 2 + TIMES]]
    return found


def test_every_field_that_is_changed_is_refused_or_is_no_claim(plan: Plan) -> None:
    document = plan_to_json(plan)
    assert accepted(document, plan) == plan
    for place, value in every_change(document):
        other = accepted(changed(document, place, value), plan)
        assert other is None or as_asked(other, plan) == plan, (place, value)


def test_two_fields_that_hide_each_other_are_refused(plan: Plan) -> None:
    """``gap`` follows ``bound_s``: a bound above the plan is refused with a gap that fits, too."""
    document = plan_to_json(plan) | {"bound_s": plan.latency_s * 2, "gap": 0.0}
    assert accepted(document, plan) is None


@pytest.mark.parametrize("name", ["energy_j", "period_s"])
@pytest.mark.parametrize("value", [None, GONE])
def test_a_value_that_is_known_is_not_left_out(plan: Plan, name: str, value: Any) -> None:
    """``energy_j`` or ``period_s`` None, where known, passed."""
    assert accepted(changed(plan_to_json(plan), (name,), value), plan) is None


def test_a_padding_that_is_missing_is_no_padding_of_0(plan: Plan) -> None:
    """A missing ``pad_lo`` of an axis map was taken for its default."""
    place = ("network", "layers", 0, "maps", "input", 0, "pad_lo")
    network = conv_chain(SHAPE, [{"padding": 0}])
    bare = plan_network(
        ModelRef("bare", SHAPE), network, make_cluster((1.0,)), PlanOptions("single")
    )
    document = plan_to_json(bare)
    assert value_at(document, place) == 0
    with pytest.raises(InputError, match="pad_lo"):
        plan_from_json(changed(document, place, GONE))


def test_memory_that_no_device_has_is_refused(plan: Plan) -> None:
    """Limits of 1e-9 MiB on all devices passed."""
    tiny = [device.model_copy(update={"memory_mib": 1e-9}) for device in plan.cluster.devices]
    cluster = plan.cluster.model_copy(update={"devices": tuple(tiny)})
    assert "memory_mib" in paper_faults(replace(plan, cluster=cluster))[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [("objective_bound", 9e9), ("latency_limit_s", 1e-9), ("objective", "nothing")],
)
def test_provenance_that_the_plan_itself_breaks_is_refused(
    plan: Plan, field: str, value: Any
) -> None:
    made = plan.provenance.model_copy(update={"objective_bound": 0.0, field: value})
    assert any(
        f"provenance.{field[:9]}" in each for each in paper_faults(replace(plan, provenance=made))
    )


def test_a_map_without_four_dimensions_is_refused(plan: Plan) -> None:
    """``network.shapes.input`` of another rank ended in an IndexError."""
    with pytest.raises(InputError, match="feature map"):
        plan_from_json(changed(plan_to_json(plan), ("network", "shapes", "input"), [2, 12, 12]))
