"""Threads that carry messages run before those that compute, where the kernel allows it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from nptp_opt.runtime.worker import priority
from nptp_opt.runtime.worker.priority import LIMITS_S, URGENT, be_prompt, in_turn


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


def _urgency() -> int:
    """0 for an ordinary thread."""
    return os.sched_getparam(0).sched_priority


def test_long_tasks_wait_their_turn() -> None:
    """The shorter a task the sooner it is served; nothing is served before messages."""

    def check() -> None:
        if not be_prompt():
            pytest.skip("real-time scheduling is refused here")
        prompt, found = _urgency(), []
        for seconds in (2 * LIMITS_S[-1], LIMITS_S[-1], *(limit / 2 for limit in LIMITS_S[::-1])):
            with in_turn(seconds):
                found.append(_urgency())
            assert (os.sched_getscheduler(0), _urgency()) == (URGENT, prompt)
        assert found[:2] == [0, 0]
        assert found[1:] == sorted(set(found))
        assert found[-1] < prompt

    _in_a_thread(check)


def test_refusal_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right, everything runs as usual."""

    def refuse(*args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(priority.os, "sched_setscheduler", refuse)
    assert not be_prompt()
    with in_turn(1.0):
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
