"""The demo: plan, verify and run VGG-16 on four unequal devices, with four planners.

Leaves demo/plan.json and demo/plan.png (the ``nptp`` plan). Progress goes to stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from nptp_opt.cluster import load_cluster
from nptp_opt.network.load import load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.document import write_plan
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.plot.plan_figure import write_figure
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.report import RunReport
from nptp_opt.verification.torch_check import verify_plan

MODEL = ModelRef("vgg16", (1, 3, 224, 224))
PLANNERS = ("single", "strip-equal", "coedge-style", "nptp")
HERE = Path(__file__).parent
OUT = HERE.parent / "demo"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def results_table(plans: dict[str, Plan], runs: dict[str, RunReport]) -> Table:
    rival = plans["coedge-style"]
    table = Table(title=f"{MODEL.ref} {'x'.join(map(str, MODEL.input))} on {rival.cluster.name}")
    table.add_column("planner")
    for header in ("predicted ms", "MB moved", "executed here ms", "speed-up over coedge-style"):
        table.add_column(header, justify="right")
    for name, plan in plans.items():
        table.add_row(
            name,
            f"{plan.latency_s * 1e3:.1f}",
            f"{plan.transfer_bytes / 1e6:.2f}",
            f"{median(runs[name].latency_s) * 1e3:.1f}",
            f"{rival.latency_s / plan.latency_s:.2f}x",
        )
    return table


def main() -> int:
    OUT.mkdir(exist_ok=True)
    cluster = load_cluster(HERE / "four-unequal.toml")
    say(f"importing {MODEL.ref}")
    model = load_model(MODEL.ref, MODEL.input, MODEL.seed)
    plans: dict[str, Plan] = {}
    runs: dict[str, RunReport] = {}
    for name in PLANNERS:
        say(f"{name}: planning")
        plans[name] = plan_network(MODEL, model.network, cluster, PlanOptions(planner=name))
        say(f"{name}: running on {len(cluster.devices)} local processes")
        runs[name] = run_plan(plans[name], model)
    say("nptp: verifying every layer in float32 and float64")
    report = verify_plan(plans["nptp"], model)
    write_plan(plans["nptp"], OUT / "plan.json")
    write_figure(plans["nptp"], OUT / "plan.png", "png")
    console = Console(width=100)
    console.print(results_table(plans, runs))
    console.print(
        "predicted and speed-up: the modelled cluster; executed here: processes on this machine,\n"
        "which all share its cores, so that column does not show the boards' latency"
    )
    ok = report.ok and all(run.ok for run in runs.values())
    found = report.to_json()
    console.print(
        f"verified: {'ok' if ok else 'FAILED'}: {report.layers} layers, {report.tiles} tiles; "
        f"largest relative error {found['max_rel_error']:.1e} (float32), "
        f"{found['max_rel_error_float64']:.1e} (float64); every run's output equals the model's"
    )
    console.print(f"files: {OUT.name}/plan.json, {OUT.name}/plan.png")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
