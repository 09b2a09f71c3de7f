"""The task graph of a plan: what its steps ask of devices and links, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, Ownership, encode_s
from nptp_opt.geometry import IntArray, Tile
from nptp_opt.network.ir import Network
from nptp_opt.plan.messages import step_messages
from nptp_opt.plan.model import owned_maps
from nptp_opt.plan.steps import Step

Task = tuple[int, int]
"""(step, device)"""


@dataclass(frozen=True)
class StepGraph:
    """One step's part of the graph.

    Pieces, in order of devices, then of computing: whose, seconds, rectangle (P, 4) of the output.
    Messages, in the order in which they are handed over: [src, dst, the first piece that reads it,
    first part, end] (M, 5), bytes, and seconds in which they are encoded. Parts: [map that it is
    read from, rectangle] (K, 5).
    """

    devices: IntArray
    seconds: FloatArray
    tiles: IntArray
    messages: IntArray
    bytes: FloatArray
    encode_s: FloatArray
    parts: IntArray


def step_graph(
    network: Network,
    cluster: Cluster,
    step: Step,
    owned: Mapping[str, Ownership],
    maps: Sequence[str],
) -> StepGraph:
    """The pieces and messages of a step; ``owned`` has the maps that it reads, and ``maps`` the
    order in which parts number them."""
    devices, seconds, tiles = list[int](), list[float](), list[Tile]()
    first = dict[int, int]()
    for device in sorted(step.workers(network, owned)):
        first[device] = len(devices)
        seconds += step.seconds(network, cluster, device, owned)
        tiles += step.pieces_of(device)
        devices += [device] * (len(seconds) - len(devices))
    messages, sizes, parts = list[tuple[int, ...]](), list[int](), list[tuple[int, ...]]()
    encoding = list[float]()
    for message in step_messages(network, step):
        begin = len(parts)
        parts += [(maps.index(name), *tile) for name, tile in message.read_from]
        piece = first[message.dst] + message.piece
        messages.append((message.src, message.dst, piece, begin, len(parts)))
        sizes.append(message.bytes)
        encoding.append(sum(encode_s(cluster, network, move) for move in message.transfers))
    return StepGraph(
        devices=np.array(devices, dtype=np.int64),
        seconds=np.array(seconds, dtype=np.float64),
        tiles=np.array(tiles, dtype=np.int64).reshape(-1, 4),
        messages=np.array(messages, dtype=np.int64).reshape(-1, 5),
        bytes=np.array(sizes, dtype=np.float64),
        encode_s=np.array(encoding, dtype=np.float64),
        parts=np.array(parts, dtype=np.int64).reshape(-1, 5),
    )


def task_seconds(network: Network, cluster: Cluster, steps: Sequence[Step]) -> dict[Task, float]:
    """Compute seconds of everything that some device does; idle devices have no task."""
    owned = owned_maps(network, cluster, steps)
    return {
        (k, device): step.compute_s(network, cluster, device, owned)
        for k, step in enumerate(steps)
        for device in step.workers(network, owned)
    }
