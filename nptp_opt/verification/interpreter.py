"""A plan executed in one process: layer by layer, every device's tile from its own need alone.

A need is put together from what the device owns and what the listed transfers bring until a piece
begins; an element that neither gives is a fault. Only tensors that a later layer reads are held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nptp_opt.cluster import TransferDtype
from nptp_opt.cost import RESULT, Transfer, input_ownership
from nptp_opt.geometry import Tile, area_without
from nptp_opt.kernels import Crop, combine, crop, partial, paste, run_gather, run_layer
from nptp_opt.kernels.wire_format import Levels, arrives_as, exact_codecs, round_trip
from nptp_opt.network.given import Given, by_input
from nptp_opt.network.ir import Layer, external_inputs, regions
from nptp_opt.plan.messages import step_messages
from nptp_opt.plan.model import Plan
from nptp_opt.plan.steps import GatherStep, GlobalStep, SpatialStep, Step

Made = tuple[int, Tile | None, Tensor]
"""Device, tile (None: the whole tensor), and the values that the device computed."""


class Replay:
    """One execution of a plan on its inputs ``x``, in the dtype of ``x`` and ``weights``.

    With ``sent_as`` other than float32 devices see what they receive as that type leaves it.
    ``results`` holds the network's outputs once all layers have run and ``collect`` was called.
    """

    def __init__(
        self,
        plan: Plan,
        weights: Mapping[str, Tensor],
        x: Given,
        sent_as: TransferDtype = "float32",
    ) -> None:
        self.sent_as, self.results = sent_as, dict[str, Tensor]()
        self.plan, self.network, self.weights = plan, plan.network, weights
        keys = {key for known in plan.network.exact.values() for key in known.keys}
        arrays = {key: weights[key].numpy() for key in keys}
        self.codecs = exact_codecs(plan.network, sent_as, arrays)
        self.names = [device.name for device in plan.cluster.devices]
        self.faults: list[str] = []
        self.last_use = _last_uses(plan)
        given = by_input(plan.network, x)
        self.like = next(iter(given.values()))
        self.held: dict[str, dict[int, Crop]] = {
            name: {device: (tile, given[name]) for device, tile in owners.items()}
            for name, owners in input_ownership(plan.network, plan.cluster).items()
        }
        self.number = -1

    def run(self, number: int, layer: Layer) -> Iterator[Made]:
        """A layer of step ``number`` on every device; layers must come in the plan's order."""
        step = self.plan.steps[number]
        if number != self.number:
            self._begin(number, step)
        match step:
            case GlobalStep():
                yield from self._reduce(step, layer)
            case GatherStep(device=device):
                yield self._gather(device, layer)
            case SpatialStep():
                yield from self._tiles(layer)
        if layer.name == step.layers[-1]:
            self._end(number, step)

    def collect(self) -> None:
        """Bring the results that are feature maps to the sink."""
        number, last = len(self.plan.steps) - 1, self.plan.steps[-1]
        assert last.device is not None
        self.number = number
        for tensor in self.network.spatial_outputs:
            _, self.results[tensor] = self._fetch(last.device, tensor, self.network.full(tensor))

    def _begin(self, number: int, step: Step) -> None:
        layers = self.plan.layers_of(step)
        self.number = number
        self.inside: dict[int, dict[str, Crop]] = {device: {} for device in step.devices}
        self.readers = {tensor: layer.name for layer in layers for tensor in layer.inputs}
        self.pieces = self._split(step) if isinstance(step, SpatialStep) else []

    def _end(self, number: int, step: Step) -> None:
        for name in step.makes:
            if isinstance(step, SpatialStep):
                self.held[name] = self._make_tiles(step, name)
            else:
                self.held[name] = {device: made[name] for device, made in self.inside.items()}
        self.inside, self.pieces = {}, []
        for tensor in [t for t in self.held if self.last_use.get(t, -1) <= number]:
            del self.held[tensor]

    def _tiles(self, layer: Layer) -> Iterator[Made]:
        for piece in self.pieces:
            inside = piece.inside
            for tensor in layer.inputs:
                if tensor not in inside:
                    need = piece.wanted[tensor]
                    inside[tensor] = self._fetch(piece.device, tensor, need, piece.arrived)
            region = piece.wanted[layer.name]
            inside[layer.name] = (region, run_layer(layer, self.weights, inside, region))
            self._drop(inside, layer)
            yield piece.device, *inside[layer.name]

    def _split(self, step: SpatialStep) -> list[_Piece]:
        """What is computed on its own: every device's pieces, with what has arrived for each."""
        layers, messages = self.plan.layers_of(step), step_messages(self.network, step)
        pieces = []
        for device in step.tiles:
            for number, part in enumerate(step.pieces_of(device)):
                arrived = [
                    move
                    for message in messages
                    if message.dst == device and message.piece <= number
                    for move in message.transfers
                ]
                pieces.append(_Piece(device, part, regions(layers, part), arrived))
        return pieces

    def _make_tiles(self, step: SpatialStep, name: str) -> dict[int, Crop]:
        made = {}
        for device, tile in step.tiles.items():
            parts = [p.inside[name] for p in self.pieces if p.device == device]
            whole = [values for part, values in parts if part == tile]
            made[device] = (tile, whole[0] if whole else self._paste(name, tile, parts))
        return made

    def _paste(self, name: str, tile: Tile, parts: Sequence[Crop]) -> Tensor:
        """``tile`` of a tensor from parts of it; NaN where there is none."""
        batch, channels = self.network.shapes[name][:2]
        whole = self.like.new_full((batch, channels, tile.height, tile.width), float("nan"))
        paste(parts, (tile, whole))
        return whole

    def _gather(self, device: int, layer: Layer) -> Made:
        inside = self.inside[device]
        for tensor in layer.inputs:
            if tensor not in inside:
                inside[tensor] = self._fetch(device, tensor, self.network.full(tensor))
        value = run_gather(layer, self.weights, {name: held[1] for name, held in inside.items()})
        inside[layer.name] = (RESULT, value)
        if layer.name in self.network.outputs:
            self.results[layer.name] = value
        self._drop(inside, layer)
        return device, None, value

    def _drop(self, inside: dict[str, Crop], layer: Layer) -> None:
        """Forget what no later layer of the step reads."""
        for tensor in [t for t in inside if self.readers.get(t) == layer.name]:
            del inside[tensor]

    def _reduce(self, step: GlobalStep, layer: Layer) -> Iterator[Made]:
        """A global layer on every device that uses it, from partials of the owned tiles."""
        for device in step.devices:
            small = {
                tensor: self.held[tensor][device][1]
                for tensor in layer.inputs
                if tensor in self.network.replicated
            }
            if layer.reduces:
                value = combine(layer, self.weights, self._partials(step, layer, device), small)
            else:
                value = run_gather(layer, self.weights, small)
            self.inside[device][layer.name] = (RESULT, value)
            yield device, None, value

    def _partials(self, step: GlobalStep, layer: Layer, device: int) -> list[Tensor]:
        senders = {device, *(move.src for move in step.transfers if move.dst == device)}
        crops = self.held[layer.nodes[0].inputs[0]]
        return [partial(layer, crops[i][1]) for i in sorted(senders) if i in crops]

    def _as_received(self, tensor: str, values: Tensor) -> Tensor:
        """``values`` of a map as a transfer leaves them; pixels come as they are."""
        if tensor in self.network.input_dtypes:
            return values
        codec = self.codecs.get(tensor)
        if codec is not None:
            shortened = values.dtype != torch.float64 or isinstance(codec, Levels)
            array = values.detach().numpy()
            return torch.from_numpy(arrives_as(array, codec)) if shortened else values
        if self.sent_as == "float32":
            return values
        return torch.from_numpy(round_trip(values.detach().numpy(), self.sent_as))

    def _fetch(
        self, device: int, tensor: str, need: Tile, arrived: Sequence[Transfer] | None = None
    ) -> Crop:
        """``need`` of a tensor, put together from own elements and the transfers that have
        ``arrived``: all of the step unless they are given."""
        held = self.held[tensor]
        if tensor in self.network.replicated:
            return held[device]
        parts = [held[device]] if device in held else []
        for move in self.plan.steps[self.number].transfers if arrived is None else arrived:
            if move.dst == device and move.tensor == tensor:
                values = crop(held[move.src], move.tile)
                parts.append((move.tile, self._as_received(tensor, values)))
        for part in parts:
            if part[0].contains(need) and not need.is_empty:
                return need, crop(part, need)
        lacking = area_without(need, [tile for tile, _ in parts])
        if lacking:
            self.faults.append(
                f"segment {self.number}: {self.names[device]} reads {lacking} elements of {tensor} "
                "which it neither owns nor receives"
            )
        return need, self._paste(tensor, need, parts)


@dataclass
class _Piece:
    """A rectangle of a device's tile, computed on its own from what has ``arrived``."""

    device: int
    tile: Tile
    wanted: Mapping[str, Tile]
    arrived: Sequence[Transfer]
    inside: dict[str, Crop] = field(default_factory=dict)


def _last_uses(plan: Plan) -> dict[str, int]:
    """The number of the last step that reads each tensor."""
    last = {}
    for number, step in enumerate(plan.steps):
        for tensor in external_inputs(plan.layers_of(step)):
            last[tensor] = number
    return last | dict.fromkeys(plan.network.spatial_outputs, len(plan.steps))


def replayed_outputs(
    plan: Plan, weights: Mapping[str, Tensor], x: Given, sent_as: TransferDtype
) -> dict[str, Tensor]:
    """The network's outputs when devices receive what ``sent_as`` leaves of feature maps."""
    replay = Replay(plan, weights, x, sent_as)
    for number, step in enumerate(plan.steps):
        for layer in plan.layers_of(step):
            for _ in replay.run(number, layer):
                pass
    replay.collect()
    return replay.results
