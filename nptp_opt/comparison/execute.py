"""Executes the plans of a results file and keeps what was measured: ``report --execute``.

Every plan goes through ``nptp-opt run`` in a process of its own, one at a time, so that plans do
not disturb each other. What was measured before is not measured again; what failed is tried again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nptp_opt.comparison.records import Record
from nptp_opt.comparison.store import Store
from nptp_opt.errors import ExecutionError, InputError
from nptp_opt.runtime.launcher.leftovers import claimed_folder

How = Literal["local", "emulated"]

FUTILE = 3
"""After so many failures in a row the others are not tried."""


@dataclass(frozen=True)
class Request:
    """``emulate``: one network namespace per device at the cluster's rates and speeds.

    Without it local processes run as fast as this machine lets them, which says little about the
    cluster. ``limit_s`` bounds one plan's whole execution, its import included.
    """

    emulate: bool = False
    repeats: int = 5
    limit_s: float = 600.0

    @property
    def how(self) -> How:
        return "emulated" if self.emulate else "local"

    @property
    def options(self) -> list[str]:
        """What ``run`` is called with."""
        return ["--json", "--repeats", str(self.repeats), *(["--emulate"] if self.emulate else [])]


def execute_plans(
    store: Store, records: Sequence[Record], request: Request, say: Callable[[str], None]
) -> None:
    """Execute every confirmed plan that has not been measured this way; commit each at once.

    Raises InputError where there is no plan, ExecutionError when several fail in a row.
    """
    plans = [r for r in records if r.row["kind"] == "network" and r.value_s is not None]
    if not plans:
        raise InputError(f"{store.path}: holds no plan to execute: compare networks by planners")
    known = {
        row["key"]
        for row in store.executions()
        if row["how"] == request.how and row["measured_s"] is not None
    }
    left = [record for record in plans if record.row["key"] not in known]
    failures = 0
    for number, record in enumerate(left, start=1):
        execution = _execute(store.plan(record.row["key"]), request)
        store.save_execution({"key": record.row["key"], "how": request.how, **execution})
        ended = execution["message"] or f"{execution['measured_s'] * 1e3:.1f} ms"
        say(f"{number}/{len(left)}  {record.instance}  {record.contender}  {ended}")
        failures = failures + 1 if execution["message"] else 0
        if failures == FUTILE:
            raise ExecutionError(f"{FUTILE} plans in a row could not be executed; last: {ended}")


def _execute(plan: str | None, request: Request) -> dict[str, Any]:
    began = {"started_at": time.time(), "repeats": request.repeats, "message": None}
    if plan is None:
        return {**began, "message": "its plan is not in the results file"}
    with claimed_folder("nptp-execute-") as folder:
        path = folder / "plan.json"
        path.write_text(plan)
        code, out, err = _call([str(path), *request.options], request.limit_s)
    if code != 0:
        last = (err.strip().splitlines() or [""])[-1].removeprefix("nptp-opt: ")
        return {**began, "message": f"run ended with {code}: {last}"}
    latency = json.loads(out)["latency_s"]
    return {
        **began,
        "measured_s": latency["median"],
        "fastest_s": latency["min"],
        "slowest_s": latency["max"],
    }


def _call(words: Sequence[str], limit_s: float) -> tuple[int, str, str]:
    """``nptp-opt run`` in a process group of its own: exit code, stdout, stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nptp_opt.cli", "run", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL, "", f"killed after {limit_s:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err
