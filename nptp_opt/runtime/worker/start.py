"""Turns ``nptp-opt worker`` into a worker process."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from nptp_opt.errors import InputError
from nptp_opt.runtime.children import WORKER_ENV, child_environment
from nptp_opt.runtime.transport.control import check_address, read_secret


def become_worker(
    connect: str, name: str, secret_file: Path, interface: str, executor: str | None = None
) -> NoReturn:
    """Replace this process by a worker: its memory settings must be there from the start.

    Raises InputError for an address or a secret that cannot be used, or an unknown executor,
    ExecutionError for one that is not installed.
    """
    check_address(connect)
    read_secret(secret_file)
    if interface:
        _check_interface(interface)
    if executor is not None:
        from nptp_opt.kernels.executors import require

        require(executor)
    command = [sys.executable, "-m", "nptp_opt.runtime.worker.main", "--name", name]
    command += ["--connect", f"tcp:{connect}", "--secret-file", str(secret_file)]
    command += ["--interface", interface]
    command += [] if executor is None else ["--executor", executor]
    os.execve(sys.executable, command, child_environment() | WORKER_ENV)


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
