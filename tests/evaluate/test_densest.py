"""Plans with bitmasks for inputs that are denser than the mean: the same plan, longer messages."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from nptp_opt.cost import dense_bytes
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.densest import _longer, densest_s
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.network.ir import Density
from nptp_opt.plan.model import Plan
from nptp_opt.planner import plan_of
from tests.builders import make_cluster
from tests.runtime.plans import model_of

MODEL = model_of("chain")


def _plan(mean: float, p90: float, rate: float = 10.0, bits: float = 8.0) -> Plan:
    network = MODEL.network
    known = dict.fromkeys(network.shapes, Density(mean, p90, bits))
    cluster = make_cluster([1.0, 1.0], rates=rate)
    return plan_of(MODEL.ref, replace(network, densities=known), cluster, _halves())


def _halves() -> list[Choice]:
    from nptp_opt.planner import PLANNERS, PlanOptions

    cluster = make_cluster([1.0, 1.0], rates=10.0)
    return PLANNERS.find("strip-equal").plan(MODEL.network, cluster, PlanOptions("strip-equal"))


@pytest.mark.parametrize("p90", [0.25, 0.5, 0.75])
def test_it_is_the_latency_of_maps_that_are_so_dense_in_the_mean(p90: float) -> None:
    """Bitmasks pay at both densities, so both plans send the same rectangles; but a few pixels are
    priced as longer than their elements, which no message is."""
    dense = _plan(p90, p90)
    assert dense.transfer_bytes < dense.dense_bytes
    steps = [
        replace(step, transfers=tuple(
            replace(move, bytes=min(move.bytes, dense_bytes(dense.cluster, dense.network, move)))
            for move in step.transfers
        ))
        for step in dense.steps
    ]  # fmt: skip
    expected = simulate(dense.network, dense.cluster, steps)
    found = densest_s(_plan(0.25, p90))
    assert found == pytest.approx(expected if p90 > 0.25 else dense.latency_s, rel=1e-6)


def test_huffman_codes_of_more_elements_worked_by_hand() -> None:
    """Half of the elements more; each takes 3 bytes and 2 bits for its first one. No message is
    longer than dense, but one that was already."""
    plan = _plan(0.25, 0.75, bits=2.0)
    moves = [move for step in plan.steps for move in step.transfers if move.encoding == "huffman"]
    assert moves
    for move in moves:
        elements = move.tile.area * MODEL.network.shapes[move.tensor][1]
        longer = move.bytes + math.ceil(elements / 2 * (3 + 2 / 8))
        assert _longer(plan, move).bytes == min(longer, max(move.bytes, 4 * elements))


def test_dense_messages_of_a_plan_with_codes_stay_as_they_are() -> None:
    plan = _plan(0.25, 0.75)
    first = plan.steps[0]
    dense = replace(first, transfers=tuple(
        replace(move, encoding="dense", bytes=dense_bytes(plan.cluster, plan.network, move))
        for move in first.transfers
    ))  # fmt: skip
    assert first.transfers and any(step.transfers for step in plan.steps[1:])
    found = densest_s(replace(plan, steps=(dense, *plan.steps[1:])))
    assert found is not None and found > plan.latency_s


def test_no_message_is_longer_than_dense() -> None:
    plan = _plan(0.25, 1.0)
    found = densest_s(plan)
    assert found is not None and plan.latency_s < found
    assert found <= _plan(1.0, 1.0).latency_s * 1.05  # and the seconds of the codec


def test_a_plan_without_bitmasks_has_none() -> None:
    assert densest_s(_plan(1.0, 1.0)) is None
