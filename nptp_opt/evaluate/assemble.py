"""From choices (which layers together, which partition) to a plan's steps, costed exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nptp_opt.cluster import Cluster
from nptp_opt.cost import (
    Ownership,
    Rims,
    Transfer,
    input_ownership,
    pieces,
    read_by_others,
    result_users,
)
from nptp_opt.geometry import EMPTY, Tile
from nptp_opt.network.ir import Layer, Network, external_inputs
from nptp_opt.plan.steps import GatherStep, GlobalStep, SpatialStep, Step


@dataclass(frozen=True)
class Choice:
    """One segment: its layers in topological order and a partition of the last one's output.

    For a global layer, alone in its choice, there is nothing to choose and no tiles are given: its
    result goes to the devices that use it.
    """

    layers: tuple[Layer, ...]
    tiles: Ownership = field(default_factory=dict)
    rims: Rims = "none"
    """What devices compute apart from the interior: last what needs a halo, first what others
    read."""
    first: tuple[int, ...] = ()
    """Receivers whose messages every sender hands over first, in this order."""

    @property
    def is_global(self) -> bool:
        return self.layers[-1].kind == "global"


def assemble(network: Network, cluster: Cluster, choices: Sequence[Choice]) -> tuple[Step, ...]:
    """The steps of a plan: the segments in order, then the head (or the results) at the sink."""
    owned: dict[str, Ownership] = dict(input_ownership(network, cluster))
    users = _users(network, cluster, choices)
    steps: list[Step] = []
    for k, choice in enumerate(choices):
        last = choice.layers[-1]
        if choice.is_global:
            steps.append(global_step(network, cluster, last, owned, users[last.name]))
        else:
            steps.append(segment_step(network, cluster, choice, owned, choices[k + 1 :]))
            owned[last.name] = steps[-1].tiles
    return (*steps, final_step(network, cluster, owned))


def _users(
    network: Network, cluster: Cluster, choices: Sequence[Choice]
) -> Mapping[str, frozenset[int]]:
    if not network.replicated:
        return {}
    parts = [
        (choice.layers[-1].name, external_inputs(choice.layers), _devices(choice.tiles))
        for choice in choices
    ]
    return result_users(network, cluster.sink, parts)


def _devices(tiles: Ownership) -> list[int]:
    return [i for i, tile in tiles.items() if not tile.is_empty]


def segment_step(
    network: Network,
    cluster: Cluster,
    choice: Choice,
    owned: Mapping[str, Ownership],
    later: Sequence[Choice] = (),
) -> SpatialStep:
    """One segment, evaluated with what the devices hold before it; ``later`` choices read it."""
    tiles = {i: tile for i, tile in sorted(choice.tiles.items()) if not tile.is_empty}
    names = tuple(layer.name for layer in choice.layers)
    parts = _pieces(network, choice, tiles, owned, later) if choice.rims != "none" else {}
    step = SpatialStep(names, tiles, pieces=parts).with_cost(network, cluster, owned)
    return replace(step, transfers=in_order(step.transfers, choice.first))


def in_order(transfers: Sequence[Transfer], first: Sequence[int]) -> tuple[Transfer, ...]:
    """Transfers to the receivers that are ``first`` before all others."""
    rank = {device: k for k, device in enumerate(first)}
    return tuple(sorted(transfers, key=lambda move: rank.get(move.dst, len(rank))))


def _pieces(
    network: Network,
    choice: Choice,
    tiles: Ownership,
    owned: Mapping[str, Ownership],
    later: Sequence[Choice],
) -> dict[int, tuple[Tile, ...]]:
    """The pieces of devices that have several."""
    layers = choice.layers
    maps = [name for name in external_inputs(layers) if name not in network.replicated]
    readers = [(other.layers, other.tiles) for other in later if not other.is_global]
    wanted = read_by_others(readers, layers[-1].name, tiles)
    found = {}
    for device, tile in tiles.items():
        own = {name: owned[name].get(device, EMPTY) for name in maps}
        parts = pieces(layers, tile, choice.rims, own, wanted[device])
        if len(parts) > 1:
            found[device] = parts
    return found


def global_step(
    network: Network,
    cluster: Cluster,
    layer: Layer,
    owned: Mapping[str, Ownership],
    users: frozenset[int],
) -> GlobalStep:
    """The reduction of a map, or what follows on one, on the devices that use the result."""
    return GlobalStep.used_by(layer, users).with_cost(network, cluster, owned)


def final_step(network: Network, cluster: Cluster, owned: Mapping[str, Ownership]) -> GatherStep:
    """The head (or collecting the results) at the sink."""
    names = tuple(layer.name for layer in network.head)
    step = GatherStep(names, cluster.sink, network.spatial_outputs)
    return step.with_cost(network, cluster, owned)
