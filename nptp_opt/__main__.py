"""The command ``nptp-opt``, and ``python -m nptp_opt``."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from nptp_opt.commands.interrupts import interrupted, raise_interrupt
from nptp_opt.errors import INTERRUPTED

MESSAGE = "nptp-opt: interrupted\n"

IMPORTS = "<frozen importlib"
"""Begins the file name of code that imports."""


def main() -> None:
    """The command line; Ctrl-C while it is still being imported ends it without a traceback."""
    signal.signal(signal.SIGINT, interrupt)
    try:
        from nptp_opt.cli import main as command

        command()
    except (KeyboardInterrupt, Exception) as error:
        if not (isinstance(error, KeyboardInterrupt) or interrupted()):
            raise
        sys.stderr.write(MESSAGE)
        sys.exit(INTERRUPTED)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C: KeyboardInterrupt once; what follows while that is cleaned up after is ignored.

    While torch is not there yet nothing is under way, and its libraries abort by an exception that
    comes out of their imports: then the process ends at once.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _is_importing(frame) and not _has_torch():
        os.write(2, MESSAGE.encode())
        os._exit(INTERRUPTED)
    raise_interrupt()


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
