"""Failure detector: who is to blame when a run stops, judged from the workers' heartbeats alone."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from nptp_opt.runtime.transport.control import Message

BUSY = ("starting", "loading", "compute", "pad")
"""Phases in which a device that is heard makes progress, however long it takes."""


class FailureDetector:
    """What each device was last heard to do. Times are the launcher's monotonic seconds."""

    def __init__(self, timeout_s: float, address: str = "") -> None:
        """``address`` is where devices of other machines join, for messages."""
        self.timeout_s, self.address = timeout_s, address
        self.started = self.progress = time.monotonic()
        self.last_heard: dict[str, float | None] = {}
        self.state: dict[str, dict[str, Any]] = {}

    def expect(self, name: str) -> None:
        """A device that will report from now on."""
        self.last_heard[name] = None
        self.state[name] = {}

    def heard(self, name: str, beat: Message) -> None:
        """A heartbeat arrived."""
        state, now = beat.fields, time.monotonic()
        if state != self.state[name] or state.get("phase") in BUSY:
            self.progress = now
        self.last_heard[name] = now
        self.state[name] = state

    def restart_clock(self) -> None:
        """Something new is asked of the devices: lack of progress counts from now."""
        self.progress = time.monotonic()

    def diagnose(self, names: Collection[str]) -> tuple[str, str] | None:
        """A device and what is wrong with it; None while all is well.

        Half the timeout without a sign of life is enough to lose a device that was heard before;
        one that is still starting, or a run in which all wait for each other, has all of it.
        """
        now = time.monotonic()
        for name in names:
            heard = self.last_heard[name]
            starting = heard is None or self.state[name]["phase"] == "starting"
            limit = self.timeout_s if starting else self.timeout_s / 2
            silent = now - (self.started if heard is None else heard)
            if silent > limit and heard is None:
                return name, self._absent(limit)
            if silent > limit:
                return name, f"does not answer: no sign of life for {silent:.0f} s{self._at(name)}"
        if now - self.progress > self.timeout_s:
            name = self._end_of_waits(list(names))
            return name, f"makes no progress for {self.timeout_s:.0f} s{self._at(name)}"
        return None

    def _absent(self, limit_s: float) -> str:
        if not self.address:
            return f"has not started within {limit_s:.0f} s"
        where = f"at {self.address} within {limit_s:.0f} s"
        return f"has not joined {where}: start `nptp-opt worker` on it"

    def _at(self, name: str) -> str:
        state = self.state[name]
        if not state:
            return ""
        return f" (step {state['step']}, last seen in phase {state['phase']!r})"

    def _end_of_waits(self, names: list[str]) -> str:
        """Follow who waits for whom to the device that waits for nobody (or back into a circle)."""
        seen: list[str] = []
        waiting = [name for name in names if self.state[name].get("peer")]
        name = (waiting or names)[0]
        while name not in seen:
            seen.append(name)
            name = self.state[name].get("peer") or name
        return name
