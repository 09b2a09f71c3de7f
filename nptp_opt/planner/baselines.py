"""Baselines: one partition in relative coordinates for every layer, no fusion.

``single``: the whole network on the one device that makes it fastest.
``strip-equal``: strips of equal height, all devices.
``coedge-style``: strips whose heights an LP chooses for compute and link, all devices, the same
partition for every layer. CoEdge's code is not public; this follows its published idea.
"""

from __future__ import annotations

from collections.abc import Sequence

from nptp_opt.cluster import Cluster
from nptp_opt.cost import comm_s, halo_transfers, makespan_s, segment_needs, transfer_loads
from nptp_opt.methods import Limits
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.assemble import Choice, assemble
from nptp_opt.planner.templates import UNIT, Template, snaps, strips
from nptp_opt.solvers import find_milp
from nptp_opt.solvers.model import from_pulp


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
    options = [follow(network, Template("single", {i: UNIT})) for i in range(len(cluster.devices))]
    return min(options, key=lambda choices: _latency_s(network, cluster, choices))


def strip_equal(network: Network, cluster: Cluster) -> list[Choice]:
    """Equal strips over all devices."""
    n = len(cluster.devices)
    return follow(network, strips("strip-equal", range(n), [1.0] * n, vertical=False))


def coedge_style(network: Network, cluster: Cluster) -> list[Choice]:
    """Strips with LP heights over all devices."""
    shares = coedge_shares(network, cluster)
    return follow(network, strips("coedge-style", range(len(shares)), shares, vertical=False))


def _latency_s(network: Network, cluster: Cluster, choices: Sequence[Choice]) -> float:
    return sum(step.makespan_s for step in assemble(network, cluster, choices))


def coedge_shares(network: Network, cluster: Cluster) -> list[float]:
    """Strip heights as shares of the map: minimise the sum of the layers' makespans.

    Variables: a share h_i >= h_min of every device, and a makespan T_l per layer.
    For every layer l and device i:  exchange_il + overhead_i + c_il * area_l * h_i <= T_l,
    where exchange_il is the price of the halo rows between equal strips (it does not depend on
    the heights). h_min is one row of the smallest map, as far as that leaves room for everybody.
    """
    import pulp

    n, layers = len(cluster.devices), network.spatial
    equal = strips("equal", range(n), [1.0] * n, vertical=False)
    least = min(1.0 / min(layer.height for layer in layers), 0.5 / n)
    problem = pulp.LpProblem("coedge_style")
    share = [problem.add_variable(f"share_{i}", lowBound=least) for i in range(n)]
    slowest = [problem.add_variable(f"makespan_{k}", lowBound=0) for k in range(len(layers))]
    problem += pulp.lpSum(slowest)
    problem += pulp.lpSum(share) == 1
    for k, layer in enumerate(layers):
        for i, wait in enumerate(_exchange_s(network, cluster, layer, equal)):
            device = cluster.devices[i]
            compute = layer.flop / device.flop_per_s * share[i] + device.overhead_s
            problem += wait + compute <= slowest[k]
    model = from_pulp(problem)
    outcome = find_milp("highs").solve(model, Limits())
    assert outcome.values is not None, "the LP has a solution: equal shares"
    value = dict(zip(model.column_names, outcome.values, strict=True))
    return [float(value[f"share_{i}"]) for i in range(n)]


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
