"""Plans for other objectives: against exhaustive search, the limit, and the baselines."""

from __future__ import annotations

import itertools
import math
import random
from functools import cache

import numpy as np
import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.cost.objectives import (
    Objective,
    bytes_weights,
    energy_weights,
    latency_weights,
    rows_of,
)
from nptp_opt.errors import InfeasibleError, InputError, NoSolutionError
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.usage import usage_of, values_of
from nptp_opt.network.ir import Network
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network
from nptp_opt.planner.baselines.quick import latency_s, single_on, strip_equal
from nptp_opt.planner.candidates.catalogue import distinct, family_templates
from nptp_opt.planner.local_search.descent import EVENNESS, descend
from nptp_opt.planner.local_search.moves import neighbours
from nptp_opt.planner.local_search.polish import polish
from nptp_opt.planner.objective import ObjectiveSearch
from nptp_opt.planner.path.aim import Aim
from nptp_opt.planner.path.duals import Duals
from nptp_opt.planner.path.shortest_path import ShortestPath
from nptp_opt.planner.path.state_costs import StateCosts
from nptp_opt.planner.path.units import units
from tests.builders import conv_chain, make_cluster
from tests.cost.test_objectives import with_power
from tests.planner.optimum_objective import Graph, graph_of, least, least_of
from tests.planner.test_shortest_path import segmentations

NETWORK = conv_chain((1, 3, 12, 12), [{"channels": 16}, {"channels": 8, "stride": 2}, {}])
MODEL = ModelRef("chain", (1, 3, 12, 12))


def cluster(shared: bool) -> Cluster:
    plain = make_cluster((0.1, 0.3), rates=10.0, shared=shared, latency_ms=0.05)
    return with_power(plain, [3.0, 1.0], [1e-7, 2e-7])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("factor", [0.0, 0.5, 50.0])
@pytest.mark.parametrize("objective", ["bytes", "energy"])
def test_weighted_paths_equal_exhaustive_search(
    shared: bool, factor: float, objective: str
) -> None:
    """All segmentations x all templates, each assembled and evaluated from its listed transfers."""
    on = cluster(shared)
    weights = bytes_weights(on) if objective == "bytes" else energy_weights(on)
    weights = weights.plus(latency_weights(on), factor)
    templates = distinct(family_templates(on), NETWORK.spatial)
    costs = StateCosts(NETWORK, on, templates)

    def cost(choices: list[object]) -> float:
        steps = assemble(NETWORK, on, choices)
        makespans_s = sum(step.makespan_s for step in steps)  # what paths can add up
        return values_of(NETWORK, on, steps).of(objective) + factor * makespans_s

    best = min(
        cost([costs.choice(part, t) for part, t in zip(parts, pick, strict=True)])
        for parts in segmentations(NETWORK.spatial)
        for pick in itertools.product(templates, repeat=len(parts))
    )
    assert len(units(NETWORK)) == 3
    found = ShortestPath(NETWORK, on, templates, fuse=True, weights=weights).choices()
    assert cost(found) == pytest.approx(best, rel=1e-12)


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
    with pytest.raises(
        InfeasibleError, match=r"smallest latency found is .* ms; no plan can have less"
    ):
        plan_network(MODEL, NETWORK, cluster(False), options)


def test_energy_without_watts_names_every_device() -> None:
    with pytest.raises(InputError, match=r"no watts for 'd0', 'd1'.*joules_per_byte"):
        plan_network(MODEL, NETWORK, make_cluster(), PlanOptions(objective="energy"))


SPECS = (
    {"channels": 4},
    {"channels": 16},
    {"channels": 8, "stride": 2},
    {"channels": 4, "kernel": 1, "padding": 0},
)


def tiny(seed: int) -> tuple[Network, Cluster]:
    """Three layers on maps of at most 6 x 6, two devices, switched or shared."""
    rng = random.Random(seed)
    specs = [rng.choice(SPECS) for _ in range(3)]
    size = rng.choice([4, 5, 6])
    network = conv_chain((1, 3, size, size), specs)
    plain = make_cluster(
        [rng.choice([0.1, 0.3, 1.0]) for _ in range(2)],
        rates=rng.choice([1.0, 10.0, 100.0]),
        shared=rng.random() < 0.5,
        latency_ms=rng.choice([0.0, 0.05]),
        overhead_ms=rng.choice([0.0, 0.01]),
    )
    watts = [rng.choice([1.0, 3.0]), rng.choice([1.0, 5.0])]
    return network, with_power(plain, watts, [rng.choice([0.0, 1e-7, 1e-6]) for _ in range(2)])


@cache
def planned(seed: int) -> tuple[Network, Cluster, float]:
    """Such a case, and its latency under the objective latency."""
    network, on = tiny(seed)
    return network, on, plan_network(MODEL, network, on).latency_s


@cache
def every_plan(seed: int, objective: Objective) -> Graph:
    network, on, _ = planned(seed)
    return graph_of(network, on, "strip", objective)


@pytest.mark.parametrize("seed", [3, 10, 14, 18, 19, 28, 30, 33, 39])
@pytest.mark.parametrize("slack", [1.1, 1.3])
@pytest.mark.parametrize("objective", ["bytes", "energy", "throughput"])
def test_limits_on_the_latency_are_kept_and_made_use_of(
    objective: Objective, slack: float, seed: int
) -> None:
    network, on, fastest_s = planned(seed)
    options = PlanOptions(objective=objective, latency_limit_s=slack * fastest_s)
    plan, fastest = plan_network(MODEL, network, on, options), plan_network(MODEL, network, on)
    assert plan.latency_s <= slack * fastest_s * (1 + 1e-9)
    least, most = (values_of(network, on, p.steps).of(objective) for p in (plan, fastest))
    assert least <= most * (1 + 1e-9)


@pytest.mark.parametrize("seed", [3, 10, 14, 18, 19, 28, 30, 33, 39])
@pytest.mark.parametrize("objective", ["bytes", "energy", "throughput"])
def test_tiny_networks_against_the_optimum_over_all_strips(objective: Objective, seed: int) -> None:
    """All segmentations x all strips x all owners, by HiGHS: with two devices that is all plans.

    Weighted paths and descent ended above in 18 of 120 cases for the throughput, by up to 56 %
    (seed 28, slack 1.3), and once for the energy (seed 39, slack 1.3: 14 %)."""
    network, on, _ = planned(seed)
    options = PlanOptions(objective=objective)
    value = values_of(network, on, plan_network(MODEL, network, on, options).steps).of(objective)
    best = least_of(every_plan(seed, objective), math.inf)
    assert best is not None
    assert value <= best * (1 + 1e-9)


def test_the_reference_knows_single_devices_and_impossible_limits() -> None:
    network, on = tiny(0)
    single = min(
        values_of(network, on, assemble(network, on, single_on(network, i))).of("energy")
        for i in range(2)
    )
    found = least(network, on, "strip", "energy")
    assert found is not None and found <= single * (1 + 1e-9)
    assert least(network, on, "strip", "bytes") == 0
    assert least(network, on, "strip", "bytes", 1e-12) is None


def test_a_plan_that_sends_nothing_is_polished_to_an_end() -> None:
    """Relative gains of a cost of 0 were taken for 100 %: polishing never ended."""
    network = conv_chain((1, 3, 8, 8), [{}, {}])
    on = cluster(shared=True)
    start = single_on(network, 0)
    assert polish(network, on, start, math.inf, bytes_weights(on)) == start


def test_the_first_plan_that_fits_is_an_improvement() -> None:
    """Bug: where no plan before it fits into memory, the search ended in a traceback."""
    search = ObjectiveSearch(NETWORK, cluster(False), PlanOptions(objective="bytes"), math.inf)
    only = search.see(single_on(NETWORK, 0))
    assert search._helps(only, search.aim, Duals(np.ones(1), np.zeros(0)))


@pytest.mark.parametrize("objective", ["bytes", "energy", "throughput"])
def test_descent_ends_where_no_neighbour_is_better(objective: Objective) -> None:
    """Every neighbour of every partition, assembled: none keeps the limit and is better."""
    on, rows = cluster(shared=False), rows_of(cluster(shared=False), objective)
    start = strip_equal(NETWORK, on)
    limit_s = 1.05 * latency_s(NETWORK, on, start)
    found = descend(
        NETWORK, on, start, Aim.of(rows, [(latency_weights(on), limit_s)]), math.inf, lambda _: True
    )

    def score(choices: list[Choice]) -> float:
        steps = assemble(NETWORK, on, choices)
        used = usage_of(NETWORK, on, steps)
        values = [float(row.usage(used)) for row in rows]
        late = sum(step.makespan_s for step in steps) > limit_s
        return math.inf if late else max(values) + EVENNESS * sum(values) / len(values)

    value = score(found)
    assert value < score(start)
    for number, choice in enumerate(found):
        reach = max(choice.layers[-1].height, choice.layers[-1].width) // 8
        for tiles in neighbours(choice.tiles, reach, on.kinds):
            changed = [*found[:number], Choice(choice.layers, tiles), *found[number + 1 :]]
            assert score(changed) >= value * (1 - 1e-5)


def test_what_is_left_out_for_lack_of_time_is_told_and_in_the_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow(*_: object) -> list[Choice]:
        raise NoSolutionError("nothing within 0.1 s")

    monkeypatch.setattr("nptp_opt.planner.objective.layerwise", slow)
    plan = plan_network(MODEL, NETWORK, cluster(False), PlanOptions(objective="bytes"))
    assert plan.provenance.notes == ("not compared with layerwise: nothing within 0.1 s",)
