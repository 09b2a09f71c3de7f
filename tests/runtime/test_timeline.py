"""Traces and tables of a run: checked on spans written by hand."""

from __future__ import annotations

import json
import time

import pytest

from nptp_opt.cluster.profiles import Link
from nptp_opt.evaluate.simulate import simulate, timeline
from nptp_opt.geometry import Tile
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.pool import WorkerPool
from nptp_opt.runtime.profiling.timeline import (
    chrome_trace,
    critical_path_s,
    critical_shares,
    time_table,
)
from nptp_opt.runtime.trace import Recorder, Span, shares_of
from tests.runtime.plans import five_devices, hand_plan, model_of, tee

MS = 1_000_000


def test_recorder_notes_spans_and_status() -> None:
    """The status says what goes on now; the span is there when it has ended."""
    recorder = Recorder()
    with recorder.span("wait", 3, peer=1, n_bytes=8):
        assert (recorder.status.phase, recorder.status.step, recorder.status.peer) == ("wait", 3, 1)
    (span,) = recorder.take()
    assert (span.phase, span.step, span.peer, span.bytes) == ("wait", 3, 1, 8)
    assert span.end_ns >= span.start_ns
    assert recorder.take() == []


def test_steps_that_were_computed_together_are_told_apart_when_they_are_taken() -> None:
    """While the device works there is one record, however many steps; three in parts 1 : 3 : 0 of
    its time tile it, and what the device was busy is the same before and after. One span per step
    was made before the output was handed on: 0.2 ms of MobileNet v2's 4."""
    recorder = Recorder()
    with recorder.shared("compute", shares_of([(4, 1.0), (5, 3.0), (7, 0.0)])):
        time.sleep(1e-6)
    busy_ns = recorder.busy_ns
    assert len(recorder.spans) == 1
    first, second, third = recorder.take()
    assert [first.step, second.step, third.step] == [4, 5, 7]
    assert (first.end_ns, second.end_ns) == (second.start_ns, third.start_ns)
    assert third.end_ns == third.start_ns == first.start_ns + busy_ns
    assert first.end_ns - first.start_ns == round(busy_ns / 4)
    assert recorder.busy_ns == 0


def test_steps_without_modelled_seconds_have_equal_shares() -> None:
    """Nothing is known of either, so each has half."""
    assert shares_of([(1, 0.0), (2, 0.0)]) == ((1, 0.5), (2, 1.0))


def test_critical_shares_by_hand() -> None:
    """d0 sends at 1 ms, d1 has it at 5, computes until 9, sends until 10, d0 has it at 14, ends 15.

    d0 is responsible for 1 + 1 ms, d1 for 5, the network for 4 + 4: the latency of 15 ms.
    """
    plan = hand_plan(model_of("chain"), "chain", tee, five_devices())
    spans = {
        "d0": [
            Span("send", 0, 0, 1 * MS, 1, 8),
            Span("wait", 1, 1 * MS, 14 * MS, 1, 8),
            Span("compute", 1, 14 * MS, 15 * MS),
        ],
        "d1": [
            Span("wait", 0, 0, 5 * MS, 0, 8),
            Span("compute", 0, 5 * MS, 9 * MS),
            Span("send", 1, 9 * MS, 10 * MS, 0, 8),
        ],
    }
    shares = critical_shares(plan, spans)
    assert shares == pytest.approx({"d0": 0.002, "d1": 0.005, "(network)": 0.008})
    rows = {row["device"]: row for row in time_table(plan, spans)}
    assert rows["d1"]["compute_s"] == pytest.approx(0.004)
    assert rows["(network)"]["critical_s"] == pytest.approx(0.008)


def test_critical_path_has_measured_computations_and_the_given_link() -> None:
    """d1 computes all of it, one step after the other, between two messages of d0 and to d0.

    At 8 Mbit/s a byte takes a microsecond; every message adds a latency of 1 ms.
    """

    def elsewhere(height: int, width: int) -> dict[int, Tile]:
        return {1: Tile(0, height, 0, width)}

    plan = hand_plan(model_of("chain"), "chain", elsewhere, five_devices())
    spans: dict[str, list[Span]] = {"d0": [], "d1": []}
    for k, step in enumerate(plan.steps):
        name = "d1" if step.tiles else "d0"
        spans[name].append(Span("compute", k, 0, (k + 1) * MS))
    computing = sum(range(1, len(plan.steps) + 1)) * 1e-3
    messages = {(k, t.src) for k, step in enumerate(plan.steps) for t in step.transfers}
    assert len(messages) == 2
    link = Link(latency_ms=1.0, up_mbit_per_s=8.0, down_mbit_per_s=8.0)
    expected = computing + 2e-3 + plan.transfer_bytes * 1e-6
    assert critical_path_s(plan, spans, link) == pytest.approx(expected)


def test_timeline_ends_with_the_predicted_latency() -> None:
    """The last predicted task ends when the simulation says."""
    plan = hand_plan(model_of("chain"), "chain", tee, five_devices())
    planned = timeline(plan.network, plan.cluster, plan.steps)
    assert max(item.end_s for item in planned) == simulate(plan.network, plan.cluster, plan.steps)


def test_a_runs_trace_is_complete(pool: WorkerPool) -> None:
    """Both processes of tracks, every task, JSON; the shares sum to the latency."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, five_devices())
    report = run_plan(plan, model, pool=pool, repeats=1, warmup=0)
    trace = json.loads(json.dumps(chrome_trace(plan, report.spans)))
    for process in (1, 2):
        computes = [
            event
            for event in trace["traceEvents"]
            if event["pid"] == process and event["name"].startswith("compute")
        ]
        assert len(computes) == sum(len(step.tiles) or 1 for step in plan.steps)
    assert sum(critical_shares(plan, report.spans).values()) == pytest.approx(
        report.latency_s[0], abs=1e-3
    )
