"""What the runtime's benchmarks share: clusters, plans, records, and the protocol of one run."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layer_cases import RESULTS, provenance

from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.network.load import LoadedModel
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.planner.assemble import Choice, assemble
from nptp_opt.planner.simulate import simulate
from nptp_opt.planner.templates import Template, columns, grid, strips
from nptp_opt.runtime.emulate import EmulatedCluster
from nptp_opt.runtime.launch import run_plan
from nptp_opt.runtime.timeline import critical_shares, overrun_s
from nptp_opt.steps import ModelRef, Plan

Row = dict[str, Any]

TEMPLATES = {
    "strips": strips("strips", range(4), [1.0] * 4, vertical=False),
    "2x2": grid("2x2", 2, 2),
    "T of three": columns("T", [[0], [1, 2]], dict.fromkeys(range(3), 1.0), transpose=True),
}


def cluster(n: int, gflops: float, mbit_per_s: float, *, shared: bool) -> Cluster:
    """Equal devices; 0.5 ms per message, 0.1 ms per layer call."""
    devices: list[Row] = [{"name": f"d{i}", "gflops": gflops, "overhead_ms": 0.1} for i in range(n)]
    network: Row = {"kind": "shared" if shared else "switched", "latency_ms": 0.5}
    if shared:
        network["mbit_per_s"] = mbit_per_s
    else:
        rates = {"up_mbit_per_s": mbit_per_s, "down_mbit_per_s": mbit_per_s}
        devices = [device | rates for device in devices]
    return cluster_from_json({"network": network, "device": devices})


def template_plan(ref: ModelRef, model: LoadedModel, where: Cluster, template: Template) -> Plan:
    """One template for every layer, one layer per step."""
    network = model.network
    choices = [
        Choice((layer,), {} if layer.kind == "global" else template.at(layer.height, layer.width))
        for layer in network.shared_out
    ]
    steps = assemble(network, where, choices)
    return Plan(ref, network, where, steps, simulate(network, where, steps))


def plan_of(name: str, ref: ModelRef, model: LoadedModel, where: Cluster) -> Plan:
    """A plan by the name of a template or of a planner."""
    if name in TEMPLATES:
        return template_plan(ref, model, where, TEMPLATES[name])
    return plan_network(ref, model.network, where, PlanOptions(planner=name))


def measure(plan: Plan, model: LoadedModel, repeats: int) -> Row:
    """The plan on its emulated cluster, padded; asserts that every run gave the model's result."""
    with EmulatedCluster(plan.cluster) as site:
        report = run_plan(
            plan, model, site=site, transport="tcp", throttle="pad", repeats=repeats, warmup=1
        )
    assert report.ok, f"error {report.max_abs_error}"
    return {
        "predicted_s": plan.predicted_s,
        "latency_s": plan.latency_s,
        "executed_s": report.median_s,
        "runs_s": list(report.latency_s),
        "error": plan.predicted_s / report.median_s - 1.0,
        "overrun_s": overrun_s(report.plan, report.spans),
        "bytes": report.bytes,
        "critical_s": critical_shares(report.plan, report.spans),
    }


def say(row: Row, keys: Sequence[str]) -> None:
    """One line of progress on stderr."""
    print(json.dumps({key: row[key] for key in keys}), file=sys.stderr, flush=True)


def machine() -> Row:
    """Commit, machine, load and versions; no host name."""
    system = {"system": f"{platform.system()} {platform.release()}", "load": os.getloadavg()[0]}
    return provenance() | system


def write_results(name: str, content: Row, text: str) -> Path:
    """``benchmarks/results/NAME.json`` and ``.md``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(text)
    return RESULTS / f"{name}.md"
