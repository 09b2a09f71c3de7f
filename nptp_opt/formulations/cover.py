"""Cover: candidate tiles at exact costs, chosen so that they cover the map exactly once.

Sets      devices i; candidates T_i, the tiles that device i can own in a partition no worse than a
          known one of makespan M; vertices v of the cut grid.
Variables x[i,t] = 1 if device i owns tile t; z the makespan; shared networks also k (largest
          compute time) and m (largest latency).
Objective z, in units of M/100.
Rows      for every v: tiles with their top-left or bottom-right corner at v minus those with one of
          the other two corners there, summed over x, equal the same count for the whole map; sum_t
          x[i,t] <= 1; equal devices by falling area. Switched: sum_t cost[i,t] x[i,t] <= z.
          Shared: sum bytes x / rate + k + m <= z, sum_t compute[i,t] x[i,t] <= k, waits alike <= m.

The corner rows are the second differences of "every cell is covered once": the same linear system,
but four entries per tile instead of one per cell. As every cost is a constant, any cost model
fits. T_i is pruned by the configuration LP: its multipliers y give a tile the cost of not being
the device's best one, these costs sum to at most slack(M) in a partition within M, and a tile
that alone exceeds the slack is dropped. (With y = area only that says: a tile of device i has at
least maxarea_i(M) - (sum_j maxarea_j(M) - H W) pixels.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nptp_opt.errors import InfeasibleError
from nptp_opt.formulations.exact_cover import Candidates, build_model, device_candidates, warm_start
from nptp_opt.formulations.margins import limits_left, margin
from nptp_opt.formulations.scaled_costs import SLACK
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, IntArray
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import LayerResult, Status, Termination
from nptp_opt.search import column, guillotine, multilevel
from nptp_opt.search.bounds import SwitchedBound
from nptp_opt.search.configurations import ConfigurationLP
from nptp_opt.search.corner_fill import Budget, height_windows
from nptp_opt.search.dissection import area_multipliers, budget_of
from nptp_opt.search.family import FamilyRun
from nptp_opt.search.unit_costs import UnitCosts
from nptp_opt.solvers import MilpModel, SolverOutcome, find_milp

NAME = "cover"
MOST_COLUMNS = 80_000
COMPUTE_PRECISION = 2e-3
"""How finely the range of useful compute times is searched, relative to the makespan."""


def _positions(contacts: int, low: int, high: int, size: int, units: int) -> range:
    """Starts of ranges of ``size`` units that touch exactly those ends of an axis."""
    if contacts & low:
        return range(1)
    return range(units - size, units - size + 1) if contacts & high else range(1, units - size)


def _shapes(costs: UnitCosts, cls: int, lo: IntArray, hi: IntArray) -> IntArray:
    """All unit rectangles of a class as rows (y0, y1, x0, x1) that its windows allow."""
    rows, cols = costs.rows.units, costs.cols.units
    rectangles = [np.zeros((0, 4), dtype=np.int64)]
    for f, w in zip(*np.nonzero(hi[cls] >= lo[cls]), strict=True):
        xs = np.array(_positions(f, LEFT, RIGHT, w, cols), dtype=np.int64)
        for h in range(lo[cls, f, w], hi[cls, f, w] + 1):
            ys = np.array(_positions(f, TOP, BOTTOM, h, rows), dtype=np.int64)
            y, x = (v.ravel() for v in np.meshgrid(ys, xs))
            rectangles.append(np.stack([y, y + h, x, x + w], axis=1))
    return np.concatenate(rectangles)


def candidates(run: FamilyRun) -> Candidates:
    """Every tile that a partition at least as good as the run's incumbent can use."""
    value = run.best.value_s * (1 + SLACK)
    costs, cap, budgets = _budgets(run, value)
    lo, hi = height_windows(costs.tallest(cap), budgets, costs.rows.units)
    parts = []
    for cls, group in enumerate(costs.members):
        shapes = _shapes(costs, cls, lo, hi)
        parts += [device_candidates(run.cost, device, shapes, value) for device in group]
    return Candidates.join(parts)


def _budgets(run: FamilyRun, value: float) -> tuple[UnitCosts, float, list[Budget]]:
    bound = run.any_bound
    if isinstance(bound, SwitchedBound):
        ys = (bound.lp.multipliers(value), area_multipliers())
        return bound.lp.costs, value, [budget_of(bound.lp, y, value) for y in ys]
    low, cap = bound.compute_range(value, COMPUTE_PRECISION, run.clock)
    send, fits = bound.sends[4].lp, ConfigurationLP(bound.costs)
    ys = (fits.multipliers(cap), area_multipliers())
    budgets = [budget_of(fits, y, cap) for y in ys]
    return bound.costs, cap, [budget_of(send, send.multipliers(cap), cap, value - low), *budgets]


def cover(problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints) -> LayerResult:
    """The registered method: incumbent by the searches, then the exact cover proves or improves."""
    backend = find_milp(solver or "highs")
    backend.require(limits)
    run = FamilyRun(NAME, "dissection", problem, limits, hints)
    run.seek_bound()
    start(run)
    if run.closed or run.best.tiles is None:
        run.finished = run.closed
        notes = {"value": run.best.source} if run.closed else {"reason": "no partition to start"}
        return replace(run.report(), solver=backend.name, notes=notes)
    c = candidates(run)
    if len(c) > MOST_COLUMNS:
        reason = f"{len(c)} candidate tiles are more than {MOST_COLUMNS}: the gap is too wide"
        stopped = replace(run.report(), termination=Termination.OTHER_LIMIT)
        return replace(stopped, solver=backend.name, notes={"reason": reason})
    unit = run.best.value_s / 100
    lowest = run.bound_s * (1 - margin(limits.gap))
    model = build_model(run.cost, c, unit_s=unit, bound_s=lowest)
    build_s = run.clock.spent_s
    warm = warm_start(c, model, run.best.tiles, problem)
    outcome = backend.solve(model, limits_left(limits, run.clock), start=warm)
    result = _read(run, c, outcome, unit)
    return replace(
        result,
        solver=backend.name,
        size=model.size,
        build_s=build_s,
        solve_s=run.clock.spent_s - build_s,
    )


def cover_model(problem: LayerProblem) -> MilpModel:
    """The model that ``cover`` solves, for export; raises InfeasibleError as ``cover`` does."""
    run = FamilyRun(NAME, "dissection", problem, Limits(), Hints())
    run.seek_bound()
    start(run)
    if run.best.tiles is None:
        raise InfeasibleError(
            f"{problem.name}: no partition was found to prune the candidates of 'cover' with; "
            "raise memory_mib or export another formulation"
        )
    unit = run.best.value_s / 100
    return build_model(run.cost, candidates(run), unit_s=unit, bound_s=run.bound_s)


def start(run: FamilyRun) -> None:
    """A good partition to prune with: the heuristic, then the dynamic programs."""
    multilevel.improve(run.cost, run.best)
    for method in (column, guillotine):
        affordable = method.affordable(run.cost.problem)
        if affordable and not (method is guillotine and run.cost.cluster.shared):
            before = run.best.value_s
            run.improve(method.improve)
            if run.best.value_s < before:
                run.best.source = method.NAME


def _read(run: FamilyRun, c: Candidates, outcome: SolverOutcome, unit_s: float) -> LayerResult:
    """Exact cost of the better of incumbent and solver's tiles, and the bound that holds."""
    trusted = 1 - margin(run.limits.gap)
    if outcome.values is not None:
        run.best.offer(c.tiles(run.cost.problem, outcome.values), NAME)
    if outcome.bound is not None:
        run.bound_s = max(run.bound_s, outcome.bound * unit_s * trusted)
    if outcome.status is Status.INFEASIBLE:
        # Nothing is as good as the incumbent but for rounding in the solver.
        run.bound_s = run.best.value_s * trusted
    run.any_bound_s = run.bound_s
    run.nodes = outcome.nodes
    run.finished = outcome.termination is Termination.COMPLETED
    notes = {**outcome.notes, "value": run.best.source}
    return replace(run.report(), termination=outcome.termination, notes=notes)
