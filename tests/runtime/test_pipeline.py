"""Several inputs in flight: every result is the model's own, in order, whatever the plan."""

from __future__ import annotations

import os
import signal
import threading
from itertools import pairwise
from typing import Any

import pytest

from nptp_opt.errors import InputError
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.pool import WorkerPool
from nptp_opt.runtime.launcher.report import MOST_TRACED, Run, rate_per_s, thinned
from nptp_opt.runtime.launcher.request import RunRequest
from nptp_opt.runtime.trace import Span
from tests.runtime.forked import ForkingPool, Template
from tests.runtime.plans import (
    five_devices,
    grid,
    halves,
    hand_plan,
    in_pieces,
    model_of,
    pinwheel,
    tee,
)


@pytest.mark.parametrize("transport", ["tcp", "gloo"])
@pytest.mark.parametrize(
    ("name", "partition", "fuse", "overlap"),
    [
        ("together", pinwheel, 1, False),
        ("squeeze", grid, 1, False),
        ("residual", tee, 1, True),
        ("classifier", halves, 1, False),
    ],
)
def test_results_are_right(
    pool: WorkerPool, transport: str, name: str, partition: Any, fuse: int, *, overlap: bool
) -> None:
    """Inputs differ from their neighbours: one that took another's data would be wrong."""
    model = model_of(name)
    plan = hand_plan(model, name, partition, five_devices(), fuse=fuse)
    plan = in_pieces(plan) if overlap else plan
    report = run_plan(
        plan, model, repeats=30, warmup=2, transport=transport, in_flight=4, pool=pool,
        executor=None,
    )  # fmt: skip
    assert report.ok and len(report.latency_s) == 30
    assert report.in_flight == 4 and report.rate_per_s > 0
    assert report.bytes == plan.transfer_bytes


def test_padded_devices_compute_one_input_at_a_time(pool: WorkerPool) -> None:
    """No two spans of computing of a device lie on each other, and all have the plan's length."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, five_devices())
    report = run_plan(
        plan, model, repeats=12, warmup=0, transport="tcp", in_flight=3, throttle="pad", pool=pool
    )
    assert report.ok
    for spans in report.spans.values():
        busy = sorted((s.start_ns, s.end_ns) for s in spans if s.phase in ("compute", "pad"))
        assert all(a[1] <= b[0] for a, b in pairwise(busy))


def test_a_loss_in_mid_stream_loses_no_input(template: Template) -> None:
    """Those under way are computed again by the survivors, and all are right."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, five_devices())
    pids: dict[str, int] = {}

    def replan(cluster: Any) -> Plan:
        return hand_plan(model, "chain", halves, cluster)

    def progress(text: str) -> None:
        if "runs on 3 devices" in text:
            threading.Timer(0.2, os.kill, (pids["d1"], signal.SIGKILL)).start()

    names = [device.name for device in plan.cluster.devices]
    with ForkingPool(names, timeout_s=30).using(template, pids.__setitem__) as own:
        report = run_plan(
            plan, model, repeats=300, warmup=0, transport="tcp", in_flight=3, pool=own,
            replan=replan, progress=progress,
        )  # fmt: skip
    assert report.ok and report.lost == ("d1",) and len(report.latency_s) == 300


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_run_that_is_stopped_reports_what_it_has(pool: WorkerPool, in_flight: int) -> None:
    """Also with inputs in flight, which are finished; before the first it is an interrupt."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", halves, five_devices())
    seen: list[int] = []
    options: dict[str, Any] = {"warmup": 0, "transport": "tcp", "pool": pool}
    report = run_plan(
        plan, model, repeats=500, in_flight=in_flight, **options,
        watch=lambda number, _: seen.append(number), stopped=lambda: len(seen) >= 5,
    )  # fmt: skip
    assert report.ok and 5 <= len(report.latency_s) == len(seen) <= 5 + in_flight
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, model, repeats=5, in_flight=in_flight, **options, stopped=lambda: True)


def _run(k: int) -> Run:
    spans = {"a": (Span("compute", 0, 0, 1),)}
    return Run(0.1, 10 + k / 4, 0.0, True, 0, spans, None, {})  # type: ignore[arg-type]


def test_the_spans_of_a_long_stream_are_not_all_kept() -> None:
    """Bug: 4,000 inputs held 80 MB of them. The last are, always."""
    runs: list[Run] = []
    for k in range(1000):
        runs = thinned([*runs, _run(k)])
        assert runs[-1].spans
        assert sum(bool(run.spans) for run in runs) <= MOST_TRACED
    assert [run.ended_s for run in runs] == [_run(k).ended_s for k in range(1000)]


def test_the_rate_is_that_between_results() -> None:
    """Four a second; a single run has the rate of its latency."""
    assert rate_per_s([_run(k) for k in range(9)]) == pytest.approx(4.0)
    assert rate_per_s([_run(0)]) == pytest.approx(10.0)


def test_options_that_do_not_fit(tmp_path: Any) -> None:
    with pytest.raises(InputError, match="in_flight = 0"):
        RunRequest(in_flight=0)
    with pytest.raises(InputError, match="`calibrate` measures one input at a time"):
        RunRequest(in_flight=2, calibrate=tmp_path / "c.json")
    assert RunRequest(in_flight=2).chosen_transport == "tcp"


def test_a_device_that_is_lost_before_all_are_ready_is_planned_around(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: only a loss after the start was covered. One dies at its start, and every input is
    computed by the others."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, five_devices())

    def replan(cluster: Any) -> Plan:
        return hand_plan(model, "chain", halves, cluster)

    spawn = ForkingPool._spawn

    def dying(pool: ForkingPool, name: str, log: Any) -> Any:
        worker = spawn(pool, name, log)
        if name == "d2":
            worker.kill()
        return worker

    def using(pool: WorkerPool, name: str, log: Any) -> Any:
        pool.template, pool.spawned = template, lambda *_: None  # type: ignore[attr-defined]
        return dying(pool, name, log)  # type: ignore[arg-type]

    monkeypatch.setattr(WorkerPool, "_spawn", using)
    report = run_plan(plan, model, repeats=3, warmup=0, transport="tcp", replan=replan)
    assert report.ok and report.lost == ("d2",) and len(report.latency_s) == 3
