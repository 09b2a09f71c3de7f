"""Baselines: one partition in relative coordinates for every layer; only ``grid-equal`` fuses.

``single``: the whole network on the one device that makes it fastest.
``strip-equal``: strips of equal height, all devices.
``strip-proportional``: strip heights in proportion to the devices' speeds, all devices (MoDNN).
``strip-best``: the best of all strips over every choice of devices, heights proportional or by LP.
``coedge-style``: strips whose heights an LP chooses for compute and link, all devices, the same
partition for every layer. CoEdge's code is not public; this follows its published idea.
``grid-equal``: fused tile partitioning as in DeepThings: the first layers as one segment on an
equal grid of all devices, the others on one device; the best number of fused layers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from nptp_opt.cluster import Cluster
from nptp_opt.cost import comm_s, halo_transfers, makespan_s, segment_needs, transfer_loads
from nptp_opt.methods import Limits
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.assemble import Choice, assemble
from nptp_opt.planner.state_prices import StatePrices
from nptp_opt.planner.templates import UNIT, Template, grid, snaps, strips
from nptp_opt.planner.units import is_segment, units
from nptp_opt.solvers import find_milp
from nptp_opt.solvers.model import from_pulp

MOST_SUBSETS = 8
"""Devices up to which every set of devices is tried."""


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
    options = [single_on(network, i) for i in range(len(cluster.devices))]
    return min(options, key=lambda choices: latency_s(network, cluster, choices))


def single_on(network: Network, device: int) -> list[Choice]:
    """Everything on one device, layer by layer."""
    return follow(network, Template("single", {device: UNIT}))


def strip_equal(network: Network, cluster: Cluster) -> list[Choice]:
    """Equal strips over all devices."""
    n = len(cluster.devices)
    return follow(network, strips("strip-equal", range(n), [1.0] * n, vertical=False))


def strip_proportional(network: Network, cluster: Cluster) -> list[Choice]:
    """Strips in proportion to the devices' speeds."""
    speeds = [device.gflops for device in cluster.devices]
    return follow(network, strips("strip-proportional", range(len(speeds)), speeds, vertical=False))


def strip_best(network: Network, cluster: Cluster) -> list[Choice]:
    """The best strips, across rows or columns, over every choice of devices."""
    options = [
        strips("strip-best", chosen, shares, vertical=vertical)
        for chosen in _device_choices(cluster)
        for shares in _strip_shares(network, cluster, chosen)
        for vertical in (False, True)
    ]
    prices = StatePrices(network, cluster, options).followed_s()
    return follow(network, options[int(prices.argmin())])


def _device_choices(cluster: Cluster) -> list[tuple[int, ...]]:
    """All sets of devices, equal devices counted once; the fastest k where there are too many."""
    n = len(cluster.devices)
    order = sorted(range(n), key=lambda i: (-cluster.devices[i].gflops, i != cluster.source, i))
    if n > MOST_SUBSETS:
        return [tuple(sorted(order[:k])) for k in range(1, n + 1)]
    kept: dict[object, tuple[int, ...]] = {}
    for k in range(1, n + 1):
        for chosen in itertools.combinations(order, k):
            unnamed = [cluster.devices[i].model_copy(update={"name": "-"}) for i in chosen]
            ends = (cluster.source in chosen, cluster.sink in chosen)
            key = (sorted(map(repr, unnamed)), ends)
            kept.setdefault(repr(key), tuple(sorted(chosen)))
    return list(kept.values())


def _strip_shares(
    network: Network, cluster: Cluster, chosen: Sequence[int]
) -> list[Sequence[float]]:
    speeds = [cluster.devices[i].gflops for i in chosen]
    return [speeds, coedge_shares(network, cluster, chosen)] if len(chosen) > 1 else [speeds]


def grid_equal(network: Network, cluster: Cluster) -> list[Choice]:
    """An equal grid on the first layers, fused; everything after them on one device."""
    n = len(cluster.devices)
    rows = max(r for r in range(1, math.isqrt(n) + 1) if n % r == 0)
    template = grid("grid-equal", rows, n // rows)
    rest = [single_on(network, i) for i in range(n)]
    options = [*rest]
    snap, parts = snaps(network), units(network)
    for count in range(1, len(parts) + 1):
        fused = tuple(layer for unit in parts[:count] for layer in unit)
        if is_segment(network, fused):
            last = fused[-1]
            head = Choice(fused, template.at(last.height, last.width, snap[last.name]))
            options += [[head, *choices[len(fused) :]] for choices in rest]
    return min(options, key=lambda choices: latency_s(network, cluster, choices))


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
    """Strip heights as shares of the map: minimise the sum of the layers' makespans.

    Variables: a share h_i >= h_min of every chosen device (all by default), and a makespan T_l per
    layer. For every layer l and device i:  exchange_il + overhead_i + c_il * area_l * h_i <= T_l,
    where exchange_il is the price of the halo rows between equal strips (it does not depend on
    the heights). h_min is one row of the smallest map, as far as that leaves room for everybody.
    """
    import pulp

    chosen = range(len(cluster.devices)) if chosen is None else chosen
    n, layers = len(chosen), network.spatial
    equal = strips("equal", chosen, [1.0] * n, vertical=False)
    least = min(1.0 / min(layer.height for layer in layers), 0.5 / n)
    problem = pulp.LpProblem("coedge_style")
    share = {i: problem.add_variable(f"share_{i}", lowBound=least) for i in chosen}
    slowest = [problem.add_variable(f"makespan_{k}", lowBound=0) for k in range(len(layers))]
    problem += pulp.lpSum(slowest)
    problem += pulp.lpSum(share.values()) == 1
    for k, layer in enumerate(layers):
        waits = _exchange_s(network, cluster, layer, equal)
        for i in chosen:
            device = cluster.devices[i]
            compute = layer.flop / device.flop_per_s * share[i] + device.overhead_s
            problem += waits[i] + compute <= slowest[k]
    model = from_pulp(problem)
    outcome = find_milp("highs").solve(model, Limits())
    assert outcome.values is not None, "the LP has a solution: equal shares"
    value = dict(zip(model.column_names, outcome.values, strict=True))
    return [float(value[f"share_{i}"]) for i in chosen]


def _exchange_s(
    network: Network, cluster: Cluster, layer: Layer, template: Template
) -> list[float]:
    """Seconds per device of exchanging a layer's halo rows when its inputs are cut likewise."""
    maps = {tensor: network.full(tensor) for tensor in layer.inputs}
    held = {tensor: template.at(full.y1, full.x1) for tensor, full in maps.items()}
    needs = segment_needs((layer,), template.at(layer.height, layer.width))
    loads = transfer_loads(len(cluster.devices), halo_transfers(network, needs, held))
    if cluster.shared:
        return [makespan_s(cluster, loads)] * len(loads)
    return [comm_s(cluster, i, load) for i, load in enumerate(loads)]


QUICK: dict[str, Callable[[Network, Cluster], list[Choice]]] = {
    "single": single,
    "strip-equal": strip_equal,
    "strip-proportional": strip_proportional,
    "strip-best": strip_best,
    "coedge-style": coedge_style,
    "grid-equal": grid_equal,
}
"""The baselines that solve no layer's problem."""
