"""Ctrl-C: that there was one, and while a plan is sought the first ends the search, which keeps
what it has."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_raised = threading.Event()


def raise_interrupt() -> NoReturn:
    """KeyboardInterrupt, and a note of it: code that is not Python's makes other exceptions of it
    (SystemError, ImportError, an engine's own), which ``interrupted`` tells from bugs."""
    _raised.set()
    raise KeyboardInterrupt


def interrupted() -> bool:
    """Has there been one since the command began?"""
    return _raised.is_set()


def begin() -> None:
    """A command begins."""
    _raised.clear()


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
        sys.stderr.write(f"nptp-opt: ending the {what}; Ctrl-C again to give up\n")

    signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
