"""Planning, proving and running need no network: not even loopback is up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_commands import CLUSTER, MODEL

ROOT = Path(__file__).parents[2]

UNSHARE = ["unshare", "--net", "--user", "--map-root-user"]

COMMANDS = """
import socket, sys
from click.testing import CliRunner
from nptp_opt.cli import main
try:
    socket.create_connection(("127.0.0.1", 9), 5)
except OSError as error:
    assert error.errno == 101, error  # the network is unreachable
for words in (
    ["solve", sys.argv[1], "-c", "c.toml", "-o", "plan.json", "--input", "1x3x20x24",
     "--planner", "column-dp"],
    ["verify", "plan.json", "--bound"],
    ["run", "plan.json", "--repeats", "1"],
    ["show", "plan.json", "--html", "plan.html"],
):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, (words, result.output)
"""


@pytest.mark.skipif(
    subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
    reason="this kernel refuses user namespaces",
)
def test_plans_are_made_proven_and_run_without_any_network(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CLUSTER)
    ended = subprocess.run(
        [*UNSHARE, sys.executable, "-c", COMMANDS, MODEL],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
