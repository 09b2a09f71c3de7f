"""The parts that PuLP formulations share: rows, pieces, the makespan, order among equal devices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulp

from nptp_opt.cost import Form, messages_of
from nptp_opt.formulations.scaled_costs import Config, ScaledCosts
from nptp_opt.geometry import Tile, Tiles
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.solvers import MilpModel, from_pulp

Term = tuple[float, Any]
Terms = list[Term]

_SENSES = {
    "<=": pulp.LpConstraintLE,
    "==": pulp.LpConstraintEQ,
    ">=": pulp.LpConstraintGE,
}


class Builder:
    """A PuLP minimisation under construction."""

    def __init__(self, name: str) -> None:
        self.problem = pulp.LpProblem(name, pulp.LpMinimize)

    def binary(self, name: str) -> Any:
        return self.problem.add_variable(name, 0, 1, pulp.LpInteger)

    def integer(self, name: str, lo: float, hi: float) -> Any:
        return self.problem.add_variable(name, lo, hi, pulp.LpInteger)

    def real(self, name: str, lo: float = 0.0, hi: float | None = None) -> Any:
        return self.problem.add_variable(name, lo, hi)

    def row(self, name: str, terms: Iterable[Term], sense: str, rhs: float = 0.0) -> None:
        """Add ``sum of coefficient * variable (sense) rhs``; a variable may appear repeatedly."""
        merged: dict[Any, float] = {}
        for coefficient, variable in terms:
            merged[variable] = merged.get(variable, 0.0) + coefficient
        body = pulp.LpAffineExpression(merged)
        self.problem.addConstraint(pulp.LpConstraint(body, _SENSES[sense], name, rhs))

    def model(self) -> MilpModel:
        """The model's arrays."""
        return from_pulp(self.problem)


def total(variables: Iterable[Any], factor: float = 1.0) -> Terms:
    """``factor`` times the sum of the variables."""
    return [(factor, variable) for variable in variables]


def times(factor: float, terms: Iterable[Term]) -> Terms:
    """``factor`` times the terms."""
    return [(factor * coefficient, variable) for coefficient, variable in terms]


@dataclass(frozen=True)
class Piece:
    """A device's tile with known contacts and width: ``height`` is 0 unless ``select`` is 1."""

    view: ScaledCosts
    device: int
    config: Config
    select: Any
    height: Any

    @property
    def contacts(self) -> int:
        return self.config.contacts

    @property
    def width(self) -> int:
        return self.config.width

    def cost(self, form: Form) -> Terms:
        """``form`` of the tile, 0 unless selected: linear as the width is known."""
        return [
            (form.w * self.width + form.const, self.select),
            (form.wh * self.width + form.h, self.height),
        ]


def new_piece(b: Builder, view: ScaledCosts, device: int, config: Config, *, key: str) -> Piece:
    """A piece whose height lies between the least and the most that the configuration allows."""
    label = f"{key}_d{device}_k{config.contacts}_w{config.width}"
    select = b.real(f"sel_{label}", 0.0, 1.0)
    height = b.real(f"h_{label}", 0.0, config.most)
    if config.least == config.most:
        b.row(f"hfix_{label}", [(1.0, height), (-config.most, select)], "==")
    else:
        b.row(f"hmax_{label}", [(1.0, height), (-config.most, select)], "<=")
        b.row(f"hmin_{label}", [(1.0, height), (-config.least, select)], ">=")
    return Piece(view, device, config, select, height)


def on_cuts(
    b: Builder, view: ScaledCosts, pieces: Sequence[Piece], bottom: int, *, key: str
) -> None:
    """The chosen height spans a whole number of cut steps, the map's remainder at the bottom."""
    cuts = view.problem.cuts_y
    step, steps = view.problem.cut_step, len(cuts) - 1
    rest = step * steps - cuts[-1]
    count = b.integer(f"steps_{key}", 0, steps)
    terms: Terms = [(-step, count), *total(p.height for p in pieces)]
    terms += total((p.select for p in pieces if p.contacts & bottom), rest)
    b.row(f"steps_{key}", terms, "==")


def add_makespan(b: Builder, costs: ScaledCosts, pieces: Sequence[Piece]) -> None:
    """The objective: the largest comm + compute, or comm + the largest compute (shared)."""
    of = {i: [p for p in pieces if p.device == i] for i in costs.devices}
    switched = not costs.cost.cluster.shared
    upper = costs.upper if costs.upper < float("inf") else None
    makespan = b.real("makespan", costs.lower, upper)
    b.problem.setObjective(pulp.LpAffineExpression(makespan))
    if switched:
        for i, own in of.items():
            terms = [t for p in own for t in p.cost(p.view.time(i, p.contacts))]
            b.row(f"time_{i}", [*terms, (-1.0, makespan)], "<=")
        return
    compute, wait = b.real("compute"), b.real("wait")
    sent = [t for p in pieces for t in p.cost(p.view.recv(p.contacts))]
    b.row("phases", [*sent, (1.0, wait), (1.0, compute), (-1.0, makespan)], "<=")
    for i, own in of.items():
        terms = [t for p in own for t in p.cost(p.view.compute(i))]
        b.row(f"compute_{i}", [*terms, (-1.0, compute)], "<=")
        waits = [(costs.message * messages_of(p.contacts), p.select) for p in own]
        b.row(f"wait_{i}", [*waits, (-1.0, wait)], "<=")


def add_one_tile_each(b: Builder, costs: ScaledCosts, pieces: Sequence[Piece]) -> None:
    """Every device takes at most one tile."""
    for i in costs.devices:
        b.row(f"one_{i}", total(p.select for p in pieces if p.device == i), "<=", 1)


def add_order(b: Builder, problem: LayerProblem, area: Callable[[int], Terms]) -> None:
    """Equal devices are interchangeable: each has at least the area of the next of its class."""
    for group in problem.device_classes:
        for i, j in itertools.pairwise(group):
            b.row(f"order_{i}_{j}", [*area(i), *times(-1.0, area(j))], ">=")


def area_of(pieces: Sequence[Piece]) -> Callable[[int], Terms]:
    """Area of a device's tile over all its pieces."""
    return lambda i: [(float(p.width), p.height) for p in pieces if p.device == i]


def order_equal_devices(problem: LayerProblem, tiles: Tiles) -> dict[int, Tile]:
    """The same partition with equal devices renamed so that ``add_order`` holds."""
    renamed: dict[int, Tile] = {}
    for group in problem.device_classes:
        own = sorted((tiles[i] for i in group if i in tiles), key=lambda t: -t.area)
        renamed.update(zip(group, own, strict=False))
    return {i: tile for i, tile in renamed.items() if not tile.is_empty}


@dataclass(frozen=True)
class BuiltModel:
    """A formulation's model, with the ways from its columns to tiles and back.

    ``start`` gives values for some columns from a partition of the family, as a warm start.
    """

    model: MilpModel
    extract: Callable[[Mapping[str, float]], dict[int, Tile]]
    start: Callable[[Tiles], dict[str, float]]


def chosen(pieces: Iterable[Piece], values: Mapping[str, float]) -> list[Piece]:
    """The selected pieces, one per device at most."""
    return [p for p in pieces if values[p.select.name] > 0.5]
