"""Value and bound over time: every back-end tells them, and what it tells fits its answer."""

from __future__ import annotations

import itertools
import math

import pytest
from ortools.sat.python import cp_model

from nptp_opt import solvers
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.result import TracePoint
from nptp_opt.solvers.cpsat import CpSat
from nptp_opt.solvers.trace import Trace, cbc_trace, scip_rows
from tests.solvers.test_solvers import knapsack

DIGITS = 1e-4
"""Logs are rounded."""


def check(trace: tuple[TracePoint, ...], value: float) -> None:
    """Times grow, values fall to the answer's, bounds rise and never pass it."""
    for (t1, v1, b1), (t2, v2, b2) in itertools.pairwise(trace):
        assert t1 <= t2
        assert v1 is None or (v2 is not None and v2 <= v1)
        assert b1 is None or (b2 is not None and b2 >= b1)
    values = [v for _, v, _ in trace if v is not None]
    assert values[-1] == pytest.approx(value, rel=DIGITS)
    assert all(b <= value + DIGITS * abs(value) for _, _, b in trace if b is not None)


@pytest.mark.parametrize("name", solvers.milp_names())
def test_milp_solvers_tell_values_and_bounds_over_time(name: str) -> None:
    """The knapsack has an objective offset: logged values include it."""
    result = solvers.find_milp(name).solve(knapsack(60, rows=12), Limits(time_limit_s=3))
    assert result.value is not None and result.trace
    check(result.trace, result.value)
    if result.root_bound is not None:
        assert result.root_bound <= result.value


def test_cp_sat_tells_values_and_bounds_over_time() -> None:
    """Twenty numbers into two halves: the largest sum is at least half of the total."""
    model = cp_model.CpModel()
    numbers = [97 + 13 * k * k % 89 for k in range(20)]
    side = [model.new_bool_var(f"x{k}") for k in range(20)]
    worst = model.new_int_var(0, sum(numbers), "worst")
    left = sum(n * x for n, x in zip(numbers, side, strict=True))
    model.add(worst >= left)
    model.add(worst >= sum(numbers) - left)
    model.minimize(worst)
    result = CpSat().solve(model, Limits(time_limit_s=20), side)
    assert result.value is not None and result.value >= sum(numbers) / 2
    check(result.trace, result.value)
    assert any(bound is not None for _, _, bound in result.trace)


def test_only_improvements_are_kept() -> None:
    trace = Trace()
    for point in ((0.0, None, 1.0), (1.0, 9.0, 0.5), (2.0, 9.5, None), (3.0, 8.0, math.inf)):
        trace.add(*point)
    assert trace.points == ((0.0, None, 1.0), (1.0, 9.0, 1.0), (3.0, 8.0, 1.0))


def test_the_log_of_cbc() -> None:
    log = """\
Continuous objective value is 22.9616 - 0.12 seconds
Cbc0038I Pass   1: (0.66 seconds) suminf.    0.00000 (0) obj. 100 iterations 1614
Cbc0038I Mini branch and bound improved solution from 70.5 to 57.25 (2.29 seconds)
Cbc0010I After 0 nodes, 1 on tree, 1e+50 best solution, best possible 42.5 (0.53 seconds)
Cbc0012I Integer solution of 51 found by rounding after 20 iterations and 0 nodes (2.41 seconds)
Cbc0010I After 100 nodes, 9 on tree, 51 best solution, best possible 43.5 (3.00 seconds)"""
    assert cbc_trace(log) == (
        (0.53, None, 42.5),
        (2.29, 57.25, 42.5),
        (2.41, 51.0, 42.5),
        (3.0, 51.0, 43.5),
    )


def test_the_progress_table_of_scip() -> None:
    lines = """ time | node  | left  |LP iter|mem/heur|  dualbound   | primalbound  |  gap   |compl.
p 0.0s|     1 |     0 |     0 |   shift| 0.000000e+00 | 1.000000e+02 |    Inf | unknown
  1.3s|     1 |     0 |  7742 |    60M | 2.352583e+01 | 1.000000e+02 | 325.06%| unknown
 12.0s|   100 |    33 |  7742 |    60M | 2.400000e+01 |      --      |    Inf | unknown"""
    assert scip_rows(lines.splitlines()) == [
        (0.0, 1, 100.0, 0.0),
        (1.3, 1, 100.0, 23.52583),
        (12.0, 100, None, 24.0),
    ]
