"""Count vectors, pooled devices and the recursive split for many devices."""

from __future__ import annotations

import pytest

from nptp_opt.geometry import cover_fault
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.solve import solve_layer
from nptp_opt.search.pooling import pool
from nptp_opt.search.subsets import Subsets
from tests.builders import make_cluster, make_problem


def layer(gflops: list[float], size: int, *, shared: bool = False) -> LayerProblem:
    return make_problem(
        make_cluster(gflops, shared=shared, latency_ms=0.05),
        in_channels=32,
        out_channels=32,
        in_height=size,
        in_width=size,
    )


def test_subsets_number_every_count_vector_once() -> None:
    """Two devices of one class and one of another: six sets, parts add up to the whole."""
    subsets = Subsets((2, 1))
    assert subsets.count == 6
    assert {tuple(v) for v in subsets.vectors.tolist()} == {
        (a, b) for a in range(3) for b in range(2)
    }
    full = subsets.full
    for part in subsets.parts(full):
        total = subsets.vectors[part] + subsets.vectors[full - part]
        assert total.tolist() == [2, 1]


@pytest.mark.parametrize("name", ["column-dp", "guillotine-dp"])
def test_equal_devices_as_counts_agree_with_devices_told_apart(name: str) -> None:
    """Speeds that differ by a hair make 6 classes of one; counts give the same value."""
    equal = solve_layer(layer([1.0] * 6, 18), name).makespan_s
    apart = solve_layer(layer([1.0 + 1e-12 * i for i in range(6)], 18), name).makespan_s
    assert equal == pytest.approx(apart, rel=1e-6)


def test_64_equal_devices() -> None:
    """Count vectors: guillotine <= column, and both use every device once at most."""
    problem = layer([1.0] * 64, 64)
    column = solve_layer(problem, "column-dp")
    guillotine = solve_layer(problem, "guillotine-dp")
    assert column.makespan_s is not None
    assert guillotine.makespan_s is not None
    assert guillotine.makespan_s <= column.makespan_s * (1 + 1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_multilevel_covers_with_many_devices(shared: bool) -> None:
    """300 unequal devices on 128 x 128: a valid partition, worse than no bound."""
    problem = layer([1.0 + (i % 7) / 7 for i in range(300)], 128, shared=shared)
    result = solve_layer(problem, "multilevel")
    assert result.tiles is not None
    assert cover_fault(result.tiles.values(), 128, 128) is None
    assert result.bound_s is not None
    assert 0 < result.bound_s <= result.makespan_s


def test_pooled_devices_are_never_better_than_the_real_ones() -> None:
    """Every device takes the weakest costs of its group; few groups remain."""
    problem = layer([1.0 + i / 40 for i in range(40)], 32)
    pooled = pool(problem, 3)
    assert len(pooled.device_classes) == 3
    for real, weak in zip(problem.devices, pooled.devices, strict=True):
        assert weak.gflops <= real.gflops


@pytest.mark.parametrize("shared", [False, True])
def test_auto_on_many_different_devices_ends_within_its_methods(shared: bool) -> None:
    """40 different devices: too many for exact tables, still a value, a bound and their sources."""
    problem = layer([1.0 + i / 40 for i in range(40)], 32, shared=shared)
    result = solve_layer(problem, "auto", limits=Limits(time_limit_s=10))
    assert result.makespan_s is not None
    assert result.bound_s is not None
    assert {"value", "bound"} <= set(result.notes)
    heuristic = solve_layer(problem, "multilevel").makespan_s
    assert heuristic is not None
    assert result.makespan_s <= heuristic
