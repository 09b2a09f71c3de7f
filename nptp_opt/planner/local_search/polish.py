"""Polish: local search on the partitions of a plan, its segments fixed.

A *run* is a sequence of segments each of which is read by the next one alone. All segments of a run
move at once: every one gets the neighbours of its partition as candidates (a cut moved, two devices
swapped; with many devices a sample), and a shortest path over these candidates, priced exactly,
picks one for each. So a cut that goes through several layers can move in all of them, or in one.
Segments next to reductions, whose prices depend on who uses the result, move one by one, priced by
assembling the plan. The search ends when a whole round improves nothing, or when time is up; what
it returns is never worse than what it was given. With ``weights`` that is their price of the steps
(``cost.objectives``), without it is the latency.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import (
    CandidateTiles,
    FloatArray,
    Ownership,
    StepPrices,
    candidate_array,
    gather_prices,
    input_ownership,
    segment_prices,
)
from nptp_opt.cost.objectives import Weights
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.usage import price_of
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Network, external_inputs
from nptp_opt.planner.local_search.moves import (
    Partition,
    most_neighbours,
    moves,
    neighbours,
)

LEAST_GAIN = 1e-6
"""Relative gain below which a change does not count as one."""


def polish(
    network: Network,
    cluster: Cluster,
    choices: Sequence[Choice],
    deadline: float,
    weights: Weights | None = None,
    watch: Callable[[list[Choice]], object] | None = None,
) -> list[Choice]:
    """Improve the partitions of ``choices`` until nothing helps or ``time.monotonic()`` is over.

    ``watch`` is shown the choices after every change.
    """
    ledger = Ledger(network, cluster, list(choices), weights, watch)
    improved = True
    while improved and time.monotonic() < deadline:
        improved = False
        for run in ledger.runs():
            improved |= ledger.walk(run, deadline)
        for number in ledger.awkward():
            improved |= ledger.step(number, deadline)
    return ledger.choices


class Ledger:
    """Choices, their readers and their total price."""

    def __init__(
        self,
        network: Network,
        cluster: Cluster,
        choices: list[Choice],
        weights: Weights | None = None,
        watch: Callable[[list[Choice]], object] | None = None,
        *,
        wide: bool = False,
        devices: frozenset[int] | None = None,
    ) -> None:
        self.network, self.cluster, self.choices = network, cluster, choices
        self.weights, self.watch = weights, watch
        self.random = random.Random(0)
        self.final = len(choices)
        """Number of the last step, which is no choice."""
        self.reads = [_reads(choice) for choice in choices]
        wanted = (*external_inputs(network.head), *network.spatial_outputs)
        self.reads.append(frozenset(wanted))

    # -- which segments move together ----------------------------------------------------------

    def runs(self) -> Iterator[list[int]]:
        """Longest runs of plain segments, in order."""
        run: list[int] = []
        for number in range(self.final):
            if run and not (self.plain(number) and self.readers(run[-1]) == [number]):
                yield run
                run = []
            if self.plain(number):
                run.append(number)
        if run:
            yield run

    def awkward(self) -> list[int]:
        """Segments whose partition changes who takes part in a reduction."""
        return [
            number
            for number, choice in enumerate(self.choices)
            if not choice.is_global and not self.plain(number)
        ]

    def readers(self, number: int) -> list[int]:
        """Numbers of the steps that read a choice's output."""
        name = self.choices[number].layers[-1].name
        return [k for k, reads in enumerate(self.reads) if name in reads]

    def plain(self, number: int) -> bool:
        """Is the price of a segment's partition its own and its readers' alone?"""
        if self.choices[number].is_global or self.reads[number] & self.network.replicated:
            return False
        return not any(self._global(k) for k in self.readers(number))

    def _global(self, number: int) -> bool:
        return number < self.final and self.choices[number].is_global

    # -- a run at once -------------------------------------------------------------------------

    def walk(self, run: Sequence[int], deadline: float) -> bool:
        """Walk downhill with all partitions of a run; True when any changed."""
        changed = False
        while time.monotonic() < deadline:
            candidates = [self.around(number) for number in run]
            picks, gain = self._cheapest(run, candidates)
            if not gain > LEAST_GAIN:
                break
            for number, found, pick in zip(run, candidates, picks, strict=True):
                self.choices[number] = Choice(self.choices[number].layers, found[pick])
            changed = True
            self._show()
        return changed

    def _show(self) -> None:
        if self.watch is not None:
            self.watch(list(self.choices))

    def around(self, number: int) -> list[Partition]:
        """The partition of a choice, first, and its neighbours."""
        choice = self.choices[number]
        last, now = choice.layers[-1], dict(choice.tiles)
        reach = max(last.height, last.width) // 8
        found = [*moves(now, reach, self.cluster.kinds)]
        most = most_neighbours(len(self.cluster.devices))
        if len(found) > most:
            found = self.random.sample(found, most)
        return [now, *(move() for move in found)]

    def _cheapest(
        self, run: Sequence[int], candidates: Sequence[Sequence[Partition]]
    ) -> tuple[list[int], float]:
        """The best candidate of every segment of a run, and the relative gain over the first."""
        owners = self.owners()
        cost = np.zeros(1)
        stay_s = 0.0
        origins: list[IntArray] = []
        for number, found in zip(run, candidates, strict=True):
            tiles = CandidateTiles(candidate_array(found, len(self.cluster.devices)))
            price = self._priced(self.segment(number, tiles), self.inputs(number, owners))
            owners[self.choices[number].layers[-1].name] = tiles.array
            stay_s += price[0, 0]
            total = cost[:, None] + price
            origins.append(total.argmin(axis=0))
            cost = total.min(axis=0)
        for reader in self.readers(run[-1]):
            price = self._priced(self.reader(reader), self.inputs(reader, owners))[:, 0]
            stay_s, cost = stay_s + price[0], cost + price
        gain = (float(stay_s) - float(cost.min())) / max(float(stay_s), 1e-300)
        return _traced(origins, int(cost.argmin())), gain

    def _priced(self, prices: StepPrices, inputs: dict[str, IntArray]) -> FloatArray:
        return prices.makespans(inputs, weights=self.weights)

    def segment(self, number: int, tiles: CandidateTiles) -> StepPrices:
        """Prices of a segment for candidates of its output."""
        return segment_prices(self.cluster, self.network, self.choices[number].layers, tiles)

    def reader(self, number: int) -> StepPrices:
        """Prices of a step whose own partition stays."""
        if number == self.final:
            head, outputs = self.network.head, self.network.spatial_outputs
            return gather_prices(self.cluster, self.network, head, self.cluster.sink, outputs)
        array = candidate_array([self.choices[number].tiles], len(self.cluster.devices))
        return self.segment(number, CandidateTiles(array))

    def inputs(self, number: int, owners: dict[str, IntArray]) -> dict[str, IntArray]:
        """The owners of what a step reads."""
        moving = self.reads[number] - self.network.replicated
        return {tensor: owners[tensor] for tensor in sorted(moving)}

    def owners(self) -> dict[str, IntArray]:
        """Owners (1, n, 4) of every tensor as the choices stand."""
        held: dict[str, Ownership] = dict(input_ownership(self.network, self.cluster))
        held |= {c.layers[-1].name: c.tiles for c in self.choices if not c.is_global}
        n = len(self.cluster.devices)
        return {tensor: candidate_array([tiles], n) for tensor, tiles in held.items()}

    # -- one segment, priced with the whole plan -----------------------------------------------

    def step(self, number: int, deadline: float) -> bool:
        """Take the best neighbour of one partition if that lowers the price."""
        stay, best = self.choices[number], self._price()
        kept, limit = stay, best * (1 - LEAST_GAIN)
        for tiles in neighbours(dict(stay.tiles), 1, self.cluster.kinds):
            if time.monotonic() > deadline:
                break
            self.choices[number] = Choice(stay.layers, tiles)
            value = self._price()
            if value < limit:
                kept, limit = self.choices[number], value
        self.choices[number] = kept
        if kept is not stay:
            self._show()
        return kept is not stay

    def _price(self) -> float:
        steps = assemble(self.network, self.cluster, self.choices)
        return price_of(self.network, self.cluster, steps, self.weights)


def _reads(choice: Choice) -> frozenset[str]:
    return frozenset(external_inputs(choice.layers))


def _traced(origins: Sequence[IntArray], last: int) -> list[int]:
    picks = [last]
    for origin in reversed(origins[1:]):
        picks.append(int(origin[picks[-1]]))
    return picks[::-1]
