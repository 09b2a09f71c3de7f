"""Links measured between emulated devices: which network it is, and how fast each one is."""

from __future__ import annotations

import os

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.cluster.links import MeasuredLinks
from nptp_opt.runtime.emulation.network import EmulatedCluster
from nptp_opt.runtime.launcher.pool import WorkerPool
from nptp_opt.runtime.profiling.survey import measure_links
from tests.builders import make_cluster

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def measured(cluster: Cluster) -> MeasuredLinks:
    names = [device.name for device in cluster.devices]
    with EmulatedCluster(cluster) as site, WorkerPool(names, 120.0, site) as pool:
        return measure_links(pool, cluster, lambda text: None, "torch")


@needs_root
@pytest.mark.usefixtures("forked")
def test_a_slow_link_of_a_switched_network_is_found() -> None:
    """Bug: links were measured to the first device alone. The middle one has half the rate."""
    links = measured(make_cluster([1.0] * 3, rates=[40.0, 20.0, 40.0]))
    assert links.kind == "switched"
    rates = [links.link(i).up_mbit_per_s for i in range(3)]
    assert rates == pytest.approx([40.0, 20.0, 40.0], rel=0.25)
    assert links.mbit_per_s(0, 2) > 1.5 * links.mbit_per_s(0, 1)


@needs_root
@pytest.mark.usefixtures("forked")
def test_a_shared_medium_is_recognised() -> None:
    """Bug: a medium had to be named by hand: measured one by one, its links look switched."""
    links = measured(make_cluster([1.0] * 3, rates=40.0, shared=True))
    assert links.kind == "shared"
    assert links.medium_mbit_per_s == pytest.approx(40.0, rel=0.25)
