"""Many different devices: similar ones are treated as equal.

With the costs of its weakest member in every respect for each group, a partition found costs no
more on the real devices. With those of the strongest, a bound proven holds for the real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nptp_opt.cluster import Cluster, Device
from nptp_opt.layer.problem import LayerProblem


def pool(problem: LayerProblem, count: int, *, strongest: bool = False) -> LayerProblem:
    """The problem with its devices, ordered by speed, in ``count`` groups of equal ones.

    Each group is as weak as its weakest member in every respect, or as strong as its strongest.
    """
    order = sorted(range(len(problem.devices)), key=lambda i: problem.devices[i].gflops)
    devices = list(problem.devices)
    size = -(-len(order) // count)
    for first in range(0, len(order), size):
        group = order[first : first + size]
        members = [problem.devices[i] for i in group]
        shared = _strongest(members) if strongest else _weakest(members)
        for i in group:
            devices[i] = problem.devices[i].model_copy(update=shared)
    cluster: Cluster = problem.cluster.model_copy(update={"devices": tuple(devices)})
    return replace(problem, cluster=cluster)


RATES = ("gflops", "up_mbit_per_s", "down_mbit_per_s")


def _given_values(group: Sequence[Device], key: str) -> list[float]:
    return [value for device in group if (value := getattr(device, key)) is not None]


def _weakest(group: Sequence[Device]) -> dict[str, float | None]:
    fields = {key: min(_given_values(group, key), default=None) for key in RATES}
    memory = min(_given_values(group, "memory_mib"), default=None)
    overhead = max(device.overhead_ms for device in group)
    return {**fields, "memory_mib": memory, "overhead_ms": overhead}


def _strongest(group: Sequence[Device]) -> dict[str, float | None]:
    fields = {key: max(_given_values(group, key), default=None) for key in RATES}
    limits = _given_values(group, "memory_mib")
    memory = max(limits) if len(limits) == len(group) else None
    overhead = min(device.overhead_ms for device in group)
    return {**fields, "memory_mib": memory, "overhead_ms": overhead}
