"""Seconds to plan whole networks, to bound them, and to plan again without one device.

Protocol: process time of this process after one warm-up plan per process (compilation), one thread,
no time limit, median of ``--runs`` runs. "plan" is the planner ``nptp`` alone, "bound" the lower
bound on the latency, "again" ``replan_network`` after the third device is lost; its ratio to "plan"
compares times of one run on one machine.

    python benchmarks/planner_speed.py
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from about import arguments, provenance, save
from layer_cases import cluster

from nptp_opt.bound import clock_bound
from nptp_opt.cluster import Cluster
from nptp_opt.network.load import load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PlanOptions
from nptp_opt.planner.nptp import nptp
from nptp_opt.planner.planners import plan_of
from nptp_opt.planner.replan import replan_network

Value = TypeVar("Value")
FOUR = cluster([40.0, 30.0, 20.0, 10.0], 50.0, shared=True)
EIGHT = cluster([40.0, 30.0, 20.0, 10.0] * 2, 50.0, shared=True)
EQUAL = cluster([20.0] * 8, 50.0, shared=True)
MANY = cluster([40.0] * 20 + [20.0] * 20 + [10.0] * 24, 100.0, shared=False)
LIMITED = FOUR.model_copy(
    update={"devices": tuple(d.model_copy(update={"memory_mib": 600.0}) for d in FOUR.devices)}
)
CASES: dict[str, tuple[str, Cluster]] = {
    "VGG-16, 4 unequal": ("vgg16", FOUR),
    "VGG-16, 4 unequal of 600 MiB": ("vgg16", LIMITED),
    "VGG-16, 8 unequal": ("vgg16", EIGHT),
    "VGG-16, 8 equal": ("vgg16", EQUAL),
    "ResNet-50, 8 unequal": ("resnet50", EIGHT),
    "ResNet-50, 8 equal": ("resnet50", EQUAL),
    "ResNet-152, 8 unequal": ("resnet152", EIGHT),
    "DenseNet-121, 8 unequal": ("densenet121", EIGHT),
    "VGG-16, 64 of three classes": ("vgg16", MANY),
}


def time_call(runs: int, work: Callable[[], Value]) -> tuple[Value, float]:
    """The result and the median process time of a few runs."""
    seconds = []
    for _ in range(runs):
        began = time.process_time()
        value = work()
        seconds.append(time.process_time() - began)
    return value, statistics.median(seconds)


def measure(model: str, on: Cluster, runs: int) -> dict[str, float]:
    """Plan, bound and plan again; the plan's latency must not be below its bound."""
    network = load_model(model, (1, 3, 224, 224)).network
    choices, plan_s = time_call(runs, lambda: nptp(network, on, PlanOptions()))
    bound_s, bounding_s = time_call(runs, lambda: clock_bound(network, on))
    plan = plan_of(ModelRef(model, (1, 3, 224, 224)), network, on, choices)
    assert bound_s <= plan.latency_s * (1 + 1e-9)
    left = on.model_copy(update={"devices": on.devices[:2] + on.devices[3:]})
    again, again_s = time_call(runs, lambda: replan_network(plan, left))
    return {
        "plan_s": plan_s,
        "bound_s": bounding_s,
        "again_s": again_s,
        "again": again_s / plan_s,
        "latency_s": plan.latency_s,
        "latency_again_s": again.latency_s,
        "gap": 1 - bound_s / plan.latency_s,
    }


def markdown(record: dict[str, Any]) -> str:
    about = record["provenance"]
    lines = [
        "# Seconds of planning",
        "",
        f"Commit {about['commit'][:12]}, {about['cpu']}, {about['cores']} cores; process time.",
        "",
        "| case | plan | bound | again | again / plan | gap |",
        "|---|---|---|---|---|---|",
    ]
    for case, row in record["rows"].items():
        lines.append(
            f"| {case} | {row['plan_s']:.2f} s | {row['bound_s']:.2f} s | {row['again_s']:.2f} s "
            f"| {row['again']:.2f} | {row['gap']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    network = load_model("vgg11", (1, 3, 224, 224)).network
    for on in (FOUR, EQUAL):
        nptp(network, on, PlanOptions())
        clock_bound(network, on)
    record: dict[str, Any] = {"provenance": provenance(), "rows": {}}
    for case, (model, on) in CASES.items():
        print(case, file=sys.stderr)
        record["rows"][case] = measure(model, on, 1 if len(on.devices) > 8 else runs)
    save("planner_speed", record, markdown(record))
    print(markdown(record))


if __name__ == "__main__":
    main()
