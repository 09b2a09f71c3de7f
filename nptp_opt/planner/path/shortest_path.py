"""The shortest path through (cut, partition) states: which layers together, which partition each.

A state is a candidate partition at a single-tensor cut; a step is a segment of one or more whole
units, or a walk through the segments inside one unit with the same template for all its tensors.
Costs are exact (``cost.StepCosts``), but for results that a unit before the last one makes:
collecting them is costed as if they had the last one's partition. Dynamic programming over matrices
(P, Q): the graph has an edge per pair of candidates and segment, too many for one object each
(docs/decisions.md).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray
from nptp_opt.cost.objectives import Weights, least_costs
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.path.state_costs import StateCosts
from nptp_opt.planner.path.units import is_segment, units

LONGEST_SEGMENT = 12
"""Units in one segment; longer ones recompute more than they save (see docs/decisions.md)."""

Span = tuple[int, int]
"""Units [start, end) that are gone through without a choice in between."""

Ends = tuple[int, ...]
"""Positions in a run of layers after which a segment ends."""

Back = Mapping[int, IntArray]
"""By end of a segment in a run of layers its start, for every pair of candidates (P, Q)."""


@dataclass(frozen=True)
class _Arrival:
    """Cheapest way to every candidate (Q,) of one cut.

    ``back`` holds, per candidate, the unit and candidate before, and the ends of the segments.
    """

    cost: FloatArray
    back: list[tuple[int, int, Ends]]


@dataclass(frozen=True)
class _Walk:
    """Cost (P, Q) of a run of layers; ``back[k]`` is where the segment that ends at k began."""

    cost: FloatArray
    back: Back


class ShortestPath:
    """Search over ``templates`` as the partitions of every map of ``network``.

    With ``weights`` it is cheapest under these instead of fastest; ``like`` is for ``StateCosts``.
    ``spans`` limits the search to these runs of units (those of a plan: ``spans_of``).
    """

    def __init__(
        self,
        network: Network,
        cluster: Cluster,
        templates: Sequence[Template],
        *,
        fuse: bool,
        spans: Collection[Span] | None = None,
        weights: Weights | None = None,
        like: StateCosts | None = None,
    ) -> None:
        self.network = network
        self.templates = templates
        self.costs = StateCosts(network, cluster, templates, weights, like)
        self.fuse = fuse
        self.longest = LONGEST_SEGMENT if fuse else 1
        self.units = units(network)
        self.spans = spans

    def choices(self) -> list[Choice]:
        """The segments and partitions of the cheapest path."""
        path = self.choices_by(math.inf)
        assert path is not None, "there is no deadline"
        return path

    def choices_by(self, deadline: float) -> list[Choice] | None:
        """As ``choices``; None when ``time.monotonic()`` passes ``deadline`` before the end."""
        arrivals = [_Arrival(np.zeros(1), [(0, 0, ())])]
        for end in range(1, len(self.units) + 1):
            if time.monotonic() > deadline:
                return None
            arrivals.append(self._arrive(end, arrivals))
        return self._trace(arrivals, int(np.argmin(arrivals[-1].cost + self.costs.collect_s())))

    def _arrive(self, end: int, arrivals: Sequence[_Arrival]) -> _Arrival:
        arrival = _Arrival(np.full(len(self.templates), np.inf), [(0, 0, ())] * len(self.templates))
        for start in range(end - 1, max(0, end - self.longest) - 1, -1):
            if self.spans is not None and (start, end) not in self.spans:
                continue
            known = arrivals[start].cost
            for walk in self._walks(start, end, known, arrival.cost):
                total = known[:, None] + walk.cost
                origin, cheapest = total.argmin(axis=0), total.min(axis=0)
                for q in np.flatnonzero(cheapest < arrival.cost):
                    p = int(origin[q])
                    arrival.cost[q] = cheapest[q]
                    arrival.back[q] = (start, p, ends_of(walk.back, p, int(q)))
        return arrival

    def _walks(self, start: int, end: int, known: FloatArray, best: FloatArray) -> list[_Walk]:
        """Ways through the units ``start`` to ``end`` that could improve on ``best``."""
        layers = tuple(layer for unit in self.units[start:end] for layer in unit)
        before = self.costs.before(self.units[:start])
        walks = []
        if end == start + 1 and not (len(layers) == 1 and is_segment(self.network, layers)):
            walks.append(self._inside(layers, before, len(known)))
        if is_segment(self.network, layers) and (self.fuse or len(layers) == 1):
            costs = self.costs.segment(layers)
            worth = known[:, None] + least_costs(costs.compute_s, self.costs.weights) < best
            if worth.any():
                whole = self.costs.whole_s(costs, before, worth)
                walks.append(_Walk(whole, {len(layers): np.zeros(whole.shape, dtype=np.int64)}))
        return walks

    def _inside(
        self, layers: tuple[Layer, ...], before: dict[str, IntArray], n_before: int
    ) -> _Walk:
        """Cheapest segments inside one unit, for every pair of candidates before and after it."""

        def values_of_part(part: Sequence[Layer]) -> FloatArray | None:
            seconds = self.costs.step_s(part, layers, before)
            return None if seconds is None else seconds[..., None]

        shape = (n_before, len(self.templates), 1)
        cost, back = cheapest_parts(layers, shape, self.longest, values_of_part, np.ones(1))
        return _Walk(cost[..., 0], back)

    def _trace(self, arrivals: Sequence[_Arrival], candidate: int) -> list[Choice]:
        choices: list[Choice] = []
        end = len(self.units)
        while end > 0:
            start, before, ends = arrivals[end].back[candidate]
            template = self.templates[candidate]
            choices[:0] = choices_of(self.costs, self.units[start:end], ends, template)
            end, candidate = start, before
        return choices


def cheapest_parts(
    layers: Sequence[Layer],
    shape: tuple[int, int, int],
    longest: int,
    values_of_part: Callable[[Sequence[Layer]], FloatArray | None],
    mix: FloatArray,
) -> tuple[FloatArray, Back]:
    """Segments inside one unit, cheapest in the ``mix`` (V,) of their values, for every pair of
    candidates before and after it: values (P, Q, V) in all, and where each segment began.

    ``values_of_part`` gives the values of one segment, or None where it can be none.
    """
    cost = {0: np.zeros(shape)}
    back: dict[int, IntArray] = {}
    for end in range(1, len(layers) + 1):
        best = np.full(shape[:2], np.inf)
        back[end] = np.zeros(shape[:2], dtype=np.int64)
        for start in range(end - 1, max(0, end - longest) - 1, -1):
            values = values_of_part(layers[start:end]) if start in cost else None
            if values is None:
                continue
            total = cost[start] + values
            mixed = total @ mix
            better = mixed < best
            best = np.where(better, mixed, best)
            cost[end] = np.where(better[..., None], total, cost.get(end, total))
            back[end] = np.where(better, start, back[end])
    return cost[len(layers)], back


def choices_of(
    costs: StateCosts, run: Sequence[Sequence[Layer]], ends: Ends, template: Template
) -> list[Choice]:
    """The segments that end at ``ends`` of a run of units, all on one template."""
    layers = [layer for unit in run for layer in unit]
    parts = [tuple(layers[a:b]) for a, b in itertools.pairwise((0, *ends))]
    return [costs.choice(part, template) for part in parts]


def ends_of(back: Back, p: int, q: int) -> Ends:
    """Ends of a run's segments on the way from candidate p to candidate q."""
    at = max(back)
    ends = [at]
    while (at := int(back[at][p, q])) > 0:
        ends.append(at)
    return tuple(reversed(ends))


def spans_of(network: Network, choices: Sequence[Choice]) -> frozenset[Span]:
    """The runs of units of a plan: one per segment, or per unit where segments divide it."""
    unit_of = {layer.name: k for k, unit in enumerate(units(network)) for layer in unit}
    ends = [[unit_of[layer.name] for layer in choice.layers] for choice in choices]
    return frozenset((min(numbers), max(numbers) + 1) for numbers in ends)
