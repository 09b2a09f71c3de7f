"""Bounds on energy and period: by hand, below every optimum, and tight where they can be."""

from __future__ import annotations

import math
from typing import get_args

import pytest

from nptp_opt.bound.objective import energy_bound_j, objective_bound, period_bound_s
from nptp_opt.cost.objectives import Objective
from nptp_opt.evaluate.usage import values_of
from nptp_opt.network.load import load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network
from nptp_opt.planner.baselines.quick import latency_s, single_on
from tests.builders import conv_chain, make_cluster
from tests.cost.test_objectives import with_power
from tests.planner.optimum_objective import least
from tests.planner.test_objective import MODEL, tiny
from tests.verification.test_networks import random_plan

ONE = conv_chain((1, 3, 8, 8), [{"channels": 4, "kernel": 1, "padding": 0}])
FLOP = 2 * 3 * 4 * 64


def test_energy_by_hand() -> None:
    """d0: 3 W, 1 GFLOP/s; d1: 1 W, 0.5 GFLOP/s: d1 needs 2/3 of the joules and twice the time.

    Within three quarters of d1's time, d1 does three quarters of the work.
    """
    on = with_power(make_cluster((1.0, 0.5)), [3.0, 1.0], [0.0, 0.0])
    slow_s = FLOP / 0.5e9
    assert energy_bound_j(ONE, on, math.inf) == pytest.approx(1.0 * slow_s, rel=1e-6)
    limited = energy_bound_j(ONE, on, 0.75 * slow_s)
    assert limited == pytest.approx(0.75 * slow_s + 3.0 * 0.25 * FLOP / 1e9, rel=1e-6)


def test_period_by_hand() -> None:
    """Perfect balance over 1.5 GFLOP/s."""
    on = make_cluster((1.0, 0.5))
    assert period_bound_s(ONE, on) == pytest.approx(FLOP / 1.5e9, rel=1e-6)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("slack", [1.0, 1.2, math.inf])
@pytest.mark.parametrize("objective", ["energy", "throughput"])
def test_no_optimum_is_below_the_bound(objective: Objective, slack: float, seed: int) -> None:
    network, on = tiny(seed)
    limit_s = slack * min(latency_s(network, on, single_on(network, i)) for i in range(2))
    best = least(network, on, "strip", objective, limit_s)
    bound = objective_bound(network, on, objective, limit_s)
    assert best is not None and bound is not None
    assert bound <= best


@pytest.mark.parametrize("name", ["tests.models:small_cnn", "tests.runtime.models:squeeze"])
@pytest.mark.parametrize("planner", PLANNERS)
def test_no_planner_is_below_the_bounds_of_a_model_with_a_head(name: str, planner: str) -> None:
    network = load_model(name, (1, 3, 24, 20)).network
    on = make_cluster((0.3, 1.0, 0.1), rates=100.0, overhead_ms=0.02, sink="d1")
    on = with_power(on, [3.0, 1.0, 0.2], [0.0] * 3)
    plan = plan_network(ModelRef(name, (1, 3, 24, 20)), network, on, PlanOptions(planner))
    values = values_of(network, on, plan.steps)
    assert energy_bound_j(network, on, plan.latency_s) <= values.of("energy")
    assert period_bound_s(network, on) <= values.period_s


@pytest.mark.parametrize("seed", range(20))
def test_no_random_plan_is_below_the_bounds(seed: int) -> None:
    network, _ = tiny(seed)
    on = make_cluster((0.3, 1.0, 0.1, 2.0), rates=100.0, overhead_ms=0.02)
    on = with_power(on, [3.0, 1.0, 0.2, 5.0], [0.0] * 4)
    plan = random_plan(ModelRef("chain", (1, 3, 4, 4)), network, on, seed)
    values = values_of(network, on, plan.steps)
    assert energy_bound_j(network, on, values.latency_s) <= values.of("energy")
    assert period_bound_s(network, on) <= values.period_s


def test_the_cheapest_device_alone_is_proven_optimal() -> None:
    """The source is the cheapest: without a limit it does everything, at the bound."""
    on = with_power(make_cluster((1.0, 1.0)), [1.0, 2.0], [0.0, 0.0])
    network = conv_chain((1, 3, 8, 8), [{}, {}])
    plan = plan_network(MODEL, network, on, PlanOptions(objective="energy"))
    assert plan.energy_j == pytest.approx(plan.provenance.objective_bound, rel=1e-6)


def test_of_bytes_nothing_but_zero_is_claimed_and_of_the_latency_nothing_here() -> None:
    network, on = tiny(0)
    assert objective_bound(network, on, "bytes") == 0.0
    assert objective_bound(network, on, "latency") is None
    assert {"bytes", "energy", "throughput", "latency"} == {*get_args(Objective)}
