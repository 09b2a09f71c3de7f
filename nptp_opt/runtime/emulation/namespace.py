"""Network namespaces that cannot be left behind: each lives as long as one small process.

The kernel kills that process when its launcher ends, however it ends, and the namespace goes with
it, together with every virtual link that has an end in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType

from nptp_opt.errors import ExecutionError
from nptp_opt.runtime.children import child_environment

TOOLS = {"ip": "iproute2", "tc": "iproute2", "nsenter": "util-linux", "sysctl": "procps"}
"""Programs that the emulation calls, and the packages that bring them."""


SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where some of them are, and where a user without rights is not told to look."""


def tools_path() -> str:
    """The folders in which the programs are looked for."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS))


def check_tools() -> None:
    """Raise ExecutionError with the first program that is missing, and its package."""
    for tool, package in TOOLS.items():
        if shutil.which(tool, path=tools_path()) is None:
            raise ExecutionError(f"the program {tool!r} is missing: install {package}")


class Namespace:
    """A network namespace of its own; a context manager that ends it."""

    def __init__(self) -> None:
        self.holder = subprocess.Popen(
            [sys.executable, "-m", "nptp_opt.runtime.emulation.holder", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment(),
            start_new_session=True,
        )
        assert self.holder.stdout is not None
        if self.holder.stdout.readline() != "ready\n":
            said = self.holder.communicate()[1].strip().splitlines() or ["no message"]
            raise ExecutionError(
                f"cannot make a network namespace ({said[-1]}): run as root, "
                "or as `unshare -Ur nptp-opt run --emulate ...` where the kernel allows it"
            )

    @property
    def pid(self) -> int:
        """Of the process that keeps the namespace alive."""
        return self.holder.pid

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before a command line that is to run in the namespace."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net", "--")

    def ip(self, *lines: str) -> None:
        """Run commands of ``ip``; raises ExecutionError with the first that fails."""
        self._batch("ip", lines)

    def tc(self, *lines: str) -> None:
        """Run commands of ``tc``; raises ExecutionError with the first that fails."""
        self._batch("tc", lines)

    def run(self, *command: str, text: str = "") -> str:
        """Run a command inside and return what it prints; raises ExecutionError."""
        done = subprocess.run(
            [*self.prefix, *command],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PATH": tools_path()},
        )
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["no message"]
            raise ExecutionError(f"emulated network: {command[0]}: {'; '.join(said)}")
        return done.stdout

    def _batch(self, tool: str, lines: Sequence[str]) -> None:
        self.run(tool, "-batch", "-", text="".join(f"{line}\n" for line in lines))

    def close(self) -> None:
        """End the namespace."""
        self.holder.kill()
        self.holder.communicate()

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
