"""Ctrl-C while a plan is sought: the first one ends the search, which keeps what it has."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


@contextmanager
def stoppable() -> Iterator[threading.Event]:
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
        sys.stderr.write("nptp-opt: ending the search; Ctrl-C again to give up\n")

    signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
