"""Ctrl-C: that there was one, and while a plan is sought the first ends the search, which keeps
what it has."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CLEAN_UP_S = 5.0
"""Ctrl-C so soon after one that interrupts is ignored: it must not end the clean-up. Later it
counts again: code that is not Python's may have lost the first."""

_raised: list[float] = []
"""When there was one since the command began."""


def raise_interrupt() -> None:
    """KeyboardInterrupt, and a note of it: code that is not Python's makes other exceptions of it
    (SystemError, ImportError, an engine's own), which ``interrupted`` tells from bugs."""
    now = time.monotonic()
    if not _raised or now - _raised[-1] > CLEAN_UP_S:
        _raised.append(now)
        raise KeyboardInterrupt


def interrupted() -> bool:
    """Has there been one since the command began?"""
    return bool(_raised)


def begin() -> None:
    """A command begins."""
    _raised.clear()


def tell(text: str) -> None:
    """A line for the terminal from within a signal's handler: ``sys.stderr`` may be at work."""
    with contextlib.suppress(OSError):  # it is closed
        os.write(2, f"nptp-opt: {text}\n".encode())


@contextmanager
def stoppable(what: str = "search") -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts as always.

    Compiled code that is interrupted by an exception dies in its own words, so none is raised.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def first(_: int, __: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)
        tell(f"ending the {what}; Ctrl-C again to give up")

    signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
