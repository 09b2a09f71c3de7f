"""Solves a formulation with a back-end and turns the answers into one honest result.

Where the bilinear costs are not exact, a formulation is solved twice: under costs that are never
too low, which finds a partition, and under costs that are never too high, whose bound holds for
the exact ones. ``strip`` has exact costs in its second model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from nptp_opt.cost import LayerCost
from nptp_opt.errors import InfeasibleError, SolverError, unknown_name
from nptp_opt.files import write_text
from nptp_opt.formulations.margins import limits_left, margin
from nptp_opt.formulations.scaled_costs import ScaledCosts
from nptp_opt.geometry import Tile, Tiles, cover_fault
from nptp_opt.layer.families import belongs
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.registry import MethodSpec, find, register
from nptp_opt.layer.result import (
    LayerResult,
    ModelSize,
    Status,
    Termination,
    TracePoint,
    relative_gap,
)
from nptp_opt.search.support import Clock, Incumbent

if TYPE_CHECKING:
    from nptp_opt.formulations.building import BuiltModel
    from nptp_opt.solvers import MilpModel, SolverOutcome

Build = Callable[[ScaledCosts], "BuiltModel"]

BOUND_SHARE = 0.2
"""Share of the time limit that the configuration bound may take."""

FIND_SHARE = 0.6
"""Share of the time limit for the partition where a second solve has to prove it."""

_EXPORTS: dict[str, Callable[[LayerProblem], MilpModel]] = {}
"""How the model of a method is made, for those that can be written as files."""


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
    return tiles if all(cost.fits(i, tile) for i, tile in tiles.items()) else None


def _fits_form(cost: LayerCost, tiles: Tiles) -> bool:
    """True when the tiles fit by the memory form too, so that the models contain them."""
    height, width = cost.problem.height, cost.problem.width
    return all(
        cost.memory_form(tile.contacts(height, width))(tile.width, tile.height)
        <= cost.cluster.devices[i].memory_bytes
        for i, tile in tiles.items()
    )


@dataclass(frozen=True)
class Answer:
    """A solver's outcome in model units, the tiles read from it, and how long it all took."""

    outcome: SolverOutcome
    tiles: Mapping[int, Tile] | None
    size: ModelSize
    build_s: float
    solve_s: float


class Ask(Protocol):
    """Builds and solves the model under given costs, within the time that the clock leaves."""

    def __call__(self, costs: ScaledCosts, start: Tiles | None, clock: Clock) -> Answer: ...


@dataclass
class FormulationRun:
    """One run of a formulation: starts, bound on any partition, one or two solves, the result."""

    spec: MethodSpec
    solver: str
    problem: LayerProblem
    limits: Limits
    hints: Hints
    notes: dict[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Clock(self.limits.time_limit_s)
        self.cost = LayerCost(self.problem)
        self.best = Incumbent(self.cost)
        self.best.offer(usable_start(self.spec, self.problem, self.hints.start), "start")
        if self.hints.start and self.best.tiles is None:
            self.notes["start"] = "not usable by this family"
        self.best.offer_single()
        self.bound_s = self.hints.bound_s or 0.0

    def result(self, ask: Ask) -> LayerResult:
        """Solve and report; raises InfeasibleError and SolverError as ``solve_layer`` does."""
        costs = ScaledCosts.of(self.problem, start=self._form_start(), bound_s=self.hints.bound_s)
        self.unit_s = costs.unit_s
        any_bound_s = self._any_bound(costs)
        exact = self.cost.form_is_exact
        share = 1.0 if exact or not self.limits.prove else FIND_SHARE
        self._ask(ask, costs, Clock(share * self.clock.left_s), proves=exact)
        if not exact:
            self.notes["pricing"] = "found under upper costs; the value is exact"
            self._prove(ask, costs)
        family = max(self.bound_s, any_bound_s or 0.0)
        return self._report(family, family if self.spec.family == "dissection" else any_bound_s)

    def _form_start(self) -> Tiles | None:
        tiles = self.best.tiles
        return tiles if tiles is not None and _fits_form(self.cost, tiles) else None

    def _any_bound(self, costs: ScaledCosts) -> float | None:
        """The configuration bound; also proves that the memory limits leave no partition."""
        if not self.limits.prove:
            return self.hints.bound_s
        from nptp_opt.search.bounds import configuration_bound

        try:
            bound_s = configuration_bound(self.problem, BOUND_SHARE * self.limits.time_limit_s)
        except InfeasibleError:
            raise costs.infeasible(self.spec.family) from None
        return max(bound_s, self.hints.bound_s or 0.0)

    def _prove(self, ask: Ask, costs: ScaledCosts) -> None:
        """Solve under costs that are never too high: their bound holds for the exact ones."""
        needed = self.limits.prove or self.best.tiles is None
        if needed and self.clock.left_s > 0:
            self.notes["bound"] = "second solve, under costs that are never too high"
            self._ask(ask, costs.for_proof(self.best.value_s), self.clock, proves=True)

    def _ask(self, ask: Ask, costs: ScaledCosts, clock: Clock, *, proves: bool) -> None:
        answer = ask(costs, self.best.tiles, clock)
        self.answers.append(answer)
        self.notes |= answer.outcome.notes
        if answer.outcome.status is Status.INFEASIBLE:
            self._infeasible(costs, proves)
            return
        self._check(answer.tiles)
        self.best.offer(answer.tiles, self.spec.name)
        if proves and answer.outcome.bound is not None:
            bound = answer.outcome.bound * costs.unit_s * (1 - margin(self.limits.gap))
            self.bound_s = max(self.bound_s, bound)

    def _infeasible(self, costs: ScaledCosts, proves: bool) -> None:
        if costs.upper_s < math.inf:
            raise SolverError(
                f"solver {self.solver!r} calls a feasible model infeasible: try another"
            )
        if proves:
            raise costs.infeasible(self.spec.family)

    def _check(self, tiles: Tiles | None) -> None:
        if tiles is None:
            return
        fault = cover_fault(tiles.values(), self.problem.height, self.problem.width)
        if fault is None and not belongs(self.spec.family, tiles):
            fault = f"the tiles are no {self.spec.family} partition"
        if fault:
            raise SolverError(
                f"solver {self.solver!r} gave a wrong answer to {self.spec.name!r}: {fault}"
            )

    def _report(self, family_s: float, any_s: float | None) -> LayerResult:
        value = None if self.best.tiles is None else self.best.value_s
        bound, any_bound = (self._proven_bound(b) for b in (family_s, any_s))
        gap = relative_gap(value, bound)
        met = gap is not None and gap <= self.limits.gap
        first = self.answers[0]
        status = Status.OPTIMAL if met else Status.FEASIBLE
        return LayerResult(
            formulation=self.spec.name,
            solver=self.solver,
            status=Status.NO_SOLUTION if value is None else status,
            termination=self._termination(),
            tiles=self.best.tiles,
            makespan_s=value,
            bound_s=bound,
            any_bound_s=any_bound,
            root_bound_s=self._root_bound(),
            nodes=first.outcome.nodes,
            size=first.size,
            build_s=sum(answer.build_s for answer in self.answers),
            solve_s=sum(answer.solve_s for answer in self.answers),
            trace=self._trace(first),
            notes={**self.notes, "value": self.best.source} if value is not None else self.notes,
        )

    def _proven_bound(self, bound: float | None) -> float | None:
        """A bound never above the value; None where only 0 is known."""
        return min(bound, self.best.value_s) if bound else None

    def _termination(self) -> Termination:
        """Why the last solve stopped, or that there was no time for it."""
        unfinished = [a.outcome.termination for a in self.answers]
        proven = self.cost.form_is_exact or len(self.answers) > 1 or not self.limits.prove
        return unfinished[-1] if proven else Termination.TIME_LIMIT

    def _root_bound(self) -> float | None:
        root = self.answers[0].outcome.root_bound
        if root is None or not self.cost.form_is_exact:
            return None
        return self._proven_bound(max(0.0, root * self.unit_s * (1 - margin(self.limits.gap))))

    def _trace(self, answer: Answer) -> tuple[TracePoint, ...]:
        """The solver's trace in seconds from the start of the build; values under its own costs.

        Its bounds are left out where those costs are not exact.
        """
        unit_s, exact = self.unit_s, self.cost.form_is_exact
        return tuple(
            (
                answer.build_s + at_s,
                None if value is None else value * unit_s,
                None if bound is None or not exact else bound * unit_s,
            )
            for at_s, value, bound in answer.outcome.trace
        )


@dataclass(frozen=True)
class _MilpMethod:
    """A registered formulation as ``methods.Method``."""

    spec: MethodSpec
    build: Build
    strips_first: bool

    def __call__(
        self, problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints
    ) -> LayerResult:
        from nptp_opt.solvers import find_milp

        backend = find_milp(solver or self.spec.solvers[0])
        backend.require(limits)
        run = FormulationRun(self.spec, backend.name, problem, limits, hints)
        if self.strips_first and run.best.source != "start":
            run.best.offer(_strips(problem, backend.name, limits), "strips, solved first")

        def ask(costs: ScaledCosts, start: Tiles | None, clock: Clock) -> Answer:
            began = time.perf_counter()
            built = self.build(costs)
            ready = time.perf_counter()
            warm = built.start(start) if start is not None else None
            outcome = backend.solve(built.model, limits_left(limits, clock), start=warm)
            solved = time.perf_counter()
            tiles = _tiles(built, outcome)
            return Answer(outcome, tiles, built.model.size, ready - began, solved - ready)

        return run.result(ask)


def _strips(problem: LayerProblem, solver: str, limits: Limits) -> Tiles | None:
    """The best strips, a partition of every family; None where there are none within the limits.

    They cost a fraction of a second and cut most heights off the larger models. Their second
    solve, at exact costs, is worth its time only where the form costs are not exact.
    """
    _, method = find("strip")
    exact = LayerCost(problem).form_is_exact
    short = replace(limits, time_limit_s=limits.time_limit_s / 4, prove=not exact)
    try:
        return method(problem, solver, short, Hints()).tiles
    except InfeasibleError:
        return None


def _tiles(built: BuiltModel, outcome: SolverOutcome) -> dict[int, Tile] | None:
    if outcome.values is None:
        return None
    names = built.model.column_names
    return built.extract(dict(zip(names, outcome.values.tolist(), strict=True)))


def register_milp(spec: MethodSpec, build: Build, *, strips_first: bool) -> None:
    """Register a formulation as a method and for export.

    ``strips_first`` makes it start from the best strips when it is given no start.
    """
    register_export(spec.name, lambda problem: build(ScaledCosts.of(problem)).model)
    register(spec, _MilpMethod(spec, build, strips_first))


def register_export(name: str, model: Callable[[LayerProblem], MilpModel]) -> None:
    """Let the model of a method be written as MPS and LP."""
    _EXPORTS[name] = model


def build_milp(problem: LayerProblem, formulation: str) -> MilpModel:
    """The matrix of a formulation; raises InputError for one that is no MILP."""
    if formulation not in _EXPORTS:
        raise unknown_name("MILP formulation", formulation, _EXPORTS)
    return _EXPORTS[formulation](problem)


def export_model(
    problem: LayerProblem, formulation: str, path: Path, kind: Literal["mps", "lp"]
) -> None:
    """Write a formulation's model as MPS or LP.

    Raises InputError for a formulation that is no MILP, or a path that cannot be written. The
    objective is in units of 1/100 of the best single device's time (``cover``: of the partition
    that its candidates were pruned with).
    """
    from nptp_opt.solvers.modelfile import model_text

    write_text(path, model_text(build_milp(problem, formulation), kind))
