"""A cluster's figures as they are measured: rates of links or of the medium, speeds of devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from nptp_opt.cluster import Cluster, Device


class Figure(NamedTuple):
    """One figure: of a device, or of the shared medium, whose ``device`` is empty."""

    kind: Literal["up", "down", "medium", "speed"]
    device: str = ""


MEDIUM = Figure("medium")


def rate_of(cluster: Cluster, figure: Figure) -> float:
    """A link's or the medium's rate in bytes/s."""
    if figure.kind == "medium":
        return cluster.network.bytes_per_s
    device = _device(cluster, figure)
    return device.up_bytes_per_s if figure.kind == "up" else device.down_bytes_per_s


def scaled(cluster: Cluster, ratios: Mapping[Figure, float]) -> Cluster:
    """The cluster with figures so many times as high; a slower device's overheads are longer."""
    devices = []
    for device in cluster.devices:
        fields: dict[str, Any] = {}
        for (kind, name), ratio in ratios.items():
            if name == device.name:
                fields |= _scaled(device, kind, ratio)
        devices.append(device.model_copy(update=fields))
    network = cluster.network
    if MEDIUM in ratios:
        assert network.mbit_per_s is not None
        rate = {"mbit_per_s": network.mbit_per_s * ratios[MEDIUM]}
        network = network.model_copy(update=rate)
    return cluster.model_copy(update={"network": network, "devices": tuple(devices)})


def _scaled(device: Device, kind: str, ratio: float) -> dict[str, Any]:
    if kind != "speed":
        key = f"{kind}_mbit_per_s"
        return {key: getattr(device, key) * ratio}
    layers = device.layers and tuple(
        speed.model_copy(
            update={"gflops": speed.gflops * ratio, "overhead_ms": speed.overhead_ms / ratio}
        )
        for speed in device.layers
    )
    return {
        "gflops": device.gflops * ratio,
        "overhead_ms": device.overhead_ms / ratio,
        "program_ms": device.program_ms and device.program_ms / ratio,
        "layers": layers,
    }


def ratio_of(cluster: Cluster, first: Cluster, figure: Figure) -> float:
    """How many times as high a figure is as in the first plan's cluster."""
    if figure.kind == "speed":
        return _device(cluster, figure).gflops / _device(first, figure).gflops
    return rate_of(cluster, figure) / rate_of(first, figure)


def figures_of(cluster: Cluster) -> list[Figure]:
    """Every figure that may change."""
    kinds: tuple[Literal["up", "down", "speed"], ...] = ("up", "down", "speed")
    kinds = ("speed",) if cluster.shared else kinds
    own = [Figure(kind, device.name) for device in cluster.devices for kind in kinds]
    return [MEDIUM, *own] if cluster.shared else own


def changed(cluster: Cluster, first: Cluster) -> list[Figure]:
    """The figures that are others than in the first plan's cluster."""
    return [f for f in figures_of(cluster) if ratio_of(cluster, first, f) != 1.0]


def settled(cluster: Cluster, first: Cluster, tolerance: float) -> Cluster:
    """The cluster whose figures are the first plan's to the digit where they are within the
    tolerance: then that plan is the one for them."""
    near = {
        figure: 1.0 / ratio_of(cluster, first, figure)
        for figure in changed(cluster, first)
        if 1 / (1 + tolerance) < ratio_of(cluster, first, figure) < 1 + tolerance
    }
    if len(near) == len(changed(cluster, first)):
        return first
    return scaled(cluster, near)


def in_words(figure: Figure, cluster: Cluster, first: Cluster) -> str:
    """What a figure is now, beside the first plan's: ``d3 receives at 20 Mbit/s (plan: 100)``."""
    if figure.kind == "speed":
        share = ratio_of(cluster, first, figure)
        return f"{figure.device} computes at {share:.0%} of its speed"
    now, then = (rate_of(each, figure) * 8e-6 for each in (cluster, first))
    verb = {"up": "sends at", "down": "receives at", "medium": "the medium carries"}[figure.kind]
    return f"{figure.device} {verb} {now:.3g} Mbit/s (plan: {then:.3g})".lstrip()


def _device(cluster: Cluster, figure: Figure) -> Device:
    return next(device for device in cluster.devices if device.name == figure.device)
