"""Loads of the devices in one step, and the makespan that follows from them (docs/cost.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from nptp_opt.cluster import Cluster
from nptp_opt.geometry import IntArray, Tile

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """What one device does in one step: seconds, bytes and messages (distinct senders)."""

    compute_s: float = 0.0
    recv_bytes: float = 0.0
    send_bytes: float = 0.0
    messages: int = 0


Encoding = Literal["dense", "bitmask", "huffman"]
"""How a transfer writes its elements: all of them; a bit for each and then the non-zeros; or these
with their first bytes in Huffman codes."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A rectangle of ``tensor`` that device ``src`` sends to device ``dst``.

    ``bytes`` are expected ones where its encoding depends on the values.
    """

    src: int
    dst: int
    tensor: str
    tile: Tile
    bytes: int
    encoding: Encoding = "dense"


@dataclass(frozen=True)
class LoadArrays:
    """Loads of many alternatives at once: arrays of shape (..., devices), units as in ``Load``."""

    compute_s: FloatArray
    recv_bytes: FloatArray
    send_bytes: FloatArray
    messages: FloatArray


@dataclass(frozen=True)
class Links:
    """Bytes per second (n,) into every device and out of it; on one medium all are its rate."""

    down: FloatArray
    up: FloatArray

    @classmethod
    def of(cls, cluster: Cluster) -> Links:
        """The links of a cluster's devices."""
        if cluster.shared:
            rates = np.full(len(cluster.devices), cluster.network.bytes_per_s)
            return cls(rates, rates)
        down = [device.down_bytes_per_s for device in cluster.devices]
        up = [device.up_bytes_per_s for device in cluster.devices]
        return cls(np.array(down), np.array(up))

    def message_s(self, size: FloatArray, src: IntArray, dst: IntArray) -> FloatArray:
        """Seconds that messages of ``size`` bytes keep their links busy, latency left out."""
        return np.asarray(size / self.rates[src, dst])

    @cached_property
    def rates(self) -> FloatArray:
        """Bytes per second (n, n) between every sender and receiver."""
        return np.minimum(self.up[:, None], self.down[None, :])


def makespan_s(cluster: Cluster, loads: Sequence[Load]) -> float:
    """Makespan of one step from every device's load (one entry per device, idle ones too)."""
    return float(makespans_s(cluster, load_arrays(loads)))


def load_arrays(loads: Sequence[Load]) -> LoadArrays:
    """Loads of one step, one per device, as arrays of shape (devices,)."""
    rows = [(load.compute_s, load.recv_bytes, load.send_bytes, load.messages) for load in loads]
    return LoadArrays(*np.array(rows, dtype=float).T)


def makespans_s(cluster: Cluster, loads: LoadArrays) -> FloatArray:
    """Makespans of many alternatives, shape (...)."""
    slowest: FloatArray = (comms_s(cluster, loads) + loads.compute_s).max(axis=-1)
    return slowest


def comms_s(cluster: Cluster, loads: LoadArrays) -> FloatArray:
    """Seconds (..., devices) of exchange; on a shared medium everybody waits for all of it."""
    links, wait = Links.of(cluster), cluster.network.latency_s * loads.messages
    if cluster.shared:
        total = loads.recv_bytes.sum(axis=-1, keepdims=True) / links.down
        return np.asarray(total + wait.max(axis=-1, keepdims=True))
    return np.asarray(np.maximum(loads.recv_bytes / links.down, loads.send_bytes / links.up) + wait)
