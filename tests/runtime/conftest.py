"""One process that has loaded torch, and one pool of workers, for all runs that are not about how
workers start: starting torch takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nptp_opt.runtime.pool import WorkerPool
from tests.runtime.forked import ForkingPool, Template, forking


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    with Template() as made:
        yield made


@pytest.fixture
def forked(template: Template) -> Iterator[None]:
    """Pools of this test fork their workers."""
    with forking(template):
        yield


@pytest.fixture(scope="session")
def pool(template: Template) -> Iterator[WorkerPool]:
    names = ["d0", "d1", "d2", "d3", "d4"]
    with ForkingPool(names, timeout_s=60).using(template) as started:
        yield started
