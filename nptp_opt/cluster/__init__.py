"""Devices, links, cluster files and profiles."""

from nptp_opt.cluster.model import (
    MIB,
    Cluster,
    Device,
    NetworkLink,
    TransferDtype,
    cluster_from_json,
    load_cluster,
)

__all__ = [
    "MIB",
    "Cluster",
    "Device",
    "NetworkLink",
    "TransferDtype",
    "cluster_from_json",
    "load_cluster",
]
