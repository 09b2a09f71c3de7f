"""The cheapest path within a latency budget: a shortest path whose states count the time spent.

Weighted paths see plans on the lower convex hull of objective and latency alone; between two of
them there may be better ones. Here the budget is divided into ticks, every step takes its makespan
rounded up to whole ticks, and f[end, q, t] is the least value of a way to candidate q in t ticks:

    f[end, q, t] = min over segments (start, end), candidates p of
                   f[start, p, t - ticks(p, q)] + value(p, q)

Exact over its templates but for the rounding (at most a tick a step), and always within the budget.
Units with several layers are gone through as the weighted path does. Values add up: not for the
throughput.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray
from nptp_opt.cost.objectives import Weights
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.assemble import Choice
from nptp_opt.planner.shortest_path import LONGEST_SEGMENT, Back, ends_of
from nptp_opt.planner.state_prices import Owners, StatePrices
from nptp_opt.planner.templates import Template
from nptp_opt.planner.units import is_segment, units

TICKS = 1000


@dataclass(frozen=True)
class _Way:
    """Prices (P, Q) of one way through units from ``start`` on."""

    start: int
    latency_s: FloatArray
    value: FloatArray
    back: Back


@dataclass(frozen=True)
class _Arrival:
    """Least values (Q, T) at one cut; the way, candidate and tick (3, Q, T) before each."""

    value: FloatArray
    back: IntArray
    ways: list[_Way]


class BudgetPath:
    """Search over ``templates`` for the least ``row``; ``mixed`` is row and latency together."""

    def __init__(
        self,
        network: Network,
        cluster: Cluster,
        templates: Sequence[Template],
        row: Weights,
        mixed: Weights,
    ) -> None:
        self.network, self.templates, self.mixed = network, templates, mixed
        self.seconds = StatePrices(network, cluster, templates)
        self.values = StatePrices(network, cluster, templates, row)
        self.units = units(network)

    def choices_by(self, budget_s: float, deadline: float) -> list[Choice] | None:
        """The cheapest plan within the budget; None without one, or when time is up."""
        left_s = budget_s - self.seconds.collect_s()
        tick_s = budget_s / TICKS
        arrivals = [_Arrival(np.zeros((1, TICKS + 1)), np.zeros((3, 1, TICKS + 1), np.int32), [])]
        for end in range(1, len(self.units) + 1):
            if time.monotonic() > deadline:
                return None
            arrivals.append(self._arrive(end, arrivals, tick_s))
        total = arrivals[-1].value + self.values.collect_s()[:, None]
        late = np.arange(TICKS + 1)[None, :] * tick_s > left_s[:, None]
        total = np.where(late, np.inf, total)
        q, tick = np.unravel_index(int(total.argmin()), total.shape)
        return None if math.isinf(total[q, tick]) else self._trace(arrivals, int(q), int(tick))

    def _arrive(self, end: int, arrivals: Sequence[_Arrival], tick_s: float) -> _Arrival:
        shape = (len(self.templates), TICKS + 1)
        found = _Arrival(np.full(shape, np.inf), np.zeros((3, *shape), np.int32), [])
        for start in range(end - 1, max(0, end - LONGEST_SEGMENT) - 1, -1):
            for way in self._ways(start, end):
                ticks = np.ceil(way.latency_s / tick_s - 1e-9).astype(np.int64)
                number = len(found.ways)
                found.ways.append(way)
                _relax(arrivals[start].value, ticks, way.value, number, found.value, found.back)
        return found

    def _ways(self, start: int, end: int) -> list[_Way]:
        layers = tuple(layer for unit in self.units[start:end] for layer in unit)
        before = self.seconds.before(self.units[:start])
        fused = is_segment(self.network, layers)
        found = []
        if end == start + 1 and not (len(layers) == 1 and fused):
            found.append(self._inside(start, layers, before))
        if fused:
            latency = self.seconds.segment(layers).makespans(before)
            value = self.seconds.segment(layers).makespans(before, weights=self.values.weights)
            back = {len(layers): np.zeros(value.shape, dtype=np.int64)}
            found.append(_Way(start, latency, value, back))
        return found

    def _inside(self, start: int, layers: tuple[Layer, ...], before: Owners) -> _Way:
        """The segments inside one unit that are cheapest in the mixture of value and latency."""
        known = max([1, *(len(owners) for owners in before.values())])
        shape = (known, len(self.templates))
        spent, value = {0: np.zeros(shape)}, {0: np.zeros(shape)}
        back: dict[int, IntArray] = {}
        for end in range(1, len(layers) + 1):
            spent[end], value[end] = np.full(shape, np.inf), np.full(shape, np.inf)
            best = np.full(shape, np.inf)
            back[end] = np.zeros(shape, dtype=np.int64)
            for first in range(end - 1, max(0, end - LONGEST_SEGMENT) - 1, -1):
                seconds = self.seconds.step_s(layers[first:end], layers, before)
                price = self.values.step_s(layers[first:end], layers, before)
                if seconds is None or price is None:
                    continue
                with_this = spent[first] + seconds, value[first] + price
                mixed = with_this[1] + self.mixed.latency * with_this[0]
                better = mixed < best
                best = np.where(better, mixed, best)
                spent[end] = np.where(better, with_this[0], spent[end])
                value[end] = np.where(better, with_this[1], value[end])
                back[end] = np.where(better, first, back[end])
        return _Way(start, spent[len(layers)], value[len(layers)], back)

    def _trace(self, arrivals: Sequence[_Arrival], q: int, tick: int) -> list[Choice]:
        found: list[Choice] = []
        end = len(self.units)
        while end > 0:
            number, p, spent = (int(k) for k in arrivals[end].back[:, q, tick])
            way = arrivals[end].ways[number]
            layers = [layer for unit in self.units[way.start : end] for layer in unit]
            ends = (0, *ends_of(way.back, p, q))
            parts = [tuple(layers[a:b]) for a, b in itertools.pairwise(ends)]
            found[:0] = [self.seconds.choice(part, self.templates[q]) for part in parts]
            end, q, tick = way.start, p, spent
        return found


@numba.njit(cache=True, nogil=True)
def _relax(known, ticks, value, number, best, back):  # type: ignore[no-untyped-def]
    """Better ways to candidates (Q, T) from ``known`` (P, T) by steps of (P, Q) ticks and value."""
    before, after = ticks.shape
    most = best.shape[1]
    for q in range(after):
        for p in range(before):
            step, price = ticks[p, q], value[p, q]
            if not np.isfinite(price):
                continue
            for t in range(step, most):
                total = known[p, t - step] + price
                if total < best[q, t]:
                    best[q, t] = total
                    back[0, q, t] = number
                    back[1, q, t] = p
                    back[2, q, t] = t - step
