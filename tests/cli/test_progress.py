"""Something moves on a terminal while a command works; scripts see whole lines only."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.cli.test_commands import CLUSTER, MODEL


def _solve(folder: Path, stderr: int) -> subprocess.CompletedProcess[str]:
    slow = CLUSTER.replace("gflops = ", "gflops = 0.0")  # so that two devices pay
    (folder / "c.toml").write_text(slow)
    args = ["solve", MODEL, "-c", folder / "c.toml", "-o", folder / "p.json", "--json"]
    command = [sys.executable, "-m", "nptp_opt.cli", *map(str, args), "--input", "1x3x20x24"]
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        check=True,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"},
    )


def _read_all(terminal: int) -> str:
    """What comes until nobody is at the other end; then Linux says EIO."""
    found = b""
    with suppress(OSError):
        while part := os.read(terminal, 2**16):
            found += part
    return found.decode()


def test_a_terminal_shows_what_is_going_on(tmp_path: Path) -> None:
    """Bug: between "planning" and the result nothing told that the program was alive."""
    master, slave = pty.openpty()
    with ThreadPoolExecutor() as pool:
        seen_later = pool.submit(_read_all, master)
        try:
            result = _solve(tmp_path, slave)
        finally:
            os.close(slave)
        seen = seen_later.result()
    os.close(master)
    assert "planning, fastest so far" in seen and "0:00:0" in seen
    assert seen.endswith("\x1b[2K"), "the line is taken away at the end"
    assert "\x1b[?25l" not in seen, "killed by `timeout`, it would leave no cursor"
    assert json.loads(result.stdout)["planner"] == "nptp"


def test_a_script_sees_no_moving_line(tmp_path: Path) -> None:
    result = _solve(tmp_path, subprocess.PIPE)
    lines = result.stderr.splitlines()
    assert [line.split()[0] for line in lines] == ["importing", "comparing", "planning"], (
        result.stderr
    )
    assert "\x1b" not in result.stderr and "\r" not in result.stderr
