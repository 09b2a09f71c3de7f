"""Polish: local search on the partitions of a plan, each segment with its neighbours fixed.

A change of one segment's partition alters the price of that segment and of the steps that read its
output, nothing else; a change is kept when the sum falls. The search ends when a whole round
improves nothing, or when time is up; what it returns is never worse than what it was given.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Ownership, input_ownership
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network
from nptp_opt.planner.assemble import Choice, assemble, final_step, segment_step
from nptp_opt.planner.moves import neighbours

LEAST_GAIN = 1e-9
"""Relative gain below which a change does not count as one."""


def polish(
    network: Network, cluster: Cluster, choices: Sequence[Choice], deadline: float
) -> list[Choice]:
    """Improve the partitions of ``choices`` until nothing helps or ``time.monotonic()`` is over."""
    ledger = _Ledger(network, cluster, list(choices))
    improved = True
    while improved and time.monotonic() < deadline:
        improved = False
        for number, choice in enumerate(ledger.choices):
            if not choice.is_global and len(choice.tiles) > 1:
                improved |= _improve(ledger, number, deadline)
    return ledger.choices


def _improve(ledger: _Ledger, number: int, deadline: float) -> bool:
    """Walk downhill from one segment's partition; True when it changed."""
    last = ledger.choices[number].layers[-1]
    reach = max(last.height, last.width) // 8
    changed, found = False, True
    while found:
        found = False
        for tiles in neighbours(ledger.choices[number].tiles, reach):
            if time.monotonic() > deadline:
                return changed
            if ledger.try_tiles(number, tiles):
                changed = found = True
                break
    return changed


class _Ledger:
    """Choices and the price of every step; the last price is that of the final step."""

    def __init__(self, network: Network, cluster: Cluster, choices: list[Choice]) -> None:
        self.network, self.cluster, self.choices = network, cluster, choices
        self.owned: dict[str, Ownership] = dict(input_ownership(network, cluster))
        self.owned |= {c.layers[-1].name: c.tiles for c in choices if not c.is_global}
        self.prices = [step.makespan_s for step in assemble(network, cluster, choices)]
        self.readers = [self._readers(choice) for choice in choices]

    def _readers(self, choice: Choice) -> list[int]:
        """Numbers of the steps that read a choice's output."""
        name = choice.layers[-1].name
        reading = [
            number
            for number, other in enumerate(self.choices)
            if any(name in layer.inputs for layer in other.layers) and other is not choice
        ]
        wanted = {tensor for layer in self.network.head for tensor in layer.inputs}
        final = name in wanted or name in self.network.spatial_outputs
        return [*reading, len(self.choices)] if final else reading

    def try_tiles(self, number: int, tiles: dict[int, Tile]) -> bool:
        """Take ``tiles`` for one choice if that lowers the latency."""
        before = self.choices[number]
        name = before.layers[-1].name
        self.choices[number], self.owned[name] = Choice(before.layers, tiles), tiles
        new = self._changed(number)
        gain = sum(self.prices[k] - price for k, price in new.items())
        if gain > LEAST_GAIN * sum(self.prices):
            for k, price in new.items():
                self.prices[k] = price
            return True
        self.choices[number], self.owned[name] = before, before.tiles
        return False

    def _changed(self, number: int) -> dict[int, float]:
        """Prices of the steps that a changed choice alters."""
        if self.network.replicated:
            steps = assemble(self.network, self.cluster, self.choices)
            return {k: step.makespan_s for k, step in enumerate(steps)}
        return {k: self._price(k) for k in (number, *self.readers[number])}

    def _price(self, number: int) -> float:
        if number == len(self.choices):
            return final_step(self.network, self.cluster, self.owned).makespan_s
        return segment_step(self.network, self.cluster, self.choices[number], self.owned).makespan_s
