"""HiGHS through highspy, straight from the model's arrays."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar

import numpy as np

from nptp_opt.errors import SolverError
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.result import Status, Termination, TracePoint
from nptp_opt.solvers.base import Capabilities, MilpBackend, SolverOutcome
from nptp_opt.solvers.model import MilpModel


@contextmanager
def stdout_to(target: int) -> Iterator[None]:
    """Send what C code writes to stdout to another file descriptor: stdout is for results."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(target, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@cache
def _swallow_banner() -> None:
    """The first ``Highs()`` of a process prints a banner that no option silences."""
    import highspy

    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with stdout_to(nowhere):
            highspy.Highs().setOptionValue("output_flag", False)
    finally:
        os.close(nowhere)


def new_highs() -> Any:
    """A silent ``highspy.Highs``; nothing reaches stdout."""
    import highspy

    _swallow_banner()
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    return solver


def highs_lp(model: MilpModel) -> Any:
    """The model as a ``highspy.HighsLp``, without names."""
    import highspy

    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = model.n_columns, model.n_rows
    lp.col_cost_, lp.offset_ = model.objective, model.offset
    lp.col_lower_, lp.col_upper_ = model.lo, model.hi
    lp.row_lower_, lp.row_upper_ = model.row_lo, model.row_hi
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = model.n_columns, model.n_rows
    lp.a_matrix_.start_ = model.start
    lp.a_matrix_.index_ = model.column
    lp.a_matrix_.value_ = model.value
    kinds = highspy.HighsVarType
    lp.integrality_ = [kinds.kInteger if i else kinds.kContinuous for i in model.integer]
    return lp


class _Progress:
    """Follows value and bound; ``root_bound`` is the bound until the search leaves the root."""

    def __init__(self) -> None:
        self.root_bound: float | None = None
        self.trace: list[TracePoint] = []

    def __call__(self, event: Any) -> None:
        data = event.data_out
        value, bound = _finite(data.mip_primal_bound), _finite(data.mip_dual_bound)
        if data.mip_node_count <= 1 and bound is not None:
            self.root_bound = bound
        if not self.trace or self.trace[-1][1:] != (value, bound):
            self.trace.append((float(data.running_time), value, bound))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


class Highs(MilpBackend):
    """HiGHS (MIT licence). The thread count is global to the process."""

    name: ClassVar[str] = "highs"
    package: ClassVar[str] = "highspy"
    module: ClassVar[str] = "highspy"
    capabilities: ClassVar[Capabilities] = Capabilities(
        models=("milp",),
        warm_start=True,
        objective_bound=True,
        root_bound=True,
        nodes=True,
        seed=True,
        threads=True,
    )
    _threads: int | None = None

    def _solve(self, model: MilpModel, limits: Limits, start: Mapping[str, float]) -> SolverOutcome:
        solver = new_highs()
        self._set_options(solver, limits)
        if failed(solver.passModel(highs_lp(model))):
            raise SolverError("solver 'highs' refused the model")
        if start:
            columns, values = model.start_indices(start)
            solver.setSolution(len(columns), columns.astype(np.int32), values)
        progress = _Progress()
        solver.cbMipInterrupt.subscribe(progress)
        with stdout_to(2):
            status = solver.run()
        if failed(status):
            raise SolverError("solver 'highs' failed on the model; try another `solver`")
        return _outcome(solver, progress)

    def _set_options(self, solver: Any, limits: Limits) -> None:
        import highspy

        if self._threads != limits.threads:  # an LP of search.lp may have run before
            highspy.Highs.resetGlobalScheduler(True)
        self._threads = limits.threads
        options: dict[str, Any] = {
            "time_limit": limits.time_limit_s,
            "mip_rel_gap": limits.gap,
            "mip_abs_gap": 0.0,
            "random_seed": limits.seed,
            "threads": limits.threads,
        }
        for option, value in options.items():
            if failed(solver.setOptionValue(option, value)):
                raise SolverError(f"solver 'highs' refused {option} = {value}")


def failed(status: Any) -> bool:
    """Whether a call of highspy was refused; a warning is none."""
    import highspy

    return bool(status == highspy.HighsStatus.kError)


def _outcome(solver: Any, progress: _Progress) -> SolverOutcome:
    import highspy

    kind = highspy.HighsModelStatus
    stop = solver.getModelStatus()
    info = solver.getInfo()
    if stop in {kind.kInfeasible, kind.kUnboundedOrInfeasible}:
        return SolverOutcome(Status.INFEASIBLE, Termination.COMPLETED)
    limit_hit = {kind.kOptimal: Termination.COMPLETED, kind.kTimeLimit: Termination.TIME_LIMIT}
    if stop not in {*limit_hit, kind.kSolutionLimit, kind.kIterationLimit, kind.kInterrupt}:
        raise SolverError(f"solver 'highs' stopped with {solver.modelStatusToString(stop)}")
    feasible = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    optimal = stop == kind.kOptimal
    with_tiles = Status.OPTIMAL if optimal else Status.FEASIBLE
    is_mip = info.mip_node_count >= 0
    bound = info.mip_dual_bound if is_mip else info.objective_function_value
    return SolverOutcome(
        status=with_tiles if feasible else Status.NO_SOLUTION,
        termination=limit_hit.get(stop, Termination.OTHER_LIMIT),
        values=np.array(solver.getSolution().col_value) if feasible else None,
        value=float(info.objective_function_value) if feasible else None,
        bound=float(bound) if np.isfinite(bound) and (is_mip or optimal) else None,
        root_bound=progress.root_bound,
        trace=tuple(progress.trace),
        nodes=max(0, int(info.mip_node_count)),
    )
