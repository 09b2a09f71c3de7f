"""``solve_layer``: the one function that turns a method's name into a result."""

from __future__ import annotations

# Imported for their registrations: these two packages fill ``methods``.
from nptp_opt import formulations, search
from nptp_opt.errors import InputError
from nptp_opt.layer import registry
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import LayerResult
from nptp_opt.solvers import find

__all__ = ["formulations", "search", "solve_layer"]


def solve_layer(
    problem: LayerProblem,
    formulation: str = "auto",
    *,
    solver: str | None = None,
    limits: Limits | None = None,
    hints: Hints | None = None,
) -> LayerResult:
    """Partition one layer with the method of that name (see ``nptp-opt formulations``).

    Raises InputError for an unknown name or a solver that cannot take the formulation,
    InfeasibleError where memory limits leave no partition, SolverError when a solver fails. A time
    limit without a solution is a result with status ``no-solution``.
    """
    spec, method = registry.find(formulation)
    chosen = pick_solver(spec, solver)
    return method(problem, chosen, limits or Limits(), hints or Hints())


def pick_solver(spec: registry.MethodSpec, solver: str | None) -> str | None:
    """The solver to use for a method: the given one, or the method's first.

    Raises InputError for a name that no solver has, and for a solver that the method cannot use.
    """
    if solver is None:
        return spec.solvers[0] if spec.solvers else None
    if solver not in spec.solvers:
        find(solver)
        known = ", ".join(spec.solvers) or "none: it is a search of its own"
        raise InputError(f"formulation {spec.name!r} cannot be solved by {solver!r}; takes {known}")
    return solver
