"""``make demo`` on two boards and a small network: what it prints, and the pages that it leaves."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from nptp_opt.cluster import load_cluster
from nptp_opt.runtime.emulation.namespace import TOOLS

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"
CLUSTER = """
[network]
kind = "shared"
mbit_per_s = 20
latency_ms = 0.2
[[device]]
name = "fast"
gflops = 0.2
[[device]]
name = "slow"
gflops = 0.1
"""


def demo(folder: Path, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> int:
    """The script's exit status, on a network and a cluster that are small."""
    (folder / "two.toml").write_text(CLUSTER)
    script = runpy.run_path(str(DEMO))
    names = script["main"].__globals__
    small = {"MODEL": "tests.models:small_cnn", "INPUT": (1, 3, 32, 32), "REPEATS": 1}
    monkeypatch.setattr(sys, "argv", ["demo.py", str(folder / "out")])
    for name, value in {**small, "CLUSTER": folder / "two.toml", **changed}.items():
        monkeypatch.setitem(names, name, value)
    return int(script["main"]())


def plans_of(page: Path) -> list[dict[str, Any]]:
    data = page.read_text().split('id="data">')[1].split("</script>")[0]
    return list(json.loads(data)["plans"])


def test_a_machine_that_cannot_emulate_shows_no_executed_times(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    forked: None,
) -> None:
    """The old table had a column of local times, in which nptp was not faster than its rival."""
    changed = {
        "why_not_emulated": lambda cluster: "the program 'tc' is missing: install iproute2",
        "may_unshare": lambda: False,
        "PLANNERS": ("coedge-style", "nptp"),
    }
    assert demo(tmp_path, monkeypatch, **changed) == 0
    shown = capsys.readouterr()
    assert "executed ms" not in shown.out and "predicted ms" in shown.out
    assert "the program 'tc' is missing: install iproute2" in shown.out
    assert "photo     ok" in shown.out and "verified  ok" in shown.out
    assert str(tmp_path / "out" / "plan.html") in shown.out
    assert "nptp: planning" in shown.err
    assert [plan["measured"] for plan in plans_of(tmp_path / "out" / "both.html")] == [None, None]


@pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason="needs iproute2")
def test_an_emulated_cluster_is_measured_beside_its_prediction(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    forked: None,
) -> None:
    changed = {"PLANNERS": ("strip-equal",), "OURS": "strip-equal", "RIVAL": "strip-equal"}
    found = runpy.run_path(str(DEMO))["why_not_emulated"]
    (tmp_path / "two.toml").write_text(CLUSTER)
    if (why := found(load_cluster(tmp_path / "two.toml"))) is not None:
        pytest.skip(why)
    assert demo(tmp_path, monkeypatch, **changed) == 0
    shown = capsys.readouterr().out
    assert "executed ms" in shown and "speed-up: executed" in shown
    assert "photo     ok" in shown and "verified  ok" in shown
    [plan] = plans_of(tmp_path / "out" / "plan.html")
    assert plan["measured_s"] > 0 and plan["totals"]["latency_s"] > 0
