"""Device program: what one device does for one input, in order; from the plan alone, without torch.

Per step a device receives the rectangles that it lacks, computes its tile (in pieces, where the
plan has several), and sends what others need of it as soon as that is computed; it keeps what a
later step reads. All rectangles of a step that go from one device to another travel as one message,
which is how the cost model counts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nptp_opt.cost import Ownership, Transfer, encode_s, segment_needs
from nptp_opt.errors import InputError
from nptp_opt.geometry import EMPTY, Tile
from nptp_opt.network.ir import Layer, external_inputs
from nptp_opt.plan.messages import StepMessage, complete_after, step_messages
from nptp_opt.plan.model import Plan, owned_maps
from nptp_opt.plan.steps import StepKind

_Place = tuple[int, int]
"""A step, and the number of a piece in it."""

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
    encode_s: float = 0.0
    """Seconds of its sender that the cost model gives encoding it."""

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class Piece:
    """A rectangle of a task's tile that is computed on its own."""

    tile: Tile
    needs: Mapping[str, Tile]
    modelled_s: float
    receives: tuple[Message, ...] = ()
    """Messages that it is the first to read."""
    sends: tuple[Message, ...] = ()
    """Messages that are complete once it is done."""


@dataclass(frozen=True)
class Task:
    """One step on one device; without ``pieces`` it computes its tile at once."""

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
    pieces: tuple[Piece, ...] = ()
    """What it computes one after the other."""


@dataclass(frozen=True)
class DeviceProgram:
    """Everything that one device does for one input."""

    device: int
    first_sends: tuple[Message, ...]
    """Parts of the network's inputs, sent before the first task."""
    tasks: tuple[Task, ...]
    results: tuple[str, ...]
    """Outputs of the network, on the sink; nothing elsewhere."""
    wire_keys: frozenset[str] = frozenset()
    """Names of the weights that say what the bytes of quantised maps stand for."""

    @property
    def receives(self) -> tuple[Message, ...]:
        return tuple(message for task in self.tasks for message in task.receives)

    @property
    def modelled_s(self) -> dict[int, float]:
        """Compute seconds of every task by its step."""
        return {task.step: task.modelled_s for task in self.tasks}

    @property
    def weight_keys(self) -> frozenset[str]:
        """Names of the weights that the tasks and the messages read."""
        nodes = (node for task in self.tasks for layer in task.layers for node in layer.nodes)
        return self.wire_keys.union(key for node in nodes for key in node.params.values())


def participants(plan: Plan) -> tuple[int, ...]:
    """Numbers of the devices that have anything to do; source and sink always belong to them."""
    busy = {plan.cluster.source, plan.cluster.sink}
    for step in plan.steps:
        busy |= {*step.devices, *(end for move in step.transfers for end in (move.src, move.dst))}
    return tuple(sorted(busy))


def device_program(plan: Plan, device: int) -> DeviceProgram:
    """What ``device`` does; raises InputError for a plan that cannot be executed."""
    check_executable(plan)
    sends: dict[_Place, list[Message]] = {}
    receives: dict[_Place, list[Message]] = {}
    for place, message in _sent(plan, device):
        sends.setdefault(place, []).append(message)
    for place, message in _received(plan, device):
        receives.setdefault(place, []).append(message)
    owned = owned_maps(plan.network, plan.cluster, plan.steps)
    tasks = [
        _task(plan, k, device, owned, receives, sends)
        for k, step in enumerate(plan.steps)
        if device in step.devices
    ]
    _check_served(plan, device, tasks, sends)
    result = plan.network.outputs if device == plan.cluster.sink else ()
    tasks = _with_liveness(tasks, result)
    moved = {move.tensor for step in plan.steps for move in step.transfers
             if device in (move.src, move.dst)}  # fmt: skip
    known = (each for tensor, each in plan.network.exact.items() if tensor in moved)
    return DeviceProgram(
        device=device,
        first_sends=tuple(sends.get((AT_START, 0), ())),
        tasks=tuple(tasks),
        results=result,
        wire_keys=frozenset().union(*(each.keys for each in known)),
    )


def check_executable(plan: Plan) -> None:
    """Raise InputError unless the last step leaves the result at the sink.

    Whether the transfers carry every element that is needed is for ``verify``.
    """
    last, sink = plan.steps[-1], plan.cluster.sink
    name = plan.cluster.devices[sink].name
    if last.device != sink:
        raise InputError(
            f"the plan does not end with a gather at the sink {name!r}: "
            "plan again with `nptp-opt solve`"
        )


def _task(
    plan: Plan,
    k: int,
    device: int,
    owned: Mapping[str, Ownership],
    receives: Mapping[_Place, Sequence[Message]],
    sends: Mapping[_Place, Sequence[Message]],
) -> Task:
    """What ``device`` computes in a step; what it keeps is filled in later."""
    step, network = plan.steps[k], plan.network
    pieces = _pieces(plan, k, device)
    places = [(k, number) for number in range(max(1, len(pieces)))]
    return Task(
        step=k,
        kind=step.kind,
        layers=plan.layers_of(step),
        tile=step.tiles.get(device, EMPTY),
        needs={tensor: wanted[device] for tensor, wanted in step.needs(network).items()},
        receives=tuple(message for place in places for message in receives.get(place, ())),
        sends=tuple(message for place in places for message in sends.get(place, ())),
        keep=frozenset(),
        modelled_s=step.compute_s(network, plan.cluster, device, owned),
        pieces=tuple(
            replace(
                piece,
                receives=tuple(receives.get(place, ())),
                sends=tuple(sends.get(place, ())),
            )
            for place, piece in zip(places, pieces, strict=False)
        ),
    )


def _pieces(plan: Plan, k: int, device: int) -> list[Piece]:
    """The pieces of a task that has several, without messages; nothing for any other."""
    step = plan.steps[k]
    parts, layers = step.pieces_of(device), plan.layers_of(step)
    if len(parts) == 1:
        return []
    found = []
    modelled = step.seconds(plan.network, plan.cluster, device, {})
    for part, seconds in zip(parts, modelled, strict=True):
        needs = segment_needs(layers, {device: part})
        only = {tensor: by_device[device] for tensor, by_device in needs.items()}
        found.append(Piece(part, only, seconds))
    return found


def _sent(plan: Plan, device: int) -> Iterator[tuple[_Place, Message]]:
    """What a device sends, and after which piece."""
    makers = {name: (k, step) for k, step in enumerate(plan.steps) for name in step.layers[-1:]}
    for k, step in enumerate(plan.steps):
        for message in step_messages(plan.network, step):
            if message.src == device:
                after = complete_after(plan.network, makers, message)
                yield after or (AT_START, 0), _message(plan, k, message, message.dst)


def _received(plan: Plan, device: int) -> Iterator[tuple[_Place, Message]]:
    """What a device receives, and for which piece."""
    for k, step in enumerate(plan.steps):
        for message in step_messages(plan.network, step):
            if message.dst == device:
                yield (k, message.piece), _message(plan, k, message, message.src)


def _message(plan: Plan, k: int, message: StepMessage, peer: int) -> Message:
    n = len(plan.cluster.devices)
    tag = (k * n + message.src) * n + message.dst
    encoding_s = sum(encode_s(plan.cluster, plan.network, part) for part in message.transfers)
    return Message(k, peer, tag, message.transfers, encoding_s)


def _check_served(
    plan: Plan, device: int, tasks: Sequence[Task], sends: Mapping[_Place, Sequence[Message]]
) -> None:
    """No message may wait for a step in which its sender or its receiver does nothing."""
    done = {AT_START, *(task.step for task in tasks)}
    name = plan.cluster.devices[device].name
    for (after, _), messages in sends.items():
        if after not in done or any(message.step <= after for message in messages):
            tensor = messages[0].parts[0].tensor
            raise InputError(f"device {name!r} is to send {tensor!r}, which it does not have yet")
    for k, step in enumerate(plan.steps):
        if k not in done and any(move.dst == device for move in step.transfers):
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
