"""Every planner's latency over a range of clusters: made from one by changing one or two figures.

``rate`` (Mbit/s of every link or of the medium), ``latency_ms`` (of every message), ``gflops`` (of
the fastest device, the others in proportion) and ``devices`` (the first k of the cluster, or all of
them again and again where it has fewer).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.errors import InfeasibleError, InputError, NoSolutionError, unknown_name
from nptp_opt.evaluate.assemble import assemble
from nptp_opt.evaluate.memory import require_fit
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.layer.limits import Limits
from nptp_opt.network.ir import Network
from nptp_opt.planner import PLANNERS, PlanOptions, check_planner

POINTS = 5
"""Values of a range that names no count."""

MOST_POINTS = 1000

TIE = 1e-3
"""Relative difference below which the baseline wins: it is the simpler plan."""

Point = dict[str, float]
Row = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """What changes, and the values that it takes in rising order."""

    name: str
    values: tuple[float, ...]


def parse_axis(text: str) -> Axis:
    """Read ``name=lo:hi``, ``name=lo:hi:count`` or ``name=value``.

    Raises InputError that quotes ``text``.
    """
    name, _, span = text.partition("=")
    if name not in _CHANGES:
        raise unknown_name("range to sweep", name, _CHANGES)
    parts = span.split(":")
    single = len(parts) == 1
    parts = parts * 2 if single else parts
    try:
        low, high = float(parts[0]), float(parts[1])
        count = int(parts[2]) if len(parts) == 3 else None
    except (ValueError, IndexError):
        raise InputError(
            f"`ranges` must look like rate=10:1000, rate=10:1000:7 or rate=10: {text!r}"
        ) from None
    least = 0.0 if name == "latency_ms" else 1e-9
    if len(parts) > 3 or not least <= low <= high < 1e15 or (low == high and not single):
        raise InputError(
            f"`ranges` {text}: needs numbers above 0 (latency_ms: from 0), "
            f"the first below the second (for one value: {name}={parts[0]})"
        )
    if name == "devices" and (low < 1 or low != int(low) or high != int(high)):
        raise InputError(f"`ranges` {text}: devices are counted in whole numbers from 1")
    if single:
        return Axis(name, (low,))
    if count is not None and not 2 <= count <= MOST_POINTS:
        raise InputError(f"`ranges` {text}: the count must be from 2 to {MOST_POINTS}")
    return Axis(name, _values(name, low, high, count))


def _values(name: str, low: float, high: float, count: int | None) -> tuple[float, ...]:
    """Even steps for devices and from zero, even factors otherwise; six digits are kept."""
    if name == "devices":
        chosen = np.linspace(low, high, count or min(int(high - low) + 1, MOST_POINTS))
        return tuple(float(k) for k in sorted({round(value) for value in chosen}))
    spaced = np.linspace if low == 0 else np.geomspace
    return tuple(float(f"{value:.6g}") for value in spaced(low, high, count or POINTS))


def cluster_at(cluster: Cluster, point: Point) -> Cluster:
    """The cluster at one point of the ranges."""
    content = cluster.to_json()
    for name in sorted(point):  # devices before gflops: the fastest of those that are left
        content = _CHANGES[name](content, point[name])
    return cluster_from_json(content, f"cluster at {label(point)}")


def label(point: Point) -> str:
    """A point in words."""
    return ", ".join(f"{name}={value:g}" for name, value in point.items())


def _with_devices(content: Row, count: float) -> Row:
    every = content["device"]
    chosen = [
        every[k % len(every)]
        | (
            {"name": f"{every[k % len(every)]['name']}-{k // len(every) + 1}"}
            if k >= len(every)
            else {}
        )
        for k in range(int(count))
    ]
    _require_ends(content["network"], [device["name"] for device in chosen])
    return content | {"device": chosen}


def _require_ends(network: Row, names: list[str]) -> None:
    """Raise InputError where the source or the sink is not among the devices that are left."""
    for end in ("source", "sink"):
        if network.get(end) is not None and network[end] not in names:
            raise InputError(
                f"`ranges` devices={len(names)}: takes the cluster file's first {len(names)} "
                f"[[device]] entries, without network.{end} = {network[end]!r}: "
                "put source and sink first in the file"
            )


def _with_rate(content: Row, mbit_per_s: float) -> Row:
    if content["network"]["kind"] == "shared":
        return content | {"network": content["network"] | {"mbit_per_s": mbit_per_s}}
    rates = {"up_mbit_per_s": mbit_per_s, "down_mbit_per_s": mbit_per_s}
    return content | {"device": [device | rates for device in content["device"]]}


def _with_latency(content: Row, latency_ms: float) -> Row:
    return content | {"network": content["network"] | {"latency_ms": latency_ms}}


def _with_gflops(content: Row, gflops: float) -> Row:
    if any("layers" in device for device in content["device"]):
        raise InputError("`ranges` gflops: a device has a profile; sweep a cluster of plain gflops")
    factor = gflops / max(device["gflops"] for device in content["device"])
    scaled = [device | {"gflops": device["gflops"] * factor} for device in content["device"]]
    return content | {"device": scaled}


_CHANGES: dict[str, Callable[[Row, float], Row]] = {
    "rate": _with_rate,
    "devices": _with_devices,
    "gflops": _with_gflops,
    "latency_ms": _with_latency,
}


def points(cluster: Cluster, axes: Sequence[Axis]) -> list[tuple[Point, Cluster]]:
    """Every point with its cluster; raises InputError before any planning."""
    if not 1 <= len(axes) <= 2 or len({axis.name for axis in axes}) < len(axes):
        raise InputError("sweep: give `ranges` once or twice, each with another name")
    if math.prod(len(axis.values) for axis in axes) > MOST_POINTS:
        raise InputError(f"sweep: more than {MOST_POINTS} points; give smaller counts")
    names = [axis.name for axis in axes]
    combined = itertools.product(*(axis.values for axis in axes))
    combinations = [dict(zip(names, values, strict=True)) for values in combined]
    return [(point, cluster_at(cluster, point)) for point in combinations]


def sweep_rows(
    network: Network,
    over: Sequence[tuple[Point, Cluster]],
    planners: Sequence[str],
    limits: Limits,
    say: Callable[[str], None],
    dense: Network | None = None,
) -> Iterator[Row]:
    """One row per point: latencies by planner (None without a plan), the winner and the ratio.

    ``dense`` is the network with nothing but dense maps of floats to send, where ``network`` has
    pixels or densities: its latencies stand beside.
    """
    for name in planners:
        check_planner(PlanOptions(name))

    def of(network: Network, cluster: Cluster) -> dict[str, float | None]:
        options = (PlanOptions(name, limits=limits, tell=say) for name in planners)
        return {each.planner: planned_s(network, cluster, each, say) for each in options}

    for number, (point, cluster) in enumerate(over, 1):
        latencies = of(network, cluster)
        beside = {} if dense is None else {"dense_latency_s": of(dense, cluster)}
        row = {
            **point,
            "latency_s": latencies,
            **beside,
            "winner": winner(latencies),
            "ratio": ratio(latencies),
        }
        say(f"{number}/{len(over)} {label(point)}: {row['winner'] or 'no plan'}")
        yield row


def planned_s(
    network: Network, cluster: Cluster, options: PlanOptions, say: Callable[[str], None]
) -> float | None:
    """Latency of a planner's plan; None where it has none that fits."""
    try:
        choices = PLANNERS.find(options.planner).plan(network, cluster, options)
        steps = assemble(network, cluster, choices)
        require_fit(network, cluster, steps, options.planner)
    except (InfeasibleError, NoSolutionError) as error:
        say(f"{options.planner}: {error}")
        return None
    return simulate(network, cluster, steps)


def best_baseline(latencies: dict[str, float | None]) -> str | None:
    """The fastest planner but ``nptp``."""
    known = {k: v for k, v in latencies.items() if v is not None and k != "nptp"}
    return min(known, key=known.__getitem__) if known else None


def winner(latencies: dict[str, float | None]) -> str | None:
    """The fastest planner; ``nptp`` only where it is faster by more than ``TIE``."""
    value, best = latencies.get("nptp"), best_baseline(latencies)
    rival = None if best is None else latencies[best]
    if value is not None and (rival is None or value < rival * (1 - TIE)):
        return "nptp"
    return best


def ratio(latencies: dict[str, float | None]) -> float | None:
    """Latency of ``nptp`` over the best baseline's; None without both, or where the latter is 0."""
    best, value = best_baseline(latencies), latencies.get("nptp")
    rival = None if best is None else latencies[best]
    return None if value is None or not rival else value / rival


def flat(row: Row) -> Row:
    """A row as one line of a table: latencies in milliseconds; the ratio if ``nptp`` is there."""
    point = {k: v for k, v in row.items() if k in _CHANGES}
    point |= {"devices": int(point["devices"])} if "devices" in point else {}
    latencies: dict[str, float | None] = {}
    for planner, value in row["latency_s"].items():
        dense = {} if "dense_latency_s" not in row else {"dense ": row["dense_latency_s"][planner]}
        for how, each in {"": value, **dense}.items():
            latencies[f"{planner} {how}ms"] = None if each is None else each * 1e3
    found = {"nptp/best baseline": row["ratio"]} if "nptp" in row["latency_s"] else {}
    return {**point, **latencies, "winner": row["winner"], **found}
