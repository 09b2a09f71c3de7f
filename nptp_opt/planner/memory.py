"""Memory limits: which plans fit, and which templates are safe to search over."""

from __future__ import annotations

from collections.abc import Sequence

from nptp_opt.cluster import MIB, Cluster
from nptp_opt.cost import peak_bytes
from nptp_opt.errors import InfeasibleError
from nptp_opt.network.ir import Network
from nptp_opt.steps import Step


def overfull(network: Network, cluster: Cluster, steps: Sequence[Step]) -> list[int]:
    """Devices whose limit the plan exceeds."""
    peaks = peak_bytes(network, len(cluster.devices), steps, cluster.source)
    return [i for i, peak in enumerate(peaks) if peak > cluster.devices[i].memory_bytes]


def require_fit(network: Network, cluster: Cluster, steps: Sequence[Step], planner: str) -> None:
    """Raise InfeasibleError, naming the first device whose limit the plan exceeds."""
    peaks = peak_bytes(network, len(cluster.devices), steps, cluster.source)
    for device, peak in zip(cluster.devices, peaks, strict=True):
        if peak > device.memory_bytes:
            raise InfeasibleError(
                f"planner {planner!r}: device {device.name!r} needs {peak / MIB:.1f} MiB but has "
                f"memory_mib = {device.memory_mib:g}; raise it, or take another planner or device"
            )
