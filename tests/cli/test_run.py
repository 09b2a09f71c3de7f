"""``run``: long streams, followed and interrupted, and emulations that are worth nothing."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from nptp_opt.commands.following import Following, quantile, run_line
from nptp_opt.errors import InputError
from nptp_opt.runtime.launcher.report import Run, RunOptions
from nptp_opt.runtime.launcher.request import RunRequest
from tests.cli.test_commands import CLUSTER, MODEL, call
from tests.runtime.test_emulate import needs_root

INPUT = "1x3x20x24"


def _plan(folder: Path, name: str, cluster: str) -> Path:
    (folder / f"{name}.toml").write_text(cluster)
    done = call("solve", MODEL, "-c", folder / f"{name}.toml", "-o", folder / f"{name}.json",
                "--input", INPUT, "--planner", "strip-equal", "--no-bound")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return folder / f"{name}.json"


def test_quantiles_are_values_that_were_measured() -> None:
    """Nearest rank: of 100 values the 95th is the 95 % quantile."""
    values = [float(k) for k in range(100, 0, -1)]
    assert [quantile(values, share) for share in (0.5, 0.95, 0.99)] == [50.0, 95.0, 99.0]
    assert quantile([7.0], 0.99) == 7.0


def test_lines_are_there_at_once_and_the_pace_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    with Following(tmp_path / "runs.ndjson", said.append) as follow:
        for k in range(3):
            run = Run(0.1 + k / 100, 5.0 + k / 2, float("inf") if k == 2 else 0.0, k < 2, 12, {},
                      None, {})  # type: ignore[arg-type]  # fmt: skip
            follow.note(run_line(k, run), lost=k // 2)
            lines = (tmp_path / "runs.ndjson").read_text().splitlines()
            assert len(lines) == k + 1
    assert json.loads(lines[1]) == {
        "input": 1, "latency_s": 0.11, "ended_s": 5.5, "bytes": 12, "ok": True, "error": 0.0,
    }  # fmt: skip
    assert json.loads(lines[2])["error"] is None
    assert said[-1] == (
        "3 inputs, p50 / p95 / p99 110 / 120 / 120 ms, 2 per second, 1 devices lost"
    )
    with pytest.raises(InputError, match="cannot be written"):
        Following(tmp_path / "no" / "file", said.append).__enter__()


@pytest.mark.usefixtures("forked")
def test_ctrl_c_ends_a_stream_with_its_summary(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Status 130; the file has a line for every input of the summary."""
    plan, lines = _plan(tmp_path, "plan", CLUSTER), tmp_path / "runs.ndjson"

    def interrupt() -> None:
        while not (lines.exists() and len(lines.read_text().splitlines()) >= 3):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    done = call("run", plan, "--stream", 100_000, "--ndjson", lines, "--json")
    assert done.exit_code == 130, done.stderr
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert json.loads(done.stdout)["runs"] == len(found) >= 3
    assert [each["input"] for each in found] == list(range(len(found)))
    assert "ending the run" in capfd.readouterr().err


@needs_root
@pytest.mark.usefixtures("forked")
def test_an_emulation_of_boards_faster_than_this_machine_is_void(tmp_path: Path) -> None:
    """The first line says so, and the status is 6: what was measured is not the plan's latency."""
    fast = CLUSTER.replace("gflops = 2", "gflops = 1e7").replace("gflops = 1\n", "gflops = 1e7\n")
    done = call("run", _plan(tmp_path, "fast", fast), "--emulate", "--repeats", 1)
    assert done.exit_code == 6
    assert done.stdout.splitlines()[0].startswith("VOID: this machine was too slow")
    assert "VOID" in done.stderr


@needs_root
@pytest.mark.usefixtures("forked")
def test_a_slower_clock_emulates_faster_boards(tmp_path: Path) -> None:
    """What is told is on the boards' clock: a second of theirs took a thousand here, and no task of
    theirs was shorter than modelled."""
    plan, lines = _plan(tmp_path, "plan", CLUSTER), tmp_path / "runs.ndjson"
    start = time.monotonic()
    done = call("run", plan, "--emulate", "--dilate", 1000, "--repeats", 2, "--warmup", 0,
                "--ndjson", lines, "--json")  # fmt: skip
    took_s = time.monotonic() - start
    assert done.exit_code == 0, done.stderr
    assert "its clock 1000 times slower" in done.stderr
    found = json.loads(done.stdout)
    assert found["dilate"] == 1000 and found["void"] is False
    assert sum(found["latencies_s"]) * 1000 < took_s
    flop = sum(layer["flop"] for layer in json.loads(plan.read_text())["network"]["layers"])
    assert flop / 3e9 < found["latency_s"]["min"]
    ended = [json.loads(line)["ended_s"] for line in lines.read_text().splitlines()]
    assert 0 < (ended[1] - ended[0]) * 1000 < took_s
    assert found["rate_per_s"] == pytest.approx(1 / (ended[1] - ended[0]))


def test_a_slower_clock_is_of_an_emulated_cluster() -> None:
    for options in ({"dilate": 2.0}, {"dilate": 2.0, "emulate": True, "throttle": "none"}):
        with pytest.raises(InputError, match="`dilate` slows the clock of an emulated cluster"):
            RunRequest(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be 1 or more"):
        RunOptions(dilation=0.5)


@needs_root
@pytest.mark.usefixtures("forked")
def test_an_emulated_run_stands_beside_one_device_of_the_cluster(tmp_path: Path) -> None:
    """Bug: `single_device_s` was this machine's, as if distribution made a plan slower."""
    slow = CLUSTER.replace("gflops = 2", "gflops = 2e-3").replace("gflops = 1\n", "gflops = 1e-3\n")
    plan = _plan(tmp_path, "slow", slow)
    done = call("run", plan, "--emulate", "--repeats", 1, "--warmup", 0, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    flop = sum(layer["flop"] for layer in json.loads(plan.read_text())["network"]["layers"])
    assert found["void"] is False
    assert found["single_device_s"] == pytest.approx(flop / 2e6, rel=0.05)
