"""Does one run in a fresh process group, watches it, and turns its end into a row.

A run is killed with its whole group at its time limit plus grace (counted from where its method is
called), and above its memory limit.
Values are never taken from the run: ``recheck`` evaluates its tiles again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nptp_opt import __version__
from nptp_opt.comparison.child import STARTED
from nptp_opt.comparison.recheck import recheck
from nptp_opt.comparison.runs import Run
from nptp_opt.runtime.launcher.leftovers import claimed_folder

POLL_S = 0.02
MEASURE_EVERY = 5
"""Memory is read at every fifth poll."""
STARTUP_S = 300.0
"""How long imports and loading of a model may take; the run's own limit begins after them."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class StoppedError(Exception):
    """The batch was told to stop; the run has no outcome."""


@dataclass(frozen=True)
class _End:
    """How the process ended: ``reason`` is why the harness killed it, None where it did not."""

    code: int
    reason: str | None
    wall_s: float
    cpu_s: float
    peak_mib: float


def execute(run: Run, stop: threading.Event | None = None) -> dict[str, Any]:
    """Do the run and return its row for ``store``; raises StoppedError once ``stop`` is set."""
    stop = stop or threading.Event()
    if stop.is_set():
        raise StoppedError
    with claimed_folder("nptp-compare-") as folder:
        (folder / "run.json").write_text(json.dumps(run.to_json()))
        started = time.time()
        with (folder / "stdout.log").open("wb") as out, (folder / "stderr.log").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "nptp_opt.comparison.child", str(folder)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=_environment(run.threads, folder),
                start_new_session=True,
            )
            try:
                end = _watch(process, run, stop, folder / STARTED)
            finally:
                _kill(process.pid)
                assert process.stdin is not None
                process.stdin.close()
        return {**_row(run, folder, end), "started_at": started, "tool": __version__}


def _environment(threads: int, folder: Path) -> dict[str, str]:
    """What a solver leaves in its temporary folder when it is killed goes with the run's."""
    pinned = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return {**os.environ, **pinned, "PYTHONHASHSEED": "0", "TMPDIR": str(folder)}


def _watch(process: subprocess.Popen[bytes], run: Run, stop: threading.Event, mark: Path) -> _End:
    """Wait for the process; kill its group where a limit is reached.

    ``mark`` is the file that the process makes when the method is called.
    """
    began = time.perf_counter()
    deadline, started = began + STARTUP_S, False
    reason, peak, polls = None, 0.0, 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            spent = time.perf_counter() - began
            peak = peak or usage.ru_maxrss / 1024
            return _End(process.returncode, reason, spent, usage.ru_utime + usage.ru_stime, peak)
        if polls % MEASURE_EVERY == 0:
            peak = max(peak, _resident_mib(process.pid))
        polls += 1
        if not started and mark.exists():
            started, deadline = True, time.perf_counter() + run.time_limit_s + run.grace_s
        reason = reason or _reason(run, peak, deadline, stop)
        if reason is not None:
            _kill(process.pid)
        if reason == "stopped":
            os.waitpid(process.pid, 0)
            process.returncode = -signal.SIGKILL
            raise StoppedError
        stop.wait(POLL_S)


def _reason(run: Run, peak: float, deadline: float, stop: threading.Event) -> str | None:
    if stop.is_set():
        return "stopped"
    if peak > run.memory_mib:
        return "out-of-memory"
    return "timeout" if time.perf_counter() > deadline else None


def _kill(group: int) -> None:
    """Kill what is left of the run's process group."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _resident_mib(pid: int) -> float:
    """Resident size of a process and its descendants in MiB; 0 where there is no /proc."""
    base = Path(f"/proc/{pid}")
    try:
        pages = int((base / "statm").read_text().split()[1])
        tasks = list((base / "task").iterdir())
        children = [c for task in tasks for c in (task / "children").read_text().split()]
    except (OSError, IndexError):
        return 0.0
    own = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return own + sum(_resident_mib(int(child)) for child in children)


def _row(run: Run, folder: Path, end: _End) -> dict[str, Any]:
    outcome = _outcome(folder)
    harness, message = _harness(run, end, outcome, folder)
    row = {
        "run": run,
        "harness": harness,
        "message": message,
        "wall_s": end.wall_s,
        "cpu_s": end.cpu_s,
        "peak_mib": max(end.peak_mib, outcome.get("peak_mib") or 0.0),
        "stdout_bytes": (folder / "stdout.log").stat().st_size,
    }
    if harness == "finished":
        kept = {"status": outcome["status"], "trace": outcome.get("trace", [])}
        row |= {**kept, "build_s": outcome.get("build_s"), **recheck(run, folder)}
    return row


def _outcome(folder: Path) -> dict[str, Any]:
    path = folder / "outcome.json"
    outcome: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return outcome


def _harness(
    run: Run, end: _End, outcome: Mapping[str, Any], folder: Path
) -> tuple[str, str | None]:
    """The harness's status and what there is to say about it."""
    if outcome:
        return outcome["harness"], outcome.get("message")
    if end.reason == "timeout" and not (folder / STARTED).exists():
        return "timeout", f"killed {STARTUP_S:g} s after its start: it had not begun to solve"
    if end.reason == "timeout":
        return "timeout", f"killed {run.grace_s:g} s after its limit of {run.time_limit_s:g} s"
    near = end.code != 0 and end.peak_mib > 0.95 * run.memory_mib
    if end.reason == "out-of-memory" or near:
        return "out-of-memory", f"{end.peak_mib:.0f} MiB; the limit is {run.memory_mib:g} MiB"
    last = (folder / "stderr.log").read_text(errors="replace").strip().splitlines()[-1:]
    how = f"signal {signal.Signals(-end.code).name}" if end.code < 0 else f"exit code {end.code}"
    return "crash", ": ".join([f"died by {how}", *last])
