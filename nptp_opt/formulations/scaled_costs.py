"""What every formulation is built from: scaled costs, allowed sizes, limits on the makespan.

Models are scaled: one model unit is 1/100 of the time that the best single device needs, so that
solver tolerances are relative to the makespan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from nptp_opt.cost import Form, LayerCost, messages_of
from nptp_opt.errors import InfeasibleError
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, Tile, Tiles, transpose_tile
from nptp_opt.layer.problem import LayerProblem

ALL_SIDES = TOP | BOTTOM | LEFT | RIGHT
SLACK = 1e-6
"""Relative slack of every cut-off."""


def transpose_problem(problem: LayerProblem) -> LayerProblem:
    """The same problem with rows and columns exchanged."""
    layer = problem.layer
    top, bottom, left, right = layer.padding
    turned = replace(
        layer,
        in_height=layer.in_width,
        in_width=layer.in_height,
        kernel=layer.kernel[::-1],
        stride=layer.stride[::-1],
        padding=(left, right, top, bottom),
        dilation=layer.dilation[::-1],
    )
    return replace(problem, layer=turned)


def form_makespan_s(cost: LayerCost, tiles: Tiles) -> float:
    """Makespan of a partition under the bilinear upper costs: what the models minimise."""
    problem, cluster = cost.problem, cost.cluster
    sizes = {
        i: (tile.contacts(problem.height, problem.width), tile.width, tile.height)
        for i, tile in tiles.items()
        if not tile.is_empty
    }
    if not cluster.shared:
        return max(cost.time_form(i, k)(w, h) for i, (k, w, h) in sizes.items())
    sent = sum(cost.recv_form(k)(w, h) for k, w, h in sizes.values())
    waits = max(messages_of(k) for k, _, _ in sizes.values()) * cluster.network.latency_s
    compute = max(cost.compute_form(i)(w, h) for i, (_, w, h) in sizes.items())
    return sent / cluster.network.bytes_per_s + waits + compute


@dataclass(frozen=True)
class Config:
    """A device's choice of border contacts and width, with the heights that it then may have."""

    contacts: int
    width: int
    least: int
    most: int


@dataclass(frozen=True)
class ScaledCosts:
    """Costs of one problem in model units, seen upright or transposed.

    ``upper_s`` is a makespan that some partition of the family is known to reach, infinite where
    none is known; ``lower_s`` a proven bound on every partition. Costs and memory are never too
    low, or, ``below``, never too high: the one finds partitions, the other proves bounds.
    """

    problem: LayerProblem
    cost: LayerCost
    unit_s: float
    upper_s: float
    lower_s: float
    turned: bool = False
    below: bool = False

    @classmethod
    def of(
        cls, problem: LayerProblem, *, start: Tiles | None = None, bound_s: float | None = None
    ) -> ScaledCosts:
        """Costs of ``problem``; ``start`` must be a partition of the formulation's family."""
        cost = LayerCost(problem)
        full = Tile(0, problem.height, 0, problem.width)
        alone = {i: form_makespan_s(cost, {i: full}) for i in range(len(problem.devices))}
        need = cost.memory_form(ALL_SIDES)(problem.width, problem.height)
        fitting = [s for i, s in alone.items() if need <= problem.devices[i].memory_bytes]
        upper = min(fitting, default=math.inf)
        if start is not None:
            upper = min(upper, form_makespan_s(cost, start))
        upper *= 1 + SLACK
        lower = min(bound_s or 0.0, upper)
        return cls(problem, cost, min(alone.values()) / 100, upper, lower)

    def for_proof(self, value_s: float) -> ScaledCosts:
        """The costs that are never too high, where ``value_s`` is known to be reached."""
        upper = value_s * (1 + SLACK)
        return replace(self, upper_s=upper, lower_s=min(self.lower_s, upper), below=True)

    @cached_property
    def transposed(self) -> ScaledCosts:
        """The same costs with rows and columns exchanged."""
        problem = transpose_problem(self.problem)
        return replace(self, problem=problem, cost=LayerCost(problem), turned=not self.turned)

    @property
    def devices(self) -> range:
        return range(len(self.problem.devices))

    @property
    def upper(self) -> float:
        """Known makespan in model units; infinite where none is known."""
        return self.upper_s / self.unit_s

    @property
    def lower(self) -> float:
        """Proven bound in model units."""
        return self.lower_s / self.unit_s

    def tile(self, y0: float, y1: float, x0: float, x1: float) -> Tile:
        """The tile of this view, upright, each side moved to the nearest allowed cut."""
        cuts_y, cuts_x = self.problem.cuts_y, self.problem.cuts_x
        tile = Tile(_snap(y0, cuts_y), _snap(y1, cuts_y), _snap(x0, cuts_x), _snap(x1, cuts_x))
        return transpose_tile(tile) if self.turned else tile

    def see(self, tile: Tile) -> Tile:
        """An upright tile as this view sees it."""
        return transpose_tile(tile) if self.turned else tile

    def time(self, device: int, contacts: int) -> Form:
        """comm + compute of a device; on a shared medium only its own part of comm."""
        if not self.cost.cluster.shared:
            return self.cost.time_form(device, contacts, lower=self.below) * (1 / self.unit_s)
        wait = Form(0.0, 0.0, 0.0, self.message * messages_of(contacts))
        return self.compute(device) + self.recv(contacts) + wait

    def compute(self, device: int) -> Form:
        """Compute time of a device."""
        return self.cost.compute_form(device) * (1 / self.unit_s)

    def recv(self, contacts: int) -> Form:
        """Time that a tile's bytes take on the shared medium."""
        rate = self.cost.cluster.network.bytes_per_s
        return self.cost.recv_form(contacts, lower=self.below) * (1 / (rate * self.unit_s))

    @property
    def message(self) -> float:
        """Latency of one message."""
        return self.cost.cluster.network.latency_s / self.unit_s

    def memory(self, device: int, contacts: int) -> tuple[Form, float]:
        """Memory of a tile and the device's limit, as fractions of the limit (1.0 or infinite)."""
        limit = self.problem.devices[device].memory_bytes
        if math.isinf(limit):
            return Form(0.0, 0.0, 0.0, 0.0), math.inf
        return self.cost.memory_form(contacts, lower=self.below) * (1 / limit), 1.0

    def configs(self, device: int, contacts: int) -> Iterator[Config]:
        """All widths with those contacts that leave the device some height within its limits."""
        heights = sizes(self.problem.cuts_y, contacts & TOP, contacts & BOTTOM)
        limits = [(self.time(device, contacts), self.upper), self.memory(device, contacts)]
        for width in sizes(self.problem.cuts_x, contacts & LEFT, contacts & RIGHT):
            most = min(_tallest(form, limit, width) for form, limit in limits)
            fitting = [h for h in heights if h <= most]
            if fitting:
                yield Config(contacts, width, fitting[0], fitting[-1])

    def infeasible(self, family: str) -> InfeasibleError:
        """The error for memory limits that leave no partition; names the limited devices."""
        need = self.cost.memory_form(ALL_SIDES)(self.problem.width, self.problem.height) / 2**20
        limited = [
            f"{d.name!r} ({d.memory_mib:g} MiB)" for d in self.problem.devices if d.memory_mib
        ]
        return InfeasibleError(
            f"{self.problem.name}: no {family} partition fits the memory limits of "
            f"{', '.join(limited)}; the layer alone needs {need:.4g} MiB on one device. "
            "Raise memory_mib or add devices."
        )


def _snap(position: float, cuts: tuple[int, ...]) -> int:
    return min(cuts, key=lambda cut: abs(cut - position))


def _tallest(form: Form, limit: float, width: int) -> float:
    """Largest height with ``form(width, height) <= limit``, a rounding error forgiven."""
    rate = form.wh * width + form.h
    rest = limit - form.w * width - form.const
    if rest < 0:
        return -math.inf
    return math.inf if rate <= 0 else rest / rate + 1e-9


def sizes(cuts: tuple[int, ...], touches_low: int, touches_high: int) -> list[int]:
    """Lengths, ascending, of the allowed ranges with exactly those contacts."""
    end = cuts[-1]
    if touches_low and touches_high:
        return [end]
    inner = cuts[1:-1]
    if touches_low:
        return list(inner)
    if touches_high:
        return [end - cut for cut in reversed(inner)]
    return [cut - inner[0] for cut in inner[1:]]
