"""What the steps of a plan ask of devices and links, as arrays: tasks, and messages in between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import (
    FloatArray,
    Ownership,
    gather_compute_s,
    reduction_compute_s,
    segment_compute_s,
)
from nptp_opt.geometry import EMPTY, IntArray
from nptp_opt.network.ir import Network
from nptp_opt.plan.model import Step, owned_maps, split_of

Task = tuple[int, int]
"""(step, device)"""


@dataclass(frozen=True)
class StepWork:
    """One step. Tasks: who computes, seconds ``ahead`` of the halo (where the step overlaps) and
    the ``rest`` after it. Messages: all transfers between two devices. ``awaited`` are pairs of a
    message and the number of a tensor (of its layer) that its sender makes first.
    """

    devices: IntArray
    ahead_s: FloatArray
    rest_s: FloatArray
    src: IntArray
    dst: IntArray
    bytes: IntArray
    awaited: IntArray


def step_work(
    network: Network, cluster: Cluster, step: Step, owned: Mapping[str, Ownership]
) -> StepWork:
    """The work of a step; ``owned`` has the maps that it reads."""
    seconds = _seconds(network, cluster, step, owned)
    links: dict[Task, int] = defaultdict(int)
    awaited: dict[tuple[Task, int], None] = {}
    for move in step.transfers:
        link = move.src, move.dst
        links[link] += move.bytes
        number = _made_first(network, step, move.tensor)
        if number is not None:
            awaited[link, number] = None
    place = {link: k for k, link in enumerate(links)}
    ends = np.array(list(links), dtype=np.int64).reshape(-1, 2)
    times = np.array(list(seconds.values()), dtype=np.float64).reshape(-1, 2)
    pairs = [(place[link], number) for link, number in awaited]
    return StepWork(
        devices=np.array(list(seconds), dtype=np.int64),
        ahead_s=times[:, 0],
        rest_s=times[:, 1],
        src=ends[:, 0],
        dst=ends[:, 1],
        bytes=np.array(list(links.values()), dtype=np.int64),
        awaited=np.array(pairs, dtype=np.int64).reshape(-1, 2),
    )


def task_seconds(network: Network, cluster: Cluster, steps: Sequence[Step]) -> dict[Task, float]:
    """Compute seconds of everything that some device does; idle devices have no task."""
    owned = owned_maps(network, cluster, steps)
    return {
        (k, device): ahead_s + rest_s
        for k, step in enumerate(steps)
        for device, (ahead_s, rest_s) in _seconds(network, cluster, step, owned).items()
    }


def _made_first(network: Network, step: Step, tensor: str) -> int | None:
    """Number of the layer whose output a transfer waits for: a partial waits for its map."""
    layer = network.by_name.get(tensor)
    if layer is not None and step.kind == "global":
        layer = network.by_name.get(layer.nodes[0].inputs[0])
    return None if layer is None else network.number[layer.name]


def _seconds(
    network: Network, cluster: Cluster, step: Step, owned: Mapping[str, Ownership]
) -> dict[int, tuple[float, float]]:
    """Compute seconds of every device ahead of its halo and after it."""
    layers = tuple(network.by_name[name] for name in step.layers)
    if step.device is not None:
        return {step.device: (0.0, gather_compute_s(cluster, step.device, layers))}
    if step.kind == "global":
        found = _reduction_seconds(network, cluster, step, owned)
        return {device: (0.0, seconds) for device, seconds in found.items()}
    working = {device: tile for device, tile in step.tiles.items() if tile != EMPTY}
    if not step.overlap:
        return {
            device: (0.0, segment_compute_s(cluster, device, layers, tile))
            for device, tile in working.items()
        }
    parts = {device: split_of(network, step, device, owned) for device in working}
    return {d: part.seconds(cluster, d, layers) for d, part in parts.items() if part is not None}


def _reduction_seconds(
    network: Network, cluster: Cluster, step: Step, owned: Mapping[str, Ownership]
) -> dict[int, float]:
    """One task per owner or user. Its partial leaves as soon as the map's tile is done: the
    seconds of the partial itself count, but do not hold the message up.
    """
    layer = network.by_name[step.layers[-1]]
    owners = owned.get(layer.nodes[0].inputs[0], {}) if layer.reduces else {}
    return {
        device: reduction_compute_s(
            cluster,
            network,
            layer,
            device,
            owners.get(device, EMPTY),
            uses=device in step.tiles,
        )
        for device in {*step.tiles, *(i for i, tile in owners.items() if not tile.is_empty)}
    }
