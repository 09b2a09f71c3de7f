"""The configuration bound never exceeds the value of any partition."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nptp_opt.cost import LayerCost
from nptp_opt.errors import InfeasibleError
from nptp_opt.geometry import Tile
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.solve import solve_layer
from nptp_opt.search.bounds import configuration_bound
from nptp_opt.search.configurations import N_SUMS, ConfigurationLP
from nptp_opt.search.unit_costs import unit_costs
from tests.brute import optimum
from tests.builders import make_cluster, make_problem
from tests.search.problems import pinwheel, problems


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(problems())
def test_bound_is_below_the_best_of_all_dissections(problem: LayerProblem) -> None:
    best = optimum(problem, "dissection")
    if best is None:
        return
    bound = configuration_bound(problem)
    assert 0 < bound <= best * (1 + 1e-12)


def _random_partition(data: st.DataObject, problem: LayerProblem) -> dict[int, Tile]:
    """Guillotine cuts at random until the devices are used up."""
    tiles = [Tile(0, problem.height, 0, problem.width)]
    for _ in range(data.draw(st.integers(0, len(problem.devices) - 1))):
        tile = tiles.pop(data.draw(st.integers(0, len(tiles) - 1)))
        ys = [y for y in problem.cuts_y if tile.y0 < y < tile.y1]
        xs = [x for x in problem.cuts_x if tile.x0 < x < tile.x1]
        cuts = [("y", y) for y in ys] + [("x", x) for x in xs]
        if not cuts:
            tiles.append(tile)
            continue
        axis, at = data.draw(st.sampled_from(cuts))
        if axis == "y":
            tiles += [Tile(tile.y0, at, tile.x0, tile.x1), Tile(at, tile.y1, tile.x0, tile.x1)]
        else:
            tiles += [Tile(tile.y0, tile.y1, tile.x0, at), Tile(tile.y0, tile.y1, at, tile.x1)]
    owners = data.draw(st.permutations(range(len(problem.devices))))
    return dict(zip(owners, tiles, strict=False))


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(st.data(), problems(most_devices=8, most_size=16))
def test_bound_is_below_random_partitions(data: st.DataObject, problem: LayerProblem) -> None:
    """A short time limit may weaken the bound but never make it wrong."""
    tiles = _random_partition(data, problem)
    cost = LayerCost(problem)
    if all(cost.fits(i, tile) for i, tile in tiles.items()):
        limit = data.draw(st.sampled_from([1e-3, 1.0]))
        assert configuration_bound(problem, limit) <= cost.makespan_s(tiles) * (1 + 1e-12)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    st.data(),
    problems(most_devices=5, most_size=12),
    st.lists(st.floats(0, 2), min_size=N_SUMS, max_size=N_SUMS),
)
def test_any_multipliers_give_a_valid_bound(
    data: st.DataObject, problem: LayerProblem, y: list[float]
) -> None:
    """Lagrangian bound on the bytes of a shared network, and on feasibility of a switched one."""
    import numpy as np

    cost = LayerCost(problem)
    tiles = _random_partition(data, problem)
    if not all(cost.fits(i, tile) for i, tile in tiles.items()):
        return
    lower = unit_costs(cost, lower=True)
    if not problem.cluster.shared:
        target = cost.makespan_s(tiles)
        assert ConfigurationLP(lower).bound(np.array(y), target) <= 0
        return
    rate = problem.cluster.network.bytes_per_s
    target = max(cost.compute_s(i, tile) for i, tile in tiles.items())
    sent = sum(cost.recv_bytes(tile) for tile in tiles.values()) / rate
    assert ConfigurationLP(lower, 1 / rate).bound(np.array(y), target) <= sent


def test_bound_of_equal_devices_without_traffic_is_the_equal_share() -> None:
    """A 1 x 1 kernel needs no halo: four equal devices reach exactly a quarter of the time."""
    problem = make_problem(
        make_cluster([1.0] * 4), in_height=8, in_width=8, kernel=(1, 1), padding=(0, 0, 0, 0)
    )
    share = LayerCost(problem).compute_s(0, Tile(0, 8, 0, 8)) / 4
    assert configuration_bound(problem) == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_bound_is_near_the_optimum(shared: bool) -> None:
    """Within 3 % of the proven optimum on the pinwheel instance."""
    value = solve_layer(pinwheel(shared=shared), "auto").makespan_s
    assert value is not None
    assert configuration_bound(pinwheel(shared=shared)) > 0.97 * value


def test_memory_that_holds_no_partition_raises() -> None:
    """No device can hold even the weights."""
    cluster = make_cluster([1.0, 1.0], memory_mib={0: 1e-4, 1: 1e-4})
    with pytest.raises(InfeasibleError, match="d0"):
        configuration_bound(make_problem(cluster))
