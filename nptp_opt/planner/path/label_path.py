"""The best path for the maximum of sums, within limits: states keep several ways to reach them.

Weighted paths see plans on the lower convex hull of the rows alone (``duals``); between them there
may be better ones. Here a *label* is one way to a candidate at a cut: its values v (V,), the aim's
rows and what it limits. Let h[k, q] be the least that the rest of any path from candidate q costs
under prices u[k] (a backward pass each). A plan that goes on from a label and betters the incumbent
T has for every k

    u[k] v + h[k, q] <= u[k] (T, ..., T, limits)     the prices of the rows sum to at most 1

(its rows are below T, its other values within the limits), so labels for which one of these fails
are dropped, and of two labels at one candidate the one that is nowhere better. The prices: each row
alone, the mean of the rows, the duals of the plans seen, each limit alone. Exact over its templates
while no cut has more than ``MOST_LABELS`` left; then the least bounds at every candidate are kept.
Units with several layers are gone through as the weighted path does, at the duals' prices.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nptp_opt.cluster import Cluster
from nptp_opt.compiling import compiled
from nptp_opt.cost import FloatArray
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.path.aim import Aim
from nptp_opt.planner.path.shortest_path import (
    LONGEST_SEGMENT,
    Back,
    Span,
    cheapest_parts,
    choices_of,
    ends_of,
)
from nptp_opt.planner.path.state_costs import StateCosts
from nptp_opt.planner.path.units import is_segment, units

MOST_LABELS = 2_000
"""Labels that a cut keeps."""

MOST_COMPARED = 60_000
"""Labels of a cut that are compared with each other."""

MOST_VALUES = 20_000_000
"""Values of all steps between all candidates, held at once: about 300 MB with their prices."""

LEAST_GAIN = 1e-9
"""Relative gain below which a plan is no better than the incumbent."""

ROUNDING = 1e-12
"""Relative margin of limits: sums in another order."""


@dataclass(frozen=True)
class _Way:
    """Values (P, Q, V) and prices (P, Q, K) of one way through units from ``start`` to ``end``."""

    start: int
    end: int
    values: FloatArray
    prices: FloatArray
    back: Back


class _Labels(NamedTuple):
    """Values (M, V) and candidates (M,) at one cut; way and label before (M, 2)."""

    values: FloatArray
    at: IntArray
    back: IntArray


@dataclass(frozen=True)
class _Bounds:
    """Prices (V, K), what a path may cost at most under each, and whether it ranks labels (K,)."""

    prices: FloatArray
    most: FloatArray
    ranking: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, aim: Aim, duals: FloatArray, known: float) -> _Bounds:
        """Bounds for plans better than ``known``; ``duals`` (V,) are the prices of all values."""
        rows, limits = len(aim.rows), len(aim.limited)
        prices = np.eye(rows + limits)
        mean = np.concatenate([np.full(rows, 1 / rows), np.zeros(limits)])
        prices = np.column_stack([prices, mean, duals / max(duals[:rows].sum(), 1e-300)])
        target = known * (1 - LEAST_GAIN)
        caps = np.concatenate([np.full(rows, target), aim.most * (1 - ROUNDING)])
        ranking = np.ones(rows + limits + 2, dtype=np.bool_)
        ranking[rows : rows + limits] = False  # a limit that is used up is no fault
        return cls(prices, caps @ prices, ranking)


class LabelPath:
    """Search over ``templates``; ``duals`` (V,) are prices of the aim's rows and limits."""

    def __init__(
        self,
        network: Network,
        cluster: Cluster,
        templates: Sequence[Template],
        aim: Aim,
        duals: FloatArray,
        spans: Collection[Span] | None = None,
    ) -> None:
        self.network, self.templates, self.aim, self.duals = network, templates, aim, duals
        self.costs = StateCosts(network, cluster, templates)
        self.units = units(network)
        self.spans = all_spans(len(self.units)) if spans is None else sorted(spans)

    def choices_by(self, known: float, deadline: float) -> list[Choice] | None:
        """A plan within the limits that is better than ``known``; None without one, or when
        ``time.monotonic()`` passes ``deadline`` before the end."""
        bounds = _Bounds.of(self.aim, self.duals, known)
        ways = self._ways(bounds, deadline)
        if ways is None:
            return None
        collected = self.costs.collect_values(self.aim.every)
        # a network that ends in a reduction collects the same from every candidate
        last = np.repeat(collected, len(self.templates) // len(collected), axis=0)
        rest = self._rest(ways, last @ bounds.prices)
        labels = [_Labels(np.zeros((1, last.shape[1])), np.zeros(1, int), np.zeros((1, 2), int))]
        for end in range(1, len(self.units) + 1):
            if time.monotonic() > deadline:
                return None
            labels.append(self._arrive(end, ways, labels, rest, bounds))
        ends = labels[-1]
        if not len(ends.at):
            return None
        total = ends.values + last[ends.at]
        return self._trace(labels, ways, int(total[:, : len(self.aim.rows)].max(axis=1).argmin()))

    def _ways(self, bounds: _Bounds, deadline: float) -> list[_Way] | None:
        ways = []
        for start, end in self.spans:
            for values, back in self._values(start, end):
                ways.append(_Way(start, end, values, values @ bounds.prices, back))
            if time.monotonic() > deadline:
                return None
        return ways

    def _values(self, start: int, end: int) -> list[tuple[FloatArray, Back]]:
        """Values (P, Q, V) of the ways through the units ``start`` to ``end``."""
        layers = tuple(layer for unit in self.units[start:end] for layer in unit)
        before = self.costs.before(self.units[:start])
        shape = (max(map(len, before.values()), default=1), len(self.templates))

        def values_of_part(part: Sequence[Layer]) -> FloatArray | None:
            return self.costs.step_values(part, layers, before, self.aim.every)

        values = []
        fused = is_segment(self.network, layers)
        if end == start + 1 and not (len(layers) == 1 and fused):
            size = (*shape, len(self.duals))
            values.append(cheapest_parts(layers, size, LONGEST_SEGMENT, values_of_part, self.duals))
        if fused:
            whole = values_of_part(layers)
            assert whole is not None, "it is a segment"
            whole = np.broadcast_to(whole, (*shape, len(self.duals)))
            values.append((whole, {len(layers): np.zeros(shape, dtype=np.int64)}))
        return values

    def _rest(self, ways: Sequence[_Way], last: FloatArray) -> list[FloatArray]:
        """Least prices (Q, K) of the rest of a path from every candidate of every cut."""
        sizes = [1] + [len(self.templates)] * len(self.units)
        rest = [np.full((size, last.shape[1]), np.inf) for size in sizes]
        rest[-1] = last
        for way in sorted(ways, key=lambda way: -way.end):
            through = (way.prices + rest[way.end]).min(axis=1)
            rest[way.start] = np.minimum(rest[way.start], through)
        return rest

    def _arrive(
        self,
        end: int,
        ways: Sequence[_Way],
        labels: Sequence[_Labels],
        rest: Sequence[FloatArray],
        bounds: _Bounds,
    ) -> _Labels:
        arrived = [_Labels(labels[0].values[:0], labels[0].at[:0], labels[0].back[:0])]
        scores = [np.zeros(0)]
        for number, way in enumerate(ways):
            if way.end != end:
                continue
            known = labels[way.start]
            spent = known.values @ bounds.prices
            which, score = _worth(
                spent, known.at, way.prices, rest[end], bounds.most, bounds.ranking
            )
            before, at = which.T
            passed = known.values[before] + way.values[known.at[before], at]
            back = np.column_stack([np.full(len(at), number), before])
            arrived.append(_Labels(passed, at, back))
            scores.append(score)
        every = _Labels(*(np.concatenate(parts) for parts in zip(*arrived, strict=True)))
        return _best(every, np.concatenate(scores))

    def _trace(self, labels: Sequence[_Labels], ways: Sequence[_Way], label: int) -> list[Choice]:
        choices: list[Choice] = []
        end = len(self.units)
        while end > 0:
            number, before = (int(k) for k in labels[end].back[label])
            way, q = ways[number], int(labels[end].at[label])
            ends = ends_of(way.back, int(labels[way.start].at[before]), q)
            run = self.units[way.start : end]
            choices[:0] = choices_of(self.costs, run, ends, self.templates[q])
            end, label = way.start, before
        return choices


def all_spans(count: int) -> list[Span]:
    """Every run of units that a step may go through."""
    return [
        (start, end)
        for end in range(1, count + 1)
        for start in range(max(0, end - LONGEST_SEGMENT), end)
    ]


def most_templates(spans: int, aim: Aim) -> int:
    """How many templates can be searched together, for a number of spans."""
    return int((MOST_VALUES / (spans * len(aim.every))) ** 0.5)


def _best(labels: _Labels, scores: FloatArray) -> _Labels:
    """The labels that no other one at the same candidate is as good as.

    Too many are dealt out to the candidates, each candidate's least bound first: where templates
    are many and alike, the least bounds of all are labels that are alike.
    """
    order = np.argsort(scores, kind="stable")[:MOST_COMPARED]
    keep = order[_undominated_labels(labels.values[order], labels.at[order])]
    if len(keep) > MOST_LABELS:
        keep = keep[np.argsort(_turns(labels.at[keep]), kind="stable")[:MOST_LABELS]]
    return _Labels(labels.values[keep], labels.at[keep], labels.back[keep])


def _turns(at: IntArray) -> IntArray:
    """By label how many before it are at the same candidate."""
    order = np.argsort(at, kind="stable")
    turns = np.empty(len(at), dtype=np.int64)
    turns[order] = np.arange(len(at)) - np.searchsorted(at[order], at[order])
    return turns


@compiled
def _worth(spent, at, prices, rest, most, ranking):  # type: ignore[no-untyped-def]
    """Pairs (N, 2) of label and next candidate that no price forbids, and their worst bounds."""
    pairs, scores = [], []
    for m in range(len(at)):
        for q in range(prices.shape[1]):
            worst = -np.inf
            for k in range(len(most)):
                over = spent[m, k] + prices[at[m], q, k] + rest[q, k] - most[k]
                if over > 0:
                    worst = np.inf
                    break
                if ranking[k]:
                    worst = max(worst, over)
            if worst < np.inf:
                pairs.append((m, q))
                scores.append(worst)
    worthwhile = np.empty((len(pairs), 2), np.int64)
    for number, pair in enumerate(pairs):
        worthwhile[number, 0], worthwhile[number, 1] = pair
    return worthwhile, np.array(scores)


@compiled
def _undominated_labels(values, at):  # type: ignore[no-untyped-def]
    """Numbers of the labels that no earlier one at the same candidate is as good as.

    Sorted by their bounds: a label that is as good as another one comes first.
    """
    kept = np.empty(len(at), np.int64)
    count = 0
    last = np.full(at.max() + 1 if len(at) else 1, -1)
    before = np.empty(len(at), np.int64)  # the label kept before at the same candidate
    for m in range(len(at)):
        other, fine = last[at[m]], True
        while other >= 0:
            k = 0
            while k < values.shape[1] and values[other, k] <= values[m, k]:
                k += 1
            if k == values.shape[1]:
                fine = False
                break
            other = before[other]
        if fine:
            before[m] = last[at[m]]
            last[at[m]] = m
            kept[count] = m
            count += 1
    return kept[:count]
