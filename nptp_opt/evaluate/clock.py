"""The clock: simulated latencies of thousands of plans of one network, by differences.

A step is known again by its segment, its partition and the partitions that it reads, so of a plan
that differs little from others only the steps that differ are priced. All priced steps lie in one
store of arrays; a plan is a list of numbers of steps, and the simulation is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, Ownership, candidate_array, input_ownership, result_users
from nptp_opt.cost.compiled import SegmentTables, segment_tables, segment_work
from nptp_opt.evaluate.assemble import Choice, assemble, final_step, global_step, segment_step
from nptp_opt.evaluate.events import run_steps
from nptp_opt.evaluate.memory import limited, overfull
from nptp_opt.evaluate.work import StepWork, step_work
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer, Network, external_inputs
from nptp_opt.plan.steps import Step

MOST_STEPS, MOST_ENTRIES = 20_000, 2_000_000
"""Steps that a clock remembers, as choices; and their tasks and messages: about 100 MB."""

BESIDE = 150
"""Work of a plan beside its tasks and messages, in their units: to know its steps again."""

Key = tuple[object, ...]
Users = Mapping[str, frozenset[int]]


class Clock:
    """Simulates plans of one network on one cluster."""

    def __init__(self, network: Network, cluster: Cluster) -> None:
        self.network, self.cluster = network, cluster
        self.work = 0
        """What was done for all plans so far: about a microsecond per unit."""
        self.limited = limited(cluster)
        held = input_ownership(network, cluster)
        self._inputs = {name: candidate_array([tiles], self._n)[0] for name, tiles in held.items()}
        self._final = _moving(network, (*external_inputs(network.head), *network.spatial_outputs))
        self._segments: dict[tuple[str, ...], _Segment] = {}
        self.forget()

    def forget(self) -> None:
        """Drop all that is known: plans are priced anew."""
        self._store = _Store(self.cluster)
        self._choices: dict[int, tuple[Choice, int, _Segment]] = {}
        self._numbers: dict[Key, int] = {}
        self._kept: list[tuple[Choice, IntArray]] = []
        self._steps: dict[Key, int] = {}

    def seconds(self, choices: Sequence[Choice], limit_s: float = np.inf) -> float:
        """Simulated latency of the plan; infinite as soon as it is seen to be above ``limit_s``."""
        known = max(len(self._steps), len(self._choices))
        if known > MOST_STEPS or self._store.entries > MOST_ENTRIES:
            self.forget()
        found_s, work = self._store.run(*self._plan(choices), limit_s)
        self.work += BESIDE + work
        return found_s

    def fits(self, choices: Sequence[Choice]) -> bool:
        """Does the plan keep within the devices' memory?"""
        if not self.limited:
            return True
        steps = assemble(self.network, self.cluster, choices)
        return not overfull(self.network, self.cluster, steps)

    @property
    def _n(self) -> int:
        return len(self.cluster.devices)

    def _plan(self, choices: Sequence[Choice]) -> tuple[list[int], list[list[int]]]:
        """Numbers of the plan's steps, and the steps that make the maps that each reads."""
        known = [self._choices.get(id(choice)) or self._learn(choice) for choice in choices]
        users = self._users(known)
        held: dict[str, int] = {}  # by map the number of the choice that makes it
        place: dict[str, int] = {}
        numbers, makers = [], []
        for k, (choice, own, segment) in enumerate(known):
            key: Key = (own, *map(held.get, segment.maps))
            if segment.is_global:
                key = (*key, users[segment.output])
            number = self._steps.get(key)
            if number is None:
                number = self._steps[key] = self._store.add(*self._work(choice, held, users))
            numbers.append(number)
            makers.append([place.get(tensor, -1) for tensor in segment.maps])
            if not segment.is_global:
                held[segment.output], place[segment.output] = own, k
        key = (None, *map(held.get, self._final))
        if key not in self._steps:
            self._steps[key] = self._store.add(*self._gathered(held))
        numbers.append(self._steps[key])
        makers.append([place.get(tensor, -1) for tensor in self._final])
        return numbers, makers

    def _users(self, known: Sequence[tuple[Choice, int, _Segment]]) -> Users:
        if not self.network.replicated:
            return {}
        parts = [
            (segment.output, segment.reads, choice.tiles)
            for choice, _, segment in known
            if segment.reads
        ]
        return result_users(self.network, self.cluster.sink, parts)

    def _learn(self, choice: Choice) -> tuple[Choice, int, _Segment]:
        segment = self._segment(choice.layers)
        key: Key = (id(segment), choice.overlap, *sorted(choice.tiles.items()))
        number = self._numbers.setdefault(key, len(self._numbers))
        if number == len(self._kept):
            self._kept.append((choice, candidate_array([choice.tiles], self._n)[0]))
        found = choice, number, segment
        self._choices[id(choice)] = found  # it is kept, so its identity stays its own
        return found

    def _segment(self, layers: tuple[Layer, ...]) -> _Segment:
        names = tuple(layer.name for layer in layers)
        if names not in self._segments:
            self._segments[names] = _Segment.of(self.network, self.cluster, layers)
        return self._segments[names]

    def _work(self, choice: Choice, held: Mapping[str, int], users: Users) -> _Work:
        _, own, segment = self._choices[id(choice)]
        if segment.tables is not None:
            owners = [
                self._kept[held[t]][1] if t in held else self._inputs[t] for t in segment.maps
            ]
            return _compiled(segment.tables, self._kept[own][1], owners, choice.overlap)
        owned = self._owned(held)
        if choice.is_global:
            layer = choice.layers[-1]
            step: Step = global_step(self.network, self.cluster, layer, owned, users[layer.name])
        else:
            step = segment_step(self.network, self.cluster, choice, owned)
        work = step_work(self.network, self.cluster, step, owned)
        return _plain(self.network, segment.maps, work)

    def _gathered(self, held: Mapping[str, int]) -> _Work:
        owned = self._owned(held)
        step = final_step(self.network, self.cluster, owned)
        work = step_work(self.network, self.cluster, step, owned)
        return _plain(self.network, self._final, work)

    def _owned(self, held: Mapping[str, int]) -> dict[str, Ownership]:
        made = {tensor: self._kept[number][0].tiles for tensor, number in held.items()}
        return {**input_ownership(self.network, self.cluster), **made}


@dataclass(frozen=True)
class _Segment:
    """What all choices of the same layers share."""

    output: str
    is_global: bool
    maps: tuple[str, ...]
    """External tensors that move between devices."""
    reads: tuple[str, ...]
    """The others: results that every user has."""
    tables: SegmentTables | None

    @classmethod
    def of(cls, network: Network, cluster: Cluster, layers: Sequence[Layer]) -> _Segment:
        last, reads = layers[-1], external_inputs(layers)
        tables = segment_tables(cluster, network, layers) if last.kind == "spatial" else None
        maps = _moving(network, reads)
        others = tuple(name for name in reads if name not in maps)
        return cls(last.name, last.kind == "global", maps, others, tables)


def _moving(network: Network, tensors: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in tensors if name not in network.replicated))


_Work = tuple[IntArray, FloatArray, IntArray, FloatArray]
"""Devices (T) with seconds (2, T) ahead and after; messages [src, dst, maps] (M, 3), bytes (M)."""


def _compiled(
    tables: SegmentTables, tiles: IntArray, owners: Sequence[IntArray], overlap: bool
) -> _Work:
    stacked = np.array(owners) if owners else np.zeros((0, *tiles.shape), dtype=np.int64)
    times, ends, amounts = segment_work(*tables.arrays, tiles, stacked, overlap)
    devices = np.flatnonzero((tiles[:, 1] > tiles[:, 0]) & (tiles[:, 3] > tiles[:, 2]))
    return devices, times[:, devices], ends, amounts


def _plain(network: Network, maps: Sequence[str], work: StepWork) -> _Work:
    bit = {network.number[name]: 1 << k for k, name in enumerate(maps) if name in network.number}
    awaited = np.zeros(len(work.src), dtype=np.int64)
    for message, number in work.awaited.tolist():
        awaited[message] |= bit[number]
    ends = np.stack((work.src, work.dst, awaited), axis=1)
    return work.devices, np.stack((work.ahead_s, work.rest_s)), ends, work.bytes.astype(float)


class _Store:
    """The work of all known steps, behind each other in arrays that grow."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._bounds = np.zeros((64, 4), dtype=np.int64)
        self._devices, self._ends = np.zeros(1024, np.int64), np.zeros((1024, 3), np.int64)
        self._seconds, self._link_s = np.zeros((1024, 2)), np.zeros(1024)
        self._count = self._tasks = self._messages = 0
        links = cluster.network
        self._rates = None
        if not cluster.shared:
            up = np.array([device.up_bytes_per_s for device in cluster.devices])
            down = np.array([device.down_bytes_per_s for device in cluster.devices])
            self._rates = np.minimum(up[:, None], down[None])
        self._fixed = len(cluster.devices), cluster.source, links.message_s, links.latency_s

    def add(self, devices: IntArray, seconds: FloatArray, ends: IntArray, sent: FloatArray) -> int:
        """Number of a step whose work this is."""
        tasks, messages = self._tasks + len(devices), self._messages + len(ends)
        self._devices, self._seconds = (_grown(a, tasks) for a in (self._devices, self._seconds))
        self._ends, self._link_s = (_grown(a, messages) for a in (self._ends, self._link_s))
        self._bounds = _grown(self._bounds, self._count + 1)
        self._devices[self._tasks : tasks] = devices
        self._seconds[self._tasks : tasks] = seconds.T
        self._ends[self._messages : messages] = ends
        self._link_s[self._messages : messages] = sent / self._rate(ends)
        self._bounds[self._count] = self._tasks, tasks, self._messages, messages
        self._tasks, self._messages, self._count = tasks, messages, self._count + 1
        return self._count - 1

    @property
    def entries(self) -> int:
        """Tasks and messages of all steps."""
        return self._tasks + self._messages

    def _rate(self, ends: IntArray) -> FloatArray | float:
        if self._rates is None:
            return self.cluster.network.bytes_per_s
        return np.asarray(self._rates[ends[:, 0], ends[:, 1]])

    def run(
        self, steps: Sequence[int], makers: Sequence[Sequence[int]], limit_s: float
    ) -> tuple[float, int]:
        """Simulate a plan of these steps; ``makers`` are places in the plan."""
        most = max(map(len, makers), default=0)
        padded = np.array([[*row, *[-1] * (most - len(row))] for row in makers], dtype=np.int64)
        store = self._bounds, self._devices, self._seconds, self._ends, self._link_s
        numbers = np.array(steps, dtype=np.int64)
        found_s, work = run_steps(store, numbers, padded, self._rates is None, self._fixed, limit_s)
        return float(found_s), int(work)


def _grown(array: np.ndarray, size: int) -> np.ndarray:
    """The array, or a copy of twice the length that has room for ``size``."""
    if size <= len(array):
        return array
    room = np.zeros((max(size, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    room[: len(array)] = array
    return room
