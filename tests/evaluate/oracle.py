"""The simulation without barriers once more, in plain Python, as an oracle for the compiled one."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Transfer, segment_compute_s
from nptp_opt.evaluate.task_graph import task_seconds
from nptp_opt.network.ir import Network, regions
from nptp_opt.plan.steps import SpatialStep, Step

Piece = tuple[int, int, int]
"""Step, device, number."""


@dataclass
class _Message:
    src: int
    dst: int
    step: int
    bytes: int = 0
    awaits: set[Piece] = field(default_factory=set)
    """Pieces that make what this message carries."""
    readers: set[Piece] = field(default_factory=set)


@dataclass
class _Links:
    """When every link is free again; a shared medium is one link that all use."""

    cluster: Cluster
    up: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    down: dict[int, float] = field(default_factory=lambda: defaultdict(float))

    def send(self, message: _Message, ready: float) -> float:
        """Occupy the links from the first moment they are free; returns the arrival time."""
        src, dst, rate = self._path(message)
        end = max(ready, self.up[src], self.down[dst]) + message.bytes / rate
        self.up[src] = self.down[dst] = end
        return end + self.cluster.network.latency_s

    def _path(self, message: _Message) -> tuple[int, int, float]:
        if self.cluster.shared:
            return 0, 0, self.cluster.network.bytes_per_s
        sender, receiver = self.cluster.devices[message.src], self.cluster.devices[message.dst]
        rate = min(sender.up_bytes_per_s, receiver.down_bytes_per_s)
        return message.src, message.dst, rate


class Oracle:
    """Every piece waits for every message that it reads, every message for all that it carries."""

    def __init__(self, network: Network, cluster: Cluster, steps: Sequence[Step]) -> None:
        self.seconds = _seconds(network, cluster, steps)
        self.messages = _messages(network, steps)
        self.links = _Links(cluster)
        self.message_s, self.source = cluster.network.message_s, cluster.source
        self.queue: dict[int, list[Piece]] = defaultdict(list)
        for piece in sorted(self.seconds, reverse=True):
            self.queue[piece[1]].append(piece)
        self.missing: dict[Piece, int] = defaultdict(int)
        self.carries: dict[Piece, list[_Message]] = defaultdict(list)
        for message in self.messages:
            for piece in message.readers:
                self.missing[piece] += 1
            for piece in message.awaits:
                self.carries[piece].append(message)
        self.busy: set[int] = set()
        self.events: list[tuple[float, int, str, object]] = []
        self.count = 0

    def run(self) -> float:
        now = 0.0
        self.busy.add(self.source)
        self._hand_over([m for m in self.messages if not m.awaits], self.source, 0.0)
        for device in list(self.queue):
            self._start_next(device, 0.0)
        while self.events:
            now, _, kind, item = heapq.heappop(self.events)
            getattr(self, f"_on_{kind}")(item, now)
        assert not any(self.queue.values()), "the plan waits for a message that nothing sends"
        return now

    def _push(self, at: float, kind: str, item: object) -> None:
        self.count += 1
        heapq.heappush(self.events, (at, self.count, kind, item))

    def _hand_over(self, messages: Sequence[_Message], device: int, now: float) -> None:
        """One after the other; then the device is free for its next task."""
        for message in messages:
            now += self.message_s
            self._push(now, "ready", message)
        self._push(now, "free", device)

    def _on_ready(self, message: _Message, now: float) -> None:
        arrival = self.links.send(message, now)
        self._push(arrival, "arrival", message)

    def _on_arrival(self, message: _Message, now: float) -> None:
        for piece in message.readers:
            self.missing[piece] -= 1
        self._start_next(message.dst, now)

    def _on_done(self, piece: Piece, now: float) -> None:
        for message in self.carries[piece]:
            message.awaits.discard(piece)
        self._hand_over([m for m in self.carries[piece] if not m.awaits], piece[1], now)

    def _on_free(self, device: int, now: float) -> None:
        self.busy.discard(device)
        self._start_next(device, now)

    def _start_next(self, device: int, now: float) -> None:
        waiting = self.queue[device]
        if device in self.busy or not waiting or self.missing[waiting[-1]]:
            return
        piece = waiting.pop()
        self.busy.add(device)
        self._push(now + self.seconds[piece], "done", piece)


def _seconds(network: Network, cluster: Cluster, steps: Sequence[Step]) -> dict[Piece, float]:
    """Of all pieces: those of a spatial step as tiles of their own."""
    found = dict[Piece, float]()
    for (k, device), whole_s in task_seconds(network, cluster, steps).items():
        step = steps[k]
        pieces = step.pieces.get(device, ()) if isinstance(step, SpatialStep) else ()
        layers = tuple(network.by_name[name] for name in step.layers)
        for number, piece in enumerate(pieces):
            found[k, device, number] = segment_compute_s(cluster, device, layers, piece)
        if not pieces:
            found[k, device, 0] = whole_s
    return found


def _messages(network: Network, steps: Sequence[Step]) -> list[_Message]:
    maker = {step.layers[-1]: k for k, step in enumerate(steps) if step.kind == "spatial"}
    found: dict[tuple[int, int, int], _Message] = {}
    for k, step in enumerate(steps):
        for move in step.transfers:
            key = (k, move.src, move.dst)
            message = found.setdefault(key, _Message(move.src, move.dst, k))
            message.bytes += move.bytes
            made = network.by_name[move.tensor].nodes[0].inputs[0] if step.kind == "global" else ""
            source = made or move.tensor
            if source in maker:
                message.awaits |= _meeting(steps, maker[source], move.src, None if made else move)
            message.readers |= _reading(network, step, k, move)
    return list(found.values())


def _meeting(steps: Sequence[Step], k: int, device: int, move: Transfer | None) -> set[Piece]:
    """A device's pieces of a step of which a transfer has anything; all of them without one."""
    parts = steps[k].pieces_of(device)
    return {
        (k, device, n)
        for n, part in enumerate(parts)
        if move is None or part.intersect(move.tile).area
    }


def _reading(network: Network, step: Step, k: int, move: Transfer) -> set[Piece]:
    """The pieces that read anything of a transfer."""
    parts = step.pieces_of(move.dst)
    if len(parts) == 1:
        return {(k, move.dst, 0)}
    layers = tuple(network.by_name[name] for name in step.layers)
    return {
        (k, move.dst, n)
        for n, part in enumerate(parts)
        if regions(layers, part)[move.tensor].intersect(move.tile).area
    }
