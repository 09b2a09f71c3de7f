"""Everything at once in an emulated cluster, as root and in a user namespace.

A network with a skip, a head and two outputs; unequal devices, source and sink apart, the sink
without a tile; split linear layers, pieces and every transfer type; by hand and by ``nptp``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.geometry import Tile
from nptp_opt.network.load import LoadedModel
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.runtime.emulation.network import EmulatedCluster
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.pool import WorkerPool
from tests.builders import make_cluster
from tests.runtime.forked import Template, forking
from tests.runtime.plans import INPUT, hand_plan, in_pieces, model_of, unequal
from tests.runtime.test_emulate import needs_root, needs_user_namespaces

DTYPES = ("float32", "float16", "bfloat16", "int8")
SPEEDS = (2e-2, 1e-2, 1e-2, 3e-2, 1e-2)


def _cluster() -> Cluster:
    """Slow enough for heads that are worth splitting; input on d1, result wanted on d4."""
    return make_cluster(SPEEDS, rates=20.0, latency_ms=0.5, source="d1", sink="d4")


def _unequal(height: int, width: int) -> Mapping[int, Tile]:
    """Maps on d3, d1 and d0; features of linear layers on d2, d0 and d3. d4 owns nothing."""
    if width > 1:
        return unequal(height, width)
    a, b = height // 5, height // 2
    return {2: Tile(0, a, 0, 1), 0: Tile(a, b, 0, 1), 3: Tile(b, height, 0, 1)}


def _plans(model: LoadedModel) -> Iterator[tuple[str, Plan]]:
    """One partition with every transfer type, and what the planner makes of the smallest."""
    for dtype in DTYPES:
        cluster = _cluster().sending_as(dtype)
        yield dtype, in_pieces(hand_plan(model, "together", _unequal, cluster))
    ref = ModelRef("tests.runtime.models:together", INPUT)
    yield "nptp int8", plan_network(ref, model.network, cluster, PlanOptions())


def _split_heads(plan: Plan) -> int:
    """Linear layers that more than one device computes."""
    linear = {layer.name for layer in plan.network.vectors}
    return sum(len(step.tiles) > 1 for step in plan.steps if linear & set(step.layers))


def run_alone() -> dict[str, dict[str, Any]]:
    """``run_together`` in a process of its own."""
    with Template() as template, forking(template):
        return run_together()


def run_together() -> dict[str, dict[str, Any]]:
    """Every plan with every transfer type on one pool of workers, each in a namespace."""
    model, found = model_of("together"), {}
    with (
        EmulatedCluster(_cluster()) as site,
        WorkerPool([f"d{i}" for i in range(5)], timeout_s=60, site=site) as pool,
    ):
        for name, plan in _plans(model):
            report = run_plan(
                plan, model, pool=pool, site=site, transport="tcp", throttle="pad",
                repeats=2, warmup=0,
            )  # fmt: skip
            found[name] = {
                "ok": report.ok,
                "bytes": report.bytes,
                "planned_bytes": plan.transfer_bytes,
                "error": report.max_abs_error,
                "devices": sorted(report.spans),
                "in_pieces": sum(bool(getattr(step, "pieces", ())) for step in plan.steps),
                "split_heads": _split_heads(plan),
            }
    return found


def _check(found: Mapping[str, Mapping[str, Any]]) -> None:
    """As promised: the planned bytes, the model's result, and the transfer type's error."""
    assert len(found) == len(DTYPES) + 1
    exact = found["float32"]
    assert exact["ok"] and exact["error"] < 1e-5
    assert exact["devices"] == ["d0", "d1", "d2", "d3", "d4"]
    for name, row in found.items():
        assert row["in_pieces"] > 0 and row["split_heads"] > 0, name
        assert row["bytes"] == row["planned_bytes"]
        if row is not exact:
            assert row["ok"] and row["error"] > 1e-7, name
            assert row["bytes"] < exact["bytes"]


@needs_root
@pytest.mark.usefixtures("forked")
def test_everything_together() -> None:
    """In namespaces that root makes."""
    _check(run_together())


@needs_user_namespaces
def test_everything_together_without_root() -> None:
    """As a user without rights sees it: root in a namespace of users, nobody outside."""
    code = "import json, tests.runtime.test_together as t; print(json.dumps(t.run_alone()))"
    done = subprocess.run(
        ["unshare", "-Ur", sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    _check(json.loads(done.stdout))
