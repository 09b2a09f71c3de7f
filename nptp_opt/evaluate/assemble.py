"""From choices (which layers together, which partition) to the steps of a plan, priced exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Ownership, input_ownership, result_users
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
    overlap: bool = False
    """Devices compute what needs no halo while the halo is on its way."""

    @property
    def is_global(self) -> bool:
        return self.layers[-1].kind == "global"


def assemble(network: Network, cluster: Cluster, choices: Sequence[Choice]) -> tuple[Step, ...]:
    """The steps of a plan: the segments in order, then the head (or the results) at the sink."""
    owned: dict[str, Ownership] = dict(input_ownership(network, cluster))
    users = _users(network, cluster, choices)
    steps: list[Step] = []
    for choice in choices:
        last = choice.layers[-1]
        if choice.is_global:
            steps.append(global_step(network, cluster, last, owned, users[last.name]))
        else:
            steps.append(segment_step(network, cluster, choice, owned))
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
    network: Network, cluster: Cluster, choice: Choice, owned: Mapping[str, Ownership]
) -> SpatialStep:
    """One segment, priced with what the devices hold before it."""
    tiles = {i: tile for i, tile in sorted(choice.tiles.items()) if not tile.is_empty}
    names = tuple(layer.name for layer in choice.layers)
    return SpatialStep(names, tiles, overlap=choice.overlap).priced(network, cluster, owned)


def global_step(
    network: Network,
    cluster: Cluster,
    layer: Layer,
    owned: Mapping[str, Ownership],
    users: frozenset[int],
) -> GlobalStep:
    """The reduction of a map, or what follows on one, on the devices that use the result."""
    return GlobalStep.used_by(layer, users).priced(network, cluster, owned)


def final_step(network: Network, cluster: Cluster, owned: Mapping[str, Ownership]) -> GatherStep:
    """The head (or collecting the results) at the sink."""
    names = tuple(layer.name for layer in network.head)
    step = GatherStep(names, cluster.sink, network.spatial_outputs)
    return step.priced(network, cluster, owned)
