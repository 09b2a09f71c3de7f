"""CP-SAT on native models only: a MILP with continuous columns can get a wrong value from it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from nptp_opt.errors import SolverError
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.result import Status, Termination
from nptp_opt.solvers.base import Backend, Capabilities, SolverOutcome
from nptp_opt.solvers.trace import Trace


class CpSat(Backend):
    """OR-Tools CP-SAT (Apache licence). With more than one thread it is not deterministic."""

    name: ClassVar[str] = "cp-sat"
    package: ClassVar[str] = "ortools"
    module: ClassVar[str] = "ortools"
    capabilities: ClassVar[Capabilities] = Capabilities(
        models=("cp",),
        warm_start=True,
        objective_bound=True,
        nodes=True,
        seed=True,
        threads=True,
    )

    def solve(self, model: Any, limits: Limits, watched: Sequence[Any]) -> SolverOutcome:
        """Minimise a ``CpModel`` whose hints are set; ``values`` are those of ``watched``."""
        from ortools.sat.python import cp_model

        self.require(limits)
        solver = cp_model.CpSolver()
        if limits.time_limit_s < math.inf:
            solver.parameters.max_time_in_seconds = limits.time_limit_s
        solver.parameters.relative_gap_limit = limits.gap
        solver.parameters.random_seed = limits.seed
        solver.parameters.num_workers = limits.threads
        # Probing in 9.15 calls a wrong value optimal where an enforced row mixes signs.
        solver.parameters.cp_model_probing_level = 0
        trace, began = Trace(), time.perf_counter()
        solver.best_bound_callback = lambda bound: trace.add(
            time.perf_counter() - began, bound=bound
        )
        status = solver.solve(model, _follower(trace, began))
        if status == cp_model.INFEASIBLE:
            return SolverOutcome(Status.INFEASIBLE, Termination.COMPLETED)
        statuses = {
            cp_model.OPTIMAL: Status.OPTIMAL,
            cp_model.FEASIBLE: Status.FEASIBLE,
            cp_model.UNKNOWN: Status.NO_SOLUTION,
        }
        if status not in statuses:
            raise SolverError(f"solver 'cp-sat' stopped with {solver.status_name(status)}")
        done = status == cp_model.OPTIMAL
        solved = status != cp_model.UNKNOWN
        bound = solver.best_objective_bound
        return SolverOutcome(
            status=statuses[status],
            termination=Termination.COMPLETED if done else Termination.TIME_LIMIT,
            values=np.array([float(solver.value(v)) for v in watched]) if solved else None,
            value=float(solver.objective_value) if solved else None,
            bound=float(bound) if math.isfinite(bound) else None,
            nodes=int(solver.num_branches),
            trace=trace.points,
        )


def _follower(trace: Trace, began: float) -> Any:
    """A callback that notes every better solution."""
    from ortools.sat.python import cp_model

    class Follower(cp_model.CpSolverSolutionCallback):  # type: ignore[misc]
        def on_solution_callback(self) -> None:
            trace.add(time.perf_counter() - began, self.objective_value, self.best_objective_bound)

    return Follower()
