"""A lower bound on the latency of every plan of a network on a cluster."""

from __future__ import annotations

from nptp_opt.cluster import Cluster
from nptp_opt.cost import gather_compute_s
from nptp_opt.network.ir import Network


def compute_bound(network: Network, cluster: Cluster) -> float:
    """Latency with perfect balance and free exchange; holds for every plan.

    In any step the makespan is at least max_i flop_i / speed_i >= sum flop_i / sum speed_i, and the
    steps together compute every pixel at least once. The head runs on the sink alone.
    """
    speed = sum(device.flop_per_s for device in cluster.devices)
    spatial = sum(layer.flop for layer in network.shared_out) / speed
    return spatial + gather_compute_s(cluster, cluster.sink, network.head)
