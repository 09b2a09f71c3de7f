"""Every back-end on models with known answers, and its honesty at limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pulp
import pytest

from nptp_opt import solvers
from nptp_opt.errors import InputError, SolverError
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.result import ModelSize, Status, Termination
from nptp_opt.solvers.highs import new_highs
from nptp_opt.solvers.modelfile import ModelFile, model_text

each_solver = pytest.mark.parametrize("name", solvers.milp_names())


def knapsack(n: int = 3, *, rows: int = 1) -> solvers.MilpModel:
    """Maximise 5a + 4b + 3c with 2a + 3b + c <= 3: a and c, so the minimum is -8 + 1.5 + y."""
    problem = pulp.LpProblem("knapsack", pulp.LpMinimize)
    x = [problem.add_variable(f"x{i}", 0, 1, "Integer") for i in range(n)]
    y = problem.add_variable("y", -2.5, None)
    gain, weight = (5, 4, 3), (2, 3, 1)
    random = np.random.default_rng(1)
    problem += pulp.lpSum(-gain[i % 3] * v for i, v in enumerate(x)) + y + 1.5
    problem += pulp.lpSum(weight[i % 3] * v for i, v in enumerate(x)) <= n
    problem += y + x[0] >= -1
    for _ in range(rows - 1):
        weights = random.integers(10, 100, n)
        problem += pulp.lpSum(int(w) * v for w, v in zip(weights, x, strict=True)) <= 20 * n
    return solvers.from_pulp(problem)


@each_solver
def test_known_answer(name: str) -> None:
    """a = c = 1 and y = -2 cost -8 - 2 + 1.5; offset, equality of value and bound included."""
    model = knapsack()
    result = solvers.find_milp(name).solve(model, Limits(time_limit_s=30), start={"x1": 1.0})
    assert (result.status, result.termination) == (Status.OPTIMAL, Termination.COMPLETED)
    assert result.values is not None
    assert result.value == pytest.approx(-8.5) == result.bound
    by_name = dict(zip(model.column_names, result.values, strict=True))
    assert [by_name[v] for v in ("x0", "x1", "x2", "y")] == pytest.approx([1, 0, 1, -2])
    assert model.size == ModelSize(rows=2, columns=4, nonzeros=5, integers=3)


@each_solver
def test_infeasible(name: str) -> None:
    """x0 + x1 >= 3 has no binary solution."""
    problem = pulp.LpProblem("none", pulp.LpMinimize)
    x = [problem.add_variable(f"x{i}", 0, 1, "Integer") for i in range(2)]
    problem += x[0] + x[1] * 1.0
    problem += x[0] + x[1] >= 3
    result = solvers.find_milp(name).solve(solvers.from_pulp(problem), Limits(time_limit_s=30))
    assert result.status is Status.INFEASIBLE
    assert result.values is None and result.value is None


@each_solver
@pytest.mark.parametrize("seconds", [1e-3, 0.3])
def test_a_time_limit_is_never_called_optimal(name: str, seconds: float) -> None:
    """Stopped early, the bound stays below the value and unknown stays None."""
    result = solvers.find_milp(name).solve(knapsack(60, rows=12), Limits(time_limit_s=seconds))
    assert result.termination is Termination.TIME_LIMIT
    assert result.status in {Status.FEASIBLE, Status.NO_SOLUTION}
    assert (result.value is None) == (result.values is None) == (result.status != "feasible")
    if result.value is not None and result.bound is not None:
        assert result.bound <= result.value


def test_values_of_a_stopped_run_are_feasible() -> None:
    """The incumbent of a stopped CBC run is integer and satisfies the rows (style.md facts)."""
    model = knapsack(60, rows=12)
    result = solvers.find_milp("cbc").solve(model, Limits(time_limit_s=1.0))
    assert result.values is not None
    dense = np.zeros((model.n_rows, model.n_columns))
    rows = np.repeat(np.arange(model.n_rows), np.diff(model.start))
    dense[rows, model.column] = model.value
    assert (dense @ result.values <= model.row_hi + 1e-6).all()
    integers = result.values[model.integer]
    assert np.abs(integers - integers.round()).max() < 1e-6


@pytest.mark.parametrize("kind", ["mps", "lp"])
def test_model_files_read_back(tmp_path: Path, kind: ModelFile) -> None:
    """HiGHS reads both file formats and finds the same optimum."""
    path = tmp_path / f"model.{kind}"
    path.write_text(model_text(knapsack(), kind))
    solver = new_highs()
    solver.readModel(str(path))
    solver.run()
    assert solver.getInfo().objective_function_value == pytest.approx(-8.5)


@pytest.mark.parametrize("kind", ["mps", "lp"])
@pytest.mark.parametrize("short", [False, True])
def test_model_files_lose_no_digit_and_no_bound(
    tmp_path: Path, kind: ModelFile, short: bool
) -> None:
    """Every kind of bound and row, an unused column, an offset: as it was, to the last bit."""
    model = every_kind_of_bound()
    path = tmp_path / f"model.{kind}"
    path.write_text(model_text(model, kind, short_names=short))
    solver = new_highs()
    solver.readModel(str(path))
    read = solver.getLp()
    names = [f"C{j}" for j in range(model.n_columns)] if short else [*model.column_names]
    at = [read.col_names_.index(name) for name in names]
    assert [read.col_cost_[j] for j in at] == model.objective.tolist()
    assert [read.col_lower_[j] for j in at] == model.lo.tolist()
    assert [read.col_upper_[j] for j in at] == model.hi.tolist()
    integer = [str(read.integrality_[j]).endswith("kInteger") for j in at]
    assert integer == model.integer.tolist()
    assert read.offset_ == model.offset
    coefficients = {*read.a_matrix_.value_}
    assert coefficients == {*model.value.tolist()}
    sides = {*read.row_lower_, *read.row_upper_}
    assert sides == {*model.row_lo.tolist(), *model.row_hi.tolist()}


def every_kind_of_bound() -> solvers.MilpModel:
    """Free, negative, one-sided, binary and unused columns; equal, ranged and one-sided rows."""
    inf = np.inf
    return solvers.MilpModel(
        name="bounds",
        objective=np.array([1 / 3, -2.0, 0.0, 0.1, 0.0, 1.0]),
        lo=np.array([-inf, -5.0, -inf, 2.0, 0.0, -7.0]),
        hi=np.array([inf, -1.0, -2.0, inf, 1.0, inf]),
        integer=np.array([0, 1, 0, 1, 1, 0], dtype=bool),
        start=np.array([0, 2, 4, 6, 7]),
        column=np.array([0, 1, 1, 3, 0, 2, 3]),
        value=np.array([1.0, 1 / 7, 0.1 + 0.2, 1.0, 1.0, -1.0, 1.0]),
        row_lo=np.array([-3.0, 1 / 3, -inf, -4.0]),
        row_hi=np.array([5.0, 1 / 3, 4.0, inf]),
        column_names=[f"x_{j}" for j in range(5)] + ["y"],
        row_names=[f"row_{r}" for r in range(4)],
        offset=1 / 3,
    )


def test_unknown_solver_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'highs'"):
        solvers.find("higs")


def test_cp_sat_takes_no_milp() -> None:
    """CP-SAT can return a wrong value for continuous columns, so it gets no MILP."""
    with pytest.raises(InputError, match="takes no MILP"):
        solvers.find_milp("cp-sat")


def test_a_setting_that_cannot_be_honoured_names_the_solver() -> None:
    with pytest.raises(InputError, match="'cbc' cannot use 2 threads"):
        solvers.find_milp("cbc").solve(knapsack(), Limits(threads=2))


def test_a_missing_solver_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    highs = solvers.find_milp("highs")
    monkeypatch.setattr(type(highs), "module", "no_such_module")
    assert not highs.available
    with pytest.raises(SolverError, match="pip install highspy"):
        highs.solve(knapsack(), Limits())


def test_listing_is_json_with_versions() -> None:
    listed = json.loads(json.dumps(solvers.listing()))
    assert [entry["name"] for entry in listed] == ["highs", "scip", "cbc", "cp-sat"]
    assert all(entry["available"] and entry["version"] for entry in listed)
    assert listed[0]["capabilities"]["warm_start"]


def test_nothing_reaches_stdout() -> None:
    """HiGHS prints a banner at its first use: stdout is for results."""
    code = (
        "from tests.solvers.test_solvers import knapsack\n"
        "from nptp_opt import solvers\nfrom nptp_opt.layer.limits import Limits\n"
        "for name in solvers.milp_names():\n"
        "    solvers.find_milp(name).solve(knapsack(), Limits())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize(("limit_s", "fails"), [(1e-3, False), (60.0, True)])
def test_a_crash_of_cbc_at_its_limit_is_no_failure(
    limit_s: float, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: with limits of a few milliseconds CBC crashed now and then, reported as a failure."""
    crash = tmp_path / "cbc"
    crash.write_text("#!/bin/sh\nsleep 0.05\nkill -SEGV $$\n")
    crash.chmod(0o755)
    cbc = solvers.find_milp("cbc")
    monkeypatch.setitem(vars(cbc), "path", crash)
    if fails:
        with pytest.raises(SolverError, match="'cbc' failed"):
            cbc.solve(knapsack(), Limits(time_limit_s=limit_s))
    else:
        found = cbc.solve(knapsack(), Limits(time_limit_s=limit_s))
        assert found.status is Status.NO_SOLUTION
        assert found.termination is Termination.TIME_LIMIT
