"""Ctrl-C during ``solve``: the best plan so far is written, and the exit status says so."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nptp_opt.commands import solve as command
from nptp_opt.commands.interrupts import stoppable
from nptp_opt.verification.static import paper_faults
from tests.cli.test_commands import MODEL, call, cluster

__all__ = ["cluster"]


def test_the_first_interrupt_sets_the_event_and_the_second_interrupts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stoppable() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        os.kill(os.getpid(), signal.SIGINT)
    assert "Ctrl-C again to give up" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


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
