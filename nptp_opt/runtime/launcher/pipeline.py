"""Several inputs in flight through one session: a device works on the next one while others finish
the last, and computes one while another waits for messages. The oldest goes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from nptp_opt.kernels.executors.torch import as_tensors
from nptp_opt.runtime.launcher.pool import understood
from nptp_opt.runtime.launcher.session import Session
from nptp_opt.runtime.transport.control import Message
from nptp_opt.runtime.worker.job import are_finite, pack, unpack


@dataclass(frozen=True)
class Carried:
    """Bytes of a message between two devices, and when they came in (seconds, of this machine's
    monotonic clock)."""

    src: str
    dst: str
    bytes: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Done:
    """One input's way through the cluster; ``outputs`` are the network's."""

    number: int
    outputs: Mapping[str, Tensor]
    latency_s: float
    """From the source's start on it to its result on the sink."""
    ended_s: float
    """When that was, on a monotonic clock as fast as the cluster's."""
    busy_s: Mapping[str, float]
    """What each device worked on it."""
    overrun_s: float
    """By how much the slowest padded device was computed slower than it is."""
    sent_bytes: Mapping[str, int]
    reports: Mapping[str, Message]
    messages: Callable[[], Sequence[Carried]] = tuple
    """Those between devices that were large enough to be timed; no answer waits for the list."""


class Pipeline:
    """Inputs by number; ``trace`` has the devices report their spans, too."""

    def __init__(self, session: Session, *, trace: bool = False) -> None:
        self.session, self.trace = session, trace
        self._heard: dict[int, dict[str, Message]] = {}
        self._free = list(range(session.lanes))
        """Lanes without an input; with a single lane inputs queue in it."""
        self._lane: dict[int, int] = {}

    @property
    def in_flight(self) -> int:
        """Inputs that were posted and are not done."""
        return len(self._heard)

    def post(self, number: int, inputs: Sequence[Tensor]) -> None:
        """Send one input on its way: the network's, in its order. There must be a lane for it.

        Raises DeviceLostError when a worker is gone.
        """
        self._heard[number] = {}
        session = self.session
        if len(self._heard) == 1:
            session.pool.failure_detector.restart_clock()
        lane = self._lane[number] = self._free.pop(0) if session.lanes > 1 else 0
        fields: dict[str, Any] = {"number": number, "lane": lane, "trace": self.trace,
                                  "finite": are_finite(inputs)}  # fmt: skip
        # the others have to be ready by its first messages only
        session.pool.send(session.source, "input", pack(inputs), **fields)
        for name in session.names:
            if name != session.source:
                session.pool.send(name, "input", **fields)

    def poll(self) -> Done | None:
        """What is done next; None after a moment without, or after the pool's ``wake``.

        Raises DeviceLostError naming the culprit.
        """
        session = self.session
        if not self._heard:  # nobody is expected to make progress
            session.pool.failure_detector.restart_clock()
        found = session.pool.next_message("done", session.names)
        if found is None:
            return None
        name, message = found
        with understood(name):
            number = int(message["number"])
            self._heard[number][name] = message
        if len(self._heard[number]) < len(session.names):
            return None
        lane = self._lane.pop(number)
        if session.lanes > 1:
            self._free.append(lane)
        with understood(session.sink):
            return self._done(number, self._heard.pop(number))

    def _done(self, number: int, reports: Mapping[str, Message]) -> Done:
        session = self.session
        source, sink = session.source, session.sink
        result = reports[sink]
        start_ns = reports[source]["start_ns"] + session.clocks[source]
        end_ns = result["end_ns"] + session.clocks[sink]
        return Done(
            number=number,
            outputs=as_tensors(unpack(result["shapes"], result.payload)),
            latency_s=session.seconds(end_ns - start_ns),
            ended_s=session.seconds(end_ns),
            busy_s={name: session.seconds(report["busy_ns"]) for name, report in reports.items()},
            overrun_s=session.seconds(max(each["overrun_ns"] for each in reports.values())),
            sent_bytes={name: int(report["sent_bytes"]) for name, report in reports.items()},
            reports=reports,
            messages=partial(self._carried, reports),
        )

    def _carried(self, reports: Mapping[str, Message]) -> list[Carried]:
        session, found = self.session, list[Carried]()
        devices = session.plan.cluster.devices
        for name, report in reports.items():
            with understood(name):
                for peer, size, *ends in report["arrivals"]:
                    start_s, end_s = ((ns + session.clocks[name]) / 1e9 for ns in ends)
                    found.append(Carried(devices[peer].name, name, size, start_s, end_s))
        return found
