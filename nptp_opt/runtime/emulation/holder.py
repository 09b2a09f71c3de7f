"""The process that keeps a network namespace alive.

``python -m nptp_opt.runtime.emulation.holder PARENT``

It makes a namespace for itself, says "ready" and waits to be killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from nptp_opt.runtime.children import die_with

CLONE_NEWNET = 0x40000000


def main(parent: int) -> None:
    """Needs CAP_SYS_ADMIN."""
    die_with(parent)
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    print("ready", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]))
