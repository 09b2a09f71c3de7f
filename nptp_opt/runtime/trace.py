"""Where a device's time goes: spans recorded while it works, and what it is doing right now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Phase = Literal[
    "starting", "loading", "joining", "idle", "send", "wait", "assemble", "compute", "pad", "flush"
]

WAITED_NS = 50_000
"""A wait shorter than this found its message there: it held nothing up."""


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
        self.spans: list[Span] = []

    @contextmanager
    def span(
        self, phase: Phase, step: int, peer: int | None = None, n_bytes: int = 0
    ) -> Iterator[None]:
        """Record what happens inside as one span."""
        self.enter(phase, step, peer)
        start = time.monotonic_ns()
        yield
        self.spans.append(Span(phase, step, start, time.monotonic_ns(), peer, n_bytes))

    @contextmanager
    def shared(self, phase: Phase, shares: Sequence[tuple[int, float]]) -> Iterator[None]:
        """Record what happens inside for several steps at once: (step, seconds as modelled).

        Each has its part of the time in proportion to these seconds, one after the other.
        """
        self.enter(phase, shares[0][0])
        begin = start = time.monotonic_ns()
        yield
        end, total = time.monotonic_ns(), sum(seconds for _, seconds in shares)
        done = 0.0
        for step, seconds in shares:
            done += seconds / total if total else 1 / len(shares)
            until = begin + round(min(done, 1.0) * (end - begin))
            self.spans.append(Span(phase, step, start, until))
            start = until

    def enter(self, phase: Phase, step: int = -1, peer: int | None = None) -> None:
        """The device now does this; nothing is recorded."""
        status = self.status
        status.phase, status.step, status.peer = phase, step, peer
        status.ticks += 1

    def take(self) -> list[Span]:
        """The spans since the last call."""
        spans, self.spans = self.spans, []
        return spans
