"""Graphs of many steps behind each other in arrays that grow; a plan is a list of their numbers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, Links
from nptp_opt.evaluate.discrete_events import plan_arrays, run_events, run_steps
from nptp_opt.evaluate.task_graph import StepGraph
from nptp_opt.geometry import IntArray

PlanArrays = tuple[Any, ...]
"""What ``discrete_events.plan_arrays`` returns."""

StoreArrays = tuple[np.ndarray, ...]
"""What it takes: bounds of steps; pieces' devices, seconds and tiles; messages' ends and seconds;
parts."""


class StoredStep(NamedTuple):
    """Pieces' devices (P) and rectangles (P, 4), messages (M, 5) with ``parts`` (K, 5) counted from
    its own first."""

    devices: IntArray
    tiles: IntArray
    messages: IntArray
    parts: IntArray


class StepStore:
    """The pieces and messages of all steps that are added."""

    def __init__(self, cluster: Cluster) -> None:
        self._arrays: StoreArrays = (
            np.zeros((64, 5), dtype=np.int64),
            np.zeros(1024, dtype=np.int64),
            np.zeros(1024),
            np.zeros((1024, 4), dtype=np.int64),
            np.zeros((1024, 5), dtype=np.int64),
            np.zeros((1024, 2)),
            np.zeros((1024, 5), dtype=np.int64),
        )
        self._room = tuple(len(self._arrays[k]) for k in (0, 1, 4, 6))
        """For steps, pieces, messages and parts."""
        self.count, self.ends = 0, np.zeros(3, dtype=np.int64)
        self.links, self._shared = Links.of(cluster), cluster.shared
        network = cluster.network
        self.latency_s = network.latency_s
        self._fixed = len(cluster.devices), cluster.source, network.message_s, network.latency_s

    def add(self, graph: StepGraph) -> int:
        """Number of a step whose graph this is."""
        pieces, messages, parts = len(graph.devices), len(graph.messages), len(graph.parts)
        store, (piece, message, part) = self.room_for(1, pieces, messages, parts), self.ends
        bounds, devices, seconds, tiles, ends, link_s, carried = store
        bounds[self.count] = piece, piece + pieces, message, message + messages, part
        devices[piece : piece + pieces] = graph.devices
        seconds[piece : piece + pieces] = graph.seconds
        tiles[piece : piece + pieces] = graph.tiles
        ends[message : message + messages] = graph.messages
        on_links = self.links.message_s(graph.bytes, graph.messages[:, 0], graph.messages[:, 1])
        link_s[message : message + messages, 0] = on_links
        link_s[message : message + messages, 1] = graph.encode_s
        carried[part : part + parts] = graph.parts
        self.ends += pieces, messages, parts
        self.count += 1
        return self.count - 1

    def room_for(self, steps: int, pieces: int, messages: int, parts: int) -> StoreArrays:
        """The arrays, as ``discrete_events.plan_arrays`` wants them, with room for so many more."""
        piece, message, part = self.ends.tolist()
        needed = self.count + steps, piece + pieces, message + messages, part + parts
        if any(map(operator.gt, needed, self._room)):
            count, piece, message, part = needed
            rows = (count, piece, piece, piece, message, message, part)
            self._arrays = tuple(map(with_room, self._arrays, rows))
            self._room = tuple(len(self._arrays[k]) for k in (0, 1, 4, 6))
        return self._arrays

    def step(self, number: int) -> StoredStep:
        """A step that was added."""
        bounds, devices, _, tiles, ends, _, carried = self._arrays
        piece, piece_end, message, message_end, part = bounds[number].tolist()
        messages = ends[message:message_end]
        parts = carried[part : part + int(messages[:, 4].max(initial=0))]
        return StoredStep(devices[piece:piece_end], tiles[piece:piece_end], messages, parts)

    @property
    def entries(self) -> int:
        """Pieces, messages and parts of all steps."""
        return sum(self.ends.tolist())

    def run(self, steps: IntArray, makers: IntArray, limit_s: float) -> tuple[float, int]:
        """Seconds of a plan of these steps (S), infinite above ``limit_s``, and how many pieces and
        messages it has; ``makers`` (S, X) are places in the plan, -1 for none."""
        found_s, size = run_steps(self._arrays, steps, makers, self._shared, self._fixed, limit_s)
        return float(found_s), int(size)

    def arrays(self, steps: Sequence[int], makers: Sequence[Sequence[int]]) -> PlanArrays:
        """A plan of these steps as arrays."""
        rows, numbers = _padded(makers), np.array(steps, dtype=np.int64)
        found: PlanArrays = plan_arrays(self._arrays, numbers, rows, self._shared, self._fixed[0])
        return found

    def events(self, arrays: PlanArrays) -> tuple[float, int, IntArray, FloatArray]:
        """Seconds of a plan, pieces done, and its stretches, as ``run_events`` has them."""
        _, source, message_s, latency_s = self._fixed
        sending_s = message_s + arrays[5]
        found: tuple[float, int, IntArray, FloatArray] = run_events(
            *arrays[:4], source, sending_s, latency_s, np.inf
        )
        return found


def _padded(makers: Sequence[Sequence[int]]) -> IntArray:
    most = max(map(len, makers), default=0)
    return np.array([[*row, *[-1] * (most - len(row))] for row in makers], dtype=np.int64)


def with_room(array: np.ndarray, needed: int) -> np.ndarray:
    """The array, or a copy of at least twice the length that has ``needed`` rows."""
    if needed <= len(array):
        return array
    room = np.zeros((max(needed, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    room[: len(array)] = array
    return room
