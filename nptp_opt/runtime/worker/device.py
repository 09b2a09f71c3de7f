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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from nptp_opt.errors import ExecutionError
from nptp_opt.geometry import Tile, area_without
from nptp_opt.kernels import Crop, combine, crop, partial, paste
from nptp_opt.kernels.executors import Prepared
from nptp_opt.network.ir import Layer, Network
from nptp_opt.runtime.blocks import Block, Key, blocks, programs
from nptp_opt.runtime.device_program import DeviceProgram, Message, Piece, Task
from nptp_opt.runtime.trace import WAITED_NS, Recorder
from nptp_opt.runtime.transport.base import Pending, Transport
from nptp_opt.runtime.transport.packing import Packing
from nptp_opt.runtime.worker.priority import in_turn


@dataclass
class Pace:
    """When a padded device would have begun and finished its tasks; nanoseconds, monotonic.

    What this machine adds to a task (a sleep that ends late, say) is made up for in the next one,
    unless that has to wait for a message anyway.
    """

    free_ns: int
    began_ns: int = 0

    def finish(self, seconds: float) -> int:
        """The device is free again ``seconds`` after it began; returns that moment."""
        self.free_ns = self.began_ns + round(seconds * 1e9)
        return self.free_ns


class DeviceRun:
    """One device's part of a job. ``ranks`` maps device numbers to ranks of the transport.

    ``prepared`` are its tile programs, compiled. ``pad`` stretches every task to the
    seconds that the cost model gives it: from the moment at which its inputs were there and the
    device was free, putting the inputs together included. Interior and rim of a task that overlaps
    are stretched apart from each other.
    """

    def __init__(
        self,
        network: Network,
        program: DeviceProgram,
        weights: Mapping[str, Tensor],
        transport: Transport,
        ranks: Mapping[int, int],
        recorder: Recorder,
        *,
        prepared: Mapping[Key, Prepared],
        packing: Packing,
        pad: bool = False,
    ) -> None:
        self.network, self.program, self.weights = network, program, weights
        self.transport, self.ranks, self.recorder, self.pad = transport, ranks, recorder, pad
        self.packing = packing
        self._packed = {message.tag: packing.buffer(message) for message in _all_sends(program)}
        self._received = {message.tag: packing.buffer(message) for message in program.receives}
        self._pieces: dict[int, list[Crop]] = {}
        self._assembled: dict[tuple[int, str, Tile], Tensor] = {}
        self._tiles: dict[int, Tensor] = {}
        self._incoming: dict[int, Pending] = {}
        self._outgoing: list[Pending] = []
        self._owned: dict[str, Crop] = {}
        self._whole: dict[str, Tensor] = {}
        self._partials: dict[str, Tensor] = {}
        self.blocks = blocks(program, network)
        self._programs, self._prepared = programs(program, network), prepared

    def arm(self, inputs: Mapping[str, Tensor]) -> None:
        """Get ready for one input: post all receives. ``inputs`` are given on the source alone."""
        self._owned = {name: (self.network.full(name), x) for name, x in inputs.items()}
        for message in self.program.receives:
            self._incoming[message.tag] = self.transport.receive(
                self.ranks[message.peer], message.tag, self._received[message.tag]
            )

    def execute(self) -> dict[str, Tensor]:
        """Do all tasks; returns the network's outputs on the sink, nothing elsewhere.

        Raises PeerError when another device is lost.
        """
        pace = Pace(time.monotonic_ns())
        self._send(self.program.first_sends)
        for block in self.blocks:
            first, last = block.first, block.last
            if first.ahead:
                pace.began_ns = pace.free_ns
                self._compute_pieces(first, first.ahead, (), pace)
            pace.began_ns = self._receive(first, pace.free_ns)
            if first.overlap:
                self._compute_pieces(first, first.rim, first.receives, pace)
                self._owned[first.layers[-1].name] = (first.tile, self._tile(first))
            else:
                self._compute(block)
                self._pad(first, block.modelled_s, pace)
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
            inputs = self._inputs(block.first)
            with self._computing(block):
                values = self._combined(block.first, inputs)
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
        shares = [(task.step, task.modelled_s) for task in block.tasks]
        with (
            self.recorder.shared("compute", shares),
            in_turn(block.modelled_s if self.pad else math.inf),
        ):
            yield

    def _compute_pieces(
        self, task: Task, pieces: Sequence[Piece], arrived: Sequence[Message], pace: Pace
    ) -> None:
        """Compute pieces of a task's tile into their places, from what is owned or has arrived."""
        if not pieces:
            return
        given = [self._given(task, (task.step, piece.tile), arrived) for piece in pieces]
        seconds = sum(piece.modelled_s for piece in pieces)
        name, whole = task.layers[-1].name, self._tile(task)
        with (
            self.recorder.span("compute", task.step),
            in_turn(seconds if self.pad else math.inf),
        ):
            for piece, inputs in zip(pieces, given, strict=True):
                values = self._prepared[task.step, piece.tile].run(inputs)[name]
                paste([(piece.tile, values)], (task.tile, whole))
        self._pad(task, seconds, pace)

    def _tile(self, task: Task) -> Tensor:
        """Room for the tile of a task that overlaps."""
        if task.step not in self._tiles:
            shape = self.network.shapes[task.layers[-1].name][:2]
            size = (*shape, task.tile.height, task.tile.width)
            self._tiles[task.step] = torch.full(size, float("nan"))
        return self._tiles[task.step]

    def _pad(self, task: Task, seconds: float, pace: Pace) -> None:
        if not self.pad:
            return
        rest_ns = pace.finish(seconds) - time.monotonic_ns()
        if rest_ns > 0:
            with self.recorder.span("pad", task.step):
                time.sleep(rest_ns / 1e9)

    def _combined(self, task: Task, inputs: Mapping[str, Tensor]) -> Tensor:
        """Own and received partials in the order of their devices, so that all finish alike."""
        layer = task.layers[-1]
        parts = {message.peer: self._received[message.tag] for message in task.receives}
        if layer.nodes[0].inputs[0] in self._owned:
            parts[self.program.device] = self._partial(layer)
        shape = self._partial_shape(layer)
        ordered = [parts[device].view(shape) for device in sorted(parts)]
        return combine(layer, self.weights, ordered, inputs)

    def _partial(self, layer: Layer) -> Tensor:
        """This device's part of a reduction, computed when it is first wanted."""
        if layer.name not in self._partials:
            values = partial(layer, self._owned[layer.nodes[0].inputs[0]][1])
            self._partials[layer.name] = values.contiguous()
        return self._partials[layer.name]

    def _partial_shape(self, layer: Layer) -> torch.Size:
        channels = self.network.shapes[layer.nodes[0].inputs[0]][:2]
        return partial(layer, torch.zeros(*channels, 1, 1)).shape

    # -- sending -------------------------------------------------------------------------------

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            with self.recorder.span("send", message.step, message.peer, message.bytes):
                buffer = self._pack(message)
                self._outgoing.append(
                    self.transport.send(self.ranks[message.peer], message.tag, buffer)
                )

    def _pack(self, message: Message) -> Tensor:
        first = self.network.by_name.get(message.parts[0].tensor)
        if first is not None and first.reduces:
            return self._partial(first).view(-1)
        if len(message.parts) == 1 and self.packing.is_plain(message):
            view = crop(self._owned[message.parts[0].tensor], message.parts[0].tile)
            if view.is_contiguous():
                return view
        buffer = self._packed[message.tag]
        values = [crop(self._owned[part.tensor], part.tile) for part in message.parts]
        self.packing.write(message, buffer, values)
        return buffer

    # -- receiving -----------------------------------------------------------------------------

    def _receive(self, task: Task, free_ns: int) -> int:
        """Wait for a task's messages; returns when the last was there, at least ``free_ns``."""
        for message in task.receives:
            with self.recorder.span("wait", task.step, message.peer, message.bytes):
                self._incoming.pop(message.tag).wait()
            span = self.recorder.spans[-1]
            if span.end_ns - span.start_ns > WAITED_NS:
                free_ns = max(free_ns, span.end_ns)
        return free_ns

    def _inputs(self, task: Task) -> dict[str, Tensor]:
        """What a task needs, by tensor."""
        with self.recorder.span("assemble", task.step):
            return {
                name: self._input(task, name, need, task.receives)[1]
                for name, need in task.needs.items()
            }

    def _given(self, task: Task, key: Key, arrived: Sequence[Message]) -> dict[str, Tensor]:
        """The inputs of a tile program, by name."""
        with self.recorder.span("assemble", task.step):
            return {
                value.name: self._input(task, value.tensor, value.tile, arrived)[1]
                for value in self._programs[key].inputs
            }

    def _input(self, task: Task, tensor: str, need: Tile, arrived: Sequence[Message]) -> Crop:
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

    def _arrived(self, message: Message) -> list[Crop]:
        """The rectangles of a message, decoded once."""
        if message.tag not in self._pieces:
            values = self.packing.read(message, self._received[message.tag])
            tiles = [part.tile for part in message.parts]
            self._pieces[message.tag] = list(zip(tiles, values, strict=True))
        return self._pieces[message.tag]

    def _put_together(self, task: Task, tensor: str, need: Tile, pieces: Sequence[Crop]) -> Tensor:
        buffer = self._assembled.get((task.step, tensor, need))
        if buffer is None:
            self._check_there(task, tensor, need, pieces)
            buffer = torch.empty((*self.network.shapes[tensor][:2], need.height, need.width))
            self._assembled[task.step, tensor, need] = buffer
        paste(pieces, (need, buffer))
        return buffer

    def _check_there(self, task: Task, tensor: str, need: Tile, pieces: Sequence[Crop]) -> None:
        """Raise ExecutionError where a need is not covered: not every engine hands NaN on."""
        lacking = area_without(need, [tile for tile, _ in pieces])
        if lacking:
            raise ExecutionError(
                f"step {task.step} reads {lacking} elements of {tensor!r} that no transfer brings: "
                "`nptp-opt verify` says what is wrong with the plan"
            )


def _all_sends(program: DeviceProgram) -> list[Message]:
    return [*program.first_sends, *(message for task in program.tasks for message in task.sends)]
