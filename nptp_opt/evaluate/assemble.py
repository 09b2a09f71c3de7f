"""From choices (which layers together, which partition) to the steps of a plan, priced exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nptp_opt.cluster import Cluster
from nptp_opt.cost import (
    RESULT,
    Ownership,
    gather_loads,
    gather_needs,
    halo_transfers,
    input_ownership,
    makespan_s,
    overlapped_s,
    reduction_loads,
    reduction_transfers,
    result_users,
    segment_loads,
    segment_needs,
)
from nptp_opt.network.ir import Layer, Network, external_inputs
from nptp_opt.plan.model import Step

LEAST_OVERLAP = 1e-9
"""Relative gain below which a segment does not overlap: the rounding of a sum is no gain."""


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


def assemble(
    network: Network, cluster: Cluster, choices: Sequence[Choice], *, overlap: bool = False
) -> tuple[Step, ...]:
    """The steps of a plan: the segments in order, then the head (or the results) at the sink.

    With ``overlap`` those segments overlap that it makes cheaper.
    """
    return Assembler(network, cluster, overlap=overlap).steps(choices)


MOST_STEPS = 20_000
"""Steps that an assembler remembers."""


class Assembler:
    """Assembles many plans of one network: equal segments that read equal partitions are one step
    object, priced once. A segment is known again by the identity of its choice.
    """

    def __init__(self, network: Network, cluster: Cluster, *, overlap: bool = False) -> None:
        self.network, self.cluster, self.overlap = network, cluster, overlap
        self._made: dict[object, Step] = {}
        self._known: list[Choice] = []
        self._reads: dict[int, tuple[str, ...]] = {}
        self._final = (*external_inputs(network.head), *network.spatial_outputs)

    def steps(self, choices: Sequence[Choice]) -> tuple[Step, ...]:
        """As ``assemble``."""
        if len(self._made) > MOST_STEPS:
            self.forget()
        owned: dict[str, Ownership] = dict(input_ownership(self.network, self.cluster))
        makers: dict[str, int] = {}
        users = self._users(choices)
        steps = []
        for choice in choices:
            name = choice.layers[-1].name
            key = (id(choice), *(makers.get(tensor) for tensor in self._inputs(choice)))
            if choice.is_global:
                steps.append(self._global(key, choice, owned, users[name]))
                continue
            steps.append(self._segment(key, choice, owned))
            owned[name], makers[name] = steps[-1].tiles, id(choice)
        last = (None, *(makers.get(tensor) for tensor in self._final))
        if last not in self._made:
            self._made[last] = final_step(self.network, self.cluster, owned)
        steps.append(self._made[last])
        return tuple(steps)

    def forget(self) -> None:
        """Drop all steps: their plans are assembled anew."""
        self._made.clear()
        self._reads.clear()
        self._known.clear()

    def _users(self, choices: Sequence[Choice]) -> Mapping[str, frozenset[int]]:
        if not self.network.replicated:
            return {}
        parts = [(c.layers[-1].name, self._inputs(c), _devices(c.tiles)) for c in choices]
        return result_users(self.network, self.cluster.sink, parts)

    def _inputs(self, choice: Choice) -> tuple[str, ...]:
        if id(choice) not in self._reads:
            self._known.append(choice)  # its identity stays its own
            self._reads[id(choice)] = tuple(external_inputs(choice.layers))
        return self._reads[id(choice)]

    def _segment(self, key: object, choice: Choice, owned: Mapping[str, Ownership]) -> Step:
        if key not in self._made:
            step = segment_step(self.network, self.cluster, choice, owned)
            if self.overlap and not choice.overlap:
                step = overlapping(self.network, self.cluster, step, owned)
            self._made[key] = step
        return self._made[key]

    def _global(
        self,
        key: tuple[object, ...],
        choice: Choice,
        owned: Mapping[str, Ownership],
        users: frozenset[int],
    ) -> Step:
        key = (*key, users)
        if key not in self._made:
            layer = choice.layers[-1]
            self._made[key] = global_step(self.network, self.cluster, layer, owned, users)
        return self._made[key]


def _devices(tiles: Ownership) -> list[int]:
    return [i for i, tile in tiles.items() if not tile.is_empty]


def segment_step(
    network: Network, cluster: Cluster, choice: Choice, owned: Mapping[str, Ownership]
) -> Step:
    """One segment, priced with what the devices hold before it."""
    tiles = {i: tile for i, tile in sorted(choice.tiles.items()) if not tile.is_empty}
    moves = halo_transfers(cluster, network, segment_needs(choice.layers, tiles), owned)
    names = tuple(layer.name for layer in choice.layers)
    if choice.overlap:
        price_s = overlapped_s(network, cluster, choice.layers, tiles, moves, owned)
    else:
        price_s = makespan_s(cluster, segment_loads(cluster, choice.layers, tiles, moves))
    return Step("spatial", names, tiles, None, tuple(moves), price_s, choice.overlap)


def overlapping(
    network: Network, cluster: Cluster, step: Step, owned: Mapping[str, Ownership]
) -> Step:
    """The step as it overlaps, where that lowers its price: it may cost more computing."""
    layers = tuple(network.by_name[name] for name in step.layers)
    price = overlapped_s(network, cluster, layers, step.tiles, step.transfers, owned)
    worth = price < step.makespan_s * (1 - LEAST_OVERLAP)
    return replace(step, makespan_s=price, overlap=True) if worth else step


def global_step(
    network: Network,
    cluster: Cluster,
    layer: Layer,
    owned: Mapping[str, Ownership],
    users: frozenset[int],
) -> Step:
    """The reduction of a map, or what follows on one, on the devices that use the result."""
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
