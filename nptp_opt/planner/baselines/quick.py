"""Baselines: one partition in relative coordinates for every layer; only ``grid-equal`` fuses.

``single``: the whole network on the one device that makes it fastest.
``strip-equal``: strips of equal height, all devices.
``strip-proportional``: strip heights in proportion to the devices' speeds, all devices (MoDNN).
``strip-best``: the best of all strips over every choice of devices, heights proportional or by LP.
``coedge-style``: strips whose heights an LP chooses for compute and link, all devices, the same
partition for every layer. CoEdge's code is not public; this follows its published idea.
``grid-equal``: fused tile partitioning as in DeepThings: the first layers as one segment on an
equal grid of all devices, the others on one device; the best number of fused layers.

Speeds are measured ones, layer by layer, where a device has a profile: the LP goes by the speeds on
every layer, proportional heights by the mean over all of them.

All keep linear layers on the sink (``linears``). ``single`` and ``strip-best`` choose among devices
with enough memory, if that leaves any.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, mean_gflops, speeds_of
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.memory import overfull_devices
from nptp_opt.layer.limits import Limits
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.baselines.linears import Plain, linears_on_sink
from nptp_opt.planner.candidates.templates import UNIT, Template, grid, snaps, strips
from nptp_opt.planner.path.state_costs import StateCosts
from nptp_opt.planner.path.units import is_segment, units
from nptp_opt.solvers import find_milp
from nptp_opt.solvers.model import MilpModel

MOST_SUBSETS = 8
"""Devices up to which every set of devices is tried."""

MOST_COUNTS = 64
"""Devices up to which every number of the fastest is tried; above, a sixteenth more each time."""


def follow(network: Network, template: Template) -> list[Choice]:
    """The template on every layer's map, each layer a segment of its own."""
    snap = snaps(network)
    return [
        Choice((layer,), template.at(layer.height, layer.width, snap[layer.name]))
        if layer.kind == "spatial"
        else Choice((layer,))
        for layer in network.shared_out
    ]


def single(network: Network, cluster: Cluster) -> list[Choice]:
    """Everything on one device: the one with the lowest latency, transfers included."""
    kinds = cluster.kinds
    options = [single_on(network, kinds.index(kind)) for kind in dict.fromkeys(kinds)]
    options.sort(key=lambda choices: latency_s(network, cluster, choices))
    return _first_fitting(network, cluster, options)


def _first_fitting(
    network: Network, cluster: Cluster, options: Iterable[list[Choice]]
) -> list[Choice]:
    """The first of ``options`` that fits into memory; the first one where none does."""
    some = iter(options)
    first = next(some)
    for choices in itertools.chain([first], some):
        if not overfull_devices(network, cluster, choices):
            return choices
    return first


def single_on(network: Network, device: int) -> list[Choice]:
    """Everything on one device, layer by layer."""
    return follow(network, Template("single", {device: UNIT}))


def strip_equal(network: Network, cluster: Cluster) -> list[Choice]:
    """Equal strips over all devices."""
    n = len(cluster.devices)
    return follow(network, strips("strip-equal", range(n), [1.0] * n, vertical=False))


def strip_proportional(network: Network, cluster: Cluster) -> list[Choice]:
    """Strips in proportion to the devices' speeds."""
    speeds = mean_speeds(network, cluster)
    return follow(network, strips("strip-proportional", range(len(speeds)), speeds, vertical=False))


def mean_speeds(network: Network, cluster: Cluster) -> list[float]:
    """GFLOP/s of every device on the layers that are cut, by its profile where it has one."""
    return [mean_gflops(device, network.spatial) for device in cluster.devices]


def strip_best(network: Network, cluster: Cluster) -> list[Choice]:
    """The best strips, across rows or columns, over every choice of devices."""
    speeds = mean_speeds(network, cluster)
    choices = _device_choices(cluster, speeds)
    several = [chosen for chosen in choices if len(chosen) > 1]
    shared = [(chosen, [speeds[i] for i in chosen]) for chosen in choices]
    shared += zip(several, all_coedge_shares(network, cluster, several), strict=True)
    options = [
        strips("strip-best", chosen, shares, vertical=vertical)
        for chosen, shares in shared
        for vertical in (False, True)
    ]
    costs = StateCosts(network, cluster, options).followed_s()
    ordered = (follow(network, options[int(k)]) for k in costs.argsort(kind="stable"))
    return _first_fitting(network, cluster, ordered)


def _device_choices(cluster: Cluster, speeds: Sequence[float]) -> list[tuple[int, ...]]:
    """All sets of devices, equal devices counted once; the fastest k where there are too many."""
    n = len(cluster.devices)
    order = sorted(range(n), key=lambda i: (-speeds[i], i != cluster.source, i))
    if n > MOST_SUBSETS:
        return [tuple(sorted(order[:k])) for k in _counts(n)]
    kept: dict[object, tuple[int, ...]] = {}
    for k in range(1, n + 1):
        for chosen in itertools.combinations(order, k):
            key = tuple(sorted(cluster.kinds[i] for i in chosen))
            kept.setdefault(key, tuple(sorted(chosen)))
    return list(kept.values())


def _counts(n: int) -> Iterator[int]:
    k = 1
    while k < n:
        yield k
        k += max(1, k // 16) if k >= MOST_COUNTS else 1
    yield n


def grid_equal(network: Network, cluster: Cluster) -> list[Choice]:
    """An equal grid on the first layers, fused; everything after them on one device."""
    n = len(cluster.devices)
    rows = max(r for r in range(1, math.isqrt(n) + 1) if n % r == 0)
    template = grid("grid-equal", rows, n // rows)
    devices = cluster.unlike
    singles = [Template(f"single-{i}", {i: UNIT}) for i in devices]
    costs = StateCosts(network, cluster, [template, *singles])
    alone, layers = costs.layers_s(), network.shared_out
    best_s, best = costs.followed_s()[1:].min(), single(network, cluster)
    for fused in _prefixes(network):
        rest = layers[len(fused) :]
        latencies = costs.switched_s(fused, rest, alone)
        if latencies[1:].min() < best_s:
            place = 1 + int(latencies[1:].argmin())
            device, best_s = devices[place - 1], latencies[place]
            best = [costs.choice(fused, template), *single_on(network, device)[len(fused) :]]
    return best


def _prefixes(network: Network) -> Iterator[tuple[Layer, ...]]:
    """The first 1, 2, ... units, as far as they can be one segment."""
    parts = units(network)
    for count in range(1, len(parts) + 1):
        fused = tuple(layer for unit in parts[:count] for layer in unit)
        if is_segment(network, fused):
            yield fused


def coedge_style(network: Network, cluster: Cluster) -> list[Choice]:
    """Strips with LP heights over all devices."""
    shares = coedge_shares(network, cluster)
    return follow(network, strips("coedge-style", range(len(shares)), shares, vertical=False))


def latency_s(network: Network, cluster: Cluster, choices: Sequence[Choice]) -> float:
    """Sum of the makespans of the steps that ``choices`` give."""
    return sum(step.makespan_s for step in assemble(network, cluster, choices))


def coedge_shares(
    network: Network, cluster: Cluster, chosen: Sequence[int] | None = None
) -> list[float]:
    """Strip heights of ``chosen`` devices (all by default) as shares of the map: an LP, below."""
    chosen = range(len(cluster.devices)) if chosen is None else chosen
    return all_coedge_shares(network, cluster, [chosen])[0]


def all_coedge_shares(
    network: Network, cluster: Cluster, choices: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Strip heights of several choices of devices: minimise the sum of the layers' makespans.

    Variables: a share h_i >= h_min of every chosen device, and a makespan T_l per layer. For every
    layer l and device i:  exchange_il + overhead_il + c_il * area_l * h_i <= T_l, where exchange_il
    is the cost of the halo rows between equal strips (it does not depend on the heights).
    h_min is one row of the smallest map, as far as that leaves room for everybody.
    """
    equal = [strips("equal", chosen, [1.0] * len(chosen), vertical=False) for chosen in choices]
    costs = StateCosts(network, cluster, equal)
    exchange = [costs.exchange_s(layer) for layer in network.spatial]
    return [
        _shares(network, cluster, chosen, np.array([waits[q][list(chosen)] for waits in exchange]))
        for q, chosen in enumerate(choices)
    ]


def _shares(
    network: Network, cluster: Cluster, chosen: Sequence[int], exchange_s: FloatArray
) -> list[float]:
    """Solve the LP of ``all_coedge_shares``; ``exchange_s`` has a row per layer."""
    n, layers = len(chosen), network.spatial
    count = len(layers)
    if not layers:
        return [1.0 / n] * n
    least = min(1.0 / min(layer.height for layer in layers), 0.5 / n)
    speeds = speeds_of([cluster.devices[i] for i in chosen], layers)
    flop = np.array([layer.flop for layer in layers])
    map_s, fixed = (flop / speeds.flop_per_s).T, exchange_s + speeds.overhead_s.T
    # One row "sum of shares = 1", then a row per layer and device: (share, makespan) in columns.
    pairs = np.array([(i, n + k) for k in range(count) for i in range(n)]).reshape(-1)
    values = np.stack((map_s.reshape(-1), -np.ones(n * count)), axis=1).reshape(-1)
    model = MilpModel(
        name="coedge_style",
        objective=np.array([0.0] * n + [1.0] * count),
        lo=np.array([least] * n + [0.0] * count),
        hi=np.full(n + count, np.inf),
        integer=np.zeros(n + count, dtype=np.bool_),
        start=np.concatenate(([0], n + 2 * np.arange(n * count + 1))),
        column=np.concatenate((np.arange(n), pairs)),
        value=np.concatenate((np.ones(n), values)),
        row_lo=np.array([1.0] + [-np.inf] * (n * count)),
        row_hi=np.concatenate(([1.0], -fixed.reshape(-1))),
        column_names=[f"share_{i}" for i in chosen] + [f"makespan_{k}" for k in range(count)],
        row_names=[f"row_{r}" for r in range(n * count + 1)],
    )
    outcome = find_milp("highs").solve(model, Limits())
    assert outcome.values is not None, "the LP has a solution: equal shares"
    return [float(value) for value in outcome.values[:n]]


QUICK: dict[str, Plain] = {
    "single": linears_on_sink(single),
    "strip-equal": linears_on_sink(strip_equal),
    "strip-proportional": linears_on_sink(strip_proportional),
    "strip-best": linears_on_sink(strip_best),
    "coedge-style": linears_on_sink(coedge_style),
    "grid-equal": linears_on_sink(grid_equal),
}
"""The baselines that solve no layer's problem."""
