"""The three kinds of step, in device numbers. Each answers for itself: what its devices need, which
transfers bring that, what it loads them with, and how long it takes.

A *spatial* step computes one tile per device of its last layer. A *global* step reduces a map: the
owners of its tiles send partials to the devices that use the result. A *gather* step brings whole
tensors to one device, which runs the layers that need them whole (no layers: it only collects).

``owned`` says, by tensor, who holds what of the feature maps before a step (docs/cost.md).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

from nptp_opt.cluster import Cluster
from nptp_opt.cost import (
    RESULT,
    Load,
    Ownership,
    Transfer,
    decode_s,
    first_reader,
    gather_compute_s,
    gather_needs,
    halo_transfers,
    in_pieces_s,
    makespan_s,
    reduction_compute_s,
    reduction_transfers,
    segment_compute_s,
    segment_needs,
    step_loads,
)
from nptp_opt.geometry import EMPTY, Tile, cover_fault
from nptp_opt.network.ir import Layer, Network, external_inputs

StepKind = Literal["spatial", "global", "gather"]

Owned = Mapping[str, Ownership]


@dataclass(frozen=True)
class _Step(ABC):
    """What all steps have. ``layers`` are names, in topological order.

    ``makespan_s`` is what the step takes with given ownership; NaN until it is evaluated.
    """

    kind: ClassVar[StepKind]
    layers: tuple[str, ...]
    transfers: tuple[Transfer, ...] = field(default=(), kw_only=True)
    makespan_s: float = field(default=math.nan, kw_only=True)

    @property
    def inner(self) -> tuple[str, ...]:
        """Layers whose outputs it does not keep."""
        return ()

    @property
    def makes(self) -> dict[str, Ownership]:
        """Who holds what of the tensor that it hands on."""
        return {}

    @property
    @abstractmethod
    def devices(self) -> tuple[int, ...]:
        """Who has its result, and so a task of it."""

    def layers_of(self, network: Network) -> tuple[Layer, ...]:
        """Its layers as objects."""
        return tuple(network.by_name[name] for name in self.layers)

    @abstractmethod
    def needs(self, network: Network) -> dict[str, dict[int, Tile]]:
        """What each of its devices reads of every tensor that it does not make itself."""

    def halos(self, network: Network, cluster: Cluster, owned: Owned) -> list[Transfer]:
        """The transfers that it must have."""
        return halo_transfers(cluster, network, self.needs(network), owned)

    def source_of(self, network: Network, tensor: str) -> str:
        """The map that a sender has to have before it can send ``tensor`` for this step."""
        return tensor

    def workers(self, network: Network, owned: Owned) -> Collection[int]:
        """The devices that compute anything."""
        return self.devices

    def pieces_of(self, device: int) -> tuple[Tile, ...]:
        """What one of its workers computes of its result in one go, in order: all."""
        return (EMPTY,)

    @abstractmethod
    def seconds(
        self, network: Network, cluster: Cluster, device: int, owned: Owned
    ) -> tuple[float, ...]:
        """Compute seconds of one of its workers, by piece; a message is decoded in those of
        the first piece that reads it."""

    def decode_s(self, network: Network, cluster: Cluster, device: int) -> float:
        """Seconds of decoding what a device receives, after it has come."""
        return decode_s(cluster, network, self.transfers, device)

    def compute_s(self, network: Network, cluster: Cluster, device: int, owned: Owned) -> float:
        """All compute seconds of one of its workers."""
        return sum(self.seconds(network, cluster, device, owned))

    def loads(self, network: Network, cluster: Cluster, owned: Owned) -> list[Load]:
        """Loads of all devices; its ``transfers`` count."""
        compute_s = {
            device: self.compute_s(network, cluster, device, owned)
            for device in self.workers(network, owned)
        }
        return step_loads(len(cluster.devices), self.transfers, compute_s)

    def cost_s(self, network: Network, cluster: Cluster, owned: Owned) -> float:
        """Its makespan, from its loads."""
        return makespan_s(cluster, self.loads(network, cluster, owned))

    def with_cost(self, network: Network, cluster: Cluster, owned: Owned) -> Self:
        """The step with its transfers, and what it takes with them."""
        step = replace(self, transfers=tuple(self.halos(network, cluster, owned)))
        return replace(step, makespan_s=step.cost_s(network, cluster, owned))

    def tiles_fault(self, network: Network, users: Mapping[str, Collection[int]]) -> str | None:
        """What is wrong with its tiles; ``users`` are those of global layers' results."""
        return None


@dataclass(frozen=True)
class _TiledStep(_Step):
    """A step whose result is divided among devices, or on several: ``tiles`` say where."""

    tiles: Mapping[int, Tile]

    @property
    def device(self) -> None:
        """Where a gather runs; this is none."""
        return None

    @property
    def makes(self) -> dict[str, Ownership]:
        return {self.layers[-1]: self.tiles}

    @property
    def devices(self) -> tuple[int, ...]:
        return tuple(i for i, tile in self.tiles.items() if not tile.is_empty)


@dataclass(frozen=True)
class SpatialStep(_TiledStep):
    """A segment with a partition of its last layer's output.

    ``pieces`` are the rectangles that a device computes one after the other; without any it
    computes its tile at once.
    """

    kind: ClassVar[StepKind] = "spatial"
    pieces: Mapping[int, tuple[Tile, ...]] = field(default_factory=dict, kw_only=True)

    @property
    def inner(self) -> tuple[str, ...]:
        return self.layers[:-1]

    def needs(self, network: Network) -> dict[str, dict[int, Tile]]:
        return segment_needs(self.layers_of(network), self.tiles)

    def pieces_of(self, device: int) -> tuple[Tile, ...]:
        return self.pieces.get(device) or (self.tiles[device],)

    def seconds(
        self, network: Network, cluster: Cluster, device: int, owned: Owned
    ) -> tuple[float, ...]:
        layers, parts = self.layers_of(network), self.pieces_of(device)
        seconds = [segment_compute_s(cluster, device, layers, piece) for piece in parts]
        for moves in self._coded(device):
            number = first_reader(layers, parts, moves)
            seconds[number] += decode_s(cluster, network, moves, device)
        return tuple(seconds)

    def _coded(self, device: int) -> Iterator[list[Transfer]]:
        """What a device receives, by sender, where any of it has to be decoded."""
        between: dict[int, list[Transfer]] = {}
        for move in self.transfers:
            if move.dst == device:
                between.setdefault(move.src, []).append(move)
        for moves in between.values():
            if any(move.encoding != "dense" for move in moves):
                yield moves

    def cost_s(self, network: Network, cluster: Cluster, owned: Owned) -> float:
        if not self.pieces:
            return super().cost_s(network, cluster, owned)
        parts = {device: self.pieces_of(device) for device in self.devices}
        return in_pieces_s(network, cluster, self.layers_of(network), parts, self.transfers)

    def tiles_fault(self, network: Network, users: Mapping[str, Collection[int]]) -> str | None:
        last = self.layers[-1]
        full = network.full(last)
        if network.by_name[last].is_whole and list(self.tiles.values()) != [full]:
            return f"{last} runs whole: one device has it, not {len(self.tiles)} tiles"
        fault = cover_fault(self.tiles.values(), full.y1, full.x1)
        if fault is not None:
            return f"the tiles do not cover the map exactly once: {fault}"
        return self._pieces_fault()

    def _pieces_fault(self) -> str | None:
        """Do every device's pieces cover its tile exactly once?"""
        for device, parts in self.pieces.items():
            tile = self.tiles.get(device, EMPTY)
            if tile.is_empty or not all(tile.contains(part) for part in parts):
                return f"a piece of device {device} lies outside its tile"
            moved = [
                Tile(p.y0 - tile.y0, p.y1 - tile.y0, p.x0 - tile.x0, p.x1 - tile.x0) for p in parts
            ]
            fault = cover_fault(moved, tile.height, tile.width)
            if fault is not None:
                return f"the pieces of device {device} do not cover its tile exactly once: {fault}"
        return None


@dataclass(frozen=True)
class GlobalStep(_TiledStep):
    """A global layer, alone. ``tiles`` name the devices that hold its result.

    Transfers carry partials, under the layer's name. A partial leaves as soon as the map's tile is
    done: its seconds count for its owner, but hold no message up.
    """

    kind: ClassVar[StepKind] = "global"

    @classmethod
    def used_by(cls, layer: Layer, users: Collection[int]) -> GlobalStep:
        """The step of ``layer`` whose result goes to its ``users``."""
        return cls((layer.name,), dict.fromkeys(sorted(users), RESULT))

    def needs(self, network: Network) -> dict[str, dict[int, Tile]]:
        """The small tensors alone; of the map that it reduces partials are sent."""
        read = external_inputs(self.layers_of(network))
        small = [name for name in read if name in network.replicated]
        return {name: dict.fromkeys(self.devices, network.full(name)) for name in small}

    def halos(self, network: Network, cluster: Cluster, owned: Owned) -> list[Transfer]:
        owners = self._owners(network, owned)
        return reduction_transfers(network, self._layer(network), owners, self.tiles)

    def source_of(self, network: Network, tensor: str) -> str:
        return self._layer(network).nodes[0].inputs[0]

    def workers(self, network: Network, owned: Owned) -> Collection[int]:
        owners = self._owners(network, owned)
        return {*self.tiles, *(i for i, tile in owners.items() if not tile.is_empty)}

    def seconds(
        self, network: Network, cluster: Cluster, device: int, owned: Owned
    ) -> tuple[float, ...]:
        own, uses = self._owners(network, owned).get(device, EMPTY), device in self.tiles
        layer = self._layer(network)
        computing_s = reduction_compute_s(cluster, network, layer, device, own, uses=uses)
        return (computing_s + self.decode_s(network, cluster, device),)

    def tiles_fault(self, network: Network, users: Mapping[str, Collection[int]]) -> str | None:
        wanted = dict.fromkeys(users[self.layers[-1]], RESULT)
        return None if self.tiles == wanted else "the result is not on the devices that use it"

    def _layer(self, network: Network) -> Layer:
        return network.by_name[self.layers[-1]]

    def _owners(self, network: Network, owned: Owned) -> Ownership:
        """Owners of the map that it reduces; nobody where it reduces none."""
        layer = self._layer(network)
        return owned.get(layer.nodes[0].inputs[0], {}) if layer.reduces else {}


@dataclass(frozen=True)
class GatherStep(_Step):
    """Layers that need their inputs whole, on one device; it ``collects`` other tensors, too."""

    kind: ClassVar[StepKind] = "gather"
    device: int
    collects: tuple[str, ...] = ()

    @property
    def tiles(self) -> Mapping[int, Tile]:
        """None: nothing is partitioned."""
        return {}

    @property
    def devices(self) -> tuple[int, ...]:
        return (self.device,)

    def needs(self, network: Network) -> dict[str, dict[int, Tile]]:
        return gather_needs(network, self.layers_of(network), self.device, self.collects)

    def seconds(
        self, network: Network, cluster: Cluster, device: int, owned: Owned
    ) -> tuple[float, ...]:
        computing_s = gather_compute_s(cluster, device, self.layers_of(network))
        return (computing_s + self.decode_s(network, cluster, device),)


Step = SpatialStep | GlobalStep | GatherStep
"""One segment with its partition, one reduction, or one gather."""
