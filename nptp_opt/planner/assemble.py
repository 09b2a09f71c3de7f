"""From choices (which layers together, which partition) to the steps of a plan, priced exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nptp_opt.cluster import Cluster
from nptp_opt.cost import (
    Ownership,
    gather_loads,
    gather_needs,
    halo_transfers,
    input_ownership,
    makespan_s,
    segment_loads,
    segment_needs,
)
from nptp_opt.network.ir import Layer, Network
from nptp_opt.steps import Step


@dataclass(frozen=True)
class Choice:
    """One segment: its layers in topological order and a partition of the last one's output."""

    layers: tuple[Layer, ...]
    tiles: Ownership


def assemble(network: Network, cluster: Cluster, choices: Sequence[Choice]) -> tuple[Step, ...]:
    """The steps of a plan: the segments in order, then the head (or the results) at the sink."""
    owned: dict[str, Ownership] = dict(input_ownership(network, cluster))
    steps = []
    for choice in choices:
        tiles = {i: tile for i, tile in sorted(choice.tiles.items()) if not tile.is_empty}
        moves = halo_transfers(network, segment_needs(choice.layers, tiles), owned)
        loads = segment_loads(cluster, choice.layers, tiles, moves)
        names = tuple(layer.name for layer in choice.layers)
        price = makespan_s(cluster, loads)
        steps.append(Step("spatial", names, tiles, None, tuple(moves), price))
        owned[choice.layers[-1].name] = tiles
    steps.append(_final_step(network, cluster, owned))
    return tuple(steps)


def _final_step(network: Network, cluster: Cluster, owned: dict[str, Ownership]) -> Step:
    sink = cluster.sink
    needs = gather_needs(network, network.head, sink, network.spatial_outputs)
    moves = halo_transfers(network, needs, owned)
    loads = gather_loads(cluster, network.head, sink, moves)
    names = tuple(layer.name for layer in network.head)
    return Step("gather", names, {}, sink, tuple(moves), makespan_s(cluster, loads))
