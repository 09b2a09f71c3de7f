"""Hypothesis runs the same examples every time; one process that has loaded torch, from which
workers are forked."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.runtime.forked import Template, forking

settings.register_profile("nptp", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("nptp")


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    with Template() as made:
        yield made


@pytest.fixture
def forked(template: Template) -> Iterator[None]:
    """Pools of this test fork their workers: starting torch takes seconds."""
    with forking(template):
        yield
