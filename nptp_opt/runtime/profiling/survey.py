"""Measures the boards of a cluster, and their links, over the connections of workers that wait.

Each board gets the whole network as a job of its own and computes tiles of every layer shape of it:
no board needs the model's code. All boards compute at once, those with the same address in turn,
since they would take each other's processor. Then all boards together get a network of nothing but
a pooling, which connects them: every two exchange messages while the others are silent, and at last
each sends to the next, all at once.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nptp_opt import __version__
from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.cluster.links import MeasuredLinks
from nptp_opt.cluster.profiles import Link, Profile
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.network.load import LoadedModel, load_module
from nptp_opt.plan.model import Plan
from nptp_opt.planner.baselines.quick import single_on, strip_equal
from nptp_opt.runtime.children import terminable
from nptp_opt.runtime.launcher.pool import WorkerPool, understood
from nptp_opt.runtime.launcher.report import RunOptions
from nptp_opt.runtime.launcher.session import Session
from nptp_opt.runtime.launcher.site import Hosts
from nptp_opt.runtime.profiling.link import elements_for
from nptp_opt.runtime.profiling.profile import codec_fields, fit_profile, misfits
from nptp_opt.runtime.transport.control import check_address


@dataclass(frozen=True)
class SurveyRequest:
    """How boards are measured, and how runs will compute."""

    threads: int = 1
    repeats: int = 5
    executor: str | None = None
    """None for the fastest that a self-test shows to be right, on each."""


def survey(
    pool: WorkerPool,
    model: LoadedModel,
    cluster: Cluster,
    request: SurveyRequest,
    say: Callable[[str], None],
) -> tuple[dict[str, Profile], MeasuredLinks | None]:
    """Every device's profile by its name, with its link; and the ways between all devices, None
    where there is one device alone.

    The cluster's speeds and rates mean nothing. Raises DeviceLostError for a board that fails.
    """
    found: dict[str, Profile] = {}
    for numbers in undisturbed(cluster):
        found |= _measure(pool, model, cluster, numbers, request, say)
    found = {device.name: found[device.name] for device in cluster.devices}
    for name, profile in found.items():
        for note in misfits(profile):
            say(f"{name}: {note}")
    if len(cluster.devices) == 1:
        return found, None
    links = measure_links(pool, cluster, say, request.executor)
    for number, name in enumerate(links.names):
        found[name] = found[name].model_copy(update={"link": links.link(number)})
    return found, links


def undisturbed(cluster: Cluster) -> Iterator[list[int]]:
    """Devices that can be measured at once, then others: in each round one of every address. Those
    without one, or with one that no other machine reaches, are on this machine."""
    hosts: dict[str, list[int]] = {}
    for number, device in enumerate(cluster.devices):
        hosts.setdefault(_host(device.address), []).append(number)
    for round_ in itertools.zip_longest(*hosts.values()):
        yield [number for number in round_ if number is not None]


def _host(address: str | None) -> str:
    try:
        here = address in (None, "localhost") or ipaddress.ip_address(address or "").is_loopback
    except ValueError:  # a name
        here = False
    return "" if here else str(address).lower()


def _measure(
    pool: WorkerPool,
    model: LoadedModel,
    cluster: Cluster,
    numbers: Sequence[int],
    request: SurveyRequest,
    say: Callable[[str], None],
) -> dict[str, Profile]:
    """These devices, all at once, after all of them have loaded the network."""
    options = RunOptions(transport="tcp", threads=request.threads, executor=request.executor)
    names = [cluster.devices[number].name for number in numbers]
    with contextlib.ExitStack() as jobs:
        for number in numbers:
            say(f"sending the network to {cluster.devices[number].name}")
            jobs.enter_context(Session(pool, alone(model, cluster, number), model, options))
        say(f"measuring {', '.join(names)}")
        for name in names:
            pool.send(name, "measure", repeats=request.repeats)
        measured = pool.collect("measured", names)
    return {name: _profile(model, measured[name].fields, request) for name in names}


def alone(model: LoadedModel, cluster: Cluster, device: int) -> Plan:
    """A plan that has the input on one device, computes all there, and wants the result there."""
    ends = dict.fromkeys(("source", "sink"), cluster.devices[device].name)
    network = cluster.network.model_copy(update=ends)
    placed = cluster.model_copy(update={"network": network})
    return _plan(model, placed, single_on(model.network, device))


def _plan(model: LoadedModel, cluster: Cluster, choices: Sequence[Choice]) -> Plan:
    steps = assemble(model.network, cluster, choices)
    latency_s = simulate(model.network, cluster, steps)
    return Plan(model.ref, model.network, cluster, steps, latency_s)


# -- links -------------------------------------------------------------------------------------


def measure_links(
    pool: WorkerPool, cluster: Cluster, say: Callable[[str], None], executor: str | None = None
) -> MeasuredLinks:
    """Of all devices, connected by a job that has a strip of a small map on each of them."""
    count = len(cluster.devices)
    model = load_module(torch.nn.AvgPool2d(3, 1, 1), "links", (1, 1, 4 * count, 4))
    plan = _plan(model, cluster, strip_equal(model.network, cluster))
    options = RunOptions(transport="tcp", executor=executor)
    with Session(pool, plan, model, options) as session:
        names, pairs = session.names, {}
        for low, high in itertools.combinations(range(count), 2):
            say(f"measuring {names[low]} to {names[high]}")
            pairs[low, high] = _pair(pool, names, low, high)
        say(f"measuring all {count} devices at once")
        found = MeasuredLinks(names, pairs, ())
        return replace(found, together=_ring(pool, found))


def _pair(pool: WorkerPool, names: Sequence[str], low: int, high: int) -> Link:
    """Two devices of a job between each other: the first calls, the other answers."""
    pool.send(names[low], "link", peer=high, calls=True)
    pool.send(names[high], "link", peer=low, calls=False)
    both = names[low], names[high]
    with understood(names[low]):
        return Link.model_validate(pool.collect("linked", both)[names[low]]["link"])


def _ring(pool: WorkerPool, links: MeasuredLinks) -> tuple[float, ...]:
    """Mbit/s from every device to the next while all send; alone all would take equally long."""
    names, n = links.names, len(links.names)
    sizes = [elements_for(links.mbit_per_s(i, (i + 1) % n)) for i in range(n)]
    for i, name in enumerate(names):
        before, after = (i - 1) % n, (i + 1) % n
        pool.send(name, "ring", to=[after, sizes[i]], origin=[before, sizes[before]])
    told = pool.collect("ringed", names)
    return tuple(told[names[(i + 1) % n]]["mbit_per_s"] for i in range(n))


# -- profiles ----------------------------------------------------------------------------------


def _profile(model: LoadedModel, measured: Mapping[str, Any], request: SurveyRequest) -> Profile:
    provenance = {
        "tool": f"nptp-opt {__version__}",
        "machine": measured["machine"],
        "repeats": request.repeats,
    }
    samples = {key: [tuple(each) for each in tiles] for key, tiles in measured["samples"].items()}
    ref, executor = model.ref.ref, measured["executor"]
    chains = [
        ({key: (calls, flop) for key, (calls, flop) in work.items()}, seconds)
        for work, seconds in measured["chains"]
    ]
    profile = fit_profile(ref, request.threads, samples, provenance, executor, chains)
    return profile.model_copy(update=codec_fields(measured["codec"]))


def survey_hosts(
    model: LoadedModel,
    devices: Sequence[dict[str, Any]],
    request: SurveyRequest,
    hosts: str,
    secret_file: Path,
    tls: Path | None,
    say: Callable[[str], None],
    timeout_s: float,
) -> tuple[dict[str, Profile], MeasuredLinks | None]:
    """As ``survey``, of a cluster file's devices; every device's worker joins at ``hosts``;
    ``tls`` is the launcher's certificate.

    Raises InputError for a device without an address, DeviceLostError for one that does not come.
    """
    check_address(hosts)
    cluster = _with_any_speed(devices)
    names = [device.name for device in cluster.devices]
    site = Hosts(cluster)
    say(f"waiting at {hosts} for {len(names)} workers")
    with (
        terminable(),
        WorkerPool(names, timeout_s, site, f"tcp:{hosts}", secret_file, tls) as pool,
    ):
        return survey(pool, model, cluster, request, say)


def _with_any_speed(devices: Sequence[dict[str, Any]]) -> Cluster:
    """The cluster before anything is known of it: its speeds and rates stand for nothing."""
    blank = {"gflops": 1.0, "up_mbit_per_s": 1.0, "down_mbit_per_s": 1.0}
    network = {"kind": "switched", "latency_ms": 0.0}
    entries = [{k: v for k, v in e.items() if k != "profile"} | blank for e in devices]
    return cluster_from_json({"network": network, "device": entries})
