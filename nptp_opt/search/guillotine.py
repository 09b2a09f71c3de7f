"""``guillotine-dp``: the best guillotine partition by dynamic programming.

Switched networks: bisection on the makespan over ``GuillotineTables``. Shared networks, where
the sum of all bytes couples the devices: the exact search of ``dissection``, which then keeps
guillotine partitions only, from the best column partition on.
"""

from __future__ import annotations

from nptp_opt.cost import LayerCost
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import LayerResult
from nptp_opt.search import column, multilevel
from nptp_opt.search.bisection import minimise
from nptp_opt.search.family import FamilyRun
from nptp_opt.search.guillotine_tables import GuillotineTables
from nptp_opt.search.subsets import Subsets
from nptp_opt.search.support import Clock, Incumbent

NAME = "guillotine-dp"
MOST_WORK = 5e9
MOST_ENTRIES = 2e8


def affordable(problem: LayerProblem) -> bool:
    """True where one fill of the tables takes seconds, not minutes."""
    subsets = Subsets(tuple(len(group) for group in problem.device_classes))
    units = len(problem.cuts_x)
    fits = subsets.count * 16 * units <= MOST_ENTRIES
    return fits and subsets.split_count * 24 * units <= MOST_WORK


def exact(problem: LayerProblem) -> bool:
    """True where the tables are filled; elsewhere columns and splits have to do."""
    return affordable(problem) and not problem.cluster.shared


def improve(
    cost: LayerCost, best: Incumbent, low_s: float, limits: Limits, clock: Clock
) -> tuple[float, bool]:
    """Improve ``best`` by guillotine partitions; returns (bound on the family, finished)."""
    return minimise(GuillotineTables, cost, best, low_s=low_s, limits=limits, clock=clock)


def guillotine_dp(
    problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints
) -> LayerResult:
    """The registered method."""
    run = FamilyRun(NAME, "guillotine", problem, limits, hints)
    multilevel.improve(run.cost, run.best)
    if exact(problem):
        run.prove(improve)
    elif column.affordable(problem):
        run.improve(column.improve)
    return run.result()
