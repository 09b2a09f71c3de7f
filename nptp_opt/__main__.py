"""The command ``nptp-opt``, and ``python -m nptp_opt``."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from types import FrameType

from nptp_opt.commands.interrupts import begin, interrupted, raise_interrupt, tell
from nptp_opt.errors import INTERRUPTED

IMPORTS = "<frozen importlib"
"""Begins the file name of code that imports."""

AGAIN_S = 0.2
"""When a lost Ctrl-C comes again."""


def main() -> None:
    """The command line; Ctrl-C while it is still being imported ends it without a traceback."""
    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = unraisable
    try:
        from nptp_opt.cli import main as command

        command()
    except (KeyboardInterrupt, Exception) as error:
        if not (isinstance(error, KeyboardInterrupt) or interrupted()):
            raise
        tell("interrupted")
        sys.exit(INTERRUPTED)
    finally:
        sys.unraisablehook = sys.__unraisablehook__


def interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C: KeyboardInterrupt; what follows while that is cleaned up after is ignored.

    While torch is not there yet nothing is under way, and its libraries abort by an exception that
    comes out of their imports: then the process ends at once.
    """
    if _is_importing(frame) and not _has_torch():
        tell("interrupted")
        os._exit(INTERRUPTED)
    raise_interrupt()


def unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Ctrl-C that came while a finaliser or a callback of C ran, which no exception leaves, comes
    again when that is done."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    begin()
    _thread.start_new_thread(_again, ())


def _again() -> None:
    time.sleep(AGAIN_S)
    waiting = threading.main_thread().ident  # of another thread's signal a sleep knows nothing
    if waiting is not None:
        signal.pthread_kill(waiting, signal.SIGINT)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith(IMPORTS):
        frame = frame.f_back
    return frame is not None


def _has_torch() -> bool:
    """Is torch imported, to its end?"""
    spec = getattr(sys.modules.get("torch"), "__spec__", None)
    return spec is not None and not getattr(spec, "_initializing", False)


if __name__ == "__main__":
    main()
