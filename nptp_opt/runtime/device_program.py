"""Device program: what one device does for one input, in order; from the plan alone, without torch.

Per step a device receives the rectangles that it lacks, computes its tile, and at once sends what
others need of it; it keeps what a later step reads. All rectangles of a step that go from one
device to another travel as one message, which is how the cost model counts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nptp_opt.cost import Ownership, Transfer, segment_compute_s, segment_needs
from nptp_opt.errors import InputError
from nptp_opt.geometry import EMPTY, Tile
from nptp_opt.network.ir import Layer, external_inputs
from nptp_opt.plan.model import Plan, owned_maps
from nptp_opt.plan.steps import Step, StepKind

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
class DeviceProgram:
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
        busy |= {*step.devices, *(end for move in step.transfers for end in (move.src, move.dst))}
    return tuple(sorted(busy))


def device_program(plan: Plan, device: int) -> DeviceProgram:
    """What ``device`` does; raises InputError for a plan that cannot be executed."""
    check_executable(plan)
    sends: dict[int, list[Message]] = {}
    for message in _messages(plan, device, outgoing=True):
        sends.setdefault(_complete_after(plan, message), []).append(message)
    receives = _messages(plan, device, outgoing=False)
    owned = owned_maps(plan.network, plan.cluster, plan.steps)
    tasks = [
        replace(
            _task(plan, k, device, owned),
            receives=tuple(message for message in receives if message.step == k),
            sends=tuple(sends.get(k, ())),
        )
        for k, step in enumerate(plan.steps)
        if device in step.devices
    ]
    _check_served(plan, device, tasks, sends)
    result = plan.network.outputs if device == plan.cluster.sink else ()
    tasks = _with_liveness(tasks, result)
    return DeviceProgram(device, tuple(sends.get(AT_START, ())), tuple(tasks), result)


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


def _task(plan: Plan, k: int, device: int, owned: Mapping[str, Ownership]) -> Task:
    """What ``device`` computes in a step; its messages, and what it keeps, are filled in later."""
    step, network = plan.steps[k], plan.network
    ahead, rim = _pieces(plan, step, device, owned)
    return Task(
        step=k,
        kind=step.kind,
        layers=plan.layers_of(step),
        tile=step.tiles.get(device, EMPTY),
        needs={tensor: wanted[device] for tensor, wanted in step.needs(network).items()},
        receives=(),
        sends=(),
        keep=frozenset(),
        modelled_s=step.compute_s(network, plan.cluster, device, owned),
        overlap=step.overlap,
        ahead=ahead,
        rim=rim,
    )


def _pieces(
    plan: Plan, step: Step, device: int, owned: Mapping[str, Ownership]
) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """The interior and the rim of a task that overlaps; nothing for any other."""
    parts = step.split(plan.network, device, owned)
    if parts is None:
        return (), ()
    layers = plan.layers_of(step)

    def piece(tile: Tile) -> Piece:
        needs = segment_needs(layers, {device: tile})
        only = {tensor: by_device[device] for tensor, by_device in needs.items()}
        return Piece(tile, only, segment_compute_s(plan.cluster, device, layers, tile))

    ahead = () if parts.interior.is_empty else (piece(parts.interior),)
    return ahead, tuple(piece(tile) for tile in parts.rim)


def _messages(plan: Plan, device: int, *, outgoing: bool) -> list[Message]:
    n = len(plan.cluster.devices)
    transfers: dict[tuple[int, int, int], list[Transfer]] = {}
    for k, step in enumerate(plan.steps):
        for move in step.transfers:
            if device == (move.src if outgoing else move.dst):
                transfers.setdefault((k, move.src, move.dst), []).append(move)
    return [
        Message(k, dst if outgoing else src, (k * n + src) * n + dst, tuple(parts))
        for (k, src, dst), parts in transfers.items()
    ]


def _complete_after(plan: Plan, message: Message) -> int:
    """The step after which its sender has everything that a message carries."""
    maker = {name: k for k, step in enumerate(plan.steps) for name in step.layers[-1:]}
    reader = plan.steps[message.step]
    sources = (reader.source_of(plan.network, part.tensor) for part in message.parts)
    return max(maker.get(source, AT_START) for source in sources)


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
