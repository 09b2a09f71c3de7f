"""One pool of workers for all runs that are meant to succeed: starting torch takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nptp_opt.runtime.launcher.pool import WorkerPool


@pytest.fixture(scope="session")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(["d0", "d1", "d2", "d3", "d4"], timeout_s=60) as started:
        yield started
