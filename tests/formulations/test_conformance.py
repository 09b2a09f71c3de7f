"""Every formulation with every solver that it claims, against brute force."""

from __future__ import annotations

from functools import cache

import pytest

from nptp_opt import formulations
from nptp_opt.cost import LayerCost
from nptp_opt.geometry import Tile, cover_fault
from nptp_opt.layer import registry as methods
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import LayerResult, Status, Termination
from tests.brute import FAMILIES, exact_cost, form_cost, optimum, partitions
from tests.formulations.problems import PROBLEMS, problem

assert formulations
# `cover` has a conformance suite of its own: it evaluates tiles exactly and enumerates candidates.
SPECS = [s for s in methods.specs() if s.kind in {"milp", "cp"} and s.name != "cover"]
PAIRS = [(spec.name, solver) for spec in SPECS for solver in spec.solvers]
LIMITS = Limits(time_limit_s=60)

each_pair = pytest.mark.parametrize(("name", "solver"), PAIRS)


def solve(layer: LayerProblem, name: str, solver: str, **hints: object) -> LayerResult:
    _, method = methods.find(name)
    return method(layer, solver, LIMITS, Hints(**hints))  # type: ignore[arg-type]


@cache
def best(number: int, family: str, *, exact: bool) -> float:
    value = optimum(PROBLEMS[number], family, exact_cost if exact else form_cost)
    assert value is not None
    return value


SLOW = {
    (name, solver)
    for name, solver in PAIRS
    if solver == "scip" or (solver == "cbc" and name not in {"strip", "grid"})
}
"""Pairs that take seconds per problem: they solve every third problem of the suite only."""

CASES = [
    pytest.param(layer, name, solver, id=f"{name}-{solver}-{layer.name}")
    for k, layer in enumerate(PROBLEMS)
    for name, solver in PAIRS
    if (name, solver) not in SLOW or k % 3 == 0
]


@pytest.mark.parametrize(("layer", "name", "solver"), CASES)
def test_agrees_with_brute_force(layer: LayerProblem, name: str, solver: str) -> None:
    """Optimal is the brute-force optimum of the family at exact costs; bounds are below it."""
    spec, _ = methods.find(name)
    number = PROBLEMS.index(layer)
    least = best(number, spec.family, exact=True)
    form = best(number, spec.family, exact=False)
    result = solve(layer, name, solver)
    assert result.termination is Termination.COMPLETED
    assert result.tiles is not None and result.makespan_s is not None
    assert cover_fault(result.tiles.values(), layer.height, layer.width) is None
    assert result.makespan_s == LayerCost(layer).makespan_s(result.tiles)
    assert least * (1 - 1e-9) <= result.makespan_s <= form * (1 + 1e-5)
    assert result.bound_s is not None and result.bound_s <= least
    assert_status_is_honest(result)
    if LayerCost(layer).form_is_exact or spec.pricing == "exact":
        assert result.status is Status.OPTIMAL
        assert result.bound_s == pytest.approx(least, rel=1e-6)


def assert_status_is_honest(result: LayerResult) -> None:
    """Optimal exactly where value and bound meet within the gap asked for."""
    assert result.gap is not None
    assert (result.status is Status.OPTIMAL) == (result.gap <= LIMITS.gap)


def test_problems_cover_exact_and_inexact_costs() -> None:
    """The suite has problems of both kinds, so that neither branch above goes untested."""
    exact = {p.name: LayerCost(p).form_is_exact for p in PROBLEMS}
    assert not exact["wide-padding"] and not exact["kernel-5"]
    assert exact["unequal"] and exact["cut-step-2"] and exact["memory"]


START = {0: Tile(0, 3, 0, 2), 1: Tile(0, 3, 2, 3), 2: Tile(0, 3, 3, 4)}


@each_pair
def test_takes_a_start_and_a_bound(name: str, solver: str) -> None:
    """A start and a bound, even the optimum itself, leave the answer as it is."""
    spec, _ = methods.find(name)
    least = best(0, spec.family, exact=True)
    result = solve(PROBLEMS[0], name, solver, start=START, bound_s=least)
    assert result.status is Status.OPTIMAL
    assert result.makespan_s == pytest.approx(least, rel=1e-6)
    again = solve(PROBLEMS[0], name, solver, start=result.tiles)
    assert again.makespan_s == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("name", ["dissection-config", "cp-sat"])
def test_pinwheel(name: str) -> None:
    """Five devices on 3 x 3: the pinwheel is a dissection, and no guillotine partition.

    Without ``dissection-bigm`` and ``guillotine``, which take minutes for five devices.
    """
    layer = problem("pinwheel", 3, 3, gflops=(0.5,) * 5, latency_ms=0.0, mbit_per_s=400.0)
    spec, _ = methods.find(name)
    found = optimum_of_equal(layer, spec.family)
    result = solve(layer, name, spec.solvers[0])
    assert result.status is Status.OPTIMAL
    assert result.makespan_s == pytest.approx(found, rel=1e-6)


def optimum_of_equal(layer: LayerProblem, family: str) -> float:
    """Brute force for equal devices: which one gets which tile does not matter."""
    cost = LayerCost(layer)
    return min(
        cost.makespan_s(dict(enumerate(sorted(partition))))
        for partition in partitions(layer, family)
    )


@pytest.mark.parametrize("smaller", FAMILIES)
def test_families_are_recognised(smaller: str) -> None:
    """``belongs`` agrees with the generators on every dissection of a 3 x 3 map into five tiles."""
    from nptp_opt.layer.families import belongs

    layer = problem("five", 3, 3, gflops=(1.0,) * 5)
    members = partitions(layer, smaller)
    for partition in partitions(layer, "dissection"):
        assert belongs(smaller, dict(enumerate(partition))) == (partition in members)
