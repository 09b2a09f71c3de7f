"""The simulation without barriers once more, in plain Python, as an oracle for the compiled one."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.task_graph import Task, task_seconds
from nptp_opt.network.ir import Network
from nptp_opt.plan.model import owned_maps
from nptp_opt.plan.steps import Step


@dataclass
class _Message:
    src: int
    dst: int
    step: int
    bytes: int = 0
    awaits: set[Task] = field(default_factory=set)
    """Tasks that make what this message carries."""


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
    def __init__(self, network: Network, cluster: Cluster, steps: Sequence[Step]) -> None:
        self.seconds = task_seconds(network, cluster, steps)
        self.ahead = ahead_s(network, cluster, steps)
        self.messages = _messages(network, steps)
        self.links = _Links(cluster)
        self.message_s, self.source = cluster.network.message_s, cluster.source
        self.queue: dict[int, list[int]] = defaultdict(list)
        for step, device in sorted(self.seconds, reverse=True):
            self.queue[device].append(step)
        self.missing: dict[Task, int] = defaultdict(int)
        self.carries: dict[Task, list[_Message]] = defaultdict(list)
        for message in self.messages:
            self.missing[message.step, message.dst] += 1
            for task in message.awaits:
                self.carries[task].append(message)
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
        self.missing[message.step, message.dst] -= 1
        self._start_next(message.dst, now)

    def _on_done(self, task: Task, now: float) -> None:
        for message in self.carries[task]:
            message.awaits.discard(task)
        self._hand_over([m for m in self.carries[task] if not m.awaits], task[1], now)

    def _on_free(self, device: int, now: float) -> None:
        self.busy.discard(device)
        self._start_next(device, now)

    def _start_next(self, device: int, now: float) -> None:
        waiting = self.queue[device]
        if device in self.busy or not waiting:
            return
        task = (waiting[-1], device)
        if task in self.ahead:
            self._compute(task, now, self.ahead[task], "free", device)
            self.seconds[task] -= self.ahead.pop(task)
        elif not self.missing[task]:
            waiting.pop()
            self._compute(task, now, self.seconds[task], "done", task)

    def _compute(self, task: Task, now: float, seconds: float, then: str, item: object) -> None:
        self.busy.add(task[1])
        self._push(now + seconds, then, item)


def ahead_s(network: Network, cluster: Cluster, steps: Sequence[Step]) -> dict[Task, float]:
    """Seconds of the interiors of tasks that overlap."""
    owned, found = owned_maps(network, cluster, steps), dict[Task, float]()
    for k, step in enumerate(steps):
        layers = tuple(network.by_name[name] for name in step.layers)
        for device in step.tiles if step.overlap else ():
            parts = step.split(network, device, owned)
            assert parts is not None
            found[k, device] = parts.seconds(cluster, device, layers)[0]
    return {task: seconds for task, seconds in found.items() if seconds > 0}


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
                message.awaits.add((maker[source], move.src))
    return list(found.values())
