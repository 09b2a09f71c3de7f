"""A service takes another plan when its devices or links are others than planned; none for less."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from nptp_opt.cluster import Cluster
from nptp_opt.deployment.adaptation import revalued
from nptp_opt.deployment.drift import Drift
from nptp_opt.deployment.figures import MEDIUM, Figure, changed, rate_of, scaled
from nptp_opt.deployment.planning import Planning, plan_again
from nptp_opt.deployment.probing import EVERY_S, Prober
from nptp_opt.deployment.request import DeployRequest, DriftLimits
from nptp_opt.deployment.service import Service
from nptp_opt.evaluate.usage import values_of
from nptp_opt.plan.model import Plan
from nptp_opt.plan.provenance import Provenance
from nptp_opt.runtime.emulation.network import EmulatedCluster
from tests.builders import make_cluster
from tests.runtime.forked import ForkingPool, Template
from tests.runtime.plans import INPUT, five_devices, halves, hand_plan, model_of, tee

MOST_ASKED = 3000


@pytest.fixture
def drifting(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures put into the list are found at a tenth, all at once; local links are followed."""
    figures: list[Figure] = []

    def found(drift: Drift, now_s: float) -> str | None:
        if not figures:
            return None
        drift.believed = scaled(drift.first, dict.fromkeys(figures, 0.1))
        figures.clear()
        return "something is slow"

    monkeypatch.setattr(DeployRequest, "follows_links", True)
    monkeypatch.setattr("nptp_opt.deployment.adaptation.Drift.found", found)
    monkeypatch.setattr("nptp_opt.deployment.adaptation.Prober.step", lambda *_: None)
    return figures


def _asked(service: Service, stop: Any) -> list[set[str]]:
    """Which devices worked on each input, until ``stop``; every answer is compared."""
    used: list[set[str]] = []
    x = torch.randn(INPUT, generator=torch.Generator().manual_seed(1))
    (expected,) = model_of("chain").witness.outputs(x)
    while not stop():
        assert len(used) < MOST_ASKED
        for future in [service.submit(x) for _ in range(3)]:
            answer = future.result()
            assert torch.allclose(answer.value, expected, atol=1e-5)
            used.append(set(answer.busy_s))
    return used


@pytest.mark.usefixtures("forked")
def test_a_drift_brings_a_better_plan_between_two_inputs(
    drifting: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made for the figures that are, from the running plan; the log has one line. A plan that is
    not better by the margin is not taken, and the log has one line, too."""
    model, said = model_of("chain"), list[str]()
    first = hand_plan(model, "chain", tee, five_devices())
    asked: list[tuple[Sequence[Plan], Cluster]] = []

    def begin(plans: Sequence[Plan], cluster: Cluster, folder: Path) -> Planning:
        asked.append((plans, cluster))
        return Planning.of(hand_plan(model, "chain", halves, cluster))

    monkeypatch.setattr("nptp_opt.deployment.adaptation.Planning.begin", begin)
    with Service(first, model, DeployRequest(in_flight=3), progress=said.append) as service:
        used = _asked(service, lambda: service.counts.answered > 5)
        said.clear()
        drifting.append(Figure("up", "d2"))
        used += _asked(service, lambda: service.counts.replans == 1)
        used += _asked(service, lambda: service.counts.answered > len(used) + 9)
        (line,) = said
        assert line.startswith("something is slow: a new plan is taken, ")
        drifting.append(Figure("up", "d2"))
        _asked(service, lambda: len(service.counts.drifts) == 2 and len(said) == 2)
        assert ": the plan is kept, " in said[-1]
        assert service.counts.replans == 1 and set(service.plan.steps[0].devices) == {0, 1}
    assert used[0] == {"d0", "d1", "d2"} and used[-1] == {"d0", "d1"}
    (plans, cluster), _ = asked
    assert [plan.steps for plan in plans] == [first.steps] * 2
    assert changed(cluster, first.cluster) == [Figure("up", "d2")]


@pytest.mark.usefixtures("forked")
def test_the_first_plan_is_taken_again_when_all_is_as_it_was(
    drifting: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a search; where the search fails, the plan is kept."""
    model, said = model_of("chain"), list[str]()
    first = hand_plan(model, "chain", halves, five_devices())

    def begin(plans: Sequence[Plan], cluster: Cluster, folder: Path) -> Planning:
        planning = Planning()
        planning.made.set_exception(ValueError("no way"))
        return planning

    monkeypatch.setattr("nptp_opt.deployment.adaptation.Planning.begin", begin)
    with Service(first, model, DeployRequest(), progress=said.append) as service:
        drifting.append(Figure("up", "d1"))
        kept = "the plan is kept, for no other was made: no way"
        _asked(service, lambda: any(line.endswith(kept) for line in said))
        assert len(service.counts.drifts) == 1
        slow = service.adaptation.plan = hand_plan(model, "chain", tee, service.plan.cluster)
        drift = service.adaptation.drift
        monkeypatch.setattr("nptp_opt.deployment.adaptation.Drift.found",
                            lambda *_: _restored(drift))  # fmt: skip
        _asked(service, lambda: service.counts.replans == 1)
        assert service.plan is first and first is not slow


def _restored(drift: Drift) -> str | None:
    if drift.believed is drift.first:
        return None
    drift.believed = drift.first
    return "all is well"


def test_local_processes_have_no_links_or_speeds_of_a_cluster() -> None:
    """And padded devices compute by waiting: their speed is what the plan says."""
    followed = {
        "local": DeployRequest(),
        "emulated": DeployRequest(site="emulated"),
        "unpadded": DeployRequest(site="emulated", throttle="none"),
        "fixed": DeployRequest(site="emulated", throttle="none", fixed=True),
        "gloo": DeployRequest(site="emulated", throttle="none", transport="gloo"),
    }
    assert {name for name, each in followed.items() if each.follows_links} == {
        "emulated", "unpadded"}  # fmt: skip
    assert {name for name, each in followed.items() if each.follows_speeds} == {"unpadded", "gloo"}


def test_a_plan_is_made_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The same that is made here; what goes wrong there is said here, nothing is left behind."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, five_devices(rates=1.0))
    slower = scaled(plan.cluster, {Figure("up", "d2"): 0.1})
    planning = Planning.begin((plan, plan), slower, tmp_path)
    made, here = planning.made.result(), plan_again((plan, plan), slower)
    assert [step.devices for step in made.steps] == [step.devices for step in here.steps]
    assert made.latency_s == pytest.approx(here.latency_s)
    assert made.latency_s < revalued(plan, slower).latency_s and made.provenance.replanned
    assert not list(tmp_path.iterdir())
    closed = Planning.begin((plan,), slower, tmp_path)
    closed.close()
    assert closed.made.exception() is not None


def test_a_plan_for_another_objective_is_made_again_for_that() -> None:
    plan = hand_plan(model_of("chain"), "chain", tee, five_devices(rates=1.0))
    aimed = Plan(plan.model, plan.network, plan.cluster, plan.steps, plan.latency_s,
                 provenance=Provenance(planner="nptp", objective="bytes"))  # fmt: skip
    made = plan_again((aimed, aimed), plan.cluster)
    assert made.provenance.objective == "bytes" and made.transfer_bytes == 0
    assert values_of(made.network, made.cluster, made.steps).of("bytes") == 0


@pytest.mark.parametrize("shared", [False, True])
def test_a_link_that_no_plan_uses_is_timed_by_two_workers(shared: bool, template: Template) -> None:
    """Real ones, three times; when the link is as it was, the drift is over."""
    cluster = make_cluster([1, 1], rates=400.0, shared=shared)
    slow = MEDIUM if shared else Figure("down", "d1")
    drift = Drift(cluster, DriftLimits(after_s=0.0), speeds=False)
    drift.believed, drift.seen_s = scaled(cluster, {slow: 1e-5}), {slow: 0.0}
    prober, names = Prober(drift), ["d0", "d1"]
    with ForkingPool(names, timeout_s=60).using(template) as pool:
        for _ in range(3):
            prober.step(pool, time.monotonic() + EVERY_S)
            while prober.probe is not None:
                pool.next_message("nothing", names)
                prober.step(pool, time.monotonic())
            prober._next_s = 0.0
            assert len(drift._messages) == 2
            drift._end_period(time.monotonic())
            drift.seen_s = {slow: 0.0}
    said = drift.found(time.monotonic())
    assert said is not None and ("the medium carries" if shared else "d1 receives at") in said
    assert rate_of(drift.believed, slow) > rate_of(cluster, slow) / 1e3


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.parametrize("shared", [False, True])
def test_a_link_is_measured_at_the_rate_that_it_has_now(shared: bool, template: Template) -> None:
    """On an emulated network, whose rates change meanwhile: never above them by more than what a
    bucket holds, however busy this machine is."""
    cluster = make_cluster([1, 1], rates=40.0, shared=shared)
    slow = [MEDIUM] if shared else [Figure("up", "d1"), Figure("down", "d1")]
    drift = Drift(cluster, DriftLimits(), speeds=False)
    drift.believed = scaled(cluster, dict.fromkeys(slow, 0.01))
    prober, names, seen = Prober(drift), ["d0", "d1"], []
    with (
        EmulatedCluster(cluster) as site,
        ForkingPool(names, timeout_s=60, site=site).using(template) as pool,
    ):
        for share in (1.0, 0.2):
            site.change_rates(scaled(cluster, dict.fromkeys(slow, share)))
            drift.seen_s, prober._next_s = dict.fromkeys(slow, 0.0), 0.0
            prober.step(pool, time.monotonic())
            while prober.probe is not None:
                pool.next_message("nothing", names)
                prober.step(pool, time.monotonic())
            seen.append([each.bytes * 8e-6 / (each.end_s - each.start_s)
                         for each in drift._messages])  # fmt: skip
            drift._begin_period(None)
    assert [len(rates) for rates in seen] == [2, 2]
    assert all(rate < 44 for rate in seen[0]) and all(rate < 8.8 for rate in seen[1])


def test_a_probe_whose_peer_never_calls_says_nothing(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker goes on, and so does the prober with the next one. The caller is told of a port at
    which nobody listens."""
    ask = Prober._ask
    monkeypatch.setattr(
        Prober,
        "_ask",
        lambda self, pool, name, address=None: ask(self, pool, name, address and "127.0.0.1:9"),
    )
    drift = Drift(make_cluster([1, 1], rates=400.0), DriftLimits(), speeds=False)
    drift.believed = scaled(drift.first, {Figure("up", "d1"): 0.1})
    drift.seen_s = {Figure("up", "d1"): 0.0}
    prober, names = Prober(drift), ["d0", "d1"]
    with ForkingPool(names, timeout_s=60).using(template) as pool:
        prober.step(pool, time.monotonic())
        assert prober.probe is not None
        while prober.probe is not None:
            pool.next_message("nothing", names)
            prober.step(pool, time.monotonic())
    assert drift._messages == []
