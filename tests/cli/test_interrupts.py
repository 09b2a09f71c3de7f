"""Ctrl-C during ``solve``: the best plan so far is written, and the exit status says so."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nptp_opt.__main__ import interrupt
from nptp_opt.cli import main
from nptp_opt.commands import solve as command
from nptp_opt.commands.interrupts import begin, stoppable
from nptp_opt.runtime.children import handling
from nptp_opt.verification.static import paper_faults
from tests.cli.test_commands import MODEL, call, cluster

__all__ = ["cluster"]


def test_the_first_interrupt_sets_the_event_and_the_second_interrupts(
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stoppable() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        os.kill(os.getpid(), signal.SIGINT)
    assert "Ctrl-C again to give up" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_the_first_interrupt_is_told_while_stderr_is_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bug: the handler wrote to ``sys.stderr``: a RuntimeError ("reentrant call") where that was
    being written to, an AttributeError where it was closed; both ended as internal errors (7)."""
    monkeypatch.setattr(sys, "stderr", None)
    with stoppable() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()


def test_three_interrupts_of_a_search_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the end of a search that was given up let the next Ctrl-C count again, which disturbed
    the clean-up or ended in "Aborted!" and the status of a wrong plan."""
    begin()
    with handling([signal.SIGINT], interrupt):
        with pytest.raises(KeyboardInterrupt), stoppable():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_while_the_help_is_written_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bug: "Aborted!" and status 1, which says that a plan was found wrong."""

    def slow(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "format_help", slow)
    assert call("--help").exit_code == 130


def test_outside_the_main_thread_nothing_is_installed() -> None:
    found: list[bool] = []

    def look() -> None:
        with stoppable() as stop:
            found.append(stop.is_set())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [False]


def test_a_search_that_is_stopped_writes_the_plan_that_it_has(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nptp_opt.plan.document import load_plan

    @contextmanager
    def stopped() -> Iterator[threading.Event]:
        event = threading.Event()
        event.set()
        yield event

    monkeypatch.setattr(command, "stoppable", stopped)
    path = tmp_path / "plan.json"
    result = call("solve", MODEL, "-c", cluster, "-o", path, "--input", "1x3x20x24", "--json")
    assert result.exit_code == 130
    content = json.loads(result.stdout)
    assert content["search_cut"] is True and content["bound_s"] <= content["latency_s"]
    assert paper_faults(load_plan(path)) == []


def test_the_same_search_gives_the_same_hash(cluster: Path, tmp_path: Path) -> None:
    """Bug: the hash covered the seconds that planning took."""
    hashes = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.json"
        call("solve", MODEL, "-c", cluster, "-o", path, "--input", "1x3x20x24", "--no-bound")
        hashes.append(json.loads(path.read_text())["hash"])
    assert hashes[0] == hashes[1]
