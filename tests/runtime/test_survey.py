"""Links measured between emulated devices: which network it is, and how fast each one is."""

from __future__ import annotations

import os
from typing import Any

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.cluster.links import MeasuredLinks
from nptp_opt.runtime.emulation.network import EmulatedCluster
from nptp_opt.runtime.launcher.pool import WorkerPool
from nptp_opt.runtime.profiling import survey as measuring
from nptp_opt.runtime.profiling.survey import SurveyRequest, measure_links, survey, undisturbed
from tests.builders import make_cluster
from tests.runtime.plans import model_of

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


def placed(*addresses: str | None) -> Cluster:
    """A device at each address."""
    cluster = make_cluster([1.0] * len(addresses), rates=100.0)
    devices = (d.model_copy(update={"address": a})
               for d, a in zip(cluster.devices, addresses, strict=True))  # fmt: skip
    return cluster.model_copy(update={"devices": tuple(devices)})


def test_devices_of_one_machine_are_measured_in_turn() -> None:
    """No address, and one that no other machine reaches, are this machine."""
    cluster = placed("192.0.2.1", None, "pi.local", "192.0.2.1", "127.0.0.2", "PI.local", "::1")
    assert list(undisturbed(cluster)) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.usefixtures("forked")
def test_devices_of_several_machines_are_measured_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: four boards took four times as long as one. Two begin before either has ended."""
    cluster = placed("192.0.2.1", "192.0.2.2", "192.0.2.2")
    names = [device.name for device in cluster.devices]
    model = model_of("squeeze")
    order: list[str] = []
    monkeypatch.setattr(measuring, "measure_links", lambda *_: MeasuredLinks(names, {}, ()))
    monkeypatch.setattr(MeasuredLinks, "link", lambda *_: None)
    with WorkerPool(names, 120.0) as pool:
        send, collect = pool.send, pool.collect

        def sent(name: str, kind: str, *words: Any, **fields: Any) -> None:
            order.extend([name] if kind == "measure" else [])
            send(name, kind, *words, **fields)

        def collected(kind: str, asked: Any) -> dict[str, Any]:
            found = collect(kind, asked)
            order.extend([f"{kind}:{len(found)}"] if kind == "measured" else [])
            return found

        monkeypatch.setattr(pool, "send", sent)
        monkeypatch.setattr(pool, "collect", collected)
        request = SurveyRequest(repeats=1, executor="torch")
        found, _ = survey(pool, model, cluster, request, lambda text: None)
    assert order == [*names[:2], "measured:2", names[2], "measured:1"]
    assert list(found) == names and all(profile.layers for profile in found.values())
