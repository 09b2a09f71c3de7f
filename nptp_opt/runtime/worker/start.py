"""Turns ``nptp-opt worker`` into a worker process; the command of ``nptp-opt-worker``, which has
no other, and neither click nor torch."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from nptp_opt import __version__
from nptp_opt.errors import INTERNAL, LAUNCHER_LOST, REFUSED, ExecutionError, InputError, NptpError
from nptp_opt.runtime.children import WORKER_ENV, child_environment
from nptp_opt.runtime.transport.control import check_address
from nptp_opt.runtime.transport.handshake import device, read_keys
from nptp_opt.runtime.worker.service_unit import service_unit
from nptp_opt.runtime.worker.weight_store import DEFAULT_MIB, WeightStore, default_folder

LEAST_WAIT_S, MOST_WAIT_S = 0.5, 30.0
"""Between a worker that has ended and the next one; twice as long after each that failed."""

WHY = {
    0: "the launcher has ended",
    ExecutionError.exit_code: "it could not join",
    INTERNAL: "a bug ended it",
    REFUSED: "the launcher refused it",
    LAUNCHER_LOST: "the launcher was lost",
}
"""What a worker's exit status says."""


@dataclass(frozen=True)
class WorkerRequest:
    """The options of ``worker``.

    ``cache`` is the folder of weights, None for this user's. Raises InputError for what cannot be
    used, ExecutionError for an executor that is not installed.
    """

    connect: str
    name: str
    secret_file: Path
    tls: Path | None = None
    """This device's certificate; everything goes over TLS then."""
    interface: str = ""
    executor: str | None = None
    daemon: bool = False
    cache: Path | None = None
    cache_mib: float = DEFAULT_MIB
    install_service: bool = False

    def __post_init__(self) -> None:
        check_address(self.connect)
        read_keys(self.secret_file, self.tls, device(self.name))
        if not 0 <= self.cache_mib < float("inf"):
            raise InputError(f"`cache_mib` = {self.cache_mib}: must be 0 or more")
        if self.interface:
            _check_interface(self.interface)
        if self.executor is not None:
            from nptp_opt.kernels.executors import require

            require(self.executor)

    @property
    def folder(self) -> Path:
        """Where weights are kept."""
        return (self.cache or default_folder()).absolute() if self.cache_mib else Path()

    def options(self) -> list[str]:
        """What a worker and its service are told alike."""
        words = ["--name", self.name, "--secret-file", str(self.secret_file.absolute())]
        words += ["--tls", str(self.tls.absolute())] if self.tls is not None else []
        words += ["--interface", self.interface] if self.interface else []
        words += ["--executor", self.executor] if self.executor is not None else []
        return [*words, "--cache-mib", f"{self.cache_mib:g}"]


def main(argv: Sequence[str] | None = None) -> int:
    """``nptp-opt-worker``: the options of ``nptp-opt worker``; returns the exit status."""
    try:
        start(WorkerRequest(**vars(parser().parse_args(argv))))
    except NptpError as error:
        text = re.sub(r"`(\w+)`", lambda found: f"--{found[1].replace('_', '-')}", str(error))
        print(f"nptp-opt-worker: {text}", file=sys.stderr)
        return error.exit_code
    return 0


def parser() -> argparse.ArgumentParser:
    """Of ``nptp-opt-worker``."""
    made = argparse.ArgumentParser("nptp-opt-worker", description="Be one device of a run.")
    made.add_argument("--connect", required=True, metavar="ADDRESS:PORT",
                      help="as given to run --hosts")  # fmt: skip
    made.add_argument("--name", required=True, help="the device's name in the cluster file")
    made.add_argument("--secret-file", required=True, type=Path, help="the same file as run's")
    made.add_argument("--tls", type=Path, metavar="FILE",
                      help="this device's certificate: everything goes over TLS")  # fmt: skip
    made.add_argument("--interface", default="",
                      help="the only address to bind; default: the cluster file's")  # fmt: skip
    made.add_argument("--executor", metavar="NAME", help="what computes here; default: run's")
    made.add_argument("--daemon", action="store_true",
                      help="wait for a launcher as long as it takes, then the next")  # fmt: skip
    made.add_argument("--cache", type=Path, metavar="FOLDER",
                      help="where weights are kept; default: of this user")  # fmt: skip
    made.add_argument("--cache-mib", type=float, default=DEFAULT_MIB, metavar="N",
                      help="how much of them; 0 keeps none; default: %(default)s")  # fmt: skip
    made.add_argument("--install-service", action="store_true",
                      help="print a systemd unit for this, install nothing")  # fmt: skip
    made.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return made


def start(
    request: WorkerRequest, command: Sequence[str] = ("nptp_opt.runtime.worker.start",)
) -> None:
    """Do what is asked for; returns only after a service unit was printed.

    ``command`` is the module, and what follows it, by which a service has the same started.
    """
    if request.install_service:
        words = [sys.executable, "-m", *command, "--connect", request.connect, *request.options()]
        print(service_unit(request.name, [*words, "--daemon"], request.cache), end="")
        return
    WeightStore(request.folder, round(request.cache_mib * 2**20)).clean()
    _keep_worker(request) if request.daemon else _become_worker(request)


def _become_worker(request: WorkerRequest) -> NoReturn:
    """Replace this process by a worker: its memory settings must be there from the start."""
    os.execve(sys.executable, _command(request), child_environment() | WORKER_ENV)


def _keep_worker(request: WorkerRequest) -> NoReturn:
    """Start a worker again whenever one has ended, until SIGTERM, SIGHUP or Ctrl-C.

    Each waits for a launcher as long as it takes. One that does not get to work is followed after a
    while: the launcher may be another one then.
    """
    command = [*_command(request), "--patience", "inf", "--parent", str(os.getpid())]
    wait_s = LEAST_WAIT_S
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    while True:
        with subprocess.Popen(command, env=child_environment() | WORKER_ENV) as process:
            try:
                status = process.wait()
            except BaseException:
                process.kill()
                raise
        again = status in (0, LAUNCHER_LOST)
        wait_s = LEAST_WAIT_S if again else min(2 * wait_s, MOST_WAIT_S)
        why = WHY.get(status, f"it ended with status {status}")
        print(f"nptp-opt worker {request.name}: {why}; again in {wait_s:g} s", file=sys.stderr,
              flush=True)  # fmt: skip
        time.sleep(wait_s)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _command(request: WorkerRequest) -> list[str]:
    """How a worker is started."""
    return [
        *(sys.executable, "-m", "nptp_opt.runtime.worker.main"),
        *("--connect", f"tcp:{request.connect}", "--cache", str(request.folder)),
        *request.options(),
    ]


def _check_interface(interface: str) -> None:
    try:
        address = ipaddress.IPv4Address(interface)
    except ValueError:
        raise InputError(f"`interface` {interface!r} must be an IPv4 address") from None
    if address.is_unspecified:
        raise InputError("`interface` 0.0.0.0 means every interface: name the address of one")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        try:
            trial.bind((interface, 0))
        except OSError as error:
            raise InputError(
                f"`interface` {interface} cannot be bound here: {error.strerror}"
            ) from None


if __name__ == "__main__":
    sys.exit(main())
