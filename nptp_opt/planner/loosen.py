"""Fused segments taken apart again where steps may overlap.

Layers are fused to save exchanges, at the price of computing rims several times. An exchange that
is hidden behind an interior costs nothing, so part of what the search fused without regard to
overlap is better off in two steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from nptp_opt.cluster import Cluster
from nptp_opt.network.ir import Network
from nptp_opt.planner.assemble import Choice
from nptp_opt.planner.memory import fitting_steps
from nptp_opt.planner.templates import from_tiles, snaps
from nptp_opt.planner.units import is_segment

LEAST_GAIN = 1e-6
"""Relative gain below which a segment stays as it is."""


def loosened(
    network: Network, cluster: Cluster, choices: Sequence[Choice], deadline: float
) -> list[Choice]:
    """Cut segments in two, the first part on the partition of the whole, while that pays.

    Plans are priced with overlap; what is returned is never worse than ``choices``.
    """
    best, number = list(choices), 0
    value = overlapped_latency_s(network, cluster, best)
    while number < len(best) and time.monotonic() < deadline:
        cut = [
            [*best[:number], *parts, *best[number + 1 :]] for parts in in_two(network, best[number])
        ]
        prices = [overlapped_latency_s(network, cluster, plan) for plan in cut]
        if min(prices, default=value) < value * (1 - LEAST_GAIN):
            value = min(prices)
            best = cut[prices.index(value)]
        else:
            number += 1
    return best


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
