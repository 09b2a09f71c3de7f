"""Threads that carry messages run before those that compute, where the kernel allows it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from nptp_opt.runtime import priority
from nptp_opt.runtime.priority import SHORT_S, URGENT, be_prompt, in_turn


def _in_a_thread(check: Callable[[], None]) -> None:
    """A thread of its own: the scheduling of pytest's must not change."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            check()
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_long_tasks_wait_their_turn() -> None:
    """While it computes, a device's thread is an ordinary one; before and after it is prompt."""

    def check() -> None:
        if not be_prompt():
            pytest.skip("real-time scheduling is refused here")
        assert os.sched_getscheduler(0) == URGENT
        with in_turn(SHORT_S):
            assert os.sched_getscheduler(0) == os.SCHED_OTHER
        assert os.sched_getscheduler(0) == URGENT
        with in_turn(SHORT_S / 2):
            assert os.sched_getscheduler(0) == URGENT

    _in_a_thread(check)


def test_refusal_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right, everything runs as usual."""

    def refuse(*args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(priority.os, "sched_setscheduler", refuse)
    assert not be_prompt()
    with in_turn(1.0):
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
