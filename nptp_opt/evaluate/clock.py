"""The clock: simulated latencies of thousands of plans of one network, by differences.

A step is known again by its segment, its partition and the partitions that it reads (and those that
read it, where the outgoing rim is computed first), so of a plan that differs little from others
only the steps that differ are evaluated. All evaluated steps lie in one store of arrays; finding
the steps of a plan, their work and the simulation are compiled.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import RIMS, Ownership, candidate_array, input_ownership, result_users
from nptp_opt.cost.rims import INCOMING, OUTGOING
from nptp_opt.cost.segment_tables import SegmentTables
from nptp_opt.evaluate.assemble import Choice, final_step, global_step, segment_step
from nptp_opt.evaluate.memory import StepMemory, has_memory_limits, peaks, step_memory
from nptp_opt.evaluate.step_keys import StepKeys, add_steps
from nptp_opt.evaluate.step_memory import SpatialMemory
from nptp_opt.evaluate.step_store import StepStore, with_room
from nptp_opt.evaluate.task_graph import StepGraph, step_graph
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer, Network, external_inputs
from nptp_opt.plan.steps import Step

MOST_STEPS, MOST_ENTRIES = 20_000, 2_000_000
"""Steps that a clock remembers, as choices; and their pieces and messages: about 100 MB."""

BESIDE = 150
"""Work of a plan beside its pieces and messages, in their units: to know its steps again."""

Users = Mapping[str, frozenset[int]]

Row = tuple[int, int, int, int, int]
"""What a step's key begins with (``step_keys``)."""


class _Segment(NamedTuple):
    """What all choices of the same layers share."""

    number: int
    output: str
    is_global: bool
    maps: tuple[str, ...]
    """External tensors that move between devices."""
    reads: tuple[str, ...]
    """The others: results that every user has."""
    has_tables: bool
    is_blank: bool


class _Known(NamedTuple):
    """A choice, kept so that its identity stays its own, and the place of its row."""

    choice: Choice
    segment: _Segment
    row: Row
    place: int


class Clock:
    """Simulates plans of one network on one cluster."""

    def __init__(self, network: Network, cluster: Cluster) -> None:
        self.network, self.cluster = network, cluster
        self.work = 0
        """What was done for all plans so far: about a microsecond per unit."""
        self.limited = has_memory_limits(cluster)
        self._inputs = input_ownership(network, cluster)
        self._tables = SegmentTables(network, cluster)
        self._segments: dict[tuple[str, ...], _Segment] = {}
        self._by_tuple: dict[int, tuple[tuple[Layer, ...], _Segment]] = {}
        self._all_tables = True
        self._reading = np.zeros(64, dtype=np.bool_)
        """Of every segment: does it read what every user has?"""
        self._final = _moving(network, (*external_inputs(network.head), *network.spatial_outputs))
        self._final_row = (self._tables.add((), self._final, None), -1, 0, 0, 0)
        self._interned = _Interned(len(cluster.devices))
        self.forget()

    def forget(self) -> None:
        """Drop all that is known: plans are evaluated anew."""
        self._store = StepStore(self.cluster)
        self._memories: dict[int, StepMemory] = {}
        self._spatial = SpatialMemory(self.network, self.cluster)
        self._keys = StepKeys(MOST_STEPS, len(self.network.layers) + 1)
        self._choices: dict[int, _Known] = {}
        self._rows = np.array([self._final_row], dtype=np.int64)
        self._interned.forget()
        self._held = np.full(len(self._tables.tensors), -1)
        for name, tiles in self._inputs.items():
            self._held[self._tables.tensors[name]] = self._interned.partition(tiles)

    def seconds(self, choices: Sequence[Choice], limit_s: float = np.inf) -> float:
        """Simulated latency of the plan; infinite as soon as it is seen to be above ``limit_s``."""
        steps, makers = self._plan(choices)
        found_s, graph = self._store.run(steps, makers, limit_s)
        self.work += BESIDE + graph
        return found_s

    def fits(self, choices: Sequence[Choice]) -> bool:
        """Does the plan keep within the devices' memory?"""
        if not self.limited:
            return True
        devices = zip(self.peak_bytes(choices), self.cluster.devices, strict=True)
        return all(peak <= device.memory_bytes for peak, device in devices)

    def peak_bytes(self, choices: Sequence[Choice]) -> list[int]:
        """Bytes that the plan takes on each device, as ``memory.peak_bytes`` counts them."""
        numbers, _ = self._plan(choices)
        known = [self._choices[id(choice)] for choice in choices]
        new = [k for k, number in enumerate(numbers.tolist()) if number not in self._memories]
        plan = self._rows[[*[each.place for each in known], 0]]
        users = self._users(known, plan) if new else {}
        for k in new:
            self._memories[int(numbers[k])] = self._memory(known, users, k, int(numbers[k]))
        steps = [self._memories[number] for number in numbers.tolist()]
        return peaks(self.network, self.cluster.source, steps)

    def _memory(self, known: Sequence[_Known], users: Users, k: int, number: int) -> StepMemory:
        """Of the step at place ``k``, which the store has under this number."""
        if k < len(known) and not known[k].segment.is_global:
            choice, segment, *_ = known[k]
            return self._spatial.of(choice, segment.maps, self._store.step(number))
        step, _ = self._step(known, users, k)
        return step_memory(self.network, len(self.cluster.devices), step)

    def _plan(self, choices: Sequence[Choice]) -> tuple[IntArray, IntArray]:
        """Numbers of the plan's steps (S), and the steps that make the maps that each reads
        (S, X)."""
        if max(len(self._keys), len(self._choices)) > MOST_STEPS or (
            self._store.entries > MOST_ENTRIES
        ):
            self.forget()
        known = [self._choices.get(id(choice)) or self._learn(choice) for choice in choices]
        plan = self._rows[[*[each.place for each in known], 0]]
        users = self._users(known, plan)
        for k in np.flatnonzero(plan[:-1, 1] < 0).tolist() if users else ():
            plan[k, 4] = self._interned.users(users[known[k].segment.output])
        numbers, makers, new = self._keys.find(plan, self._tables, self._held)
        if len(new):
            self._evaluate(known, users, new.tolist())
        return numbers, makers

    def _evaluate(self, known: Sequence[_Known], users: Users, places: Sequence[int]) -> None:
        """Add the work of the plan's steps at these places, in their order, to the store."""
        for compiled, run in itertools.groupby(places, lambda k: self._is_tabled(known, k)):
            steps = [*run]
            if compiled:
                self._add_compiled(len(steps))
            for k in () if compiled else steps:
                self._store.add(self._graph(known, users, k))

    def _add_compiled(self, count: int) -> None:
        n, store, interned = len(self.cluster.devices), self._store, self._interned
        pairs = count * n * n
        arrays = store.room_for(count, 9 * n * count, pairs, pairs * self._tables.most_maps)
        tables = self._tables
        add_steps(
            arrays,
            store.ends,
            (store.count, store.count + count),
            self._keys.arrays,
            tables.arrays,
            (tables.seconds, tables.sizes),
            interned.partitions,
            interned.ranks,
            store.links.rates,
        )
        store.count += count

    def _users(self, known: Sequence[_Known], plan: IntArray) -> Users:
        """Who uses the results that every user has; most steps read none, and are not looked at."""
        if not self.network.replicated:
            return {}
        reading = [known[k] for k in np.flatnonzero(self._reading[plan[:-1, 0]]).tolist()]
        parts = [(each.segment.output, each.segment.reads, each.choice.tiles) for each in reading]
        return result_users(self.network, self.cluster.sink, parts)

    def _learn(self, choice: Choice) -> _Known:
        segment, interned = self._segment(choice.layers), self._interned
        partition = -1 if segment.is_global else interned.partition(choice.tiles)
        ahead = interned.rank(choice.first)
        row = (segment.number, partition, RIMS.index(choice.rims), ahead, 0)
        place = 1 + len(self._choices)
        self._rows = with_room(self._rows, place + 1)
        self._rows[place] = row
        found = self._choices[id(choice)] = _Known(choice, segment, row, place)
        return found

    def _segment(self, layers: tuple[Layer, ...]) -> _Segment:
        """Mostly the very tuple is known, which is kept so that its identity stays its own."""
        known = self._by_tuple.get(id(layers))
        if known is None:
            names = tuple(layer.name for layer in layers)
            if names not in self._segments:
                self._segments[names] = self._new_segment(layers)
            known = layers, self._segments[names]
            if len(self._by_tuple) < MOST_STEPS:
                self._by_tuple[id(layers)] = known
        return known[1]

    def _new_segment(self, layers: tuple[Layer, ...]) -> _Segment:
        last, reads, tables = layers[-1], external_inputs(layers), self._tables
        spatial = last.kind == "spatial"
        maps = _moving(self.network, reads)
        number = tables.add(layers if spatial else (), maps, last.name if spatial else None)
        has_tables = spatial and tables.has_tables(layers)
        self._all_tables &= has_tables or not spatial
        others = tuple(name for name in reads if name not in maps)
        self._reading = with_room(self._reading, number + 1)
        self._reading[number] = bool(others)
        return _Segment(
            number,
            last.name,
            last.kind == "global",
            maps,
            others,
            has_tables,
            spatial and tables.is_blank(layers),
        )

    def _is_tabled(self, known: Sequence[_Known], k: int) -> bool:
        """Is the work of the step at place ``k`` found in compiled code?"""
        if k == len(known) or not known[k].segment.has_tables:
            return False
        _, segment, row, _ = known[k]
        if segment.is_blank and row[2] & INCOMING:
            return False
        readers = () if self._all_tables else self._readers(known, k)
        return all(known[j].segment.has_tables for j in readers)

    def _readers(self, known: Sequence[_Known], k: int) -> list[int]:
        """Places of the steps that read pixels of what the one at ``k`` makes, where its pieces
        depend on them."""
        _, segment, row, _ = known[k]
        if not row[2] & OUTGOING:
            return []
        return [
            j
            for j, (_, other, *_) in enumerate(known)
            if not other.is_global and segment.output in other.maps
        ]

    def _graph(self, known: Sequence[_Known], users: Users, k: int) -> StepGraph:
        """Of the step at place ``k``, by the code that makes a plan's steps."""
        step, owned = self._step(known, users, k)
        maps = self._final if k == len(known) else known[k].segment.maps
        return step_graph(self.network, self.cluster, step, owned, maps)

    def _step(
        self, known: Sequence[_Known], users: Users, k: int
    ) -> tuple[Step, Mapping[str, Ownership]]:
        """The step at place ``k``, and what is owned before it."""
        owned: dict[str, Ownership] = dict(self._inputs)
        for choice, segment, *_ in known[:k]:
            if not segment.is_global:
                owned[segment.output] = choice.tiles
        if k == len(known):
            return final_step(self.network, self.cluster, owned), owned
        choice, segment, *_ = known[k]
        if segment.is_global:
            layer = choice.layers[-1]
            made = global_step(self.network, self.cluster, layer, owned, users[layer.name])
            return made, owned
        readers = [known[j].choice for j in self._readers(known, k)]
        return segment_step(self.network, self.cluster, choice, owned, readers), owned


class _Interned:
    """Numbers of partitions, of receivers that come first, and of users."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.ranks = np.zeros((1, n), dtype=np.int64)
        self._ahead: dict[tuple[int, ...], int] = {(): 0}
        self._users: dict[frozenset[int], int] = {}
        self.forget()

    def forget(self) -> None:
        """Drop the partitions, of which there are many."""
        self.partitions = np.zeros((64, self.n, 4), dtype=np.int64)
        self._partitions: dict[object, int] = {}
        self._same: dict[int, tuple[Ownership, int]] = {}

    def partition(self, tiles: Ownership) -> int:
        """Row of its rectangles by device in ``partitions``; ``tiles`` are not changed later."""
        same = self._same.get(id(tiles))
        if same is None:
            same = self._same[id(tiles)] = tiles, self._number(tiles)
        return same[1]

    def _number(self, tiles: Ownership) -> int:
        key = frozenset(tiles.items())
        number = self._partitions.get(key)
        if number is None:
            number = self._partitions[key] = len(self._partitions)
            self.partitions = with_room(self.partitions, number + 1)
            self.partitions[number] = candidate_array([tiles], self.n)[0]
        return number

    def rank(self, first: tuple[int, ...]) -> int:
        """Row in ``ranks`` for these receivers."""
        if first not in self._ahead:
            self._ahead[first] = len(self._ahead)
            row = np.zeros((1, self.n), dtype=np.int64)
            row[0, list(first)] = np.arange(len(first)) - self.n
            self.ranks = np.concatenate((self.ranks, row))
        return self._ahead[first]

    def users(self, devices: frozenset[int]) -> int:
        """A number that no other set of users has."""
        return self._users.setdefault(devices, len(self._users))


def _moving(network: Network, tensors: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in tensors if name not in network.replicated))
