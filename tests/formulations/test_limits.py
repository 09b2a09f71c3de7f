"""Limits, memory, export and bad names, for every formulation and solver."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from nptp_opt.cost import LayerCost
from nptp_opt.errors import InfeasibleError, InputError
from nptp_opt.formulations import export_model
from nptp_opt.formulations.run import build_milp
from nptp_opt.geometry import Tile
from nptp_opt.layer import registry as methods
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.result import Status, Termination
from nptp_opt.solvers.highs import new_highs
from tests.formulations.problems import problem
from tests.formulations.test_conformance import PAIRS, SPECS

each_pair = pytest.mark.parametrize(("name", "solver"), PAIRS)
MILPS = [spec.name for spec in SPECS if spec.kind == "milp"]


@each_pair
def test_a_tiny_limit_gives_no_false_proof(name: str, solver: str) -> None:
    """10 ms on a large map: optimal only with a gap that proves it."""
    layer = problem("large", 28, 28, gflops=(1.0, 0.7, 0.5, 0.3))
    _, method = methods.find(name)
    result = method(layer, solver, Limits(time_limit_s=0.01), Hints())
    if result.status is Status.OPTIMAL:
        assert result.gap is not None and result.gap <= 1e-6
    else:
        assert result.termination is Termination.TIME_LIMIT
    assert (result.tiles is None) == (result.status is Status.NO_SOLUTION)
    assert (result.makespan_s is None) == (result.tiles is None)
    if result.makespan_s is not None and result.bound_s is not None:
        assert result.bound_s <= result.makespan_s


@pytest.mark.parametrize("name", ["column", "dissection-bigm", "cp-sat"])
def test_a_start_is_never_lost(name: str) -> None:
    """With a start, a run that finds nothing itself still returns a partition."""
    layer = problem("large", 28, 28)
    start = {0: Tile(0, 28, 0, 14), 1: Tile(0, 28, 14, 22), 2: Tile(0, 28, 22, 28)}
    spec, method = methods.find(name)
    result = method(layer, spec.solvers[0], Limits(time_limit_s=0.01), Hints(start=start))
    assert result.makespan_s is not None
    assert result.makespan_s <= LayerCost(layer).makespan_s(start)


@each_pair
def test_infeasible_memory_names_the_devices(name: str, solver: str) -> None:
    layer = problem("tight", 4, 4, memory_mib=(0.1, 0.1, 0.1))
    _, method = methods.find(name)
    with pytest.raises(InfeasibleError, match=r"'d0' \(0.1 MiB\), 'd1' .*memory_mib"):
        method(layer, solver, Limits(time_limit_s=30), Hints())


@pytest.mark.parametrize("name", MILPS)
@pytest.mark.parametrize("kind", ["mps", "lp"])
def test_exported_models_have_the_same_optimum(
    tmp_path: Path, name: str, kind: Literal["mps", "lp"]
) -> None:
    """The written model, read by HiGHS, has the makespan of the solved one."""
    layer = problem("export", 3, 3, gflops=(1.0, 0.6))
    path = tmp_path / f"model.{kind}"
    export_model(layer, name, path, kind)
    solver = new_highs()
    solver.readModel(str(path))
    solver.run()
    cost = LayerCost(layer)
    alone = cost.makespan_s({0: Tile(0, 3, 0, 3)})
    spec, method = methods.find(name)
    expected = method(layer, spec.solvers[0], Limits(), Hints()).makespan_s
    found = solver.getInfo().objective_function_value * alone / 100
    assert found == pytest.approx(expected, rel=1e-5)


def test_export_refuses_other_methods(tmp_path: Path) -> None:
    layer = problem("export", 3, 3)
    with pytest.raises(InputError, match="unknown MILP formulation 'cp-sat'"):
        export_model(layer, "cp-sat", tmp_path / "model.mps", "mps")
    with pytest.raises(InputError, match="cannot be written"):
        export_model(layer, "strip", tmp_path / "nowhere" / "model.mps", "mps")
    assert not list(tmp_path.iterdir())


def test_strip_model_size_is_independent_of_the_map() -> None:
    """No position appears in the strip model."""
    small, large = (build_milp(problem("p", n, n), "strip").size for n in (8, 64))
    assert small == large
