"""Where output cannot go: a full disk, a pipe that nobody reads, an interrupt at the start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "nptp_opt"]
PRINTS = [["--help"], ["--version"], ["formulations"], ["formulations", "--json"]]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", PRINTS, ids=" ".join)
def test_a_full_disk_is_told_in_one_line(arguments: list[str]) -> None:
    """Bug: a traceback and exit 1, which says that a plan was found wrong, or an internal error."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 2
    assert ended.stderr == "nptp-opt: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("arguments", PRINTS, ids=" ".join)
def test_a_pipe_that_nobody_reads_ends_the_command_as_in_a_shell(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [*COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_an_interrupt_while_the_command_is_imported_shows_no_traceback() -> None:
    """Bug: Ctrl-C in the first 0.4 s of any command ended in a traceback."""
    slow = (
        "import signal, sys, time, types; from nptp_opt.__main__ import main;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"  # a background job's is ignored
        "click = sys.modules['click'] = types.ModuleType('click');"
        "click.__getattr__ = lambda name: (print('here', flush=True), time.sleep(60));"
        "main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", slow], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "here\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "nptp-opt: interrupted\n")
