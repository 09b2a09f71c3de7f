"""What another cluster would give: each answer is planned, from the plan that is explained.

With the same transfers no answer is above the old plan's own latency on the other cluster. The
search is much shorter than a first plan's, so a fresh plan may be a little faster still; where the
bound of the other cluster leaves nothing to gain, nothing is searched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nptp_opt.bound import clock_bound
from nptp_opt.cluster import Cluster, Device
from nptp_opt.errors import InfeasibleError
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.plan.model import Plan
from nptp_opt.planner.replan import replan_network

MORE = 2.0
"""By how much links and devices are faster in the questions."""


EFFORT = 0.1
"""Part of a first plan's search that an answer gets."""

SEARCH = "nptp"
"""The planner whose searches answer."""

LEAST_GAIN = 0.01
"""Relative gain below which a change helps nothing."""


@dataclass(frozen=True)
class Answer:
    """A question, the latency that was planned for it, and who computes then."""

    question: str
    latency_s: float
    devices: int
    proven: bool = False
    """No plan there is faster than this one, or by less than ``LEAST_GAIN``."""


def faster_links(cluster: Cluster, times: float = MORE) -> Cluster:
    """All links, or the medium, at so many ``times`` their rate."""
    if cluster.shared:
        assert cluster.network.mbit_per_s is not None
        rate = cluster.network.mbit_per_s * times
        return _with(cluster, network=cluster.network.model_copy(update={"mbit_per_s": rate}))
    return _with(cluster, devices=tuple(_faster_link(each, times) for each in cluster.devices))


def _faster_link(device: Device, times: float) -> Device:
    assert device.up_mbit_per_s is not None and device.down_mbit_per_s is not None
    rates = {
        "up_mbit_per_s": device.up_mbit_per_s * times,
        "down_mbit_per_s": device.down_mbit_per_s * times,
    }
    return device.model_copy(update=rates)


def faster_devices(cluster: Cluster, times: float = MORE) -> Cluster:
    """All devices at so many ``times`` their speed."""
    return _with(cluster, devices=tuple(_faster(each, times) for each in cluster.devices))


def _faster(device: Device, times: float) -> Device:
    speeds = device.layers and tuple(
        each.model_copy(update={"gflops": each.gflops * times}) for each in device.layers
    )
    return device.model_copy(update={"gflops": device.gflops * times, "layers": speeds})


def one_more_device(cluster: Cluster, like: int = -1) -> Cluster:
    """Another device like one of the file, by default the last."""
    model, names = cluster.devices[like], {device.name for device in cluster.devices}
    name = next(name for k in range(1, 1000) if (name := f"{model.name}-{k}") not in names)
    return _with(cluster, devices=(*cluster.devices, model.model_copy(update={"name": name})))


def _with(cluster: Cluster, **changes: object) -> Cluster:
    return cluster.model_copy(update=changes)


def questions(plan: Plan) -> dict[str, Cluster]:
    """What is asked of a plan, with the cluster that it is asked about; nothing that the plan has
    already."""
    cluster, last = plan.cluster, max(working(plan))
    asked = {}
    if plan.provenance.planner != SEARCH:  # else others are credited with what it gains
        asked[f"the planner {SEARCH} on the same devices"] = _with(cluster)
    asked |= {
        f"links {MORE:g} times as fast": faster_links(cluster),
        f"devices {MORE:g} times as fast": faster_devices(cluster),
        f"one more device like {cluster.devices[last].name}": one_more_device(cluster, last),
        "int8 transfers": cluster.sending_as("int8"),
    }
    return {question: other for question, other in asked.items() if other is not cluster}


def answers(plan: Plan, begin: Callable[[str], None] = lambda text: None) -> Iterator[Answer]:
    """An answer to every question; ``begin`` is told the one that is planned now."""
    for question, cluster in questions(plan).items():
        begin(question)
        try:
            yield _answer(question, plan, cluster)
        except InfeasibleError:
            continue


def _answer(question: str, plan: Plan, cluster: Cluster) -> Answer:
    """The new plan, or the old one as it is where that is faster: a search keeps its partitions,
    not all of its pieces."""
    kept_s = math.inf
    if cluster.transfer_dtype == plan.cluster.transfer_dtype or not plan.transfer_bytes:
        kept_s = simulate(plan.network, cluster, plan.steps)
        if clock_bound(plan.network, cluster) > kept_s * (1 - LEAST_GAIN):
            return Answer(question, kept_s, len(working(plan)), proven=True)
    other = replan_network(plan, cluster, effort=EFFORT)
    if kept_s < other.latency_s:
        return Answer(question, kept_s, len(working(plan)))
    return Answer(question, other.latency_s, len(working(other)))


def working(plan: Plan) -> frozenset[int]:
    """Devices that compute something."""
    return frozenset(
        device for step in plan.steps for device, tile in step.tiles.items() if not tile.is_empty
    ) | {step.device for step in plan.steps if step.device is not None and step.layers}
