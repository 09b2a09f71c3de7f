"""Cover: candidate tiles at exact prices, chosen so that they cover the map exactly once.

Sets      devices i; candidates T_i, the tiles that device i can own in a partition no worse than a
          known one of makespan M; vertices v of the cut grid.
Variables x[i,t] = 1 if device i owns tile t; z the makespan; shared networks also k (largest
          compute time) and m (largest latency).
Objective z, in units of M/100.
Rows      for every v: tiles with their top-left or bottom-right corner at v minus those with one of
          the other two corners there, summed over x, equal the same count for the whole map; sum_t
          x[i,t] <= 1; equal devices by falling area. Switched: sum_t price[i,t] x[i,t] <= z.
          Shared: sum bytes x / rate + k + m <= z, sum_t compute[i,t] x[i,t] <= k, waits alike <= m.

The corner rows are the second differences of "every cell is covered once": the same linear system,
but four entries per tile instead of one per cell. As every price is a constant, any cost model
fits. T_i is pruned by the configuration LP: its multipliers y give a tile the price of not being
the device's best one, these prices sum to at most slack(M) in a partition within M, and a tile
that alone exceeds the slack is dropped (design 5's area rule is the case y = area only).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nptp_opt.cost import FloatArray, LayerCost
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, IntArray, Tile
from nptp_opt.methods import Hints, Limits
from nptp_opt.problem import LayerProblem
from nptp_opt.result import LayerResult, Status, Termination
from nptp_opt.search import column, guillotine, multilevel
from nptp_opt.search.bounds import SwitchedBound
from nptp_opt.search.configurations import ConfigurationLP
from nptp_opt.search.corner_fill import Budget, height_windows
from nptp_opt.search.dissection import area_multipliers, budget_of
from nptp_opt.search.family import FamilyRun
from nptp_opt.search.prices import UnitPrices
from nptp_opt.solvers import MilpModel, SolverOutcome, find_milp

NAME = "cover"
MOST_COLUMNS = 80_000
COMPUTE_PRECISION = 2e-3
"""How finely the range of useful compute times is searched, relative to the makespan."""

SLACK = 1e-6
"""Relative accuracy with which a solver's bound is trusted."""


@dataclass(frozen=True)
class Candidates:
    """Tiles by device as unit positions, with exact bytes, compute seconds and messages."""

    device: IntArray
    y0: IntArray
    y1: IntArray
    x0: IntArray
    x1: IntArray
    bytes_: FloatArray
    compute_s: FloatArray
    messages: IntArray
    area: FloatArray

    def __len__(self) -> int:
        return len(self.device)

    def names(self) -> list[str]:
        """Column names, one per candidate."""
        columns = (self.device, self.y0, self.y1, self.x0, self.x1)
        return ["x_" + "_".join(map(str, row)) for row in zip(*columns, strict=True)]


def _positions(contacts: int, low: int, high: int, size: int, units: int) -> range:
    """Starts of ranges of ``size`` units that touch exactly those ends of an axis."""
    if contacts & low:
        return range(1)
    return range(units - size, units - size + 1) if contacts & high else range(1, units - size)


def _shapes(prices: UnitPrices, cls: int, lo: IntArray, hi: IntArray) -> IntArray:
    """All unit rectangles of a class as rows (y0, y1, x0, x1) that its windows allow."""
    rows, cols = prices.rows.units, prices.cols.units
    found = [np.zeros((0, 4), dtype=np.int64)]
    for f, w in zip(*np.nonzero(hi[cls] >= lo[cls]), strict=True):
        xs = np.array(_positions(f, LEFT, RIGHT, w, cols), dtype=np.int64)
        for h in range(lo[cls, f, w], hi[cls, f, w] + 1):
            ys = np.array(_positions(f, TOP, BOTTOM, h, rows), dtype=np.int64)
            y, x = (v.ravel() for v in np.meshgrid(ys, xs))
            found.append(np.stack([y, y + h, x, x + w], axis=1))
    return np.concatenate(found)


def _priced(cost: LayerCost, device: int, shapes: IntArray, value_s: float) -> Candidates:
    """The candidates of one device that fit its memory and, alone, the known makespan."""
    problem, cluster = cost.problem, cost.cluster
    ys, xs = np.array(problem.cuts_y), np.array(problem.cuts_x)
    cut = ys[shapes[:, 0]], ys[shapes[:, 1]], xs[shapes[:, 2]], xs[shapes[:, 3]]
    y0, y1, x0, x1 = cut
    area = ((y1 - y0) * (x1 - x0)).astype(float)
    bytes_ = cost.recv_bytes_of(*cut).astype(float)
    compute = cluster.devices[device].overhead_s + cost.seconds_per_pixel(device) * area
    inner = [y0 > 0, y1 < problem.height, x0 > 0, x1 < problem.width]
    messages = np.sum(inner, axis=0)
    need = cost.tables_y.need[y0, y1] * cost.tables_x.need[x0, x1]
    memory = cost.weight_bytes + cost.pixel_bytes * need + cost.out_pixel_bytes * area
    rate = (
        cluster.network.bytes_per_s if cluster.shared else cluster.devices[device].down_bytes_per_s
    )
    seconds = bytes_ / rate + compute + messages * cluster.network.latency_s
    keep = (memory <= cluster.devices[device].memory_bytes) & (seconds <= value_s * (1 + SLACK))
    columns = (*shapes.T, bytes_, compute, messages, area)
    kept = [column[keep] for column in columns]
    return Candidates(np.full(int(keep.sum()), device), *kept)


def candidates(run: FamilyRun) -> Candidates:
    """Every tile that a partition at least as good as the run's incumbent can use."""
    value = run.best.value_s * (1 + SLACK)
    prices, cap, budgets = _budgets(run, value)
    lo, hi = height_windows(prices.tallest(cap), budgets, prices.rows.units)
    parts = []
    for cls, group in enumerate(prices.members):
        shapes = _shapes(prices, cls, lo, hi)
        parts += [_priced(run.cost, device, shapes, value) for device in group]
    fields = Candidates.__dataclass_fields__
    return Candidates(*(np.concatenate([getattr(p, key) for p in parts]) for key in fields))


def _budgets(run: FamilyRun, value: float) -> tuple[UnitPrices, float, list[Budget]]:
    bound = run.any_bound
    if isinstance(bound, SwitchedBound):
        ys = (bound.lp.multipliers(value), area_multipliers())
        return bound.lp.prices, value, [budget_of(bound.lp, y, value) for y in ys]
    low, cap = bound.compute_range(value, COMPUTE_PRECISION, run.clock)
    send, fits = bound.sends[4].lp, ConfigurationLP(bound.prices)
    ys = (fits.multipliers(cap), area_multipliers())
    budgets = [budget_of(fits, y, cap) for y in ys]
    return bound.prices, cap, [budget_of(send, send.multipliers(cap), cap, value - low), *budgets]


class _Rows:
    """Rows of a sparse matrix under construction."""

    def __init__(self) -> None:
        self.row: list[IntArray] = []
        self.column: list[IntArray] = []
        self.value: list[FloatArray] = []
        self.lo: list[float] = []
        self.hi: list[float] = []
        self.names: list[str] = []

    def add(self, name: str, columns: IntArray, values: FloatArray, lo: float, hi: float) -> None:
        self.row.append(np.full(len(columns), len(self.lo)))
        self.column.append(columns)
        self.value.append(np.asarray(values, dtype=float))
        self.lo.append(lo)
        self.hi.append(hi)
        self.names.append(name)


def add_corner_balance(rows: _Rows, c: Candidates, height: int, width: int) -> None:
    """At every vertex the tiles' corners balance as those of the whole map do."""
    corners = ((c.y0, c.x0, 1.0), (c.y1, c.x1, 1.0), (c.y0, c.x1, -1.0), (c.y1, c.x0, -1.0))
    vertex = np.concatenate([y * (width + 1) + x for y, x, _ in corners])
    column = np.tile(np.arange(len(c)), 4)
    sign = np.repeat([s for _, _, s in corners], len(c))
    order = np.argsort(vertex, kind="stable")
    starts = np.searchsorted(vertex[order], np.arange((height + 1) * (width + 1) + 1))
    for v in range((height + 1) * (width + 1)):
        at = order[starts[v] : starts[v + 1]]
        y, x = divmod(v, width + 1)
        whole = float(y in {0, height} and x in {0, width}) * (1 if (y == 0) == (x == 0) else -1)
        rows.add(f"vertex_{y}_{x}", column[at], sign[at], whole, whole)


def add_one_tile_each(rows: _Rows, c: Candidates, n_devices: int) -> None:
    """Every device owns at most one tile."""
    for i in range(n_devices):
        own = np.flatnonzero(c.device == i)
        rows.add(f"one_{i}", own, np.ones(len(own)), -np.inf, 1.0)


def add_order(rows: _Rows, c: Candidates, problem: LayerProblem) -> None:
    """Equal devices are interchangeable: each has at least the area of the next of its class."""
    for group in problem.device_classes:
        for i, j in itertools.pairwise(group):
            one, two = np.flatnonzero(c.device == i), np.flatnonzero(c.device == j)
            area = np.concatenate([c.area[one], -c.area[two]])
            rows.add(f"order_{i}_{j}", np.concatenate([one, two]), area, 0.0, np.inf)


def add_makespan(rows: _Rows, c: Candidates, cost: LayerCost, unit_s: float) -> int:
    """z covers every device's time; returns the number of columns after the candidates'."""
    cluster, n = cost.cluster, len(c)
    latency = cluster.network.latency_s
    if not cluster.shared:
        for i, device in enumerate(cluster.devices):
            own = np.flatnonzero(c.device == i)
            price: FloatArray = c.bytes_[own] / device.down_bytes_per_s + c.messages[own] * latency
            _add_below(rows, f"time_{i}", own, (price + c.compute_s[own]) / unit_s, n)
        return 1
    sent = np.append(c.bytes_ / cluster.network.bytes_per_s / unit_s, [-1.0, 1.0, 1.0])
    rows.add("phases", np.arange(n + 3), sent, -np.inf, 0.0)
    for i in range(len(cluster.devices)):
        own = np.flatnonzero(c.device == i)
        _add_below(rows, f"compute_{i}", own, c.compute_s[own] / unit_s, n + 1)
        _add_below(rows, f"wait_{i}", own, c.messages[own].astype(float) * latency / unit_s, n + 2)
    return 3


def _add_below(rows: _Rows, name: str, own: IntArray, values: FloatArray, column: int) -> None:
    """sum of values over ``own`` is at most ``column``."""
    rows.add(name, np.append(own, column), np.append(values, -1.0), -np.inf, 0.0)


def build(cost: LayerCost, c: Candidates, unit_s: float, bound_s: float) -> MilpModel:
    """The model of the file's docstring."""
    problem, rows = cost.problem, _Rows()
    add_corner_balance(rows, c, len(problem.cuts_y) - 1, len(problem.cuts_x) - 1)
    add_one_tile_each(rows, c, len(problem.devices))
    add_order(rows, c, problem)
    n, extra = len(c), add_makespan(rows, c, cost, unit_s)
    column = np.concatenate(rows.column).astype(np.int64)
    lengths = [len(part) for part in rows.column]
    unit = np.zeros(n + extra)
    unit[n] = 1.0
    return MilpModel(
        name=NAME,
        objective=unit,
        lo=unit * bound_s / unit_s,
        hi=np.concatenate([np.ones(n), np.full(extra, np.inf)]),
        integer=np.arange(n + extra) < n,
        start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        column=column,
        value=np.concatenate(rows.value),
        row_lo=np.array(rows.lo),
        row_hi=np.array(rows.hi),
        column_names=[*c.names(), *("z", "k", "m")[:extra]],
        row_names=rows.names,
    )


def cover(problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints) -> LayerResult:
    """The registered method: incumbent by the searches, then the exact cover proves or improves."""
    backend = find_milp(solver or "highs")
    backend.require(limits)
    run = FamilyRun(NAME, "dissection", problem, limits, hints)
    start(run)
    if run.closed:
        run.finished = True
        return replace(run.report(), solver=backend.name, notes={"value": run.best.source})
    if run.best.tiles is None:
        return replace(run.report(), solver=backend.name, notes={"reason": "no partition to start"})
    c = candidates(run)
    if len(c) > MOST_COLUMNS:
        reason = f"{len(c)} candidate tiles are more than {MOST_COLUMNS}: the gap is too wide"
        stopped = replace(run.report(), termination=Termination.OTHER_LIMIT)
        return replace(stopped, solver=backend.name, notes={"reason": reason})
    unit = run.best.value_s / 100
    model = build(run.cost, c, unit, run.any_bound_s * (1 - SLACK))
    build_s = run.clock.spent_s
    left = replace(limits, time_limit_s=max(1e-3, run.clock.left_s))
    outcome = backend.solve(model, left, start=_warm(c, model, run.best.tiles, problem))
    result = _read(run, c, outcome, unit)
    return replace(
        result,
        solver=backend.name,
        size=model.size,
        build_s=build_s,
        solve_s=run.clock.spent_s - build_s,
    )


def start(run: FamilyRun) -> None:
    """A good partition to prune with: the hint, the heuristic, then the dynamic programs."""
    run.best.offer(run.hints.start, "start")
    multilevel.improve(run.cost, run.best)
    for method in (column, guillotine):
        affordable = method.affordable(run.cost.problem)
        if affordable and not (method is guillotine and run.cost.cluster.shared):
            before = run.best.value_s
            method.improve(run.cost, run.best, run.any_bound_s, run.limits, run.clock)
            if run.best.value_s < before:
                run.best.source = method.NAME


def _warm(
    c: Candidates, model: MilpModel, tiles: Mapping[int, Tile], problem: LayerProblem
) -> dict[str, float]:
    """The incumbent as column values, equal devices renamed by falling area; may be empty."""
    ys, xs = list(problem.cuts_y), list(problem.cuts_x)
    values = dict.fromkeys(model.column_names[: len(c)], 0.0)
    for group in problem.device_classes:
        own = sorted((tiles[i] for i in group if i in tiles), key=lambda t: -t.area)
        for i, t in zip(group, own, strict=False):
            spot = ys.index(t.y0), ys.index(t.y1), xs.index(t.x0), xs.index(t.x1)
            name = "x_" + "_".join(map(str, (i, *spot)))
            if name not in values:
                return {}
            values[name] = 1.0
    return values


def _read(run: FamilyRun, c: Candidates, outcome: SolverOutcome, unit_s: float) -> LayerResult:
    """Exact price of the better of incumbent and solver's tiles, and the bound that holds."""
    ys, xs = run.cost.problem.cuts_y, run.cost.problem.cuts_x
    if outcome.values is not None:
        chosen = np.flatnonzero(outcome.values[: len(c)] > 0.5)
        tiles = {
            int(c.device[t]): Tile(ys[c.y0[t]], ys[c.y1[t]], xs[c.x0[t]], xs[c.x1[t]])
            for t in chosen
        }
        run.best.offer(tiles, NAME)
    if outcome.bound is not None:
        run.bound_s = max(run.bound_s, outcome.bound * unit_s * (1 - SLACK))
    if outcome.status is Status.INFEASIBLE:
        # Nothing is as good as the incumbent but for rounding in the solver.
        run.bound_s = run.best.value_s * (1 - SLACK)
    run.any_bound_s = run.bound_s
    run.nodes = outcome.nodes
    run.finished = outcome.termination is Termination.COMPLETED
    notes = {**outcome.notes, "value": run.best.source}
    result = replace(run.report(), termination=outcome.termination, notes=notes)
    # The solver's own proof is as good as its tolerance, by which the bound was lowered.
    proven = outcome.status is Status.OPTIMAL and outcome.bound is not None
    if proven and result.gap is not None and result.gap <= run.limits.gap + 3 * SLACK:
        return replace(result, status=Status.OPTIMAL)
    return result
