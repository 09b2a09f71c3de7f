"""Column partitions for many different devices: similar ones are treated as equally slow.

Each class takes the prices of its weakest member in every respect, so the partition found costs no
more on the real devices. Nothing is proven about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nptp_opt.cluster import Cluster, Device
from nptp_opt.cost import LayerCost
from nptp_opt.methods import Limits
from nptp_opt.problem import LayerProblem
from nptp_opt.search import column
from nptp_opt.search.support import Clock, Incumbent


def improve(
    cost: LayerCost, best: Incumbent, low_s: float, limits: Limits, clock: Clock
) -> tuple[float, bool]:
    """Improve ``best`` by column partitions of pooled devices; the bound returned is 0."""
    for count in range(6, 0, -1):
        pooled = pool(cost.problem, count)
        if column.affordable(pooled):
            found = Incumbent(LayerCost(pooled))
            column.improve(found.cost, found, 0.0, limits, clock)
            best.offer(found.tiles, "column-dp on pooled devices")
            break
    return 0.0, True


def pool(problem: LayerProblem, count: int) -> LayerProblem:
    """The problem with its devices, ordered by speed, in ``count`` groups of equal ones."""
    order = sorted(range(len(problem.devices)), key=lambda i: problem.devices[i].gflops)
    devices = list(problem.devices)
    size = -(-len(order) // count)
    for first in range(0, len(order), size):
        group = order[first : first + size]
        weakest = _weakest([problem.devices[i] for i in group])
        for i in group:
            devices[i] = problem.devices[i].model_copy(update=weakest)
    cluster: Cluster = problem.cluster.model_copy(update={"devices": tuple(devices)})
    return replace(problem, cluster=cluster)


def _weakest(group: Sequence[Device]) -> dict[str, float | None]:
    def least(key: str) -> float | None:
        given = [v for device in group if (v := getattr(device, key)) is not None]
        return min(given, default=None)

    fields: dict[str, float | None] = {
        key: least(key) for key in ("gflops", "memory_mib", "up_mbit_per_s", "down_mbit_per_s")
    }
    return {**fields, "overhead_ms": max(device.overhead_ms for device in group)}
