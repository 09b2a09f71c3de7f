"""Candidates for the first segment where every device has a link of its own: the source does less.

The source sends all others their parts of the input, and its step takes as long as both, sending
and computing. Shares x of the first layers l = 1..k, fused, are balanced where all take T seconds:

    x_i (c_i + s / down_i) = T  for every device i but the source
    x_0 c_0 + (1 - x_0) s / up_0 = T,  sum x = 1

with c_i the seconds that all of these layers take on device i and s the bytes of the input. The
longer the segment, the less the input matters, so there is a division for every k. Partitions like
these are worse than even ones everywhere else, and what they hand on is moved again later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, Links, sent_bytes, speeds_of
from nptp_opt.network.ir import Network
from nptp_opt.planner.candidates.catalogue import column_groups, distinct
from nptp_opt.planner.candidates.templates import Template, columns, strips

STEP = 0.1
"""Parts of its even share by which the source does less, from one division to the next."""


def handing_templates(network: Network, cluster: Cluster) -> list[Template]:
    """Strips and columns of all devices in which the source has time to hand the input on."""
    return distinct(_templates(network, cluster), network.spatial)


def _templates(network: Network, cluster: Cluster) -> Iterator[Template]:
    devices = range(len(cluster.devices))
    for x in handing_shares(network, cluster):
        share = dict(enumerate(x.tolist()))
        for across in (False, True):
            yield strips("handing-strip", devices, list(share.values()), vertical=across)
        for groups in column_groups(devices):
            for transpose in (False, True):
                yield columns("handing-column", groups, share, transpose=transpose)


def handing_shares(network: Network, cluster: Cluster) -> list[FloatArray]:
    """Shares (n,) of all devices, from even ones to those of the first layer; none on one medium.

    Between two segments' divisions lie others: what the source did less has to be moved later.
    """
    if cluster.shared or len(cluster.devices) < 2:
        return []
    size = sum(sent_bytes(cluster, network, name, network.full(name)) for name in network.inputs)
    seconds, found = np.zeros(len(cluster.devices)), list[FloatArray]()
    for layer in network.spatial:
        seconds = seconds + layer.flop / speeds_of(cluster.devices, [layer]).flop_per_s[:, 0]
        x = _balanced(cluster, seconds, size)
        found += [] if x is None else [x]
    if not found:
        return []
    even = (1.0 / seconds) / (1.0 / seconds).sum()
    return _between([*found, even], cluster.source)


def _between(divisions: Sequence[FloatArray], source: int) -> list[FloatArray]:
    """Divisions in which the source does less by one step after another, the last of those given
    being even."""
    even = divisions[-1]
    known = sorted(((1 - x[source] / even[source]) / STEP, tuple(x)) for x in divisions)
    less, shares = np.array([step for step, _ in known]), np.array([x for _, x in known])
    return [
        np.array([np.interp(step, less, column) for column in shares.T])
        for step in range(1, 1 + int(less[-1]))
    ]


def _balanced(cluster: Cluster, seconds: FloatArray, size: float) -> FloatArray | None:
    """Shares with which all take as long; None where the source had better do nothing."""
    links = Links.of(cluster)
    per_s = 1.0 / (seconds + size / links.down)
    sending_s = size / links.up[cluster.source]
    per_s[cluster.source] = 1.0 / (seconds[cluster.source] - sending_s)
    if not 0.0 < per_s[cluster.source] < np.inf:
        return None
    makespan_s = (1.0 + sending_s * per_s[cluster.source]) / per_s.sum()
    shares = makespan_s * per_s
    shares[cluster.source] -= sending_s * per_s[cluster.source]
    return shares if shares.min() > 0.0 else None
