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
"""Served before all threads of the ordinary kind; its lowest priority is enough."""


def be_prompt() -> bool:
    """Have this thread, and those that it starts, served first; False where that is refused."""
    return _schedule(URGENT, os.sched_get_priority_min(URGENT))


SHORT_S = 5e-3
"""A device that has less than this for a task cannot wait for the tasks of others."""


@contextmanager
def in_turn(seconds: float) -> Iterator[None]:
    """Run a task that may take ``seconds`` like any thread of the machine, unless it is short."""
    if seconds < SHORT_S or os.sched_getscheduler(0) != URGENT:
        yield
        return
    _schedule(os.SCHED_OTHER, 0)
    try:
        yield
    finally:
        be_prompt()


def _schedule(policy: int, priority: int) -> bool:
    with suppress(OSError):
        os.sched_setscheduler(0, policy, os.sched_param(priority))
        return True
    return False
