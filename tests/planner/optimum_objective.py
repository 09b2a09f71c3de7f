"""The optimum of a small chain under any objective and a latency limit, over all plans of a family.

Every map may have any partition of the family, every device any of its tiles. A plan is a path; one
binary per edge of the graph of (layer, partition) states, its latency and every row of the
objective sums over the edges. HiGHS minimises the largest row: independent of the planner's search.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, hstack, vstack

from nptp_opt.cluster import Cluster
from nptp_opt.cost import CandidateTiles, StepCosts, candidate_array, gather_costs, segment_costs
from nptp_opt.cost.loads import makespans_s
from nptp_opt.cost.objectives import Objective, rows_of
from nptp_opt.network.ir import Network
from tests.planner.optimum import all_partitions


@dataclass
class Graph:
    """Edges as (from, to) nodes; values (rows + 1, edges), the latency last."""

    ends: list[np.ndarray]
    values: list[np.ndarray]
    nodes: int


def graph_of(network: Network, cluster: Cluster, family: str, objective: Objective) -> Graph:
    layers, n = network.spatial, len(cluster.devices)
    states = [
        candidate_array(all_partitions(layer.height, layer.width, n, family), n) for layer in layers
    ]
    source = candidate_array([{cluster.source: network.full(network.inputs[0])}], n)
    before, names = [source, *states], [network.inputs[0], *(layer.name for layer in layers)]
    first = np.cumsum([0, *(len(array) for array in before)])
    rows, graph = rows_of(cluster, objective), Graph([], [], int(first[-1]) + 1)

    def add(costs: StepCosts, start: int, node: int) -> None:
        loads = costs.loads({names[start]: before[start]})
        latency_s = makespans_s(cluster, loads)
        values = [row.latency * latency_s + row.usage(loads) for row in rows] + [latency_s]
        p, q = np.indices(values[0].shape)
        graph.ends.append(np.stack([(p + first[start]).ravel(), (q + node).ravel()]))
        graph.values.append(np.array([value.ravel() for value in values]))

    for end in range(1, len(layers) + 1):
        for start in range(end):
            tiles = CandidateTiles(states[end - 1])
            costs = segment_costs(cluster, network, layers[start:end], tiles)
            add(costs, start, int(first[end]))
    last = gather_costs(cluster, network, network.head, cluster.sink, network.spatial_outputs)
    add(last, len(layers), graph.nodes - 1)
    return graph


def front(
    network: Network, cluster: Cluster, family: str, pair: tuple[Objective, Objective]
) -> list[tuple[float, float]]:
    """The values of a pair of objectives of which none is dominated, over every plan there is."""
    found = []
    for objective in pair:
        graph = graph_of(network, cluster, family, objective)
        found.append(np.concatenate([every.max(axis=0) for every in _every_plan(graph)]))
    points: list[tuple[float, float]] = []
    for a, b in sorted(zip(*(values.tolist() for values in found), strict=True)):
        if not points or b < points[-1][1] * (1 - 1e-9):
            while points and points[-1][0] >= a * (1 - 1e-9):
                points.pop()  # the same but for the rounding of sums
            points.append((a, b))
    return points


def _every_plan(graph: Graph) -> Iterator[np.ndarray]:
    """Values (rows, plans) of the plans of every segmentation: edges added up over all paths."""
    table = {(int(ends[0, 0]), int(ends[1, 0])): k for k, ends in enumerate(graph.ends)}
    last = graph.nodes - 1

    def onward(node: int, passed: np.ndarray) -> Iterator[np.ndarray]:
        for (start, end), k in table.items():
            if start == node:
                size = passed.shape[-1]
                step = graph.values[k][:-1].reshape(len(passed), size, -1)
                total = (passed[..., None] + step[:, None]).reshape(len(passed), -1, step.shape[-1])
                yield from [total[:, :, 0]] if end == last else onward(end, total)

    rows = len(graph.values[0]) - 1
    yield from onward(0, np.zeros((rows, 1, 1)))


def least(
    network: Network,
    cluster: Cluster,
    family: str,
    objective: Objective,
    limit_s: float = math.inf,
) -> float | None:
    """The smallest value of ``objective`` within the limit; None where no plan keeps it."""
    return least_of(graph_of(network, cluster, family, objective), limit_s)


def least_of(graph: Graph, limit_s: float) -> float | None:
    """The same for a graph of plans that is there."""
    ends, values = np.concatenate(graph.ends, axis=1), np.concatenate(graph.values, axis=1)
    count, scale = ends.shape[1], max(float(values[:-1].max()), 1e-300)
    unit = float(values[-1].max())
    flow = csr_array(
        (
            np.concatenate([np.ones(count), -np.ones(count)]),
            (np.concatenate([ends[0], ends[1]]), np.tile(np.arange(count), 2)),
        ),
        shape=(graph.nodes, count),
    )
    balance = np.zeros(graph.nodes)
    balance[0], balance[-1] = 1.0, -1.0
    above = hstack([csr_array(values[:-1] / scale), -np.ones((len(values) - 1, 1))])
    within = hstack([csr_array(values[-1:] / unit), csr_array((1, 1))])
    constraints = [
        LinearConstraint(hstack([flow, csr_array((graph.nodes, 1))]), balance, balance),
        LinearConstraint(vstack([above]), -np.inf, 0.0),
        LinearConstraint(within, -np.inf, limit_s / unit),
    ]
    found = milp(
        np.concatenate([np.zeros(count), [1.0]]),
        constraints=constraints,
        integrality=np.concatenate([np.ones(count), [0.0]]),
        bounds=Bounds(0, np.concatenate([np.ones(count), [np.inf]])),
        options={"mip_rel_gap": 1e-9},
    )
    if found.status == 2:
        return None
    assert found.status == 0, found.message
    taken = found.x[:count] > 0.5
    return float(values[:-1][:, taken].sum(axis=1).max())
