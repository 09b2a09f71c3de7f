"""Plans for the clock: local search on the simulated latency, which has no barriers.

``nptp`` minimises the sum of the segments' makespans, as if all waited for the last before each
segment. Executed, a device begins when its own halo is there: the first to receive may have more to
do than the last, and links work while others compute. Starting from the plan that is best with
barriers, cuts of one segment, or of neighbouring segments on the same devices together, are moved
while the simulation gets faster. The bound and the gap stay those of the sum.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence

from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.latencies import Evaluator, Latencies
from nptp_opt.planner.candidates.templates import from_tiles
from nptp_opt.planner.local_search.loosen import in_two
from nptp_opt.planner.local_search.moves import neighbours
from nptp_opt.planner.path.units import is_segment

LEAST_GAIN = 1e-5
"""Relative gain below which a change does not count as one."""

FINEST = 56
"""Cut positions per axis on which the cuts of several segments move together."""

SLACKS = (1e-3, 3e-3, 1e-2, 3e-2)
"""Relative growth of the sum of the makespans that is tried first when catching up."""

MOST_STARTS = 4
"""Plans from which the search walks downhill."""


def settled(
    evaluate: Evaluator,
    plans: Iterable[list[Choice]],
    *,
    deadline: float,
    latency_limit_s: float = math.inf,
) -> list[Choice]:
    """The best plan that is found from those of ``plans`` that are fastest as they are.

    The first of ``plans`` is the answer where none keeps the limit.
    """
    starts = [(evaluate(choices), choices) for choices in plans]
    values = {found: choices for found, choices in starts if found.sum_s <= latency_limit_s}
    first = sorted(values, key=lambda found: found.predicted_s)[:MOST_STARTS]
    best_s, best = math.inf, starts[0][1]
    for number, found in enumerate(first):
        left_s = (deadline - time.monotonic()) / (len(first) - number)
        settle = Settle(
            evaluate,
            values[found],
            deadline=time.monotonic() + left_s,
            latency_limit_s=latency_limit_s,
        )
        choices = settle.run()
        if settle.value < best_s:
            best_s, best = settle.value, choices
    return best


def caught_up(
    evaluate: Evaluator,
    choices: list[Choice],
    rivals: Sequence[list[Choice]],
    deadline: float,
    latency_limit_s: float = math.inf,
) -> list[Choice]:
    """``choices``, or where rivals are faster without barriers, a plan that is not behind them.

    It is looked for near ``choices``; the sum of the makespans may grow by as little as possible,
    at most to the best rival's or the limit. If there is none in time, and no rival is the best in
    both ways, or if the sum would lose more than the simulation gains, ``choices`` as they are.
    """
    found, own = [evaluate(rival) for rival in rivals], evaluate(choices)
    best = Latencies(min(r.sum_s for r in found), min(r.predicted_s for r in found))
    limits = [own.sum_s * (1 + slack) for slack in SLACKS]
    limits = [limit_s for limit_s in limits if limit_s < best.sum_s] + [best.sum_s]
    limits = list(dict.fromkeys(min(limit_s, latency_limit_s) for limit_s in limits))
    near = choices
    for number, limit_s in enumerate(limits):
        left_s = (deadline - time.monotonic()) / (len(limits) - number)
        settle = Settle(
            evaluate,
            near,
            deadline=time.monotonic() + left_s,
            latency_limit_s=limit_s,
            enough_s=best.predicted_s,
        )
        near = settle.run()
        if settle.value <= best.predicted_s:
            return near if _worth(own, evaluate(near)) else choices
    kept = best in found and best.sum_s <= latency_limit_s and _worth(own, best)
    return rivals[found.index(best)] if kept else choices


def _worth(own: Latencies, other: Latencies) -> bool:
    """Is the sum of the makespans hardly larger, or by less than the simulation is faster?"""
    little = other.sum_s <= own.sum_s * (1 + SLACKS[-1])
    return little or other.sum_s * other.predicted_s <= own.sum_s * own.predicted_s


class Settle:
    """Walks downhill from a plan; ``choices`` is the best so far."""

    def __init__(
        self,
        evaluate: Evaluator,
        choices: Sequence[Choice],
        *,
        deadline: float,
        latency_limit_s: float = math.inf,
        enough_s: float = 0.0,
    ) -> None:
        """``latency_limit_s`` is on the sum of the makespans; ``enough_s`` simulated ends it."""
        self.evaluate, self.network, self.kinds = evaluate, evaluate.network, evaluate.cluster.kinds
        self.deadline, self.limit_s, self.enough_s = deadline, latency_limit_s, enough_s
        self.choices = list(choices)
        self.value = self._simulated_s(self.choices)

    def run(self) -> list[Choice]:
        """The plan that no single move makes faster, or the best one in time."""
        before = math.inf
        while self.value < before * (1 - LEAST_GAIN) and not self._over():
            before = self.value
            for start, end in self._spans():
                while self._improve(start, end):
                    pass
            while self._first_faster(self._recut()):
                pass
        return self.choices

    def _over(self) -> bool:
        return self.value <= self.enough_s or time.monotonic() > self.deadline

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Runs of segments on the same devices, longest first: each, its halves, their halves."""
        runs: list[list[int]] = []
        for number, choice in enumerate(self.choices):
            if len(choice.tiles) > 1:
                if not runs or self._devices(runs[-1][-1]) != self._devices(number):
                    runs.append([])
                runs[-1].append(number)
        found = {(part[0], part[-1]) for run in runs for part in _halves(run)}
        yield from sorted(found, key=lambda span: (span[0] - span[1], span[0]))

    def _devices(self, number: int) -> frozenset[int]:
        return frozenset(self.choices[number].tiles)

    def _improve(self, start: int, end: int) -> bool:
        """Take the first faster plan around the segments ``start`` to ``end``."""
        return self._first_faster(self._around(start, end))

    def _first_faster(self, plans: Iterable[list[Choice]]) -> bool:
        for changed in plans:
            if self._over():
                return False
            value = self._simulated_s(changed)
            if value < self.value * (1 - LEAST_GAIN):
                self.choices, self.value = changed, value
                return True
        return False

    def _recut(self) -> Iterator[list[Choice]]:
        """Plans with one segment in two, or two in one."""
        for number, choice in enumerate(self.choices):
            before, after = self.choices[:number], self.choices[number + 1 :]
            for parts in in_two(self.network, choice):
                yield [*before, *parts, *after]
            if after and is_segment(self.network, (*choice.layers, *after[0].layers)):
                joined = (*choice.layers, *after[0].layers)
                yield [*before, Choice(joined, after[0].tiles), *after[1:]]

    def _around(self, start: int, end: int) -> Iterator[list[Choice]]:
        for number in {start, end}:
            last = self.choices[number].layers[-1]
            grid = (min(last.height, FINEST), min(last.width, FINEST))
            template = from_tiles("", self.choices[number].tiles, last.height, last.width)
            tiles = template.at(*grid) if start < end else dict(self.choices[number].tiles)
            size = grid if start < end else (last.height, last.width)
            for moved in neighbours(tiles, max(size) // 8, self.kinds):
                near = from_tiles("", moved, *size)
                yield [
                    Choice(c.layers, near.at(c.layers[-1].height, c.layers[-1].width))
                    if start <= k <= end
                    else c
                    for k, c in enumerate(self.choices)
                ]

    def _simulated_s(self, choices: Sequence[Choice]) -> float:
        found = self.evaluate(choices)
        return math.inf if found.sum_s > self.limit_s else found.predicted_s


def _halves(run: list[int]) -> Iterator[list[int]]:
    yield run
    if len(run) > 1:
        for part in (run[: len(run) // 2], run[len(run) // 2 :]):
            yield from _halves(part)
