"""A run of a plan, read from the trace that ``run --trace`` wrote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nptp_opt.errors import InputError
from nptp_opt.evaluate.simulate import timeline
from nptp_opt.files import explain, load_json
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.profiling.timeline import MEASURED, PREDICTED

Microseconds = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]


Ends = dict[tuple[int, int], float]
"""When each device (second) ends each step (first), in microseconds."""


@dataclass(frozen=True)
class MeasuredSpan:
    """One stretch of a device's time in a run; seconds from the input."""

    phase: str
    step: int | None
    """None for what a device still sends after the last step."""
    device: int
    start_s: float
    end_s: float
    peer: int | None = None


@dataclass(frozen=True)
class MeasuredRun:
    """What a trace tells of one run."""

    spans: tuple[MeasuredSpan, ...]
    void: bool = False
    """Emulated where the machine was too slow, or too busy, for the devices' speeds."""


class _Entry(BaseModel):
    """What is read of a Chrome trace; other keys are left alone."""

    model_config = ConfigDict(frozen=True, strict=True)


class _Args(_Entry):
    name: str | None = None
    step: int = -1
    peer: str | None = None


class _Event(_Entry):
    ph: str
    pid: int
    tid: int
    name: str = ""
    cat: str = ""
    ts: Microseconds = 0.0
    dur: Microseconds = 0.0
    args: _Args = _Args()


class _About(_Entry):
    void: bool = False


class _Trace(_Entry):
    traceEvents: list[_Event]  # noqa: N815  (the format's own names)
    otherData: _About = _About()  # noqa: N815


def load_trace(path: Path, plan: Plan) -> MeasuredRun:
    """The run of a trace; raises InputError, also where another plan was run."""
    content = load_json(path)
    try:
        trace = _Trace.model_validate(content)
    except ValidationError as error:
        raise explain(error, str(path)) from None
    events = trace.traceEvents
    if not _same(_predicted(events), _planned(plan)):
        raise InputError(
            f"{path}: is the trace of another plan; run this one with `nptp-opt run --trace`"
        )
    spans = [_measured(event, plan, path) for event in events if _is_span(event, MEASURED)]
    if not spans:
        raise InputError(f"{path}: has no measured spans")
    spans = [span for span in spans if span.start_s <= span.end_s]
    return MeasuredRun(tuple(spans), trace.otherData.void)


def _is_span(event: _Event, pid: int) -> bool:
    return (event.ph, event.pid) == ("X", pid)


def _predicted(events: Iterable[_Event]) -> Ends:
    """What the trace says was predicted."""
    spans = [event for event in events if _is_span(event, PREDICTED)]
    return _ends((event.args.step, event.tid, event.ts + event.dur) for event in spans)


def _planned(plan: Plan) -> Ends:
    """What is predicted of the plan."""
    stretches = timeline(plan.network, plan.cluster, plan.steps)
    return _ends((s.step, s.device, s.end_s * 1e6) for s in stretches if s.peer is None)


def _ends(tasks: Iterable[tuple[int, int, float]]) -> Ends:
    last: Ends = {}
    for step, device, end_us in tasks:
        last[step, device] = max(last.get((step, device), end_us), end_us)
    return last


def _same(one: Ends, other: Ends) -> bool:
    """The same tasks, to a microsecond: the trace has them as start and duration."""
    return one.keys() == other.keys() and all(abs(one[k] - other[k]) <= 1 for k in one)


def _measured(event: _Event, plan: Plan, path: Path) -> MeasuredSpan:
    names = [device.name for device in plan.cluster.devices]
    peer = event.args.peer
    if event.tid not in range(len(names)) or (peer is not None and peer not in names):
        raise InputError(f"{path}: {event.name!r} is of a device that the plan does not have")
    if event.args.step not in range(len(plan.steps) + 1):
        raise InputError(f"{path}: {event.name!r} is of a step that the plan does not have")
    start_s, end_s = max(0.0, event.ts / 1e6), max(0.0, (event.ts + event.dur) / 1e6)
    number = None if peer is None else names.index(peer)
    step = event.args.step if event.args.step < len(plan.steps) else None
    return MeasuredSpan(event.cat, step, event.tid, start_s, end_s, number)
