"""Runs and rows for the tests of batch comparison."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path
from typing import Any

from nptp_opt.comparison import child, harness
from nptp_opt.comparison.records import Record, records_of
from nptp_opt.comparison.runs import Run

INSTANCE: dict[str, Any] = {
    "schema": "nptp-opt/instance/1",
    "kind": "layer",
    "name": "tiny",
    "layer": {
        "op": "conv2d",
        "in_channels": 8,
        "out_channels": 8,
        "in_height": 6,
        "in_width": 6,
        "kernel": [3, 3],
        "padding": [1, 1, 1, 1],
    },
    "cluster": {
        "network": {"kind": "shared", "mbit_per_s": 100},
        "device": [{"name": "a", "gflops": 0.001}, {"name": "b", "gflops": 0.001}],
    },
}

PLUGIN = "tests.comparison.plugin"
"""Never imported by a test: importing it registers methods that kill their process."""

LOG = "NPTP_TEST_LOG"
"""Environment variable: a file or folder that the plugin's methods write to."""


def run(method: str, **changes: Any) -> Run:
    """A run of a method on the tiny instance."""
    settings: dict[str, Any] = {"time_limit_s": 20.0, "plugins": (PLUGIN,), **changes}
    return Run(instance=INSTANCE, method=method, **settings)


def execute_here(which: Run, stop: threading.Event | None = None) -> dict[str, Any]:
    """The row of ``harness.execute`` without a process: no limits, and nothing measured.

    For what a method does: a process imports torch first and reads what numba has compiled. One at
    a time: torch exports no two models at once.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stdout.log").touch()
        (folder / "outcome.json").write_text(json.dumps(child.do(which, folder)))
        found = harness._row(which, folder, harness._End(0, None, 0.0, 0.0, 0.0))
        return {**found, "started_at": 0.0, "tool": "test"}


def row(**changes: Any) -> dict[str, Any]:
    """A stored row with sensible values."""
    base: dict[str, Any] = {
        "instance": "i1",
        "kind": "layer",
        "method": "column-dp",
        "solver": None,
        "seed": 0,
        "time_limit_s": 10.0,
        "harness": "finished",
        "status": "optimal",
        "message": None,
        "fault": None,
        "value_s": 1.0,
        "bound_s": 1.0,
        "any_bound_s": None,
        "root_bound_s": None,
        "synchronous_s": None,
        "bound_s_seconds": None,
        "nodes": None,
        "rows": None,
        "columns": None,
        "nonzeros": None,
        "integers": None,
        "build_s": 0.0,
        "solve_s": 1.0,
        "wall_s": 1.5,
        "cpu_s": 1.2,
        "peak_mib": 50.0,
        "stdout_bytes": 0,
        "started_at": 0.0,
        "tool": "0",
        "tiles": None,
        "notes": None,
        "trace": [[1.0, 1.0, 1.0]],
        "key": "k",
    }
    return {**base, **changes}


def records(*rows: dict[str, Any]) -> list[Record]:
    """Records of such rows."""
    return records_of([row(**entry) for entry in rows])
