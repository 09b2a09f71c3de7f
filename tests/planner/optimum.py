"""The optimum of a small chain over all segmentations and all partitions of a family.

Every map may have a partition of its own; every device may own any of its tiles or none. A dynamic
programme over all pairs of partitions; its plan is priced again by ``assemble``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import CandidateTiles, candidate_array, gather_prices, segment_prices
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network
from tests.brute import FAMILIES


def all_partitions(height: int, width: int, devices: int, family: str) -> list[dict[int, Tile]]:
    """Every partition of the family with every assignment of its tiles to different devices."""
    found = []
    cuts = range(height + 1), range(width + 1)
    for partition in {*FAMILIES[family](*cuts, devices)}:
        for owners in itertools.permutations(range(devices), len(partition)):
            found.append(dict(zip(owners, sorted(partition), strict=True)))
    return found


def optimum(network: Network, cluster: Cluster, family: str) -> tuple[float, list[Choice]]:
    """The smallest latency of a chain that ends in a map, and a plan that has it."""
    layers, n = network.spatial, len(cluster.devices)
    known: dict[tuple[int, int], list[dict[int, Tile]]] = {}
    states = [
        known.setdefault(key, all_partitions(*key, n, family))
        for key in ((layer.height, layer.width) for layer in layers)
    ]
    arrays = [candidate_array(found, n) for found in states]
    source = candidate_array([{cluster.source: network.full(network.inputs[0])}], n)
    before, names = [source, *arrays], [network.inputs[0], *(layer.name for layer in layers)]
    cost: list[np.ndarray] = [np.zeros(1)]
    back: list[list[tuple[int, int]]] = [[(0, 0)]]
    for end in range(1, len(layers) + 1):
        best, came = np.full(len(states[end - 1]), np.inf), [(0, 0)] * len(states[end - 1])
        for start in range(end):
            part = layers[start:end]
            prices = segment_prices(cluster, network, part, CandidateTiles(arrays[end - 1]))
            total = cost[start][:, None] + prices.makespans({names[start]: before[start]})
            for q in np.flatnonzero(total.min(axis=0) < best):
                best[q] = total[:, q].min()
                came[q] = (start, int(total[:, q].argmin()))
        cost.append(best)
        back.append(came)
    last = gather_prices(cluster, network, network.head, cluster.sink, network.spatial_outputs)
    total = cost[-1] + last.makespans({names[-1]: arrays[-1]})[:, 0]
    choices = _trace(layers, states, back, int(total.argmin()))
    value = sum(step.makespan_s for step in assemble(network, cluster, choices))
    assert abs(value - total.min()) <= 1e-12 * value
    return value, choices


def _trace(
    layers: Sequence[object],
    states: Sequence[list[dict[int, Tile]]],
    back: Sequence[list[tuple[int, int]]],
    at: int,
) -> list[Choice]:
    found: list[Choice] = []
    end = len(layers)
    while end > 0:
        start, before = back[end][at]
        found.insert(0, Choice(tuple(layers[start:end]), states[end - 1][at]))  # type: ignore[arg-type]
        end, at = start, before
    return found
