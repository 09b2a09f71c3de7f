"""Very many devices: a search with those that can help most, with twice as many while that pays.

Searches go through numbers of devices, and every message of a plan is simulated, so that their
time grows faster than the number of devices. A plan that leaves some of those idle that it may use
would hardly use more of them, so the search ends there. Without a time limit the baselines, which
have no search, are planned for all devices, too: no plan is slower than one of them. With a limit
they are not: on a thousand devices they take longer than a minute, and nothing cuts them short.
Other objectives than the latency are searched with all devices.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.clock import Clock
from nptp_opt.network.ir import Network
from nptp_opt.planner.baselines.quick import QUICK, mean_speeds
from nptp_opt.planner.options import PlanOptions

MOST_SEARCHED = 64
"""Devices up to which a search has all of them; of more it begins with so many."""

ALL_USED = 7 / 8
"""Part of the devices from which on a plan counts as one that would use more of them."""

LEAST_S = 1e-3
"""A search's time limit where none of the time is left: it ends with one of its baselines."""

Search = Callable[[Network, Cluster, PlanOptions], list[Choice]]


def of_many(
    network: Network, cluster: Cluster, options: PlanOptions, search: Search
) -> list[Choice]:
    """The fastest plan of ``search`` with some devices, and of the baselines with all."""
    n, clock = len(cluster.devices), Clock(network, cluster)
    deadline = time.monotonic() + options.limits.time_limit_s
    order, found = by_usefulness(network, cluster), list[list[Choice]]()
    for count in _counts(n):
        # Half of what is left may go by with so many; with all of them all of it.
        began = time.monotonic()
        left_s = (deadline - began) / (1 if count == n else 2)
        limits = replace(options.limits, time_limit_s=max(left_s, LEAST_S))
        numbers = sorted(order[:count])
        plan = search(network, _some(cluster, numbers), replace(options, limits=limits))
        found.append(_renumbered(plan, numbers))
        # What comes before the walks ends by no limit: with twice as many it would last longer yet.
        ended = time.monotonic() > began + left_s or options.stopped()
        if ended or (clock.fits(found[-1]) and _used(plan) < ALL_USED * count):
            break
    if count < n:
        options.tell(f"searched with the {count} of {n} devices that can help most")
    if deadline == math.inf:
        found += _baselines(clock, options)
    return min(found, key=lambda plan: (not clock.fits(plan), clock.seconds(plan)))


def by_usefulness(network: Network, cluster: Cluster) -> list[int]:
    """All devices: source and sink, then by the seconds that equal shares take each: computing a
    share of all layers, and receiving that of the inputs."""
    speeds = mean_speeds(network, cluster)
    flop = sum(layer.flop for layer in network.spatial)
    elements = sum(math.prod(network.shapes[name]) for name in network.inputs)
    inputs = elements * network.bytes_per_element

    def seconds(i: int) -> float:
        moved = 0.0 if cluster.shared else inputs / cluster.devices[i].down_bytes_per_s
        return flop / (1e9 * speeds[i]) + moved

    ends = (cluster.source, cluster.sink)
    return sorted(range(len(cluster.devices)), key=lambda i: (i not in ends, seconds(i), i))


def _counts(n: int) -> Iterator[int]:
    """``MOST_SEARCHED``, twice as many, ..., all."""
    count = MOST_SEARCHED
    while count < n:
        yield count
        count *= 2
    yield n


def _some(cluster: Cluster, numbers: Sequence[int]) -> Cluster:
    """The cluster of some devices; source and sink are among them."""
    names = [device.name for device in cluster.devices]
    ends = {"source": names[cluster.source], "sink": names[cluster.sink], "stand_ins": None}
    return cluster.model_copy(
        update={
            "devices": tuple(cluster.devices[i] for i in numbers),
            "network": cluster.network.model_copy(update=ends),
        }
    )


def _renumbered(plan: Sequence[Choice], numbers: Sequence[int]) -> list[Choice]:
    """The plan in the numbers of the whole cluster."""
    return [
        replace(
            choice,
            tiles={numbers[i]: tile for i, tile in choice.tiles.items()},
            first=tuple(numbers[i] for i in choice.first),
        )
        for choice in plan
    ]


def _used(plan: Sequence[Choice]) -> int:
    return len({i for choice in plan for i, tile in choice.tiles.items() if not tile.is_empty})


def _baselines(clock: Clock, options: PlanOptions) -> Iterator[list[Choice]]:
    """Those of all devices, until the search is stopped."""
    for plan in QUICK.values():
        if options.stopped():
            return
        yield plan(clock.network, clock.cluster)
