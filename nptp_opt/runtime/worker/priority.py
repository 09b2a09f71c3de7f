"""Devices that share this machine's cores must not hold up each other's messages.

A real device has its own cores: it takes a message when it comes. Where several run on one machine
the threads that send, receive and wait therefore run before those that compute, if the kernel
allows it (root, outside of a user namespace); if not, everything runs as usual.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

URGENT = os.SCHED_RR
"""Served before all threads of the ordinary kind."""
LIMITS_S = (5e-3, 10e-3, 20e-3, 40e-3)
"""Tasks shorter than these are served before longer ones: they have the least time to lose."""


def be_prompt() -> bool:
    """Have this thread, and those that it starts, served first; False where that is refused."""
    return _schedule(URGENT, _lowest() + len(LIMITS_S))


@contextmanager
def in_turn(seconds: float) -> Iterator[None]:
    """Run a task that may take ``seconds``: before longer ones, after what carries messages."""
    if os.sched_getscheduler(0) != URGENT:
        yield
        return
    rank = sum(seconds < limit for limit in LIMITS_S)
    _schedule(URGENT, _lowest() + rank - 1) if rank else _schedule(os.SCHED_OTHER, 0)
    try:
        yield
    finally:
        be_prompt()


def _lowest() -> int:
    return os.sched_get_priority_min(URGENT)


def _schedule(policy: int, priority: int) -> bool:
    with suppress(OSError):
        os.sched_setscheduler(0, policy, os.sched_param(priority))
        return True
    return False
