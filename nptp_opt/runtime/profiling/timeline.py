"""What a run's spans say: a Chrome trace beside the prediction, and where the time went.

The trace opens in Perfetto or chrome://tracing: one process of tracks for what was measured, one
for what the plan predicted, one track per device in each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nptp_opt.cluster import Cluster
from nptp_opt.cluster.profiles import Link
from nptp_opt.evaluate.simulate import Stretch, simulate, timeline
from nptp_opt.plan.model import Plan
from nptp_opt.runtime import trace
from nptp_opt.runtime.device_program import device_program
from nptp_opt.runtime.trace import WAITED_NS, Span, computed_s

MEASURED, PREDICTED = 1, 2

Spans = Mapping[str, Sequence[Span]]
"""One run's spans by device name."""


def chrome_trace(plan: Plan, spans: Spans, *, void: bool = False) -> dict[str, Any]:
    """The run and its prediction as a Chrome trace (JSON object format, microseconds)."""
    names = [device.name for device in plan.cluster.devices]
    events = [_name(MEASURED, None, "measured"), _name(PREDICTED, None, "predicted")]
    events += [_name(pid, i, name) for pid in (MEASURED, PREDICTED) for i, name in enumerate(names)]
    for device, device_spans in spans.items():
        events += [_measured_event(names.index(device), span, names) for span in device_spans]
    planned = timeline(plan.network, plan.cluster, plan.steps)
    events += [_predicted_event(item, names) for item in planned]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"void": void}}


def _name(pid: int, tid: int | None, name: str) -> dict[str, Any]:
    kind = "process_name" if tid is None else "thread_name"
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid or 0, "args": {"name": name}}


def _measured_event(tid: int, span: Span, names: Sequence[str]) -> dict[str, Any]:
    args: dict[str, Any] = {"step": span.step}
    if span.peer is not None:
        args |= {"peer": names[span.peer], "bytes": span.bytes}
    return {
        "ph": "X",
        "name": f"{span.phase} {span.step}",
        "cat": span.phase,
        "pid": MEASURED,
        "tid": tid,
        "ts": span.start_ns / 1e3,
        "dur": (span.end_ns - span.start_ns) / 1e3,
        "args": args,
    }


def _predicted_event(item: Stretch, names: Sequence[str]) -> dict[str, Any]:
    event: dict[str, Any] = {"pid": PREDICTED, "tid": item.device, "cat": item.kind}
    if item.peer is None:
        event |= {"ph": "X", "name": f"compute {item.step}", "ts": item.start_s * 1e6}
        return event | {"dur": (item.end_s - item.start_s) * 1e6, "args": {"step": item.step}}
    # Messages of a device overlap: instant events, so that the viewer does not nest them.
    event |= {"ph": "i", "s": "t", "name": f"message {item.step} to {names[item.peer]}"}
    return event | {"ts": item.start_s * 1e6, "args": {"arrives_us": item.end_s * 1e6}}


def time_table(plan: Plan, spans: Spans) -> list[dict[str, Any]]:
    """One row per device and one for the network, in seconds of one run.

    ``critical_s`` is its share of the chain of waits that ends with the result: the shares sum to
    the latency.
    """
    critical = critical_shares(plan, spans)
    rows = []
    for device, device_spans in spans.items():
        row: dict[str, Any] = {"device": device}
        for phase in ("wait", "assemble", "compute", "pad", "send"):
            row[f"{phase}_s"] = (
                sum(s.end_ns - s.start_ns for s in device_spans if s.phase == phase) / 1e9
            )
        rows.append(row | {"critical_s": critical.get(device, 0.0)})
    blank = dict.fromkeys(("wait_s", "assemble_s", "compute_s", "pad_s", "send_s"))
    return [*rows, {"device": "(network)", **blank, "critical_s": critical["(network)"]}]


def critical_device(plan: Plan, spans: Spans) -> str:
    """Who has the largest share of the latency: a device, or ``(network)``."""
    shares = critical_shares(plan, spans)
    return max(shares, key=lambda name: shares[name])


def overrun_s(plan: Plan, spans: Spans) -> float:
    """Seconds by which this machine computed slower than the model, on the worst device."""
    names = [device.name for device in plan.cluster.devices]
    return max(
        trace.overrun_s(device_program(plan, names.index(device)).modelled_s, device_spans)
        for device, device_spans in spans.items()
    )


def critical_path_s(plan: Plan, spans: Spans, link: Link) -> float:
    """Seconds of the run if it consisted of nothing but its measured computations, bytes over the
    rate of ``link``, and its latency per message.

    Packing, putting inputs together and handing messages over count as 0: what the run took longer
    is the runtime's overhead.
    """
    names = [device.name for device in plan.cluster.devices]
    measured = {
        (step, names.index(device)): seconds
        for device, device_spans in spans.items()
        for step, seconds in computed_s(device_spans).items()
    }
    return simulate(plan.network, _with_links(plan.cluster, link), plan.steps, measured)


def _with_links(cluster: Cluster, link: Link) -> Cluster:
    """The cluster with a link like ``link`` for every device."""
    rates = link.model_dump(include={"up_mbit_per_s", "down_mbit_per_s"})
    devices = tuple(device.model_copy(update=rates) for device in cluster.devices)
    medium = {"kind": "switched", "mbit_per_s": None, "latency_ms": link.latency_ms}
    medium |= {"message_ms": None}
    network = cluster.network.model_copy(update=medium)
    return cluster.model_copy(update={"network": network, "devices": devices})


def critical_shares(plan: Plan, spans: Spans) -> dict[str, float]:
    """Seconds of the latency that each device, and the network, is responsible for.

    Goes back from the result: to the last message that its device had to wait for, to the moment
    at which the sender began to send it, and so on to the source.
    """
    names = [device.name for device in plan.cluster.devices]
    device, shares = names[plan.cluster.sink], {"(network)": 0.0}
    now = max(s.end_ns for s in spans[device] if s.phase != "flush")
    while True:
        wait = _last_wait(spans[device], now)
        begin = 0 if wait is None else wait.end_ns
        shares[device] = shares.get(device, 0.0) + (now - begin) / 1e9
        if wait is None or wait.peer is None:
            return shares
        sent = _send_of(spans[names[wait.peer]], names.index(device), wait.step)
        now = min(sent.end_ns, wait.end_ns)
        shares["(network)"] += (wait.end_ns - now) / 1e9
        device = names[wait.peer]


def _last_wait(spans: Sequence[Span], before_ns: int) -> Span | None:
    waits = [
        span
        for span in spans
        if span.phase == "wait"
        and span.end_ns <= before_ns
        and span.end_ns - span.start_ns > WAITED_NS
    ]
    return max(waits, key=lambda span: span.end_ns, default=None)


def _send_of(spans: Sequence[Span], peer: int, step: int) -> Span:
    return next(s for s in spans if (s.phase, s.peer, s.step) == ("send", peer, step))
