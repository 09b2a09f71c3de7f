"""Explanations: parts that add up to the latency, and answers that are plans."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.explanation import what_if
from nptp_opt.explanation.parts import critical_parts, seconds_by_kind
from nptp_opt.explanation.sentences import answered, findings, layers_text, ms
from nptp_opt.explanation.what_if import Answer, answers, one_more_device, questions, working
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.document import write_plan
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network
from tests.builders import conv_chain, make_cluster
from tests.cli.test_commands import call
from tests.networks import branched_network, residual_network

SLOW_LINKS = make_cluster((0.01, 0.01, 0.005), rates=2.0, latency_ms=0.5)
MEDIUM = make_cluster((0.01, 0.01, 0.01), rates=4.0, shared=True, latency_ms=0.2)


def plan_of(cluster: Cluster, planner: str = "nptp") -> Plan:
    network = residual_network(blocks=2, size=16)
    return plan_network(
        ModelRef("residual", (1, 3, 16, 16)), network, cluster, PlanOptions(planner)
    )


@pytest.mark.parametrize("cluster", [SLOW_LINKS, MEDIUM], ids=["switched", "shared"])
@pytest.mark.parametrize("planner", ["nptp", "strip-equal", "coedge-style", "single"])
def test_the_parts_of_the_critical_path_add_up_to_the_latency(
    cluster: Cluster, planner: str
) -> None:
    plan = plan_of(cluster, planner)
    parts = critical_parts(plan)
    assert sum(part.seconds for part in parts) == pytest.approx(plan.latency_s)
    assert all(part.seconds > 0 for part in parts)


def test_the_parts_of_branches_add_up_too() -> None:
    ref = ModelRef("branched", (1, 3, 16, 16))
    plan = plan_network(ref, branched_network(size=16), MEDIUM, PlanOptions("strip-equal"))
    assert sum(p.seconds for p in critical_parts(plan)) == pytest.approx(plan.latency_s)


def test_one_device_computes_all_the_time() -> None:
    """One convolution, 1x1 on 8 x 8 with 4 channels in and out: 64 * 2 * 16 FLOP at 1 MFLOP/s."""
    network = conv_chain((1, 4, 8, 8), [{"channels": 4, "kernel": 1, "padding": 0}])
    ref = ModelRef("chain", (1, 4, 8, 8))
    plan = plan_network(ref, network, make_cluster((0.001,)), PlanOptions("single"))
    assert seconds_by_kind(critical_parts(plan)) == {"compute": pytest.approx(2048e-6)}


def test_every_answer_is_a_plan_that_keeps_what_it_changes() -> None:
    """Faster links, faster devices and one more device never make the old plan slower."""
    plan = plan_of(SLOW_LINKS)
    found = {answer.question: answer for answer in answers(plan)}
    assert set(found) == set(questions(plan))
    for question, cluster in questions(plan).items():
        if question != "int8 transfers":
            same = simulate(plan.network, cluster, plan.steps)
            assert found[question].latency_s <= same * (1 + 1e-9)


def test_one_more_device_has_a_name_of_its_own() -> None:
    twice = one_more_device(one_more_device(SLOW_LINKS))
    assert len({device.name for device in twice.devices}) == 5


def test_one_more_device_is_like_one_that_computes() -> None:
    """Bug: it was like the last of the file, which may be idle already: then nothing helped."""
    plan = plan_of(SLOW_LINKS, "single")
    asked = questions(plan)["one more device like d0"]
    assert asked.devices[-1].gflops == SLOW_LINKS.devices[0].gflops


def test_a_baseline_is_compared_with_the_search_on_the_same_devices() -> None:
    """Bug: faster links were credited with what a better plan gains on the old ones."""
    plan = plan_of(SLOW_LINKS, "strip-equal")
    question, cluster = next(iter(questions(plan).items()))
    assert question == "the planner nptp on the same devices" and cluster == plan.cluster
    assert question not in questions(plan_of(SLOW_LINKS))


def test_what_is_proven_to_help_nothing_is_not_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: every question was planned anew, for minutes. One device that computes all the time
    gains nothing by faster links, and the bound says so; what is planned is told while it is."""
    plan, begun = plan_of(make_cluster((0.01,)), "single"), list[str]()
    monkeypatch.setattr(what_if, "replan_network", lambda *args, **kwargs: plan)
    found = {answer.question: answer for answer in answers(plan, begun.append)}
    assert begun == list(questions(plan))
    assert found["links 2 times as fast"].proven
    one_more = "one more device like d0"
    assert not found[one_more].proven
    assert found["int8 transfers"].proven  # of a plan that sends nothing
    assert [answered(plan, found[q]).text for q in ("links 2 times as fast", one_more)] == [
        "With links 2 times as fast it would help nothing (proven: no plan is faster there).",
        f"With {one_more} it would help nothing (planned by a short search).",
    ]


def test_who_computes() -> None:
    assert working(plan_of(SLOW_LINKS, "single")) == {0}
    assert working(plan_of(SLOW_LINKS, "strip-equal")) == {0, 1, 2}


def test_findings_of_a_plan_on_one_device_say_that_it_is_not_worth_distributing() -> None:
    told = {finding.topic: finding for finding in findings(plan_of(SLOW_LINKS, "single"))}
    assert "not worth distributing" in told["total"].text
    assert told["left out"].figures["devices"] == ["d1", "d2"]
    assert told["bound"].figures["bound_s"] <= told["total"].figures["latency_s"]
    assert "link" not in told["limit"].text  # nothing is sent


def test_a_plan_that_none_beats_is_told_so() -> None:
    """Bug: "0% below this one: what lies between is not decided"."""
    told = {each.topic: each.text for each in findings(plan_of(make_cluster((0.01,)), "single"))}
    assert re.fullmatch(r"No plan can take less than [\d.]+ m?s \(proven\)\.", told["bound"])


def test_text_of_seconds_and_layers() -> None:
    assert [ms(0.01234), ms(2.5)] == ["12.3 ms", "2.5 s"]
    assert layers_text(["a", "b", "c"]) == "a .. c (3 layers)"
    assert layers_text([]) == "collecting the outputs"


def test_the_command_prints_sentences_or_one_object(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(plan_of(MEDIUM, "strip-equal"), path)
    sentences = call("explain", path, "--no-what-if")
    assert sentences.exit_code == 0
    assert "critical path" in sentences.stdout
    content = json.loads(call("explain", path, "--no-what-if", "--json").stdout)
    assert {"total", "time", "step", "limit", "critical path", "bound"} <= {
        finding["topic"] for finding in content["findings"]
    }


def test_an_answer_that_helps_nothing_says_so() -> None:
    plan = plan_of(MEDIUM, "strip-equal")
    text = answered(plan, Answer("one more device", plan.latency_s, 3)).text
    assert "would help nothing" in text
