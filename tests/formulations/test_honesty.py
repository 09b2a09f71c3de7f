"""Status, bounds and starts where a reviewer found them wrong; each test names its bug."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nptp_opt.cost import LayerCost
from nptp_opt.geometry import Tile
from nptp_opt.layer import registry as methods
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import Status
from nptp_opt.layer.solve import solve_layer
from nptp_opt.solvers.highs import new_highs
from tests.brute import optimum
from tests.builders import make_cluster, make_problem
from tests.formulations.problems import problem
from tests.formulations.test_conformance import SPECS

ONE_SIDED = make_problem(
    make_cluster([0.001, 0.001], rates=0.1),
    in_channels=1,
    out_channels=1,
    in_height=9,
    in_width=7,
    kernel=(3, 1),
    padding=(3, 0, 1, 0),
    cut_step=2,
)
STRIDED = make_problem(
    make_cluster([0.0002, 0.0001, 0.0002], rates=1.0, shared=True, latency_ms=0.01),
    in_channels=1,
    out_channels=1,
    in_height=9,
    in_width=7,
    kernel=(2, 1),
    stride=(2, 2),
    padding=(2, 1, 1, 1),
)


def with_memory(layer: LayerProblem, *bytes_: int) -> LayerProblem:
    """The problem with memory limits for its first devices."""
    devices = list(layer.devices)
    for i, limit in enumerate(bytes_):
        devices[i] = devices[i].model_copy(update={"memory_mib": limit / 2**20})
    cluster = layer.cluster.model_copy(update={"devices": tuple(devices)})
    return dataclasses.replace(layer, cluster=cluster)


@pytest.mark.parametrize("name", [spec.name for spec in SPECS])
@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(with_memory(ONE_SIDED, 1500, 300), id="one-sided"),
        pytest.param(with_memory(STRIDED, 1000, 600), id="strided"),
    ],
)
def test_optimal_means_optimal_at_exact_costs(layer: LayerProblem, name: str) -> None:
    """Bug: "optimal" under upper costs, up to twice the true optimum, without a bound."""
    spec, _ = methods.find(name)
    least = optimum(layer, spec.family)
    result = solve_layer(layer, name, limits=Limits(time_limit_s=20))
    assert least is not None and result.makespan_s is not None and result.bound_s is not None
    assert not LayerCost(layer).form_is_exact
    assert result.bound_s <= least
    if result.status is Status.OPTIMAL:
        assert result.makespan_s <= least * (1 + 2e-6)
    if spec.pricing == "exact":
        assert result.status is Status.OPTIMAL


def test_memory_that_only_exact_costs_fit_is_not_called_infeasible() -> None:
    """Bug: InfeasibleError, although strips fit exactly: only the upper memory form did not."""
    layer = make_problem(
        make_cluster([1.0, 1.0]),
        in_channels=1,
        out_channels=1,
        in_height=9,
        in_width=3,
        kernel=(5, 1),
        padding=(2, 2, 0, 0),
    )
    cost = LayerCost(layer)
    halves = {0: Tile(0, 1, 0, 3), 1: Tile(1, 9, 0, 3)}
    tight = with_memory(layer, *(cost.memory_bytes(halves[i]) for i in (0, 1)))
    assert optimum(tight, "strip") is not None
    for name in ("strip", "column", "cp-sat"):
        assert solve_layer(tight, name).status is not Status.INFEASIBLE


@pytest.mark.parametrize("gap", [0.0, 1e-6, 1e-2])
@pytest.mark.parametrize(
    ("name", "solver"),
    [
        *(("strip", solver) for solver in ("highs", "cbc")),
        *(("cover", solver) for solver in ("highs", "scip", "cbc")),
        ("cp-sat", "cp-sat"),
        ("column-dp", None),
        ("guillotine-dp", None),
        ("auto", None),
    ],
)
def test_optimal_keeps_to_the_gap_asked_for(name: str, solver: str | None, gap: float) -> None:
    """Bug: "optimal" with a gap of 1.0000005e-6 where 1e-6 was asked for."""
    layer = problem("gap", 9, 8, gflops=(1.0, 0.6, 0.4))
    result = solve_layer(layer, name, solver=solver, limits=Limits(gap=gap, time_limit_s=20))
    assert result.gap is not None
    assert (result.status is Status.OPTIMAL) == (result.gap <= gap)
    if gap >= 1e-6:
        assert result.status is Status.OPTIMAL


@pytest.mark.parametrize("spec", methods.specs(), ids=lambda s: s.name)
def test_a_single_tile_is_known_at_any_limit(spec: methods.MethodSpec) -> None:
    """Bug: no solution under a tiny limit, although one device with the whole map is free."""
    layer = problem("large", 40, 40, gflops=(1.0, 0.7, 0.5, 0.3))
    result = solve_layer(layer, spec.name, limits=Limits(time_limit_s=1e-3))
    alone = LayerCost(layer).makespan_s({0: Tile(0, 40, 0, 40)})
    assert result.makespan_s is not None and result.makespan_s <= alone


@pytest.mark.parametrize("prove", [False, True])
def test_unknown_bounds_are_none(prove: bool) -> None:
    """Bug: cp-sat without a solution gave the bound 0.0."""
    limits = Limits(time_limit_s=1e-3, prove=prove)
    result = solve_layer(problem("large", 40, 40, memory_mib=(0.6,) * 3), "cp-sat", limits=limits)
    assert result.status is Status.NO_SOLUTION
    assert result.bound_s is None or result.bound_s > 0


def test_cover_exports_its_model(tmp_path: Path) -> None:
    """Bug: ``--export-mps`` did not know ``cover``. Kind, not suffix, says what is written."""
    from nptp_opt.formulations import export_model

    layer = problem("export", 3, 3, gflops=(1.0, 0.6))
    value = solve_layer(layer, "cover").makespan_s
    for kind, suffix in (("mps", ".mps"), ("lp", ".lp")):
        path = tmp_path / f"cover{suffix}"
        export_model(layer, "cover", path, kind)  # type: ignore[arg-type]
        solver = new_highs()
        solver.readModel(str(path))
        solver.run()
        assert solver.getInfo().objective_function_value == pytest.approx(100, rel=1e-6)
    export_model(layer, "strip", tmp_path / "c.lp", "mps")
    assert (tmp_path / "c.lp").read_text().split()[:2] == ["NAME", "strip"]
    assert value is not None


@pytest.mark.parametrize("name", ["strip", "column-dp", "guillotine-dp", "multilevel", "auto"])
def test_without_proof_only_the_partition_is_sought(name: str) -> None:
    """``prove=False``: the same partition's cost, and no configuration bound."""
    layer = problem("quick", 12, 12, gflops=(1.0, 0.7, 0.5))
    quick = methods.find(name)[1](layer, None, Limits(prove=False), Hints())
    proven = solve_layer(layer, name)
    assert quick.any_bound_s is None
    assert quick.makespan_s is not None and proven.makespan_s is not None
    assert quick.makespan_s == pytest.approx(proven.makespan_s, rel=2e-2)
