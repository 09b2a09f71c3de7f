"""Shared: one pool of workers for all runs that are meant to succeed; a shortage of file
descriptors."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from nptp_opt.runtime.launcher.pool import WorkerPool
from nptp_opt.runtime.transport import control
from tests.runtime.forked import ForkingPool, Template


@pytest.fixture(scope="session")
def pool(template: Template) -> Iterator[WorkerPool]:
    names = ["d0", "d1", "d2", "d3", "d4"]
    with ForkingPool(names, timeout_s=60).using(template) as started:
        yield started


@pytest.fixture
def few_descriptors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The next three connections cannot be accepted for want of file descriptors; how many have not
    been."""
    accept, failures = socket.socket.accept, [0]

    def short(sock: socket.socket) -> Any:
        if failures[0] < 3:
            failures[0] += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(sock)

    monkeypatch.setattr(control, "SHORTAGE_S", 0.01)
    monkeypatch.setattr(socket.socket, "accept", short)
    return failures
