"""Exact methods against brute force over every partition of tiny maps."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from nptp_opt.cost import LayerCost
from nptp_opt.errors import InfeasibleError
from nptp_opt.geometry import cover_fault
from nptp_opt.layer.families import belongs
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.registry import find
from nptp_opt.layer.result import LayerResult, Status
from nptp_opt.layer.solve import solve_layer
from tests.brute import optimum
from tests.builders import make_cluster, make_problem
from tests.search.problems import problems

EXACT = ("column-dp", "guillotine-dp", "dissection-search", "auto")
GAP = 1e-6


def assert_matches(problem: LayerProblem, name: str, best: float | None) -> None:
    """The method proves the brute-force optimum, or that there is no partition."""
    if best is None:
        with pytest.raises(InfeasibleError):
            solve_layer(problem, name)
        return
    result = solve_layer(problem, name, limits=Limits(gap=GAP))
    assert_consistent(problem, result)
    assert result.status is Status.OPTIMAL
    assert result.makespan_s == pytest.approx(best, rel=2 * GAP)
    assert result.bound_s is not None
    assert result.bound_s <= best * (1 + 1e-9)


def assert_consistent(problem: LayerProblem, result: LayerResult) -> None:
    """Tiles cover the map, keep to family and memory, and cost what the result says."""
    assert result.tiles is not None
    cost = LayerCost(problem)
    assert cover_fault(result.tiles.values(), problem.height, problem.width) is None
    assert belongs(find(result.formulation)[0].family, result.tiles)
    assert all(cost.fits(i, tile) for i, tile in result.tiles.items())
    assert result.makespan_s == cost.makespan_s(result.tiles)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(problems())
def test_every_exact_method_proves_the_brute_force_optimum_of_its_family(
    problem: LayerProblem,
) -> None:
    for name in EXACT:
        assert_matches(problem, name, optimum(problem, find(name)[0].family))


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(problems(most_devices=3, most_size=4))
def test_cover_proves_the_brute_force_optimum(problem: LayerProblem) -> None:
    assert_matches(problem, "cover", optimum(problem, "dissection"))


@pytest.mark.parametrize("shared", [False, True])
def test_five_devices_on_a_map_where_a_pinwheel_fits(shared: bool) -> None:
    """Smallest map with a non-guillotine partition: 3 x 3 with five tiles."""
    cluster = make_cluster([1.0, 1.0, 1.0, 1.0, 0.4], shared=shared)
    problem = make_problem(cluster, in_height=3, in_width=3)
    for name in ("guillotine-dp", "dissection-search"):
        assert_matches(problem, name, optimum(problem, find(name)[0].family))


def test_families_are_ordered_by_value() -> None:
    """column >= guillotine >= dissection, on seven unequal devices with long messages."""
    problem = make_problem(
        make_cluster([1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0], latency_ms=0.01),
        in_channels=64,
        out_channels=64,
        in_height=14,
        in_width=14,
    )
    values = [solve_layer(problem, name, limits=Limits(gap=1e-4)).makespan_s for name in EXACT[:3]]
    assert values[0] >= values[1] * (1 - 1e-4)
    assert values[1] >= values[2] * (1 - 1e-4)


@pytest.mark.parametrize("shared", [False, True])
def test_renaming_devices_changes_no_value(shared: bool) -> None:
    """The same devices in another order give the same optimum."""
    speeds = [1.0, 2.0, 1.0, 3.0]
    values = []
    for order in (speeds, speeds[::-1]):
        cluster = make_cluster(order, shared=shared, latency_ms=0.01)
        problem = make_problem(cluster, in_height=12, in_width=10)
        values.append([solve_layer(problem, name).makespan_s for name in EXACT])
    assert values[0] == pytest.approx(values[1], rel=3e-6)


def test_a_single_device_gets_the_whole_map() -> None:
    """One device: one tile, nothing sent, bound met."""
    problem = make_problem(make_cluster([1.0]))
    for name in (*EXACT, "multilevel", "cover"):
        result = solve_layer(problem, name)
        assert result.tiles is not None
        assert [tile.area for tile in result.tiles.values()] == [36]
        assert result.status is Status.OPTIMAL


def test_more_devices_than_pixels_leaves_some_idle() -> None:
    """Ten devices on a 2 x 2 map: at most four tiles."""
    problem = make_problem(make_cluster([1.0] * 10, rates=1e5), in_height=2, in_width=2)
    for name in (*EXACT, "multilevel"):
        result = solve_layer(problem, name)
        assert result.tiles is not None
        assert len(result.tiles) <= 4
