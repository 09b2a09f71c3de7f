"""How a launcher ends: by whatever signal, with whatever disk, its folder goes."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors import SafetensorError

from nptp_opt import __main__ as command
from nptp_opt.cli import main
from nptp_opt.commands import interrupts
from nptp_opt.errors import INTERRUPTED, ExecutionError
from nptp_opt.runtime.children import ENDING, handling, terminable, undisturbed
from nptp_opt.runtime.launcher import session as session_module
from nptp_opt.runtime.launcher.leftovers import claimed_folder, remove_abandoned_folders
from nptp_opt.runtime.launcher.session import Session
from tests.runtime.plans import five_devices, hand_plan, model_of, strips


@pytest.mark.parametrize("number", ENDING)
def test_every_signal_that_ends_a_process_unwinds_it(number: signal.Signals) -> None:
    """SIGHUP and SIGQUIT left the run's folder: secret, plan and weights."""
    before = signal.signal(number, signal.SIG_DFL)  # under nohup it is ignored
    try:
        with pytest.raises(SystemExit, match=str(128 + number)), terminable():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_clean_up_is_done_before_a_second_interrupt_counts() -> None:
    """A second Ctrl-C during the clean-up left the run's folder."""
    done = []
    with pytest.raises(KeyboardInterrupt), undisturbed():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("cleaned up")
    assert done


def test_the_first_interrupt_is_the_last_that_counts() -> None:
    """A second one while the first was told ended in "Aborted!" and the status of a wrong plan."""
    interrupts.begin()
    with handling([signal.SIGINT], command.interrupt):
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_counts_again_when_the_clean_up_should_be_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bug: where a library had swallowed the first Ctrl-C, no other ended the command."""
    interrupts.begin()
    monkeypatch.setattr(interrupts, "CLEAN_UP_S", -1.0)
    with handling([signal.SIGINT], command.interrupt):
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_of_a_finaliser_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: Ctrl-C while an object was finalised ended in "Exception ignored in ..."; the command
    went on, and no other Ctrl-C ended it."""

    class Interrupted:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(10):  # Python looks for signals here
                pass

    interrupts.begin()
    monkeypatch.setattr(sys, "unraisablehook", command.unraisable)
    monkeypatch.setattr(command, "AGAIN_S", 1.0)  # a loaded machine leaves the hook late
    with handling([signal.SIGINT], command.interrupt), pytest.raises(KeyboardInterrupt):
        Interrupted()
        time.sleep(60)


def test_what_else_a_finaliser_raises_is_told_as_always(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("broken")

    monkeypatch.setattr(sys, "unraisablehook", command.unraisable)
    Broken()
    assert "ValueError: broken" in capsys.readouterr().err


def test_a_signal_that_has_become_another_exception_ends_a_run_as_itself() -> None:
    """Bug: where code of C had turned SystemExit into an exception of its own, SIGTERM was told as
    an internal error (7)."""
    with pytest.raises(SystemExit, match="143"), terminable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except SystemExit:
            raise SystemError("returned NULL") from None
    with pytest.raises(SystemError), terminable():
        raise SystemError("a bug")


def test_an_interrupt_while_torch_is_imported_ends_the_process_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An exception that leaves an import of torch's libraries aborts the process (134)."""
    ends = []

    def end(status: int) -> None:
        ends.append(status)
        raise SystemExit

    monkeypatch.setattr(command.os, "_exit", end)
    monkeypatch.setattr(command, "_has_torch", lambda: False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "interrupted_module.py").write_text("import os\nos.kill(os.getpid(), 2)\n")
    with handling([signal.SIGINT], command.interrupt), pytest.raises(SystemExit):
        __import__("interrupted_module")
    assert ends == [INTERRUPTED]


def test_a_folder_of_a_killed_comparison_is_removed_by_the_next_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``compare`` killed -9 left ``nptp-compare-*`` folders for good."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with claimed_folder("nptp-compare-") as used:
        dead = tmp_path / "nptp-compare-dead"
        dead.mkdir()
        (dead / "lock").touch()  # nobody holds it: its process is gone
        assert remove_abandoned_folders() == (dead,)
        assert used.is_dir()
    assert not used.exists()


def test_memory_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher under `ulimit -v` asked to report a bug, or ended in a traceback."""

    def hungry(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(main.commands["versions"], "callback", hungry)
    result = CliRunner().invoke(main, ["versions"])
    assert result.exit_code == 6 and "not enough memory" in result.output


def test_a_full_disk_under_the_runs_folder_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TMPDIR full between plan and weights ended in a SafetensorError and exit 1."""

    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(session_module, "save_file", full)
    model = model_of("chain")
    session = object.__new__(Session)  # without workers
    session.plan = hand_plan(model, "chain", strips, five_devices())
    session.model, session.folder = model, tmp_path
    with pytest.raises(ExecutionError, match=r"No space left .*; set TMPDIR to a folder with room"):
        session._send_paths({})
