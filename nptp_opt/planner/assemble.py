"""From choices (which layers together, which partition) to the steps of a plan, priced exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nptp_opt.cluster import Cluster
from nptp_opt.cost import (
    RESULT,
    Ownership,
    gather_loads,
    gather_needs,
    halo_transfers,
    input_ownership,
    makespan_s,
    reduction_loads,
    reduction_transfers,
    result_users,
    segment_loads,
    segment_needs,
)
from nptp_opt.network.ir import Layer, Network
from nptp_opt.steps import Step


@dataclass(frozen=True)
class Choice:
    """One segment: its layers in topological order and a partition of the last one's output.

    For a global layer, alone in its choice, there is nothing to choose and no tiles are given: its
    result goes to the devices that use it.
    """

    layers: tuple[Layer, ...]
    tiles: Ownership = field(default_factory=dict)

    @property
    def is_global(self) -> bool:
        return self.layers[-1].kind == "global"


def assemble(network: Network, cluster: Cluster, choices: Sequence[Choice]) -> tuple[Step, ...]:
    """The steps of a plan: the segments in order, then the head (or the results) at the sink."""
    owned: dict[str, Ownership] = dict(input_ownership(network, cluster))
    parts = [(choice.layers, _devices(choice.tiles)) for choice in choices]
    users = result_users(network, cluster.sink, parts)
    steps = []
    for choice in choices:
        if choice.is_global:
            layer = choice.layers[-1]
            steps.append(_global_step(network, cluster, layer, owned, users[layer.name]))
        else:
            steps.append(segment_step(network, cluster, choice, owned))
            owned[choice.layers[-1].name] = steps[-1].tiles
    steps.append(final_step(network, cluster, owned))
    return tuple(steps)


def _devices(tiles: Ownership) -> list[int]:
    return [i for i, tile in tiles.items() if not tile.is_empty]


def segment_step(
    network: Network, cluster: Cluster, choice: Choice, owned: Mapping[str, Ownership]
) -> Step:
    """One segment, priced with what the devices hold before it."""
    tiles = {i: tile for i, tile in sorted(choice.tiles.items()) if not tile.is_empty}
    moves = halo_transfers(cluster, network, segment_needs(choice.layers, tiles), owned)
    loads = segment_loads(cluster, choice.layers, tiles, moves)
    names = tuple(layer.name for layer in choice.layers)
    return Step("spatial", names, tiles, None, tuple(moves), makespan_s(cluster, loads))


def _global_step(
    network: Network,
    cluster: Cluster,
    layer: Layer,
    owned: dict[str, Ownership],
    users: frozenset[int],
) -> Step:
    owners = owned[layer.nodes[0].inputs[0]] if layer.reduces else {}
    moves = reduction_transfers(network, layer, owners, users)
    loads = reduction_loads(cluster, network, layer, owners, users, moves)
    held = dict.fromkeys(sorted(users), RESULT)
    return Step("global", (layer.name,), held, None, tuple(moves), makespan_s(cluster, loads))


def final_step(network: Network, cluster: Cluster, owned: Mapping[str, Ownership]) -> Step:
    """The head (or collecting the results) at the sink."""
    sink = cluster.sink
    needs = gather_needs(network, network.head, sink, network.spatial_outputs)
    moves = halo_transfers(cluster, network, needs, owned)
    loads = gather_loads(cluster, network.head, sink, moves)
    names = tuple(layer.name for layer in network.head)
    return Step("gather", names, {}, sink, tuple(moves), makespan_s(cluster, loads))
