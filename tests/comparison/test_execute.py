"""``report --execute``: plans of a comparison, executed, measured once, and reported."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nptp_opt.cli import main
from nptp_opt.comparison import execute
from nptp_opt.comparison.execute import Request
from nptp_opt.comparison.measures import execution_table, profiles
from nptp_opt.comparison.records import Record, records_of
from nptp_opt.comparison.runs import Run
from nptp_opt.comparison.store import Store
from tests.comparison.runs import execute_here, row

NETWORK: dict[str, Any] = {
    "schema": "nptp-opt/instance/1",
    "kind": "network",
    "name": "small",
    "model": {"ref": "tests.models:small_cnn", "input": [1, 3, 24, 24]},
    "cluster": {
        "network": {"kind": "switched"},
        "device": [
            {"name": name, "gflops": 0.05, "up_mbit_per_s": 50, "down_mbit_per_s": 50}
            for name in ("a", "b")
        ],
    },
}


def call(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two planners on a small network."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "small.json").write_text(json.dumps(NETWORK))
    planners = ["--planner", "strip-equal", "--planner", "single"]
    words = ["--instance", folder / "small.json", "--time-limit", 20, *planners]
    done = call("compare", "-o", folder / "r.sqlite", *words, "--json")
    assert json.loads(done.stdout)["finished"] == 2, done.stderr
    return folder / "r.sqlite"


@pytest.fixture
def results(compared: Path, tmp_path: Path) -> Path:
    path = tmp_path / "r.sqlite"
    path.write_bytes(compared.read_bytes())
    return path


def test_a_planners_run_is_confirmed_and_keeps_its_plan(compared: Path) -> None:
    with Store(compared, create=False) as store:
        for found in store.rows():
            assert found["fault"] is None and found["value_s"] > 0
            plan = json.loads(store.plan(found["key"]) or "")
            assert plan["provenance"]["planner"] == found["method"]
            assert plan["latency_s"] == pytest.approx(found["value_s"])


def test_the_planner_nptp_tells_its_incumbents() -> None:
    """Values fall to the plan's; the last point has the bound."""
    found = execute_here(Run(NETWORK, "nptp", time_limit_s=30.0))
    values = [value for _, value, _ in found["trace"]]
    assert len(values) >= 2 and values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(found["value_s"])
    assert found["trace"][-1][2] == pytest.approx(found["bound_s"])


def report(path: Path, *options: object) -> dict[str, Any]:
    done = call("report", path, *options, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"stderr": done.stderr}


def test_plans_are_executed_once_and_stay_in_the_report(results: Path, tmp_path: Path) -> None:
    """One of them cannot be: the other is measured all the same, and it is tried again."""
    single = _take_plan(results, "single")
    found = report(results, "--execute", "--repeats", 2)
    assert _counts(found) == {"strip-equal": 1, "single": 0} and "1/2  small" in found["stderr"]
    (failed,) = found["tables"]["unexecuted"]
    assert failed["contender"] == "single" and "not in the results file" in failed["message"]
    with sqlite3.connect(results) as db:
        db.execute("INSERT INTO plans VALUES (?, ?)", single)
    found = report(results, "--execute", "--repeats", 2, "--csv", tmp_path / "r.csv")
    rows = found["tables"]["executed"]
    assert _counts(found) == {"strip-equal": 1, "single": 1}  # whichever is faster comes first
    assert "1/1  small" in found["stderr"] and {r["how"] for r in rows} == {"local"}
    assert min(r["ratio"] for r in rows) == 1.0 and all(r["measured_s"] > 0 for r in rows)
    again = report(results, "--execute")
    assert again["stderr"] == "" and again["tables"]["executed"] == rows
    assert report(results)["tables"]["executed"] == rows
    assert (tmp_path / "r.csv").read_text().splitlines()[0].endswith("slowest_s,repeats")


def _take_plan(results: Path, method: str) -> tuple[str, bytes]:
    """Key and plan of a method's run, which the file no longer has."""
    with Store(results, create=False) as store:
        key = next(r["key"] for r in store.rows() if r["method"] == method)
    with sqlite3.connect(results) as db:
        query = "SELECT key, content FROM plans WHERE key = ?"
        found: tuple[str, bytes] = db.execute(query, (key,)).fetchone()
        db.execute("DELETE FROM plans WHERE key = ?", (key,))
    return found


def _counts(found: dict[str, Any]) -> dict[str, int]:
    return {r["contender"]: r["executed"] for r in found["tables"]["executed"]}


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.usefixtures("forked")
def test_plans_are_executed_on_emulated_clusters(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulated devices are slow: no plan takes less than its slowest device computes."""
    monkeypatch.setattr(execute, "_call", _run_here)
    monkeypatch.setattr("nptp_opt.runtime.trace.MOST_OVERRUN", math.inf)  # never void
    found = report(results, "--execute", "--emulate", "--repeats", 2)["tables"]["executed"]
    assert {r["how"] for r in found} == {"emulated"}
    assert all(r["executed"] == 1 and r["error"] is not None for r in found)
    with Store(results, create=False) as store:
        values = {r["key"]: r["value_s"] for r in store.rows()}
        assert all(e["measured_s"] > 0.5 * values[e["key"]] for e in store.executions())


def _run_here(words: Sequence[str], limit_s: float) -> tuple[int, str, str]:
    """`nptp-opt run` in this process."""
    done = call("run", *words)
    return done.exit_code, done.stdout, done.stderr


def test_a_plan_that_hangs_is_killed(results: Path) -> None:
    with Store(results, create=False) as store:
        plan = store.plan(store.rows()[0]["key"])
    assert execute._execute(plan, Request(limit_s=0.1))["message"].endswith("killed after 0.1 s")


def test_without_plans_there_is_nothing_to_execute(tmp_path: Path) -> None:
    from tests.comparison.runs import run

    with Store(tmp_path / "r.sqlite") as store:
        found = {"harness": "finished", "status": "optimal", "value_s": 1.0}
        store.finish({"run": run("column-dp", plugins=()), **found})
    done = call("report", tmp_path / "r.sqlite", "--execute")
    assert done.exit_code == 2 and "no plan to execute" in done.stderr


def test_options_of_execution_need_it(results: Path) -> None:
    done = call("report", results, "--emulate")
    assert done.exit_code == 2 and "belong to --execute" in done.stderr


def measured(*entries: tuple[str, str, float | None]) -> list[Record]:
    """Records of (method, instance, measured latency); planned 1 s each."""
    network = {"kind": "network", "status": "feasible", "value_s": 1.0}
    rows = [
        row(**network, method=method, instance=name, key=f"{method} {name}")
        for method, name, _ in entries
    ]
    known = {
        f"{method} {name}": {"how": "emulated", "measured_s": seconds, "message": "m"}
        for method, name, seconds in entries
    }
    return records_of(rows, executions=known)


def test_measured_latencies_are_compared_where_all_have_one() -> None:
    """b takes twice as long on i1; i2 failed for b and counts for neither."""
    records = measured(("a", "i1", 1.0), ("a", "i2", 4.0), ("b", "i1", 2.0), ("b", "i2", None))
    a, b = execution_table(records)
    assert (a["executed"], a["failed"], a["shared"], a["ratio"]) == (2, 0, 1, 1.0)
    assert (b["executed"], b["failed"], b["shared"]) == (1, 1, 1)
    assert b["ratio"] == pytest.approx(2.0) and b["error"] == pytest.approx(0.5)
    assert a["error"] == pytest.approx((0 + 0.75) / 2)
    assert profiles(records, "measured")["b"] == [(1.0, 0.0), (2.0, 0.5)]
