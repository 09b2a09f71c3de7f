"""One pool of workers for all runs that are meant to succeed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nptp_opt.runtime.launcher.pool import WorkerPool
from tests.runtime.forked import ForkingPool, Template


@pytest.fixture(scope="session")
def pool(template: Template) -> Iterator[WorkerPool]:
    names = ["d0", "d1", "d2", "d3", "d4"]
    with ForkingPool(names, timeout_s=60).using(template) as started:
        yield started
