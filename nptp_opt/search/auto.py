"""``auto``: bound, heuristic, dynamic programs, then exact search under the remaining time.

Also the methods ``multilevel`` (the heuristic alone) and ``dissection-search`` (bound, heuristic
and exact search without the dynamic programs).
"""

from __future__ import annotations

import math
from dataclasses import replace

from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import LayerResult, Status
from nptp_opt.search import column, guillotine, multilevel
from nptp_opt.search.family import FamilyRun, Improve
from nptp_opt.search.support import Clock

DEFAULT_LIMIT_S = 60.0
"""Where no time limit is given, the search stops after this long."""

STEP_SHARE = 0.4
"""Share of the remaining time that one dynamic program may take."""


def auto(problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints) -> LayerResult:
    """The portfolio; ``notes`` say which method gave the value and which the bound."""
    run = _start("auto", problem, limits, hints)
    if not run.closed:
        _dynamic_programs(run, problem)
    return _finish(run)


def dissection_search(
    problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints
) -> LayerResult:
    """Exact search over all dissections from the heuristic's partition on."""
    return _finish(_start("dissection-search", problem, limits, hints))


def multilevel_split(
    problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints
) -> LayerResult:
    """The heuristic, with the configuration bound beside it."""
    run = FamilyRun("multilevel", "guillotine", problem, limits, hints)
    if limits.prove:
        run.seek_bound()
    multilevel.improve(run.cost, run.best)
    run.finished = True
    return run.report()


def _start(name: str, problem: LayerProblem, limits: Limits, hints: Hints) -> FamilyRun:
    if limits.time_limit_s == math.inf:
        limits = replace(limits, time_limit_s=DEFAULT_LIMIT_S)
    run = FamilyRun(name, "dissection", problem, limits, hints)
    if limits.prove:
        run.seek_bound()
    multilevel.improve(run.cost, run.best)
    return run


def _dynamic_programs(run: FamilyRun, problem: LayerProblem) -> None:
    """Column, then guillotine partitions; classes of similar devices where there are too many."""
    steps: list[tuple[str, Improve]] = []
    if column.affordable(problem):
        steps.append((column.NAME, column.improve))
    else:
        steps.append((f"{column.NAME} on pooled devices", column.improve_pooled))
    if guillotine.affordable(problem) and not problem.cluster.shared:
        steps.append((guillotine.NAME, guillotine.improve))
    for name, improve in steps:
        clock = Clock(STEP_SHARE * run.clock.left_s)
        before = run.best.value_s
        run.improve(improve, clock)
        if run.best.value_s < before:
            run.best.source = name
        if run.closed:
            return


def _finish(run: FamilyRun) -> LayerResult:
    before = run.any_bound_s
    result = run.result()
    proven_by = "configuration-bound" if result.bound_s in {None, before} else "dissection-search"
    if result.status is Status.OPTIMAL and proven_by == "configuration-bound":
        proven_by += " (met by the value)"
    notes = {"value": run.best.source, "bound": proven_by}
    return replace(result, notes=notes, any_bound_s=result.bound_s)
