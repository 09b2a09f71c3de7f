"""Where a device's time goes: spans recorded while it works, and what it is doing right now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from nptp_opt.runtime.transport.base import Arrival

Phase = Literal[
    "starting", "loading", "joining", "idle", "send", "wait", "assemble", "compute", "pad", "flush"
]

BUSY: frozenset[Phase] = frozenset(("assemble", "compute", "pad"))
"""Phases in which a device works on a task, as the cost model counts its seconds."""

MOST_OVERRUN = 0.02
"""Share of the latency by which a device may have computed slower than the plan says."""

WAITED_NS = 50_000
"""A wait shorter than this found its message there: it held nothing up."""


def too_slow(latency_s: float, overrun_s: float) -> bool:
    """True where a machine was too slow, or too busy, to emulate the devices' speeds."""
    return overrun_s > MOST_OVERRUN * latency_s


@dataclass(frozen=True)
class Span:
    """One stretch of a device's time; nanoseconds of the machine's monotonic clock."""

    phase: Phase
    step: int
    """The step that is worked on; for a send, the one that reads the message."""
    start_ns: int
    end_ns: int
    peer: int | None = None
    """Number of the device that is waited for or sent to."""
    bytes: int = 0

    def seconds(self) -> Iterator[tuple[int, float]]:
        """Its step, and how long it took."""
        yield self.step, (self.end_ns - self.start_ns) / 1e9


Shares = Sequence[tuple[int, float]]
"""Steps, one after the other, and at which share of a span each of them ends."""


@dataclass(frozen=True)
class SharedSpan:
    """A stretch of time in which several steps were computed together."""

    phase: Phase
    start_ns: int
    end_ns: int
    shares: Shares
    bytes: int = 0

    def spans(self) -> Iterator[Span]:
        """Each step's part of it."""
        start_ns, total_ns = self.start_ns, self.end_ns - self.start_ns
        for step, share in self.shares:
            end_ns = self.start_ns + round(share * total_ns)
            yield Span(self.phase, step, start_ns, end_ns)
            start_ns = end_ns

    def seconds(self) -> Iterator[tuple[int, float]]:
        """Each step, and its part of the time."""
        total_s, before = (self.end_ns - self.start_ns) / 1e9, 0.0
        for step, share in self.shares:
            yield step, (share - before) * total_s
            before = share


def shares_of(seconds: Sequence[tuple[int, float]]) -> Shares:
    """Each step's share in proportion to its seconds, or all alike where there are none."""
    total = sum(each for _, each in seconds)
    parts = [each / total if total else 1 / len(seconds) for _, each in seconds]
    ends = [min(end, 1.0) for end in accumulate(parts)]
    return tuple((step, end) for (step, _), end in zip(seconds, ends, strict=True))


def computed_s(spans: Sequence[Span | SharedSpan]) -> dict[int, float]:
    """Seconds of computing by step: a step in pieces computes several times."""
    found: dict[int, float] = {}
    for span in spans:
        for step, seconds in span.seconds() if span.phase == "compute" else ():
            found[step] = found.get(step, 0.0) + seconds
    return found


def overrun_s(modelled_s: Mapping[int, float], spans: Sequence[Span | SharedSpan]) -> float:
    """Seconds by which one device computed its steps slower than modelled.

    Above 0, padding could not emulate it: this machine was slower than the plan says.
    """
    computed = computed_s(spans)
    return sum(max(0.0, seconds - modelled_s[step]) for step, seconds in computed.items())


LEAST_BYTES = 16_384
"""Messages of which fewer were seen coming in say nothing of a link's rate."""


@dataclass
class Status:
    """What a device does at this moment, for the launcher's failure detector."""

    phase: Phase = "starting"
    step: int = -1
    peer: int | None = None
    ticks: int = 0
    """Counts changes: as long as it grows, the device makes progress."""


class Recorder:
    """Records the spans of one run and keeps the status up to date."""

    def __init__(self) -> None:
        self.status = Status()
        self.spans: list[Span | SharedSpan] = []
        self.arrivals: list[tuple[int, int, int, int]] = []
        """Device that sent it, bytes, from when until when (ns)."""

    @contextmanager
    def span(
        self, phase: Phase, step: int, peer: int | None = None, n_bytes: int = 0
    ) -> Iterator[None]:
        """Record what happens inside as one span."""
        self.enter(phase, step, peer)
        start = time.monotonic_ns()
        yield
        self.spans.append(Span(phase, step, start, time.monotonic_ns(), peer, n_bytes))

    def resize(self, n_bytes: int) -> None:
        """The last span moved so many bytes, as is known now."""
        self.spans[-1] = replace(self.spans[-1], bytes=n_bytes)

    @property
    def busy_ns(self) -> int:
        """How long the device has worked on tasks."""
        return sum(span.end_ns - span.start_ns for span in self.spans if span.phase in BUSY)

    @property
    def sent_bytes(self) -> int:
        """Bytes of messages that were handed over."""
        return sum(span.bytes for span in self.spans if span.phase == "send")

    def arrived(self, peer: int, arrival: Arrival | None) -> None:
        """A message from a device came in, large enough to tell the rate by."""
        if arrival is not None and arrival.bytes >= LEAST_BYTES:
            self.arrivals.append((peer, arrival.bytes, arrival.start_ns, arrival.end_ns))

    @contextmanager
    def shared(self, phase: Phase, shares: Shares) -> Iterator[None]:
        """Record what happens inside for several steps at once."""
        self.enter(phase, shares[0][0])
        start = time.monotonic_ns()
        yield
        self.spans.append(SharedSpan(phase, start, time.monotonic_ns(), shares))

    def enter(self, phase: Phase, step: int = -1, peer: int | None = None) -> None:
        """The device now does this; nothing is recorded."""
        status = self.status
        status.phase, status.step, status.peer = phase, step, peer
        status.ticks += 1

    def clear(self) -> None:
        """Forget what was recorded; much cheaper than to ``take`` it."""
        self.spans, self.arrivals = [], []

    def take(self) -> list[Span]:
        """The spans since the last call, step by step."""
        spans, self.spans = self.spans, []
        found: list[Span] = []
        for span in spans:
            found.extend(span.spans()) if isinstance(span, SharedSpan) else found.append(span)
        return found

    def take_arrivals(self) -> list[tuple[int, int, int, int]]:
        """The arrivals since the last call."""
        arrivals, self.arrivals = self.arrivals, []
        return arrivals
