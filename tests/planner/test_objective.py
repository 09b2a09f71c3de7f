"""Plans for other objectives: against exhaustive search, the limit, and the baselines."""

from __future__ import annotations

import itertools

import pytest

from nptp_opt.cost.objectives import bytes_weights, energy_weights, latency_weights
from nptp_opt.errors import InfeasibleError, InputError
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network
from nptp_opt.planner.assemble import assemble
from nptp_opt.planner.candidates import distinct, family_templates
from nptp_opt.planner.shortest_path import ShortestPath
from nptp_opt.planner.state_prices import StatePrices
from nptp_opt.planner.units import units
from nptp_opt.planner.usage import values_of
from nptp_opt.steps import ModelRef
from tests.builders import conv_chain, make_cluster
from tests.planner.test_shortest_path import segmentations
from tests.test_objectives import with_power

NETWORK = conv_chain((1, 3, 12, 12), [{"channels": 16}, {"channels": 8, "stride": 2}, {}])
MODEL = ModelRef("chain", (1, 3, 12, 12))


def cluster(shared: bool) -> object:
    plain = make_cluster((0.1, 0.3), rates=10.0, shared=shared, latency_ms=0.05)
    return with_power(plain, [3.0, 1.0], [1e-7, 2e-7])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("factor", [0.0, 0.5, 50.0])
@pytest.mark.parametrize("objective", ["bytes", "energy"])
def test_weighted_paths_equal_exhaustive_search(
    shared: bool, factor: float, objective: str
) -> None:
    """All segmentations x all templates, each assembled and priced from its listed transfers."""
    on = cluster(shared)
    weights = bytes_weights(on) if objective == "bytes" else energy_weights(on)
    weights = weights.plus(latency_weights(on), factor)
    templates = distinct(family_templates(on), NETWORK.spatial)
    prices = StatePrices(NETWORK, on, templates)

    def price(choices: list[object]) -> float:
        values = values_of(NETWORK, on, assemble(NETWORK, on, choices))
        return values.of(objective) + factor * values.latency_s

    best = min(
        price([prices.choice(part, t) for part, t in zip(parts, pick, strict=True)])
        for parts in segmentations(NETWORK.spatial)
        for pick in itertools.product(templates, repeat=len(parts))
    )
    assert len(units(NETWORK)) == 3
    found = ShortestPath(NETWORK, on, templates, fuse=True, weights=weights).choices()
    assert price(found) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("objective", ["bytes", "energy", "throughput"])
def test_nptp_is_never_worse_than_a_baseline_that_keeps_the_limit(objective: str) -> None:
    on = cluster(shared=False)
    fastest = plan_network(MODEL, NETWORK, on).latency_s
    limit = 1.1 * fastest
    options = PlanOptions(objective=objective, latency_limit_s=limit)
    plan = plan_network(MODEL, NETWORK, on, options)
    assert plan.latency_s <= limit
    value = values_of(NETWORK, on, plan.steps).of(objective)
    for name in set(PLANNERS) - {"nptp"}:
        rival = plan_network(MODEL, NETWORK, on, PlanOptions(name))
        if rival.latency_s <= limit:
            assert value <= values_of(NETWORK, on, rival.steps).of(objective) * (1 + 1e-12)


def test_without_a_limit_nothing_is_sent_for_the_objective_bytes() -> None:
    plan = plan_network(MODEL, NETWORK, cluster(False), PlanOptions(objective="bytes"))
    assert plan.transfer_bytes == 0


def test_an_impossible_limit_names_the_smallest_latency() -> None:
    options = PlanOptions(objective="bytes", latency_limit_s=1e-9)
    with pytest.raises(InfeasibleError, match="smallest latency found is"):
        plan_network(MODEL, NETWORK, cluster(False), options)


def test_energy_without_watts_names_the_device() -> None:
    with pytest.raises(InputError, match="'d0' has no watts"):
        plan_network(MODEL, NETWORK, make_cluster(), PlanOptions(objective="energy"))
