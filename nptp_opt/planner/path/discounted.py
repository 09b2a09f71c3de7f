"""Discounted exchange: a sum of makespans that stands for a latency without barriers.

A shortest path adds up makespans, as if all devices waited for each other after every segment.
Executed, part of the exchange hides behind computing. The cluster whose links are faster by 1 / a,
a in (0, 1], makes a makespan compute + a x exchange: its shortest path is a plan for a clock on
which a part 1 - a of the exchange is hidden. How much is, no one knows beforehand.
"""

from __future__ import annotations

from nptp_opt.cluster import Cluster

DISCOUNTS = (1.0, 0.7, 0.5, 0.35, 0.2)
"""Parts of the exchange that are waited for."""

FEW_DISCOUNTS = (1.0, 0.5)
"""Those that are tried where a path takes long, or where a search goes on from an old plan."""

FEWER_DISCOUNTS = (0.5, 0.2)
"""Those that are tried with fewer devices: walks seldom give a device up in all steps."""


def discounted(cluster: Cluster, part: float) -> Cluster:
    """The cluster on which exchange takes ``part`` of its time."""
    network, devices = cluster.network, cluster.devices
    links: dict[str, float] = {"latency_ms": network.latency_ms * part}
    if network.mbit_per_s is not None:
        links["mbit_per_s"] = network.mbit_per_s / part
    else:
        devices = tuple(
            device.model_copy(
                update={
                    "up_mbit_per_s": (device.up_mbit_per_s or 0.0) / part,
                    "down_mbit_per_s": (device.down_mbit_per_s or 0.0) / part,
                }
            )
            for device in devices
        )
    return cluster.model_copy(
        update={"network": network.model_copy(update=links), "devices": devices}
    )
