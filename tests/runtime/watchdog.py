"""Ends what hangs, so that a hang fails a test instead of holding it up for ever."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import pytest

PATIENCE_S = 180.0
"""Far beyond every timeout of a run: no measure of how long something takes."""


@contextmanager
def watchdog(pids: Callable[[], Iterable[int]]) -> Iterator[threading.Event]:
    """Fails the test if what is inside did not end by itself; then the processes are killed."""
    fired = threading.Event()

    def end() -> None:
        fired.set()
        for pid in pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(PATIENCE_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield fired
    finally:
        timer.cancel()
        if fired.is_set():
            pytest.fail("did not end by itself: the watchdog killed its processes")
