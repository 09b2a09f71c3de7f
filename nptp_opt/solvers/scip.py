"""SCIP through OR-Tools MathOpt (GSCIP)."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from nptp_opt.errors import SolverError
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.result import Status, Termination
from nptp_opt.solvers.base import Capabilities, MilpBackend, SolverOutcome
from nptp_opt.solvers.model import MilpModel
from nptp_opt.solvers.trace import Trace, scip_rows

DIGITS = 1e-6
"""Relative precision of the numbers in SCIP's progress table."""


def _to_mathopt(model: MilpModel) -> Any:
    from ortools.math_opt import model_pb2
    from ortools.math_opt.python import mathopt

    proto = model_pb2.ModelProto(name=model.name)
    proto.variables.ids.extend(range(model.n_columns))
    proto.variables.lower_bounds.extend(model.lo)
    proto.variables.upper_bounds.extend(model.hi)
    proto.variables.integers.extend(model.integer.tolist())
    costed = np.flatnonzero(model.objective)
    proto.objective.offset = model.offset
    proto.objective.linear_coefficients.ids.extend(costed)
    proto.objective.linear_coefficients.values.extend(model.objective[costed])
    proto.linear_constraints.ids.extend(range(model.n_rows))
    proto.linear_constraints.lower_bounds.extend(model.row_lo)
    proto.linear_constraints.upper_bounds.extend(model.row_hi)
    rows = np.repeat(np.arange(model.n_rows), np.diff(model.start))
    order = np.lexsort((model.column, rows))
    matrix = proto.linear_constraint_matrix
    matrix.row_ids.extend(rows[order])
    matrix.column_ids.extend(model.column[order])
    matrix.coefficients.extend(model.value[order])
    return mathopt.Model.from_model_proto(proto)


def _parameters(limits: Limits) -> Any:
    from ortools.math_opt.python import mathopt

    parameters = mathopt.SolveParameters(
        relative_gap_tolerance=limits.gap,
        absolute_gap_tolerance=0.0,
        random_seed=limits.seed,
        threads=1,
    )
    if limits.time_limit_s < math.inf:
        parameters.time_limit = datetime.timedelta(seconds=limits.time_limit_s)
    return parameters


def _hints(model: MilpModel, mip: Any, start: Mapping[str, float]) -> Any:
    from ortools.math_opt.python import mathopt

    if not start:
        return None
    columns, values = model.start_indices(start)
    known = {mip.get_variable(int(j)): float(v) for j, v in zip(columns, values, strict=True)}
    return mathopt.ModelSolveParameters(
        solution_hints=[mathopt.SolutionHint(variable_values=known)]
    )


class Scip(MilpBackend):
    """SCIP (Apache licence), as it comes in the OR-Tools wheel: one thread."""

    name: ClassVar[str] = "scip"
    package: ClassVar[str] = "ortools"
    module: ClassVar[str] = "ortools"
    capabilities: ClassVar[Capabilities] = Capabilities(
        models=("milp",),
        warm_start=True,
        objective_bound=True,
        root_bound=True,
        nodes=True,
        seed=True,
    )

    def _solve(self, model: MilpModel, limits: Limits, start: Mapping[str, float]) -> SolverOutcome:
        from ortools.math_opt.python import mathopt

        mip = _to_mathopt(model)
        lines: list[str] = []
        try:
            result = mathopt.solve(
                mip,
                mathopt.SolverType.GSCIP,
                params=_parameters(limits),
                model_params=_hints(model, mip, start),
                msg_cb=lines.extend,
            )
        except (AttributeError, ValueError, RuntimeError) as error:
            # A rejected input surfaces as an AttributeError; the text is in its context.
            raise SolverError(f"solver 'scip' failed: {error.__context__ or error}") from error
        return _add_trace(_outcome(mip, result), lines)


def _add_trace(outcome: SolverOutcome, lines: Sequence[str]) -> SolverOutcome:
    """With the trace and the bound at the root, as far as SCIP's progress table tells."""
    trace, root = Trace(), None
    for at, node, value, bound in scip_rows(lines):
        trace.add(at, value, None if bound is None else bound - DIGITS * abs(bound))
        root = trace.points[-1][2] if node <= 1 and trace.points else root
    return replace(outcome, trace=trace.points, root_bound=root)


def _outcome(mip: Any, result: Any) -> SolverOutcome:
    from ortools.math_opt.python import mathopt

    reason = mathopt.TerminationReason
    stop = result.termination.reason
    if stop in {reason.INFEASIBLE, reason.INFEASIBLE_OR_UNBOUNDED}:
        return SolverOutcome(Status.INFEASIBLE, Termination.COMPLETED)
    statuses = {
        reason.OPTIMAL: Status.OPTIMAL,
        reason.FEASIBLE: Status.FEASIBLE,
        reason.NO_SOLUTION_FOUND: Status.NO_SOLUTION,
    }
    if stop not in statuses:
        raise SolverError(f"solver 'scip' stopped with {stop}: {result.termination.detail}")
    bound = result.termination.objective_bounds.dual_bound
    solved = result.has_primal_feasible_solution()
    values = result.variable_values() if solved else {}
    return SolverOutcome(
        status=statuses[stop],
        termination=_termination(result),
        values=np.array([values[v] for v in mip.variables()]) if solved else None,
        value=result.objective_value() if solved else None,
        bound=bound if math.isfinite(bound) else None,
        nodes=int(result.solve_stats.node_count),
    )


def _termination(result: Any) -> Termination:
    from ortools.math_opt.python import mathopt

    if result.termination.reason == mathopt.TerminationReason.OPTIMAL:
        return Termination.COMPLETED
    timed_out = result.termination.limit == mathopt.Limit.TIME
    return Termination.TIME_LIMIT if timed_out else Termination.OTHER_LIMIT
