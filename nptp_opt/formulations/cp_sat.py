"""Any rectangles in CP-SAT: intervals that do not overlap, products, scaled integer costs.

Sets      devices i; contacts k (sets of sides at the border).
Variables x0, x1, y0, y1 of every device over the allowed cuts; width, height and area (a
          product); c[i,k] = 1 if device i has a tile with contacts k (none: no tile).
Objective the makespan in units of 1 / S of a model unit.
Rows      at most one c[i,k] per device; the rectangles do not overlap (no-overlap-2D); the areas
          sum to H W; a tile is at the border exactly on the sides of its k; each corner is in one
          tile; c[i,k] implies time >= cost_k(area, height, width) and memory_k <= limit; equal
          devices by falling area.

Every cost coefficient is rounded down to a multiple of 1 / S. Area, height and width are never
negative, so a rounded cost never exceeds the true one: the solver's bound divided by S is a bound
of the makespan under those costs. S is chosen so that all roundings together stay below 1e-8 of a
whole-map time. Memory is in bytes, which are whole.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ortools.sat.python import cp_model

from nptp_opt.cost import Form, messages_of
from nptp_opt.formulations.building import order_equal_devices
from nptp_opt.formulations.margins import limits_left
from nptp_opt.formulations.run import Answer, FormulationRun
from nptp_opt.formulations.scaled_costs import ScaledCosts
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, Tile, Tiles
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.registry import MethodSpec
from nptp_opt.layer.result import LayerResult, ModelSize
from nptp_opt.search.support import Clock
from nptp_opt.solvers import SolverOutcome
from nptp_opt.solvers.cpsat import CpSat


@dataclass(frozen=True)
class Rectangle:
    """The variables of one device's tile."""

    y0: Any
    y1: Any
    x0: Any
    x1: Any
    height: Any
    width: Any
    area: Any
    contacts: Mapping[int, Any]

    @property
    def sides(self) -> tuple[Any, Any, Any, Any]:
        return self.y0, self.y1, self.x0, self.x1


class Model:
    """The CP-SAT model of one problem."""

    def __init__(self, costs: ScaledCosts) -> None:
        self.costs = costs
        problem = costs.problem
        self.elements = problem.height * problem.width
        self.scale = 1e8 * self.elements / 100
        self.cp = cp_model.CpModel()
        self.boxes = [self._rectangle(i) for i in costs.devices]
        self._add_partition()
        self._add_order()
        self._add_memory()
        self._add_makespan()

    def _rectangle(self, i: int) -> Rectangle:
        problem, cp = self.costs.problem, self.cp
        cuts_y = cp_model.Domain.from_values(problem.cuts_y)
        cuts_x = cp_model.Domain.from_values(problem.cuts_x)
        box = Rectangle(
            y0=cp.new_int_var_from_domain(cuts_y, f"y0_{i}"),
            y1=cp.new_int_var_from_domain(cuts_y, f"y1_{i}"),
            x0=cp.new_int_var_from_domain(cuts_x, f"x0_{i}"),
            x1=cp.new_int_var_from_domain(cuts_x, f"x1_{i}"),
            height=cp.new_int_var(0, problem.height, f"height_{i}"),
            width=cp.new_int_var(0, problem.width, f"width_{i}"),
            area=cp.new_int_var(0, self.elements, f"area_{i}"),
            contacts={k: cp.new_bool_var(f"contacts_{i}_{k}") for k in range(16)},
        )
        cp.add(box.height == box.y1 - box.y0)
        cp.add(box.width == box.x1 - box.x0)
        cp.add_multiplication_equality(box.area, [box.height, box.width])
        cp.add_at_most_one(box.contacts.values())
        self._add_contacts(box)
        return box

    def _add_contacts(self, box: Rectangle) -> None:
        """A tile is at the border exactly on the sides of its contacts; no contacts, no tile."""
        problem = self.costs.problem
        ends = (
            (TOP, box.y0, 0),
            (BOTTOM, box.y1, problem.height),
            (LEFT, box.x0, 0),
            (RIGHT, box.x1, problem.width),
        )
        for contacts, choice in box.contacts.items():
            for side, variable, end in ends:
                at = variable == end if contacts & side else variable != end
                self.cp.add(at).only_enforce_if(choice)
            self.cp.add(box.area >= 1).only_enforce_if(choice)
        idle = [~choice for choice in box.contacts.values()]
        for variable in box.sides:
            self.cp.add(variable == 0).only_enforce_if(idle)

    def _add_partition(self) -> None:
        """No overlap, areas that sum to the map's, one tile at each corner."""
        spans = [
            (
                self.cp.new_interval_var(box.x0, box.width, box.x1, f"span_x_{i}"),
                self.cp.new_interval_var(box.y0, box.height, box.y1, f"span_y_{i}"),
            )
            for i, box in enumerate(self.boxes)
        ]
        self.cp.add_no_overlap_2d([x for x, _ in spans], [y for _, y in spans])
        self.cp.add(sum(box.area for box in self.boxes) == self.elements)
        for corner in (TOP | LEFT, TOP | RIGHT, BOTTOM | LEFT, BOTTOM | RIGHT):
            at = [
                choice
                for box in self.boxes
                for k, choice in box.contacts.items()
                if k & corner == corner
            ]
            self.cp.add_exactly_one(at)

    def _add_order(self) -> None:
        """Equal devices by falling area."""
        for group in self.costs.problem.device_classes:
            for i, j in itertools.pairwise(group):
                self.cp.add(self.boxes[i].area >= self.boxes[j].area)

    def _add_memory(self) -> None:
        """Weights, need and output of a tile fit its device."""
        for device, box in zip(self.costs.problem.devices, self.boxes, strict=True):
            limit = device.memory_bytes
            for contacts, choice in box.contacts.items() if limit < math.inf else ():
                form = self.costs.cost.memory_form(contacts, lower=self.costs.below)
                used = _linear(form, box, round)
                self.cp.add(used <= math.floor(limit)).only_enforce_if(choice)

    def _cost(self, form: Form, box: Rectangle) -> Any:
        return _linear(form, box, lambda c: math.floor(c * self.scale))

    def _amount(self, name: str) -> Any:
        return self.cp.new_int_var(0, self._most, name)

    @property
    def _most(self) -> int:
        """No cost is above this: the known makespan, or the slowest device with the whole map."""
        problem, costs = self.costs.problem, self.costs
        full = max(
            costs.time(i, k)(problem.width, problem.height)
            for i in costs.devices
            for k in range(16)
        )
        return math.ceil(min(costs.upper, full * len(costs.devices)) * self.scale) + 1

    def _add_makespan(self) -> None:
        lower = math.floor(self.costs.lower * self.scale)
        makespan = self.cp.new_int_var(min(lower, self._most), self._most, "makespan")
        if self.costs.cost.cluster.shared:
            self._add_shared(makespan)
        else:
            for i, box in enumerate(self.boxes):
                for contacts, choice in box.contacts.items():
                    cost = self._cost(self.costs.time(i, contacts), box)
                    self.cp.add(cost <= makespan).only_enforce_if(choice)
        self.cp.minimize(makespan)

    def _add_shared(self, makespan: Any) -> None:
        """All bytes, then the largest wait, then the largest compute time."""
        compute, wait = self._amount("compute"), self._amount("wait")
        sent = [self._amount(f"sent_{i}") for i in self.costs.devices]
        self.cp.add(sum(sent) + wait + compute <= makespan)
        for i, box in enumerate(self.boxes):
            work = self._cost(self.costs.compute(i), box)
            for contacts, choice in box.contacts.items():
                waits = math.floor(self.costs.message * messages_of(contacts) * self.scale)
                self.cp.add(work <= compute).only_enforce_if(choice)
                self.cp.add(wait >= waits).only_enforce_if(choice)
                cost = self._cost(self.costs.recv(contacts), box)
                self.cp.add(cost <= sent[i]).only_enforce_if(choice)

    def hint(self, tiles: Tiles) -> None:
        """Start the search from a partition."""
        problem = self.costs.problem
        for i, box in enumerate(self.boxes):
            tile = tiles.get(i, Tile(0, 0, 0, 0))
            sides = (tile.y0, tile.y1, tile.x0, tile.x1)
            for variable, value in zip(box.sides, sides, strict=True):
                self.cp.add_hint(variable, value)
            contacts = None if tile.is_empty else tile.contacts(problem.height, problem.width)
            for k, choice in box.contacts.items():
                self.cp.add_hint(choice, k == contacts)

    @property
    def watched(self) -> list[Any]:
        return [side for box in self.boxes for side in box.sides]

    def tiles(self, outcome: SolverOutcome) -> dict[int, Tile] | None:
        """Tiles of the solver's answer; None without one."""
        if outcome.values is None:
            return None
        sides = outcome.values.astype(int).reshape(-1, 4).tolist()
        tiles = {i: Tile(*four) for i, four in enumerate(sides)}
        return {i: tile for i, tile in tiles.items() if not tile.is_empty}

    @property
    def size(self) -> ModelSize:
        proto = self.cp.proto
        n = len(proto.variables)
        return ModelSize(rows=len(proto.constraints), columns=n, nonzeros=None, integers=n)


def _linear(form: Form, box: Rectangle, whole: Any) -> Any:
    return (
        whole(form.wh) * box.area
        + whole(form.h) * box.height
        + whole(form.w) * box.width
        + whole(form.const)
    )


def _in_units(outcome: SolverOutcome, scale: float) -> SolverOutcome:
    value = None if outcome.value is None else outcome.value / scale
    bound = None if outcome.bound is None else outcome.bound / scale
    trace = tuple(
        (at, None if v is None else v / scale, None if b is None else b / scale)
        for at, v, b in outcome.trace
    )
    return replace(outcome, value=value, bound=bound, trace=trace)


def solve(spec: MethodSpec, problem: LayerProblem, limits: Limits, hints: Hints) -> LayerResult:
    """Solve ``problem`` with CP-SAT; see ``methods.Method`` for what is returned and raised."""
    backend = CpSat()
    backend.require(limits)

    def ask(costs: ScaledCosts, start: Tiles | None, clock: Clock) -> Answer:
        began = time.perf_counter()
        model = Model(costs)
        if start is not None:
            model.hint(order_equal_devices(problem, start))
        ready = time.perf_counter()
        outcome = backend.solve(model.cp, limits_left(limits, clock), model.watched)
        return Answer(
            outcome=_in_units(outcome, model.scale),
            tiles=model.tiles(outcome),
            size=model.size,
            build_s=ready - began,
            solve_s=time.perf_counter() - ready,
        )

    run = FormulationRun(spec, backend.name, problem, limits, hints)
    return run.result(ask)
