"""What the runtime's benchmarks share: clusters, plans, records, and the protocol of one run."""

from __future__ import annotations

import functools
import json
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

from about import kept, provenance, save

from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.usage import evaluated
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.planner.baselines.linears import in_head, on_sink
from nptp_opt.planner.candidates.templates import Template, columns, grid, strips
from nptp_opt.runtime.emulation.network import EmulatedCluster
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.profiling.timeline import critical_shares, overrun_s

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
    """One template for every map, one layer per step; linear layers stay on the sink."""
    network = model.network
    choices = [
        Choice((layer,), {} if layer.kind == "global" else template.at(layer.height, layer.width))
        for layer in in_head(network).shared_out
    ]
    steps = assemble(network, where, [*choices, *on_sink(network, where)])
    return evaluated(Plan(ref, network, where, steps, 0.0))


def plan_of(name: str, ref: ModelRef, model: LoadedModel, where: Cluster) -> Plan:
    """A plan by the name of a template or of a planner."""
    if name in TEMPLATES:
        return template_plan(ref, model, where, TEMPLATES[name])
    return plan_network(ref, model.network, where, PlanOptions(planner=name))


def measure(
    plan: Plan,
    model: LoadedModel,
    repeats: int,
    executor: str | None = None,
    dilation: float = 1.0,
) -> Row:
    """The plan on its emulated cluster, padded; asserts that every run gave the model's result.

    Without an ``executor`` it is the one that ``run`` takes: the fastest that is right. A second of
    the cluster's takes ``dilation`` seconds.
    """
    with EmulatedCluster(plan.cluster, dilation) as site:
        report = run_plan(
            plan, model, site=site, transport="tcp", throttle="pad", repeats=repeats, warmup=1,
            executor=executor, dilation=dilation,
        )  # fmt: skip
    assert report.ok, f"error {report.max_abs_error}"
    return {
        "predicted_s": plan.latency_s,
        "executed_s": report.median_s,
        "runs_s": list(report.latency_s),
        "error": plan.latency_s / report.median_s - 1.0,
        "overrun_s": overrun_s(report.plan, report.spans),
        "bytes": report.bytes,
        "critical_s": critical_shares(report.plan, report.spans),
    }


@functools.lru_cache(maxsize=1)
def model_of(ref: ModelRef) -> LoadedModel:
    """The model of a case; the cases of one model come one after the other."""
    return load_model(ref.ref, ref.input, ref.seed)


class Record:
    """A result with one row per case, written as soon as it is measured.

    Rows of the same commit and settings that are there already are not measured again.
    """

    def __init__(self, name: str, settings: Row) -> None:
        self.name = name
        self.about, self.settings, self.rows = machine(), settings, list[Row]()
        if before := kept(name):
            same = before["about"]["commit"] == self.about["commit"]
            if same and before.get("settings") == settings:
                self.about, self.rows = before["about"], before["rows"]

    def has(self, labels: Row) -> bool:
        """True for a case that has its row."""
        return any(labels.items() <= row.items() for row in self.rows)

    def add(self, row: Row, shown: Sequence[str]) -> None:
        """Keep a row, and print what is ``shown`` of it on stderr."""
        self.rows.append(row | {"load": os.getloadavg()[0]})
        print(json.dumps({key: row[key] for key in shown}), file=sys.stderr, flush=True)

    def drop_late(self) -> None:
        """Forget the rows that this machine was too busy for: they are measured again."""
        self.rows = [row for row in self.rows if in_time(row)]

    def write(self, summary: Row, text: str) -> None:
        """The rows and their summary as JSON, and as a page to read."""
        content = {"about": self.about, "settings": self.settings}
        content |= {"rows": self.rows, "summary": summary}
        save(self.name, content, text)


def in_time(row: Row) -> bool:
    """The machine could emulate it: the worst device overran its tasks by under a per cent."""
    return bool(row["overrun_s"] < 0.01 * row["executed_s"])


def header(title: str, record: Record, command: str) -> list[str]:
    """First lines of a page: what was run, on what, when it was how busy."""
    about, loads = record.about, [row["load"] for row in record.rows] or [0.0]
    late = sum(not in_time(row) for row in record.rows)
    return [
        f"# {title}",
        "",
        f"`{command}`; {about['cpu']}, {about['cores']} cores, load {min(loads):.1f} to "
        f"{max(loads):.1f}, commit {about['commit'][:12]}; {about['protocol']}.",
        "",
        f"{len(record.rows)} cases; in {late} of them this machine was too slow or too busy to "
        "compute every task within its modelled time (overrun of a per cent or more).",
        "",
    ]


def machine() -> Row:
    """Commit, machine, load and versions; no host name."""
    return provenance() | {
        "system": f"{platform.system()} {platform.release()}",
        "protocol": "transport tcp, throttle pad, one thread per device, one warm-up",
    }
