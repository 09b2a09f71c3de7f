"""Predicted latency: an event-driven simulation of a plan without barriers (design §6).

Each device works through its steps in order and starts one when its own halo is there; in a step
that overlaps, the interior before that and only the rim then. A message
(all transfers of one step between two devices) leaves when its sender has computed what it
carries and has handed over those before it (``message_ms`` each, of its own time); links serve one
message after the other, in the order in which messages become ready.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from nptp_opt.cluster import Cluster
from nptp_opt.cost import (
    Ownership,
    gather_compute_s,
    reduction_compute_s,
    segment_compute_s,
)
from nptp_opt.geometry import EMPTY
from nptp_opt.network.ir import Network
from nptp_opt.steps import Step, owned_maps, split_of

Task = tuple[int, int]
"""(step, device)"""


@dataclass(frozen=True)
class Planned:
    """One predicted stretch of time: a task, or a message on its way; seconds from the input."""

    kind: Literal["compute", "message"]
    step: int
    device: int
    """Who computes or sends."""
    start_s: float
    end_s: float
    peer: int | None = None
    """Who receives."""


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


def simulate(
    network: Network,
    cluster: Cluster,
    steps: Sequence[Step],
    measured: Mapping[Task, float] | None = None,
) -> float:
    """Seconds from the input at the source until the last task has finished.

    ``measured`` gives tasks other seconds than the cost model.
    """
    return _Simulation(network, cluster, steps, measured or {}).run()


def timeline(network: Network, cluster: Cluster, steps: Sequence[Step]) -> tuple[Planned, ...]:
    """What ``simulate`` goes through: every task and every message, in the order of their start.

    A message starts when it is ready; it may wait for its link.
    """
    simulation = _Simulation(network, cluster, steps)
    simulation.run()
    return tuple(sorted(simulation.planned, key=lambda planned: planned.start_s))


class _Simulation:
    def __init__(
        self,
        network: Network,
        cluster: Cluster,
        steps: Sequence[Step],
        measured: Mapping[Task, float] = MappingProxyType({}),
    ) -> None:
        self.seconds = {**task_seconds(network, cluster, steps), **measured}
        self.ahead = {
            task: share * self.seconds[task]
            for task, share in _ahead_shares(network, cluster, steps).items()
        }
        """Seconds of the interior of tasks that overlap and have not begun."""
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
        self.planned: list[Planned] = []

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
        self.planned.append(
            Planned("message", message.step, message.src, now, arrival, message.dst)
        )
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
        self.planned.append(Planned("compute", *task, now, now + seconds))
        self._push(now + seconds, then, item)


def task_seconds(network: Network, cluster: Cluster, steps: Sequence[Step]) -> dict[Task, float]:
    """Compute seconds of everything that some device does; idle devices have no task."""
    seconds: dict[Task, float] = {}
    for k, step in enumerate(steps):
        layers = tuple(network.by_name[name] for name in step.layers)
        if step.device is not None:
            seconds[k, step.device] = gather_compute_s(cluster, step.device, layers)
        if step.kind == "global":
            seconds |= _reduction_seconds(network, cluster, steps, k)
            continue
        for device, tile in step.tiles.items():
            if tile != EMPTY:
                seconds[k, device] = segment_compute_s(cluster, device, layers, tile)
    for task, (interior_s, rim_s) in _split_seconds(network, cluster, steps).items():
        seconds[task] = interior_s + rim_s
    return seconds


def _split_seconds(
    network: Network, cluster: Cluster, steps: Sequence[Step]
) -> dict[Task, tuple[float, float]]:
    """Compute seconds of interior and rim of the tasks that overlap."""
    owned, found = owned_maps(network, cluster, steps), dict[Task, tuple[float, float]]()
    for k, step in enumerate(steps):
        layers = tuple(network.by_name[name] for name in step.layers)
        for device in step.tiles if step.overlap else ():
            parts = split_of(network, step, device, owned)
            assert parts is not None
            found[k, device] = parts.seconds(cluster, device, layers)
    return found


def _ahead_shares(network: Network, cluster: Cluster, steps: Sequence[Step]) -> dict[Task, float]:
    """The share of a task's seconds that its interior takes, where there is one."""
    return {
        task: interior_s / (interior_s + rim_s)
        for task, (interior_s, rim_s) in _split_seconds(network, cluster, steps).items()
        if interior_s > 0
    }


def _reduction_seconds(
    network: Network, cluster: Cluster, steps: Sequence[Step], number: int
) -> dict[Task, float]:
    """One task per owner or user. Its partial leaves as soon as the map's tile is done: the
    seconds of the partial itself count, but do not hold the message up.
    """
    step, layer = steps[number], network.by_name[steps[number].layers[-1]]
    owners: Ownership = {}
    if layer.reduces:
        reduced = layer.nodes[0].inputs[0]
        owners = next((s.tiles for s in steps if s.layers[-1:] == (reduced,)), {})
    return {
        (number, device): reduction_compute_s(
            cluster,
            network,
            layer,
            device,
            owners.get(device, EMPTY),
            uses=device in step.tiles,
        )
        for device in {*step.tiles, *(i for i, tile in owners.items() if not tile.is_empty)}
    }


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
