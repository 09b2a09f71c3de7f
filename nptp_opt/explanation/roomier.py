"""How much more memory would be enough, on one device or on all: walks into memory, then plans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nptp_opt.cluster import MIB, Cluster
from nptp_opt.evaluate.clock import Clock
from nptp_opt.explanation.sentences import Finding, ms
from nptp_opt.network.ir import Network
from nptp_opt.planner import PlanOptions
from nptp_opt.planner.local_search.into_memory import Room, lightened
from nptp_opt.planner.nptp import candidates, fastest, quick_plans

EFFORT = 0.1
"""Part of a search that is made for a plan that shows that it is possible."""

GROWTH, MOST_GROWTHS = 1.3, 4
"""Where the search does not find what the walk has found, more is tried, so many times."""


@dataclass(frozen=True)
class _Enough:
    """Memory of a cluster that is enough, and the latency of the plan that shows it."""

    cluster: Cluster
    more_mib: float
    latency_s: float


def weights_that_do_not_fit(network: Network, cluster: Cluster) -> Iterator[Finding]:
    """The proof that memory is too small where all weights together are above all limits."""
    weights = sum(layer.param_bytes for layer in network.layers)
    limits = sum(device.memory_bytes for device in cluster.devices)
    if weights > limits:
        yield Finding(
            "proof",
            f"No plan can fit: the weights alone are {weights / MIB:.4g} MiB, the devices have "
            f"{limits / MIB:.4g} MiB together.",
            {"weights_mib": weights / MIB, "memory_mib": limits / MIB},
        )


def enough_memory(
    network: Network, cluster: Cluster, latency_limit_s: float = math.inf
) -> Iterator[Finding]:
    """What is enough on one device, the device that needs least first; then the same on all."""
    clock = Clock(network, cluster)
    silent = PlanOptions(tell=lambda text: None)
    starts, templates = candidates(clock, silent, quick_plans(clock, silent))

    def enough(devices: Sequence[int]) -> _Enough | None:
        room = Room.of(cluster, devices)
        over = room.over(clock.peak_bytes(lightened(clock, starts, templates, room)))
        if any(own > 0 for i, own in enumerate(over) if i not in devices):
            return None
        return _grown(network, cluster, devices, max(over) / MIB)

    found = [(i, each) for i in _each_kind(cluster) if (each := enough([i])) is not None]
    for i, each in sorted(found, key=lambda pair: pair[1].more_mib):
        yield _told_of_one(cluster, i, each, latency_limit_s)
    if not found:
        yield Finding("no relaxation", "More memory on one device alone was not enough.", {})
    limited = [i for i, device in enumerate(cluster.devices) if device.memory_mib is not None]
    if len(limited) > 1 and (all_of_them := enough(limited)) is not None:
        yield _told_of_all(len(limited), all_of_them, latency_limit_s)


def _each_kind(cluster: Cluster) -> list[int]:
    """One device of every kind that has a limit: equal ones need the same."""
    first = {kind: i for i, kind in reversed([*enumerate(cluster.kinds)])}
    return [i for i in sorted(first.values()) if cluster.devices[i].memory_mib is not None]


def _grown(
    network: Network, cluster: Cluster, devices: Sequence[int], least_mib: float
) -> _Enough | None:
    """The first of some amounts from ``least_mib`` on for which a search finds a plan."""
    for k in range(MOST_GROWTHS):
        more_mib = _rounded_up(max(least_mib, 1 / MIB) * GROWTH**k)
        roomier = _raised(cluster, dict.fromkeys(devices, more_mib))
        clock = Clock(network, roomier)
        plan = fastest(network, roomier, PlanOptions(tell=lambda text: None), effort=EFFORT)
        if clock.fits(plan):
            return _Enough(roomier, more_mib, clock.seconds(plan))
    return None


def _raised(cluster: Cluster, more_mib: dict[int, float]) -> Cluster:
    devices = tuple(
        device.model_copy(update={"memory_mib": (device.memory_mib or 0.0) + more_mib[i]})
        if i in more_mib
        else device
        for i, device in enumerate(cluster.devices)
    )
    return cluster.model_copy(update={"devices": devices})


def _rounded_up(value: float) -> float:
    """Three digits, none of them a promise that is too small."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.12g}")


# -- sentences ---------------------------------------------------------------------------------


def _told_of_one(cluster: Cluster, device: int, enough: _Enough, limit_s: float) -> Finding:
    old, new = cluster.devices[device], enough.cluster.devices[device]
    text = (
        f"With {enough.more_mib:g} MiB more on {old.name} ({new.memory_mib:g} in place of "
        f"{old.memory_mib:g}) it is possible: {_latency(enough, limit_s)}."
    )
    return _told(text, enough, {"device": old.name, "memory_mib": new.memory_mib})


def _told_of_all(count: int, enough: _Enough, limit_s: float) -> Finding:
    text = (
        f"With {enough.more_mib:g} MiB more on each of the {count} devices that have a limit it is "
        f"possible: {_latency(enough, limit_s)}."
    )
    return _told(text, enough, {"device": None, "memory_mib": None})


def _told(text: str, enough: _Enough, figures: dict[str, object]) -> Finding:
    own = {"kind": "memory", "more_mib": enough.more_mib, "latency_s": enough.latency_s}
    return Finding("relaxation", text, own | figures)


def _latency(enough: _Enough, limit_s: float) -> str:
    late = f", above the limit of {ms(limit_s)}" if enough.latency_s > limit_s else ""
    return f"a plan of {ms(enough.latency_s)} was found{late}"
