"""Runs one device's program: receives posted ahead, no barrier between steps. What is computed
between two exchanges is one tile program, which an executor has compiled.

Buffers are allocated once and used for every input. An element that a program reads and that no
transfer brings is an error, told before anything is computed from it. A rectangle is copied once
when it is packed for sending (not at all where it is contiguous already) and once when it is put
into place (not at all where the message is just what is needed).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from nptp_opt.errors import ExecutionError
from nptp_opt.geometry import Tile, area_without
from nptp_opt.kernels import reductions
from nptp_opt.kernels.bitmask import BrokenMessageError
from nptp_opt.kernels.crops import Array, ArrayCrop, crop, paste
from nptp_opt.kernels.executors.choice import Chosen
from nptp_opt.network.ir import Layer, Network
from nptp_opt.runtime.blocks import Block, Key, blocks, programs
from nptp_opt.runtime.device_program import DeviceProgram, Message, Piece, Task
from nptp_opt.runtime.trace import WAITED_NS, Recorder
from nptp_opt.runtime.transport.base import PeerError, Pending, Transport
from nptp_opt.runtime.transport.packing import Packing
from nptp_opt.runtime.worker.priority import in_turn

Turn = Callable[[], AbstractContextManager[None]]
"""Held by who computes on a device."""


@dataclass
class Pace:
    """When a padded device would have begun and finished its tasks; nanoseconds, monotonic.

    It is the device's: inputs that it computes in turn share it. What this machine adds to a task
    (a sleep that ends late, say) is made up for in the next one, unless that has to wait for a
    message anyway. A second of the device's takes ``dilation`` seconds here.
    """

    dilation: float = 1.0
    free_ns: int = 0
    began_ns: int = 0

    def begin(self, ready_ns: int) -> None:
        """A task begins when its messages are there and the device is free."""
        self.began_ns = max(ready_ns, self.free_ns)

    def finish(self, seconds: float) -> int:
        """The device is free again ``seconds`` of its own after it began; returns that moment."""
        self.free_ns = self.began_ns + round(seconds * self.dilation * 1e9)
        return self.free_ns


class DeviceRun:
    """One device's part of a job. ``ranks`` maps device numbers to ranks of the transport.

    ``chosen`` has its tile programs, compiled. ``pad`` stretches every task to the
    seconds that the cost model gives it: from the moment at which its inputs were there and the
    device was free, putting the inputs together included. Pieces of a task are stretched apart from
    each other. Where several inputs are on the device at a time, ``turn`` is held while one
    computes, and ``pace`` is the device's.
    """

    def __init__(
        self,
        network: Network,
        program: DeviceProgram,
        transport: Transport,
        ranks: Mapping[int, int],
        recorder: Recorder,
        *,
        chosen: Chosen[Key],
        packing: Packing,
        pad: bool = False,
        turn: Turn = nullcontext,
        pace: Pace | None = None,
    ) -> None:
        self.network, self.program = network, program
        self.transport, self.ranks, self.recorder, self.pad = transport, ranks, recorder, pad
        self.packing, self.turn, self.pace = packing, turn, pace or Pace()
        self._packed = {message.tag: packing.buffer(message) for message in _all_sends(program)}
        self._received = {message.tag: packing.buffer(message) for message in program.receives}
        self._lengths: dict[int, int | None] = {}
        self._pieces: dict[int, list[ArrayCrop]] = {}
        self._assembled: dict[tuple[int, str, Tile], Array] = {}
        self._tiles: dict[int, Array] = {}
        self._incoming: dict[int, Pending] = {}
        self._outgoing: list[Pending] = []
        self._owned: dict[str, ArrayCrop] = {}
        self._whole: dict[str, Array] = {}
        self._partials: dict[str, Array] = {}
        self.blocks = blocks(program, network)
        self._programs, self._chosen = programs(program, network), chosen
        self._prepared = chosen.prepared

    def arm(self, inputs: Mapping[str, Array], *, finite: bool = True) -> None:
        """Get ready for one input: post all receives. ``inputs`` are given on the source alone;
        all devices are told whether they are ``finite``."""
        self._prepared = self._chosen.by(finite)
        if not self._incoming:
            self._post()
        self._owned = {name: (self.network.full(name), x) for name, x in inputs.items()}

    def arm_ahead(self) -> None:
        """Post the receives of the next input, if there is one, before it comes."""
        if self.transport.posts_ahead:
            self._post()

    def _post(self) -> None:
        for message in self.program.receives:
            self._incoming[message.tag] = self.transport.receive(
                self.ranks[message.peer],
                message.tag,
                self._received[message.tag],
                shorter=self.packing.is_coded(message),
            )

    def execute(self) -> dict[str, Array]:
        """Do all tasks; returns the network's outputs on the sink, nothing elsewhere.

        Raises PeerError when another device is lost.
        """
        ready_ns = time.monotonic_ns()
        self._send(self.program.first_sends, ready_ns)
        for block in self.blocks:
            first, last = block.first, block.last
            if first.pieces:
                ready_ns = self._compute_pieces(first, ready_ns)
            else:
                ready_ns = max(ready_ns, self._receive(first.receives))
                with self.turn():
                    self.pace.begin(ready_ns)
                    self._compute(block)
                    self._pad(first, block.modelled_s)
                self._send(last.sends)
            self._owned = {name: held for name, held in self._owned.items() if name in last.keep}
        return {name: self._whole[name] for name in self.program.results}

    def finish(self) -> None:
        """Wait until everything that was sent has left; not part of the latency."""
        with self.recorder.span("flush", len(self.program.tasks)):
            for pending in self._outgoing:
                pending.wait()
        self._outgoing.clear()
        self._owned, self._whole, self._partials, self._pieces = {}, {}, {}, {}

    # -- computing -----------------------------------------------------------------------------

    def _compute(self, block: Block) -> None:
        if block.combines:
            with self._computing(block):
                values = self._combined(block.first)
            self._owned[block.first.layers[-1].name] = (block.first.tile, values)
            return
        key = block.first.step, block.first.tile
        given = self._given(block.first, key, block.first.receives)
        with self._computing(block):
            made = self._prepared[key].run(given)
        regions = self._programs[key].regions
        self._owned |= {name: (regions[name], values) for name, values in made.items()}
        if block.last.kind == "gather":
            self._collect(block.last)

    def _collect(self, task: Task) -> None:
        """The results that are here now: made in this block, or collected for its last task."""
        for name in self.program.results:
            if name in task.needs:
                self._whole[name] = self._input(task, name, task.needs[name], task.receives)[1]
            elif name in self._owned:
                self._whole[name] = self._owned[name][1]

    @contextmanager
    def _computing(self, block: Block) -> Iterator[None]:
        """Waiting for a core is part of it."""
        with (
            self.recorder.shared("compute", block.shares),
            in_turn(self._expected_s(block.modelled_s)),
        ):
            yield

    def _expected_s(self, modelled_s: float) -> float:
        """How long a task may take here."""
        return modelled_s * self.pace.dilation if self.pad else math.inf

    def _compute_pieces(self, task: Task, ready_ns: int) -> int:
        """Compute a task's pieces into their places in its tile: each once what it reads is there;
        what is complete after it is sent. Returns when all that was read was there."""
        whole = self._tile(task)
        self._owned[task.layers[-1].name] = (task.tile, whole)
        arrived: tuple[Message, ...] = ()
        for piece in task.pieces:
            ready_ns = max(ready_ns, self._receive(piece.receives))
            arrived += piece.receives
            with self.turn():
                self.pace.begin(ready_ns)
                self._compute_piece(task, piece, arrived)
                self._pad(task, piece.modelled_s)
            self._send(piece.sends)
        return ready_ns

    def _compute_piece(self, task: Task, piece: Piece, arrived: Sequence[Message]) -> None:
        key, name = (task.step, piece.tile), task.layers[-1].name
        given = self._given(task, key, arrived)
        with (
            self.recorder.span("compute", task.step),
            in_turn(self._expected_s(piece.modelled_s)),
        ):
            values = self._prepared[key].run(given)[name]
            paste([(piece.tile, values)], self._owned[name])

    def _tile(self, task: Task) -> Array:
        """Room for the tile of a task in pieces."""
        if task.step not in self._tiles:
            shape = self.network.shapes[task.layers[-1].name][:2]
            size = (*shape, task.tile.height, task.tile.width)
            self._tiles[task.step] = np.full(size, np.nan, dtype=np.float32)
        return self._tiles[task.step]

    def _pad(self, task: Task, seconds: float) -> None:
        if not self.pad:
            return
        end_ns = self.pace.finish(seconds)
        if end_ns > time.monotonic_ns():
            with self.recorder.span("pad", task.step):
                _sleep_until(end_ns)

    def _combined(self, task: Task) -> Array:
        """Own and received partials in the order of their devices, so that all finish alike."""
        layer, anchor = task.layers[-1], task.layers[-1].nodes[0]
        parts = {message.peer: self._received[message.tag] for message in task.receives}
        if layer.nodes[0].inputs[0] in self._owned:
            parts[self.program.device] = self._partial(layer)
        shape = self._partial_shape(layer)
        ordered = [parts[device].reshape(shape) for device in sorted(parts)]
        made = reductions.combine(anchor, ordered)
        if len(layer.nodes) == 1:
            return made
        key = task.step, task.tile
        given = {
            value.name: made
            if value.tensor == anchor.name
            else self._input(task, value.tensor, value.tile, ())[1]
            for value in self._programs[key].inputs
        }
        return self._prepared[key].run(given)[layer.name]

    def _partial(self, layer: Layer) -> Array:
        """This device's part of a reduction, computed when it is first wanted."""
        if layer.name not in self._partials:
            anchor = layer.nodes[0]
            values = reductions.partial(anchor, self._owned[anchor.inputs[0]][1])
            self._partials[layer.name] = np.ascontiguousarray(values)
        return self._partials[layer.name]

    def _partial_shape(self, layer: Layer) -> tuple[int, ...]:
        anchor = layer.nodes[0]
        one = np.zeros((*self.network.shapes[anchor.inputs[0]][:2], 1, 1), dtype=np.float32)
        return tuple(reductions.partial(anchor, one).shape)

    # -- sending -------------------------------------------------------------------------------

    def _send(self, messages: Sequence[Message], ready_ns: int = 0) -> None:
        """Pack messages and hand them over: what they carry is there since ``ready_ns``, or since
        the device finished its last task."""
        for message in messages:
            with self.recorder.span("send", message.step, message.peer, message.bytes):
                with self._encoding(message, ready_ns):
                    buffer = self._pack(message)
                self._outgoing.append(
                    self.transport.send(self.ranks[message.peer], message.tag, buffer)
                )
            self.recorder.resize(buffer.nbytes)

    @contextmanager
    def _encoding(self, message: Message, ready_ns: int) -> Iterator[None]:
        """A padded device encodes as long as the cost model has it, and computes nothing then."""
        if not self.pad or not message.encode_s:
            yield
            return
        with self.turn():
            self.pace.begin(ready_ns)
            yield
            _sleep_until(self.pace.finish(message.encode_s))

    def _pack(self, message: Message) -> Array:
        first = self.network.by_name.get(message.parts[0].tensor)
        if first is not None and first.reduces:
            return self._partial(first).reshape(-1)
        if len(message.parts) == 1 and self.packing.is_plain(message):
            view = crop(self._owned[message.parts[0].tensor], message.parts[0].tile)
            if view.flags.c_contiguous:
                return view
        buffer = self._packed[message.tag]
        values = [crop(self._owned[part.tensor], part.tile) for part in message.parts]
        return self.packing.write(message, buffer, values)

    # -- receiving -----------------------------------------------------------------------------

    def _receive(self, messages: Sequence[Message]) -> int:
        """Wait for messages; returns when the last was there, 0 if all were already."""
        there_ns = 0
        for message in messages:
            with self.recorder.span("wait", message.step, message.peer, message.bytes):
                incoming = self._incoming.pop(message.tag)
                self._lengths[message.tag] = incoming.wait()
            self.recorder.arrived(message.peer, incoming.arrival)
            span = self.recorder.spans[-1]
            if span.end_ns - span.start_ns > WAITED_NS:
                there_ns = max(there_ns, span.end_ns)
        return there_ns

    def _given(self, task: Task, key: Key, arrived: Sequence[Message]) -> dict[str, Array]:
        """The inputs of a tile program, by name."""
        with self.recorder.span("assemble", task.step):
            return {
                value.name: self._input(task, value.tensor, value.tile, arrived)[1]
                for value in self._programs[key].inputs
            }

    def _input(self, task: Task, tensor: str, need: Tile, arrived: Sequence[Message]) -> ArrayCrop:
        """The rectangle ``need`` of a tensor: a view where one piece holds it all."""
        pieces = [
            piece
            for message in arrived
            for part, piece in zip(message.parts, self._arrived(message), strict=True)
            if part.tensor == tensor
        ]
        if tensor in self._owned:
            pieces.append(self._owned[tensor])
        for piece in pieces:
            if piece[0].contains(need):
                return need, crop(piece, need)
        return need, self._put_together(task, tensor, need, pieces)

    def _arrived(self, message: Message) -> list[ArrayCrop]:
        """The rectangles of a message, decoded once; raises PeerError for a broken one."""
        if message.tag not in self._pieces:
            received = self._lengths.get(message.tag)
            try:
                values = self.packing.read(message, self._received[message.tag], received)
            except BrokenMessageError as error:
                raise PeerError(self.ranks[message.peer], f"broken message: {error}") from None
            tiles = [part.tile for part in message.parts]
            self._pieces[message.tag] = list(zip(tiles, values, strict=True))
        return self._pieces[message.tag]

    def _put_together(
        self, task: Task, tensor: str, need: Tile, pieces: Sequence[ArrayCrop]
    ) -> Array:
        buffer = self._assembled.get((task.step, tensor, need))
        if buffer is None:
            self._check_there(task, tensor, need, pieces)
            size = (*self.network.shapes[tensor][:2], need.height, need.width)
            buffer = np.empty(size, dtype=np.float32)
            self._assembled[task.step, tensor, need] = buffer
        paste(pieces, (need, buffer))
        return buffer

    def _check_there(
        self, task: Task, tensor: str, need: Tile, pieces: Sequence[ArrayCrop]
    ) -> None:
        """Raise ExecutionError where a need is not covered: not every engine hands NaN on."""
        lacking = area_without(need, [tile for tile, _ in pieces])
        if lacking:
            raise ExecutionError(
                f"step {task.step} reads {lacking} elements of {tensor!r} that no transfer brings: "
                "`nptp-opt verify` says what is wrong with the plan"
            )


def _sleep_until(end_ns: int) -> None:
    rest_ns = end_ns - time.monotonic_ns()
    if rest_ns > 0:
        time.sleep(rest_ns / 1e9)


def _all_sends(program: DeviceProgram) -> list[Message]:
    return [*program.first_sends, *(message for task in program.tasks for message in task.sends)]
