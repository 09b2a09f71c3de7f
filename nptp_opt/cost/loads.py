"""Loads of the devices in one step, and the makespan that follows from them (docs/cost.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nptp_opt.cluster import Cluster
from nptp_opt.geometry import Tile

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """What one device does in one step: seconds, bytes and messages (distinct senders)."""

    compute_s: float = 0.0
    recv_bytes: float = 0.0
    send_bytes: float = 0.0
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Transfer:
    """A rectangle of ``tensor`` that device ``src`` sends to device ``dst``."""

    src: int
    dst: int
    tensor: str
    tile: Tile
    bytes: int


@dataclass(frozen=True)
class LoadArrays:
    """Loads of many alternatives at once: arrays of shape (..., devices), units as in ``Load``."""

    compute_s: FloatArray
    recv_bytes: FloatArray
    send_bytes: FloatArray
    messages: FloatArray


def comm_s(cluster: Cluster, device: int, load: Load) -> float:
    """Seconds that ``device`` spends on its own link of a switched network."""
    node = cluster.devices[device]
    seconds = max(load.recv_bytes / node.down_bytes_per_s, load.send_bytes / node.up_bytes_per_s)
    return seconds + cluster.network.latency_s * load.messages


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
    wait = cluster.network.latency_s * loads.messages
    if cluster.shared:
        total = loads.recv_bytes.sum(axis=-1) / cluster.network.bytes_per_s + wait.max(axis=-1)
        return np.broadcast_to(total[..., None], wait.shape)
    down = np.array([device.down_bytes_per_s for device in cluster.devices])
    up = np.array([device.up_bytes_per_s for device in cluster.devices])
    return np.asarray(np.maximum(loads.recv_bytes / down, loads.send_bytes / up) + wait)
