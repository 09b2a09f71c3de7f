"""How far the plans of ``nptp`` are from the plan's bound, before and after it saw communication.

Protocol: every case is planned once without a time limit; gap = (latency - bound) / latency for
perfect balance alone (before) and for the bound that plans carry (after). ``waits`` is the part of
the gap that is due to messages beyond the first of each step, most of which the bound does not
count; the rest is what it lacks otherwise (which device owns how much over time, and partitions
that satisfy the sums of the configuration LP but cannot be laid out), or what a better plan would
save. Seconds are process time of the bound alone after one warm-up. Written to
``benchmarks/results/plan_bound.{json,md}`` with commit, machine and versions. The script asserts
that no bound is above its plan.

    python benchmarks/plan_bound.py            # 24 cases
    python benchmarks/plan_bound.py --quick    # VGG-16 alone, 8 cases
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from layer_cases import cluster, provenance

from nptp_opt.bound import compute_bound, latency_bound
from nptp_opt.network.load import load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
MODELS = ("vgg16", "resnet50", "mobilenet_v2")
GFLOPS = 10.0


def extra_waits_s(plan: Plan) -> float:
    """Seconds of waits beyond one message per step."""
    most = 0
    for step in plan.steps:
        pairs = {(move.src, move.dst) for move in step.transfers}
        received = [sum(dst == i for _, dst in pairs) for i in range(len(plan.cluster.devices))]
        most += max(0, max(received) - 1)
    return most * plan.cluster.network.latency_s


def rows(models: Sequence[str]) -> Iterator[Row]:
    for model in models:
        network = load_model(model, (1, 3, 224, 224)).network
        for n, rate, shared in itertools.product((3, 6), (25.0, 1000.0), (True, False)):
            on = cluster([GFLOPS] * n, rate, shared=shared)
            plan = plan_network(ModelRef(model, (1,)), network, on, PlanOptions("nptp"))
            again = on.model_copy(update={"name": "timed"})
            began = time.process_time()
            bound_s = latency_bound(network, again)
            seconds = time.process_time() - began
            before_s, value = compute_bound(network, on), plan.latency_s
            assert before_s <= bound_s <= value * (1 + 1e-9), (model, n, rate, shared)
            yield {
                "model": model,
                "devices": n,
                "mbit_per_s": rate,
                "network": "shared" if shared else "switched",
                "latency_s": value,
                "gap_before": 1 - before_s / value,
                "gap_after": 1 - bound_s / value,
                "waits": min(extra_waits_s(plan), value - bound_s) / value,
                "bound_seconds": seconds,
            }


def markdown(record: Row) -> str:
    about, found = record["provenance"], record["rows"]
    gaps = {key: [row[key] for row in found] for key in ("gap_before", "gap_after")}
    lines = [
        "# The plan's bound",
        "",
        f"Commit {about['commit'][:12]}, {about['cpu']}, {about['cores']} cores. "
        f"{len(found)} cases, equal devices of {GFLOPS:.0f} GFLOP/s.",
        "",
        *(
            f"{key}: median {statistics.median(values):.3f}, worst {max(values):.3f}."
            for key, values in gaps.items()
        ),
        "",
        "| model | devices | Mbit/s | network | latency_s | gap before | gap after | of it waits |"
        " bound, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        lines.append(
            f"| {row['model']} | {row['devices']} | {row['mbit_per_s']:.0f} | {row['network']} | "
            f"{row['latency_s']:.4f} | {row['gap_before']:.3f} | {row['gap_after']:.3f} | "
            f"{row['waits']:.3f} | {row['bound_seconds']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    record: Row = {"provenance": provenance(), "rows": []}
    stem = RESULTS / ("plan_bound_quick" if quick else "plan_bound")
    for row in rows(MODELS[:1] if quick else MODELS):
        record["rows"].append(row)
        print(row, file=sys.stderr)
        stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    stem.with_suffix(".md").write_text(markdown(record))
    print(markdown(record))


if __name__ == "__main__":
    main()
