"""Solves a formulation with a back-end and turns the answer into one honest result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nptp_opt.cost import LayerCost
from nptp_opt.errors import InfeasibleError, InputError, SolverError, unknown_name
from nptp_opt.files import write_text
from nptp_opt.formulations.families import belongs
from nptp_opt.formulations.pricing import SLACK, Pricing, Tiles, form_makespan_s
from nptp_opt.geometry import Tile, cover_fault
from nptp_opt.methods import Hints, Limits, MethodSpec, find, register
from nptp_opt.problem import LayerProblem
from nptp_opt.result import (
    LayerResult,
    ModelSize,
    Status,
    TracePoint,
    relative_gap,
)

if TYPE_CHECKING:
    from nptp_opt.formulations.building import BuiltModel
    from nptp_opt.solvers import MilpModel, SolverOutcome

Build = Callable[[Pricing], "BuiltModel"]

_BUILDS: dict[str, tuple[MethodSpec, Build]] = {}


def usable_start(spec: MethodSpec, problem: LayerProblem, start: Tiles | None) -> Tiles | None:
    """``start`` where it is a partition of the family that keeps to cuts and memory, else None."""
    if start is None:
        return None
    cost = LayerCost(problem)
    tiles = {i: tile for i, tile in start.items() if not tile.is_empty}
    if cover_fault(tiles.values(), problem.height, problem.width):
        return None
    aligned = all(
        {t.y0, t.y1} <= {*problem.cuts_y} and {t.x0, t.x1} <= {*problem.cuts_x}
        for t in tiles.values()
    )
    known = all(0 <= i < len(problem.devices) for i in tiles)
    if not (aligned and known and belongs(spec.family, tiles)):
        return None
    return tiles if all(_fits(cost, i, tile) for i, tile in tiles.items()) else None


def _fits(cost: LayerCost, device: int, tile: Tile) -> bool:
    contacts = tile.contacts(cost.problem.height, cost.problem.width)
    used = cost.memory_form(contacts)(tile.width, tile.height)
    return used <= cost.cluster.devices[device].memory_bytes


@dataclass(frozen=True)
class Answer:
    """A solver's outcome in model units, the tiles read from it, and how long it all took."""

    outcome: SolverOutcome
    tiles: Mapping[int, Tile] | None
    size: ModelSize
    build_s: float
    solve_s: float
    notes: Mapping[str, str]


def finish(
    spec: MethodSpec,
    solver: str,
    pricing: Pricing,
    limits: Limits,
    answer: Answer,
    start: Tiles | None,
) -> LayerResult:
    """The result: exact price, bound in seconds, and a status that the two support.

    Raises InfeasibleError when the memory limits leave no partition, SolverError when the solver's
    answer is no partition.
    """
    outcome = answer.outcome
    if outcome.status is Status.INFEASIBLE:
        if pricing.upper_s < math.inf:
            raise SolverError(f"solver {solver!r} calls a feasible model infeasible: try another")
        raise pricing.infeasible(spec.family)
    tiles, notes = _best(pricing, answer, start)
    _check(pricing, spec, solver, tiles)
    value = None if tiles is None else pricing.cost.makespan_s(tiles)
    bound, any_bound = _bounds(spec, pricing, outcome.bound, value)
    root, _ = _bounds(spec, replace(pricing, lower_s=0.0), outcome.root_bound, value)
    return LayerResult(
        formulation=spec.name,
        solver=solver,
        status=_status(pricing, limits, outcome, tiles, relative_gap(value, bound)),
        termination=outcome.termination,
        tiles=tiles,
        makespan_s=value,
        bound_s=bound,
        any_bound_s=any_bound,
        root_bound_s=root,
        nodes=outcome.nodes,
        size=answer.size,
        build_s=answer.build_s,
        solve_s=answer.solve_s,
        trace=_trace(pricing, answer),
        notes=notes,
    )


def _trace(pricing: Pricing, answer: Answer) -> tuple[TracePoint, ...]:
    """The solver's trace in seconds from the start of the build; values under its own prices."""
    unit_s = pricing.unit_s
    return tuple(
        (
            answer.build_s + at_s,
            None if value is None else value * unit_s,
            None if bound is None else bound * unit_s,
        )
        for at_s, value, bound in answer.outcome.trace
    )


def _best(
    pricing: Pricing, answer: Answer, start: Tiles | None
) -> tuple[Mapping[int, Tile] | None, dict[str, str]]:
    """The cheaper of the solver's tiles and the start, by exact price."""
    notes = {**answer.notes, **answer.outcome.notes}
    if not pricing.cost.form_is_exact:
        notes["pricing"] = "optimised under the upper prices of design 4; the value is exact"
    price = pricing.cost.makespan_s
    if start is not None and (answer.tiles is None or price(start) < price(answer.tiles)):
        return start, {**notes, "value": "the start"}
    return answer.tiles, notes


def _check(
    pricing: Pricing, spec: MethodSpec, solver: str, tiles: Mapping[int, Tile] | None
) -> None:
    if tiles is None:
        return
    fault = cover_fault(tiles.values(), pricing.problem.height, pricing.problem.width)
    if fault is None and not all(pricing.cost.fits(i, tile) for i, tile in tiles.items()):
        fault = "a memory limit is exceeded"
    if fault is None and not belongs(spec.family, tiles):
        fault = f"the tiles are no {spec.family} partition"
    if fault:
        raise SolverError(f"solver {solver!r} gave a wrong answer to {spec.name!r}: {fault}")


def _bounds(
    spec: MethodSpec, pricing: Pricing, bound: float | None, value: float | None
) -> tuple[float | None, float | None]:
    """Seconds that no partition of the family, and none of any family, can beat."""
    known = pricing.lower_s or None
    family = known
    if bound is not None and pricing.cost.form_is_exact:
        family = max(bound * pricing.unit_s * (1 - SLACK), pricing.lower_s)
    if family is not None and value is not None:
        family = min(family, value)
    return family, family if spec.family == "dissection" else known


def _status(
    pricing: Pricing,
    limits: Limits,
    outcome: SolverOutcome,
    tiles: Tiles | None,
    gap: float | None,
) -> Status:
    """Optimal only where value and bound say so, whatever the solver calls it."""
    if tiles is None:
        return Status.NO_SOLUTION
    if gap is not None and gap <= limits.gap:
        return Status.OPTIMAL
    if outcome.status is not Status.OPTIMAL or outcome.bound is None:
        return Status.FEASIBLE
    form_gap = relative_gap(
        form_makespan_s(pricing.cost, tiles), outcome.bound * pricing.unit_s * (1 - SLACK)
    )
    assert form_gap is not None
    return Status.OPTIMAL if form_gap <= limits.gap + 3 * SLACK else Status.FEASIBLE


def remaining(limits: Limits, build_s: float) -> Limits:
    """The limits that are left to the solver once the model is built."""
    if math.isinf(limits.time_limit_s):
        return limits
    return replace(limits, time_limit_s=max(1e-3, limits.time_limit_s - build_s))


@dataclass(frozen=True)
class _MilpMethod:
    """A registered formulation as ``methods.Method``."""

    spec: MethodSpec
    build: Build
    strips_first: bool

    def __call__(
        self, problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints
    ) -> LayerResult:
        from nptp_opt.solvers import find_milp, from_pulp

        backend = find_milp(solver or self.spec.solvers[0])
        backend.require(limits)
        began = time.perf_counter()
        start = usable_start(self.spec, problem, hints.start)
        notes = {} if start or not hints.start else {"start": "not usable by this family"}
        if start is None and self.strips_first:
            start = _strips(problem, backend.name, limits)
            notes["start"] = "strips, solved first"
        pricing = Pricing.of(problem, start=start, bound_s=hints.bound_s)
        built = self.build(pricing)
        model = from_pulp(built.problem)
        ready = time.perf_counter()
        warm = built.start(start) if start is not None else None
        outcome = backend.solve(model, remaining(limits, ready - began), start=warm)
        tiles = _tiles(model, built, outcome)
        solved = time.perf_counter()
        answer = Answer(outcome, tiles, model.size, ready - began, solved - ready, notes)
        return finish(self.spec, backend.name, pricing, limits, answer, start)


def _strips(problem: LayerProblem, solver: str, limits: Limits) -> Tiles | None:
    """The best strips, a partition of every family; None where there are none within the limits.

    They cost a fraction of a second and cut most heights off the larger models.
    """
    _, method = find("strip")
    short = replace(limits, time_limit_s=limits.time_limit_s / 4)
    try:
        return method(problem, solver, short, Hints()).tiles
    except InfeasibleError:
        return None


def _tiles(model: MilpModel, built: BuiltModel, outcome: SolverOutcome) -> dict[int, Tile] | None:
    if outcome.values is None:
        return None
    return built.extract(dict(zip(model.column_names, outcome.values.tolist(), strict=True)))


def register_milp(spec: MethodSpec, build: Build, *, strips_first: bool) -> None:
    """Register a PuLP formulation as a method and for export.

    ``strips_first`` makes it start from the best strips when it is given no start.
    """
    _BUILDS[spec.name] = (spec, build)
    register(spec, _MilpMethod(spec, build, strips_first))


def build_milp(problem: LayerProblem, formulation: str) -> MilpModel:
    """The matrix of a formulation; raises InputError for one that is no MILP."""
    from nptp_opt.solvers import from_pulp

    if formulation not in _BUILDS:
        raise unknown_name("MILP formulation", formulation, _BUILDS)
    _, build = _BUILDS[formulation]
    return from_pulp(build(Pricing.of(problem)).problem)


def export_model(problem: LayerProblem, formulation: str, path: Path) -> None:
    """Write a formulation's model as MPS or LP, as the suffix of ``path`` says.

    Raises InputError for another suffix, a formulation that is no MILP, or a path that cannot be
    written. The objective is in units of 1/100 of the best single device's time.
    """
    from nptp_opt.solvers.modelfile import to_lp, to_mps

    writers = {".mps": to_mps, ".lp": to_lp}
    if path.suffix not in writers:
        raise InputError(f"{path}: a model file must end in .mps or .lp")
    write_text(path, writers[path.suffix](build_milp(problem, formulation)))
