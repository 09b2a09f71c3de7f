"""What one device does for one input, in order: derived from the plan alone, without torch.

Per step a device receives the rectangles that it lacks, computes its tile, and at once sends what
others need of it; it keeps what a later step reads. All rectangles of a step that go from one
device to another travel as one message, which is how the cost model counts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nptp_opt.cost import (
    Transfer,
    gather_compute_s,
    gather_needs,
    reduction_compute_s,
    segment_compute_s,
    segment_needs,
)
from nptp_opt.errors import InputError
from nptp_opt.geometry import EMPTY, Tile
from nptp_opt.network.ir import Layer, external_inputs
from nptp_opt.plan.model import Plan, Step, owned_maps, split_of

StepKind = Literal["spatial", "global", "gather"]

AT_START = -1
"""The step "before the first": what the network's inputs are made by."""


@dataclass(frozen=True)
class Message:
    """All rectangles that one device sends to one other for one step."""

    step: int
    """The step that reads them."""
    peer: int
    """Number of the device at the other end."""
    tag: int
    """Unique in the plan."""
    parts: tuple[Transfer, ...]

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class Piece:
    """A rectangle of a task's tile that is computed on its own."""

    tile: Tile
    needs: Mapping[str, Tile]
    modelled_s: float


@dataclass(frozen=True)
class Task:
    """One step on one device.

    One that overlaps computes ``ahead`` while its messages are on their way and ``rim`` when they
    are there; any other has neither and computes its tile at once.
    """

    step: int
    kind: StepKind
    layers: tuple[Layer, ...]
    tile: Tile
    """Of the last layer's output; EMPTY for a gather."""
    needs: Mapping[str, Tile]
    """Rectangle of every feature map that has to be there before it computes."""
    receives: tuple[Message, ...]
    sends: tuple[Message, ...]
    """Messages that are complete once this task is done."""
    keep: frozenset[str]
    """Tensors that this device reads or sends later on, or that are the result."""
    modelled_s: float
    """Compute seconds that the cost model gives this task."""
    overlap: bool = False
    ahead: tuple[Piece, ...] = ()
    """The interior, if there is any."""
    rim: tuple[Piece, ...] = ()

    @property
    def rim_s(self) -> float:
        """Modelled seconds that are left when the messages are there."""
        return sum(piece.modelled_s for piece in self.rim) if self.overlap else self.modelled_s


@dataclass(frozen=True)
class Program:
    """Everything that one device does for one input."""

    device: int
    first_sends: tuple[Message, ...]
    """Parts of the network's inputs, sent before the first task."""
    tasks: tuple[Task, ...]
    results: tuple[str, ...]
    """Outputs of the network, on the sink; nothing elsewhere."""

    @property
    def receives(self) -> tuple[Message, ...]:
        return tuple(message for task in self.tasks for message in task.receives)

    @property
    def weight_keys(self) -> frozenset[str]:
        """Names of the weights that the tasks read."""
        nodes = (node for task in self.tasks for layer in task.layers for node in layer.nodes)
        return frozenset(key for node in nodes for key in node.params.values())


def participants(plan: Plan) -> tuple[int, ...]:
    """Numbers of the devices that have anything to do; source and sink always belong to them."""
    busy = {plan.cluster.source, plan.cluster.sink}
    for step in plan.steps:
        busy |= {i for i, tile in step.tiles.items() if not tile.is_empty}
        busy |= {end for move in step.transfers for end in (move.src, move.dst)}
        busy |= set() if step.device is None else {step.device}
    return tuple(sorted(busy))


def device_program(plan: Plan, device: int) -> Program:
    """What ``device`` does; raises InputError for a plan that cannot be executed."""
    check_executable(plan)
    sends: dict[int, list[Message]] = {}
    for message in _messages(plan, device, outgoing=True):
        sends.setdefault(_complete_after(plan, message), []).append(message)
    receives = _messages(plan, device, outgoing=False)
    tasks = [
        _task(plan, k, device, receives, sends.get(k, ()))
        for k, step in enumerate(plan.steps)
        if _works(step, device)
    ]
    _check_served(plan, device, tasks, sends)
    result = plan.network.outputs if device == plan.cluster.sink else ()
    tasks = _with_liveness(tasks, result)
    return Program(device, tuple(sends.get(AT_START, ())), tuple(tasks), result)


def check_executable(plan: Plan) -> None:
    """Raise InputError unless the last step leaves the result at the sink.

    Whether the transfers carry every element that is needed is for ``verify``.
    """
    last, sink = plan.steps[-1], plan.cluster.sink
    name = plan.cluster.devices[sink].name
    if last.kind != "gather" or last.device != sink:
        raise InputError(
            f"the plan does not end with a gather at the sink {name!r}: "
            "plan again with `nptp-opt solve`"
        )


def _works(step: Step, device: int) -> bool:
    if step.kind == "gather":
        return device == step.device
    return not step.tiles.get(device, EMPTY).is_empty


def _task(
    plan: Plan, k: int, device: int, receives: Sequence[Message], sends: Sequence[Message]
) -> Task:
    step = plan.steps[k]
    ahead, rim = _pieces(plan, step, device)
    modelled_s = sum(piece.modelled_s for piece in (*ahead, *rim))
    return Task(
        step=k,
        kind=step.kind,
        layers=plan.layers_of(step),
        tile=step.tiles.get(device, EMPTY),
        needs=_needs(plan, k, device),
        receives=tuple(message for message in receives if message.step == k),
        sends=tuple(sends),
        keep=frozenset(),
        modelled_s=modelled_s if step.overlap else _modelled_s(plan, step, device),
        overlap=step.overlap,
        ahead=ahead,
        rim=rim,
    )


def _pieces(plan: Plan, step: Step, device: int) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """The interior and the rim of a task that overlaps; nothing for any other."""
    owned = owned_maps(plan.network, plan.cluster, plan.steps)
    parts = split_of(plan.network, step, device, owned)
    if parts is None:
        return (), ()
    layers = plan.layers_of(step)

    def piece(tile: Tile) -> Piece:
        needs = segment_needs(layers, {device: tile})
        only = {tensor: by_device[device] for tensor, by_device in needs.items()}
        return Piece(tile, only, segment_compute_s(plan.cluster, device, layers, tile))

    ahead = () if parts.interior.is_empty else (piece(parts.interior),)
    return ahead, tuple(piece(tile) for tile in parts.rim)


def _needs(plan: Plan, k: int, device: int) -> dict[str, Tile]:
    step, network = plan.steps[k], plan.network
    layers = plan.layers_of(step)
    if step.kind == "spatial":
        needs = segment_needs(layers, {device: step.tiles[device]})
    elif step.kind == "global":
        small = [name for name in external_inputs(layers) if name in network.replicated]
        needs = {name: {device: network.full(name)} for name in small}
    else:
        collect = network.spatial_outputs if k == len(plan.steps) - 1 else ()
        needs = gather_needs(network, layers, device, collect)
    return {tensor: by_device[device] for tensor, by_device in needs.items()}


def _modelled_s(plan: Plan, step: Step, device: int) -> float:
    layers = plan.layers_of(step)
    if step.kind == "gather":
        return gather_compute_s(plan.cluster, device, layers)
    if step.kind == "global":
        own = _own_of_reduced(plan, layers[-1], device)
        return reduction_compute_s(plan.cluster, plan.network, layers[-1], device, own, uses=True)
    return segment_compute_s(plan.cluster, device, layers, step.tiles[device])


def _own_of_reduced(plan: Plan, layer: Layer, device: int) -> Tile:
    """What ``device`` owns of the map that a global layer reduces."""
    reduced = layer.nodes[0].inputs[:1] if layer.reduces else ()
    found = (s.tiles for s in plan.steps if s.kind == "spatial" and s.layers[-1:] == reduced)
    return next(found, {}).get(device, EMPTY)


def _messages(plan: Plan, device: int, *, outgoing: bool) -> list[Message]:
    n = len(plan.cluster.devices)
    found: dict[tuple[int, int, int], list[Transfer]] = {}
    for k, step in enumerate(plan.steps):
        for move in step.transfers:
            if device == (move.src if outgoing else move.dst):
                found.setdefault((k, move.src, move.dst), []).append(move)
    return [
        Message(k, dst if outgoing else src, (k * n + src) * n + dst, tuple(parts))
        for (k, src, dst), parts in found.items()
    ]


def _complete_after(plan: Plan, message: Message) -> int:
    """The step after which its sender has everything that a message carries."""
    maker = {name: k for k, step in enumerate(plan.steps) for name in step.layers[-1:]}
    return max(maker.get(_read_for(plan, part), AT_START) for part in message.parts)


def _read_for(plan: Plan, part: Transfer) -> str:
    """The tensor that a sender reads for a transfer: for a partial, the map that is reduced."""
    layer = plan.network.by_name.get(part.tensor)
    if layer is None or not layer.reduces:
        return part.tensor
    return layer.nodes[0].inputs[0]


def _check_served(
    plan: Plan, device: int, tasks: Sequence[Task], sends: Mapping[int, Sequence[Message]]
) -> None:
    """No message may wait for a step in which its sender or its receiver does nothing."""
    done = {AT_START, *(task.step for task in tasks)}
    name = plan.cluster.devices[device].name
    for after, messages in sends.items():
        if after not in done or any(message.step <= after for message in messages):
            tensor = messages[0].parts[0].tensor
            raise InputError(f"device {name!r} is to send {tensor!r}, which it does not have yet")
    for message in _messages(plan, device, outgoing=False):
        if message.step not in done:
            raise InputError(f"device {name!r} is sent data for a step in which it has no tile")


def _with_liveness(tasks: Sequence[Task], result: Sequence[str]) -> list[Task]:
    live, kept = frozenset(result), list[Task]()
    for task in reversed(tasks):
        kept.append(replace(task, keep=live))
        sent = {part.tensor for message in task.sends for part in message.parts}
        made = {layer.name for layer in task.layers}
        read = set(external_inputs(task.layers)) | task.needs.keys()
        live = (live - made) | (sent - made) | read
    return kept[::-1]
