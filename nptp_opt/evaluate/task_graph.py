"""The task graph of a plan: what its steps ask of devices and links, as arrays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, Ownership
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Network
from nptp_opt.plan.model import owned_maps
from nptp_opt.plan.steps import Step

Task = tuple[int, int]
"""(step, device)"""


@dataclass(frozen=True)
class StepGraph:
    """One step's part of the graph. Tasks: who computes, seconds ``ahead`` of the halo (where the
    step overlaps) and the ``rest`` after it. Messages: all transfers between two devices.
    ``awaited`` are pairs of a message and the number of a tensor (of its layer) that its sender
    makes first.
    """

    devices: IntArray
    ahead_s: FloatArray
    rest_s: FloatArray
    src: IntArray
    dst: IntArray
    bytes: IntArray
    awaited: IntArray


def step_graph(
    network: Network, cluster: Cluster, step: Step, owned: Mapping[str, Ownership]
) -> StepGraph:
    """The tasks and messages of a step; ``owned`` has the maps that it reads."""
    seconds = {
        device: step.seconds(network, cluster, device, owned)
        for device in step.workers(network, owned)
    }
    links: dict[Task, int] = defaultdict(int)
    awaited: dict[tuple[Task, int], None] = {}
    for move in step.transfers:
        link = move.src, move.dst
        links[link] += move.bytes
        source = step.source_of(network, move.tensor)
        if source in network.number:  # the source has the network's inputs at once
            awaited[link, network.number[source]] = None
    place = {link: k for k, link in enumerate(links)}
    ends = np.array(list(links), dtype=np.int64).reshape(-1, 2)
    times = np.array(list(seconds.values()), dtype=np.float64).reshape(-1, 2)
    pairs = [(place[link], number) for link, number in awaited]
    return StepGraph(
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
        (k, device): step.compute_s(network, cluster, device, owned)
        for k, step in enumerate(steps)
        for device in step.workers(network, owned)
    }
