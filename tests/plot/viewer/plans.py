"""Plans for the viewer's tests, without torch and without a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.trace import Span
from tests.builders import conv_chain, make_cluster

Partition = Callable[[int, int], Mapping[int, Tile]]

MS = 1_000_000


def halves(height: int, width: int) -> dict[int, Tile]:
    """Two strips on devices 0 and 1."""
    return {0: Tile(0, height // 2, 0, width), 1: Tile(height // 2, height, 0, width)}


def plan_of(
    network: Network, cluster: Cluster, partition: Partition, *, fuse: int = 1, bound_s: float = 0.0
) -> Plan:
    """Every ``fuse`` layers are one step."""
    groups = [network.layers[k : k + fuse] for k in range(0, len(network.layers), fuse)]
    choices = [Choice(g, partition(g[-1].height, g[-1].width)) for g in groups]
    steps = assemble(network, cluster, choices)
    latency_s = simulate(network, cluster, steps)
    ref = ModelRef(network.name, (1, *network.shapes["input"][1:]), 0)
    return Plan(ref, network, cluster, steps, latency_s, bound_s=bound_s or None)


def two_devices(
    *, fuse: int = 1, names: Sequence[str] = ("d0", "d1"), shared: bool = False
) -> Plan:
    """Two convolutions on 8 x 8, halves. A half takes 1 s, 128 bytes (a row of 8 pixels of 4
    channels) take 0.1 s."""
    cluster = make_cluster(
        (9.216e-6, 9.216e-6), rates=0.01024, shared=shared, memory_mib={1: 0.002}
    )
    named = [
        device.model_copy(update={"name": name})
        for device, name in zip(cluster.devices, names, strict=True)
    ]
    network = conv_chain((1, 4, 8, 8), [{}, {}])
    cluster = cluster.model_copy(update={"devices": tuple(named)})
    return plan_of(network, cluster, halves, fuse=fuse, bound_s=2.0)


def spans_of(plan: Plan) -> dict[str, list[Span]]:
    """A run of ``two_devices`` as it could have been: by device, nanoseconds from the input."""
    first, second = (device.name for device in plan.cluster.devices)
    return {
        first: [
            Span("send", 0, 0, 10 * MS, 1, 640),
            Span("compute", 0, 10 * MS, 900 * MS),
            Span("pad", 0, 900 * MS, 1010 * MS),
            Span("wait", 1, 1010 * MS, 1600 * MS, 1, 128),
            Span("compute", 1, 1600 * MS, 2700 * MS),
            Span("flush", len(plan.steps), 2700 * MS, 3000 * MS),
        ],
        second: [Span("compute", 0, 500 * MS, 1500 * MS)],
    }
