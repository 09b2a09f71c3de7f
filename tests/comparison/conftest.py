"""The misbehaving methods of ``plugin`` leave the registry again after every test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

import nptp_opt.layer.solve  # noqa: F401 - registers all methods before the first copy is taken
from nptp_opt.layer.registry import METHODS
from tests.comparison.runs import PLUGIN


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    before = dict(METHODS._entries)
    yield
    METHODS._entries.clear()
    METHODS._entries.update(before)
    sys.modules.pop(PLUGIN, None)
