"""From choices (which layers together, which partition) to the steps of a plan, priced exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Ownership, input_ownership, result_users
from nptp_opt.network.ir import Layer, Network, external_inputs
from nptp_opt.plan.steps import GatherStep, GlobalStep, SpatialStep, Step

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
        parts = [(choice.layers, _devices(choice.tiles)) for choice in choices]
        return result_users(self.network, self.cluster.sink, parts)

    def _inputs(self, choice: Choice) -> tuple[str, ...]:
        if id(choice) not in self._reads:
            self._known.append(choice)  # its identity stays its own
            self._reads[id(choice)] = tuple(external_inputs(choice.layers))
        return self._reads[id(choice)]

    def _segment(self, key: object, choice: Choice, owned: Mapping[str, Ownership]) -> Step:
        if key not in self._made:
            step = segment_step(self.network, self.cluster, choice, owned)
            if self.overlap:
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
            step = GlobalStep.used_by(choice.layers[-1], users)
            self._made[key] = step.priced(self.network, self.cluster, owned)
        return self._made[key]


def _devices(tiles: Ownership) -> list[int]:
    return [i for i, tile in tiles.items() if not tile.is_empty]


def segment_step(
    network: Network, cluster: Cluster, choice: Choice, owned: Mapping[str, Ownership]
) -> SpatialStep:
    """One segment, priced with what the devices hold before it."""
    tiles = {i: tile for i, tile in sorted(choice.tiles.items()) if not tile.is_empty}
    names = tuple(layer.name for layer in choice.layers)
    return SpatialStep(names, tiles).priced(network, cluster, owned)


def overlapping(
    network: Network, cluster: Cluster, step: SpatialStep, owned: Mapping[str, Ownership]
) -> SpatialStep:
    """The step as it overlaps, where that lowers its cost: it may take more computing."""
    other = replace(step, overlap=True)
    cost_s = other.cost_s(network, cluster, owned)
    worth = cost_s < step.makespan_s * (1 - LEAST_OVERLAP)
    return replace(other, makespan_s=cost_s) if worth else step


def final_step(network: Network, cluster: Cluster, owned: Mapping[str, Ownership]) -> GatherStep:
    """The head (or collecting the results) at the sink."""
    names = tuple(layer.name for layer in network.head)
    step = GatherStep(names, cluster.sink, network.spatial_outputs)
    return step.priced(network, cluster, owned)
