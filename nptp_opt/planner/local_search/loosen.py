"""Plans for overlap, from one that was found without it: segments taken apart, cuts moved.

Layers are fused to save exchanges, at the price of computing rims several times. An exchange that
is hidden behind an interior costs nothing, so part of what the search fused without regard to
overlap is better off in two steps. Partitions move, too: where comm is hidden the balance of the
computing counts, and interiors and rims want other shapes than whole tiles.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Ownership, input_ownership
from nptp_opt.evaluate.assemble import Choice, final_step, overlapping, segment_step
from nptp_opt.evaluate.memory import fitting_steps
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network, external_inputs
from nptp_opt.planner.candidates.templates import from_tiles, snaps
from nptp_opt.planner.local_search.moves import neighbours
from nptp_opt.planner.path.units import is_segment

LEAST_GAIN = 1e-6
"""Relative gain below which a segment stays as it is."""

MOVING_S = 15.0
"""Seconds for moving cuts at most: the first moves gain most."""


def loosened(
    network: Network, cluster: Cluster, choices: Sequence[Choice], deadline: float
) -> list[Choice]:
    """Cut segments in two where that pays, then move their cuts, then cut in two once more.

    Plans are priced with overlap; what is returned is never worse than ``choices``.
    """
    best = divided(network, cluster, choices, deadline)
    moved = _moved(network, cluster, best, min(deadline, time.monotonic() + MOVING_S))
    return best if moved == best else divided(network, cluster, moved, deadline)


def divided(
    network: Network, cluster: Cluster, choices: Sequence[Choice], deadline: float
) -> list[Choice]:
    """Segments in two, the first part on the partition of the whole, while that pays."""
    best, number = list(choices), 0
    prices = OverlapPrices(network, cluster)
    value = prices.latency_s(best)
    while number < len(best) and time.monotonic() < deadline:
        cut = [
            [*best[:number], *parts, *best[number + 1 :]] for parts in in_two(network, best[number])
        ]
        found = [prices.latency_s(plan) for plan in cut]
        if min(found, default=value) < value * (1 - LEAST_GAIN):
            value = min(found)
            best = cut[found.index(value)]
        else:
            number += 1
    return best


def _moved(
    network: Network, cluster: Cluster, choices: Sequence[Choice], deadline: float
) -> list[Choice]:
    """Move cuts of one segment, or of those that follow it, too, while plans get faster."""
    best, prices = list(choices), OverlapPrices(network, cluster)
    value, improved = prices.latency_s(best), True
    while improved and time.monotonic() < deadline:
        improved = False
        for number, choice in enumerate(best):
            if choice.is_global or time.monotonic() > deadline:
                continue
            for changed in _around(network, cluster, best, number):
                if time.monotonic() > deadline:
                    return best
                found = prices.latency_s(changed)
                if found < value * (1 - LEAST_GAIN):
                    best, value, improved = changed, found, True
                    break
    return best


def _around(
    network: Network, cluster: Cluster, choices: Sequence[Choice], number: int
) -> Iterator[list[Choice]]:
    """Plans with a neighbour of one partition: there alone, and on all segments that follow it on
    the same devices."""
    now, snap = choices[number], snaps(network)
    last = now.layers[-1]
    run = number + 1
    while run < len(choices) and choices[run].tiles and set(choices[run].tiles) == set(now.tiles):
        run += 1
    for tiles in neighbours(now.tiles, max(last.height, last.width) // 8, cluster.kinds):
        yield [*choices[:number], Choice(now.layers, tiles), *choices[number + 1 :]]
        if run > number + 1:
            template = from_tiles("", tiles, last.height, last.width)
            ends = [(c.layers, c.layers[-1]) for c in choices[number + 1 : run]]
            others = [
                Choice(layers, template.at(end.height, end.width, snap[end.name]))
                for layers, end in ends
            ]
            yield [*choices[:number], Choice(now.layers, tiles), *others, *choices[run:]]


class OverlapPrices:
    """Latencies of plans that share most of their steps: a step is priced once."""

    def __init__(self, network: Network, cluster: Cluster) -> None:
        self.network, self.cluster = network, cluster
        self.limited = any(device.memory_mib is not None for device in cluster.devices)
        self._known: dict[object, float] = {}

    def latency_s(self, choices: Sequence[Choice]) -> float:
        """Sum of the makespans when steps overlap where that is cheaper and memory suffices."""
        if self.limited or any(choice.is_global for choice in choices):
            return overlapped_latency_s(self.network, self.cluster, choices)
        owned: dict[str, Ownership] = dict(input_ownership(self.network, self.cluster))
        total = 0.0
        for choice in choices:
            total += self._step_s(choice, owned)
            owned[choice.layers[-1].name] = choice.tiles
        return total + self._final_s(owned)

    def _step_s(self, choice: Choice, owned: Mapping[str, Ownership]) -> float:
        reads = [owned[name] for name in external_inputs(choice.layers) if name in owned]
        key = (
            choice.layers[0].name,
            choice.layers[-1].name,
            len(choice.layers),
            *(_key(tiles) for tiles in (choice.tiles, *reads)),
        )
        if key not in self._known:
            step = segment_step(self.network, self.cluster, choice, owned)
            step = overlapping(self.network, self.cluster, step, owned)
            self._known[key] = step.makespan_s
        return self._known[key]

    def _final_s(self, owned: Mapping[str, Ownership]) -> float:
        wanted = (*external_inputs(self.network.head), *self.network.spatial_outputs)
        key = ("", *(_key(owned[name]) for name in wanted if name in owned))
        if key not in self._known:
            self._known[key] = final_step(self.network, self.cluster, owned).makespan_s
        return self._known[key]


def _key(tiles: Ownership) -> tuple[tuple[int, Tile], ...]:
    return tuple(sorted(tiles.items()))


def overlapped_latency_s(network: Network, cluster: Cluster, choices: Sequence[Choice]) -> float:
    """Sum of the makespans when steps overlap where that is cheaper and memory suffices."""
    steps = fitting_steps(network, cluster, choices, overlap=True)
    return sum(step.makespan_s for step in steps)


def in_two(network: Network, choice: Choice) -> Iterator[tuple[Choice, Choice]]:
    """Every way to make two segments of one."""
    if choice.is_global:
        return
    last, snap = choice.layers[-1], snaps(network)
    template = from_tiles(last.name, choice.tiles, last.height, last.width)
    for place in range(1, len(choice.layers)):
        first, second = choice.layers[:place], choice.layers[place:]
        end = first[-1]
        if end.kind == "spatial" and is_segment(network, first) and is_segment(network, second):
            tiles = template.at(end.height, end.width, snap[end.name])
            yield Choice(first, tiles), Choice(second, choice.tiles)
