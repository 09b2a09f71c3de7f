"""Requests without a plan: what is said to be enough is enough, and proofs are proofs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from nptp_opt.bound import clock_bound
from nptp_opt.cluster import MIB, Cluster
from nptp_opt.errors import InfeasibleError
from nptp_opt.evaluate.clock import Clock
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.explanation.faster import least_times, proven_too_small
from nptp_opt.explanation.request import request_findings
from nptp_opt.explanation.roomier import weights_that_do_not_fit
from nptp_opt.explanation.sentences import Finding
from nptp_opt.explanation.what_if import faster_devices
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.planner.local_search import into_memory
from nptp_opt.planner.local_search.into_memory import Room, lightened
from nptp_opt.planner.nptp import candidates, quick_plans
from tests.builders import conv_chain, make_cluster
from tests.cli.test_commands import call

CHAIN = conv_chain((1, 4, 16, 16), [{"channels": 8}, {"channels": 8}])
"""An input of 4 KiB, maps of 8 KiB, weights of some 3.4 KiB."""
REF = ModelRef("chain", (1, 4, 16, 16))
KIB = 1 / 1024


@pytest.fixture(autouse=True)
def short_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(into_memory, "TRIES", 100)


def cluster_of(*memory_kib: float) -> Cluster:
    limits = {i: kib * KIB for i, kib in enumerate(memory_kib)}
    return make_cluster([0.01] * len(limits), rates=50.0, latency_ms=0.1, memory_mib=limits)


def with_memory(cluster: Cluster, device: str | None, more_mib: float) -> Cluster:
    """So much more on one device, or on all."""
    devices = tuple(
        each.model_copy(update={"memory_mib": (each.memory_mib or 0) + more_mib})
        if device in (None, each.name)
        else each
        for each in cluster.devices
    )
    return cluster.model_copy(update={"devices": devices})


def found(cluster: Cluster, limit_s: float = math.inf) -> list[Finding]:
    return list(request_findings(REF, CHAIN, cluster, limit_s))


def test_memory_that_is_said_to_be_enough_is_enough_and_was_missing() -> None:
    cluster = cluster_of(9.0, 9.0)
    first, *others = found(cluster)
    assert first.figures == {"feasible": False}
    told = [each for each in others if each.topic == "relaxation"]
    assert {each.figures["device"] for each in told} > {None}
    assert [e.figures["more_mib"] for e in told[:-1]] == sorted(
        e.figures["more_mib"] for e in told[:-1]
    )
    with pytest.raises(InfeasibleError):
        plan_network(REF, CHAIN, cluster, PlanOptions())
    for each in told:
        roomier = with_memory(cluster, each.figures["device"], each.figures["more_mib"])
        assert plan_network(REF, CHAIN, roomier, PlanOptions()).latency_s > 0
        assert f"{each.figures['more_mib']:g} MiB more" in each.text


def test_weights_above_all_memory_are_a_proof() -> None:
    weights = sum(layer.param_bytes for layer in CHAIN.layers)
    small = cluster_of(*[0.3 * weights / 1024] * 3)
    [proof] = weights_that_do_not_fit(CHAIN, small)
    assert proof.figures["weights_mib"] == weights / MIB
    assert not [*weights_that_do_not_fit(CHAIN, cluster_of(*[0.34 * weights / 1024] * 3))]


def test_a_plan_that_fits_is_found_where_no_start_of_the_search_does() -> None:
    """Bug: `solve` gave up where the baselines and the shortest paths did not fit, and named one
    device's limit, though plans that fit exist."""
    network = conv_chain((1, 4, 8, 8), [{"channels": 8}] * 2)
    cluster = make_cluster((0.01, 0.01), rates=50.0, memory_mib={0: 1.0, 1: 1.0})
    clock = Clock(network, cluster)
    starts, templates = candidates(clock, PlanOptions(), quick_plans(clock, PlanOptions()))
    least = min(sum(clock.peak_bytes(start)) for start in starts)
    room = Room((least / 2, least / 2), (0, 1))
    before = min(room.overload(clock.peak_bytes(start)) for start in starts)
    light = lightened(clock, starts, templates, room)
    assert room.overload(clock.peak_bytes(light)) <= before


@pytest.mark.parametrize(
    ("raised", "shares"),
    [((), [15.0, 5.0, 25.0]), ((0,), [20.0, 0.0, 20.0]), ((0, 1, 2), [15.0, 5.0, 25.0])],
)
def test_what_can_be_divided_goes_where_room_is(
    raised: tuple[int, ...], shares: list[float]
) -> None:
    """Limits 20, 10, 30 with 10 held by each, 45 (40 where one is raised) to divide: 30 are free,
    and what is more goes evenly above the limits, or onto the device that is raised."""
    total = sum(shares)
    assert Room((20.0, 10.0, 30.0), raised).shares([10.0] * 3, total) == pytest.approx(shares)


def test_a_request_that_has_a_plan_says_so() -> None:
    [only] = found(cluster_of(100.0, 100.0, 100.0))
    assert only.figures["feasible"] and only.figures["latency_s"] > 0


def test_what_is_enough_for_a_limit_is_planned_and_too_little_is_proven() -> None:
    cluster = make_cluster((0.01, 0.01), rates=50.0, latency_ms=0.1)
    plan = plan_network(REF, CHAIN, cluster, PlanOptions())
    limit_s = 0.6 * plan.latency_s
    first, later, *_ = told = found(cluster, limit_s)
    assert not first.figures["feasible"]
    assert later.figures["latency_limit_ms"] >= plan.latency_s * 1e3
    assert {e.figures["kind"] for e in told[1:]} == {
        "latency limit", "rate", "speed", "devices", "int8",
    }  # fmt: skip
    for each in told[2:]:
        if each.topic == "relaxation":
            assert each.figures["latency_s"] <= limit_s
    low = proven_too_small(plan, limit_s, faster_devices)
    assert clock_bound(CHAIN, faster_devices(cluster, low)) > limit_s
    high = least_times(plan, limit_s, faster_devices, low)
    assert high is not None and low < high[0] and high[1] <= limit_s
    kept_s = simulate(CHAIN, faster_devices(cluster, 64), plan.steps)
    assert kept_s <= limit_s and high[0] < 64


def test_the_command_explains_a_request(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    device = '[[device]]\nname = "{}"\ngflops = 1\nmemory_mib = {}\n'
    head = '[network]\nkind = "shared"\nmbit_per_s = 50\n'
    file.write_text(head + device.format("pi-0", 0.004))
    words = ("tests.models:small_cnn", "-c", file, "--input", "1x3x32x32")
    refused = call("solve", *words, "-o", tmp_path / "p.json", "--trust-import")
    assert refused.exit_code == 3
    assert f"nptp-opt explain tests.models:small_cnn -c {file} --input 1x3x32x32" in refused.stderr
    told = json.loads(call("explain", *words, "--json").stdout)
    assert told["findings"][0]["figures"] == {"feasible": False}
    assert {"relaxation", "proof"} <= {each["topic"] for each in told["findings"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plan.json", "--latency-limit-ms", "5"), "--latency-limit-ms is for a request"),
        (("plan.json", "--input", "1x3x8x8"), "--input is for a request"),
        (("vgg16", "-c", "c.toml", "--no-what-if"), "--no-what-if is for a plan"),
    ],
)
def test_options_without_an_effect_are_refused(words: tuple[str, ...], message: str) -> None:
    done = call("explain", *words)
    assert done.exit_code == 2 and message in done.stderr
