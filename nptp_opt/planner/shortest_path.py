"""The shortest path through (cut, partition) states: which layers together, which partition each.

A state is a candidate partition at a single-tensor cut; a step is a segment of one or more whole
units, or a walk through the segments inside one unit with the same template for all its tensors.
Prices are exact (``cost.StepPrices``), but for results that a unit before the last one makes:
collecting them is priced as if they had the last one's partition. Dynamic programming over matrices
(P, Q): the graph has an edge per pair of candidates and segment, too many for one object each
(docs/decisions.md).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray
from nptp_opt.cost.objectives import Weights, least_prices
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.assemble import Choice
from nptp_opt.planner.state_prices import StatePrices
from nptp_opt.planner.templates import Template
from nptp_opt.planner.units import is_segment, units

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
    """Price (P, Q) of a run of layers; ``back[k]`` is where the segment that ends at k began."""

    cost: FloatArray
    back: Back


class ShortestPath:
    """Search over ``templates`` as the partitions of every map of ``network``.

    With ``weights`` it is cheapest under these instead of fastest.
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
    ) -> None:
        self.network = network
        self.templates = templates
        self.prices = StatePrices(network, cluster, templates, weights)
        self.fuse = fuse
        self.longest = LONGEST_SEGMENT if fuse else 1
        self.units = units(network)
        self.spans = spans

    def choices(self) -> list[Choice]:
        """The segments and partitions of the cheapest path."""
        found = self.choices_by(math.inf)
        assert found is not None, "there is no deadline"
        return found

    def choices_by(self, deadline: float) -> list[Choice] | None:
        """As ``choices``; None when ``time.monotonic()`` passes ``deadline`` before the end."""
        arrivals = [_Arrival(np.zeros(1), [(0, 0, ())])]
        for end in range(1, len(self.units) + 1):
            if time.monotonic() > deadline:
                return None
            arrivals.append(self._arrive(end, arrivals))
        return self._trace(arrivals, int(np.argmin(arrivals[-1].cost + self.prices.collect_s())))

    def _arrive(self, end: int, arrivals: Sequence[_Arrival]) -> _Arrival:
        found = _Arrival(np.full(len(self.templates), np.inf), [(0, 0, ())] * len(self.templates))
        for start in range(end - 1, max(0, end - self.longest) - 1, -1):
            if self.spans is not None and (start, end) not in self.spans:
                continue
            known = arrivals[start].cost
            for walk in self._walks(start, end, known, found.cost):
                total = known[:, None] + walk.cost
                origin, cheapest = total.argmin(axis=0), total.min(axis=0)
                for q in np.flatnonzero(cheapest < found.cost):
                    p = int(origin[q])
                    found.cost[q] = cheapest[q]
                    found.back[q] = (start, p, ends_of(walk.back, p, int(q)))
        return found

    def _walks(self, start: int, end: int, known: FloatArray, best: FloatArray) -> list[_Walk]:
        """Ways through the units ``start`` to ``end`` that could improve on ``best``."""
        layers = tuple(layer for unit in self.units[start:end] for layer in unit)
        before = self.prices.before(self.units[:start])
        walks = []
        if end == start + 1 and not (len(layers) == 1 and is_segment(self.network, layers)):
            walks.append(self._inside(layers, before, len(known)))
        if is_segment(self.network, layers) and (self.fuse or len(layers) == 1):
            prices = self.prices.segment(layers)
            worth = known[:, None] + least_prices(prices.compute_s, self.prices.weights) < best
            if worth.any():
                whole = prices.makespans(before, worth=worth, weights=self.prices.weights)
                walks.append(_Walk(whole, {len(layers): np.zeros(whole.shape, dtype=np.int64)}))
        return walks

    def _inside(
        self, layers: tuple[Layer, ...], before: dict[str, IntArray], n_before: int
    ) -> _Walk:
        """Cheapest segments inside one unit, for every pair of candidates before and after it."""
        shape = (n_before, len(self.templates))
        cost = {0: np.zeros(shape)}
        back: dict[int, IntArray] = {}
        for end in range(1, len(layers) + 1):
            cost[end] = np.full(shape, np.inf)
            back[end] = np.zeros(shape, dtype=np.int64)
            for start in range(end - 1, max(0, end - self.longest) - 1, -1):
                price = self.prices.step_s(layers[start:end], layers, before)
                if price is None:
                    continue
                total = cost[start] + price
                better = total < cost[end]
                cost[end] = np.where(better, total, cost[end])
                back[end] = np.where(better, start, back[end])
        return _Walk(cost[len(layers)], back)

    def _trace(self, arrivals: Sequence[_Arrival], candidate: int) -> list[Choice]:
        found: list[Choice] = []
        end = len(self.units)
        while end > 0:
            start, before, ends = arrivals[end].back[candidate]
            layers = [layer for unit in self.units[start:end] for layer in unit]
            parts = [tuple(layers[a:b]) for a, b in itertools.pairwise((0, *ends))]
            found[:0] = [self.prices.choice(part, self.templates[candidate]) for part in parts]
            end, candidate = start, before
        return found


def ends_of(back: Back, p: int, q: int) -> Ends:
    """Ends of a run's segments on the way from candidate p to candidate q."""
    at = max(back)
    found = [at]
    while (at := int(back[at][p, q])) > 0:
        found.append(at)
    return tuple(reversed(found))


def spans_of(network: Network, choices: Sequence[Choice]) -> frozenset[Span]:
    """The runs of units of a plan: one per segment, or per unit where segments divide it."""
    unit_of = {layer.name: k for k, unit in enumerate(units(network)) for layer in unit}
    ends = [[unit_of[layer.name] for layer in choice.layers] for choice in choices]
    return frozenset((min(numbers), max(numbers) + 1) for numbers in ends)
