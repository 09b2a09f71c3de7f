"""Child processes that end with their launcher, and a launcher that cleans up when it is ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import nptp_opt

PR_SET_PDEATHSIG = 1
PR_SET_TIMERSLACK = 29

WORKER_ENV = {
    # Without these malloc maps and unmaps every large buffer, which costs page faults per layer.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}


def die_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` ends, however it ends (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def fine_timers() -> None:
    """Let sleeps of this thread end on time instead of up to 50 microseconds late (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)


def child_environment() -> dict[str, str]:
    """This process's environment, in which children import the same nptp_opt."""
    package = str(Path(nptp_opt.__file__).parents[1])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that end a command beside Ctrl-C: by `kill`, a closed terminal, Ctrl-\\."""

Handler = Callable[[int, FrameType | None], object]


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let the signals that end a process unwind the stack as Ctrl-C does, so that everything is
    cleaned up. What code that is not Python's makes of it on the way ends the process as well."""
    asked: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise SystemExit(128 + number)

    with handling(ENDING, leave):
        try:
            yield
        except Exception as error:
            if not asked:
                raise
            raise SystemExit(128 + asked[0]) from error


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Hold Ctrl-C and the signals that end a process back until the block is done: a second Ctrl-C
    must not end the clean-up after the first one. For blocks that take no time without bound."""
    held: list[int] = []
    with handling((signal.SIGINT, *ENDING), lambda number, _: held.append(number)):
        yield
    if held:
        signal.raise_signal(held[0])


@contextlib.contextmanager
def handling(numbers: Sequence[signal.Signals], handler: Handler) -> Iterator[None]:
    """Signals go to ``handler`` within the block, except those that are ignored (`nohup`) and
    outside of the main thread, whose they are."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in numbers}
    for number, known in before.items():
        if known is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)
