"""How far plans are from the bound on the latency without barriers.

Protocol: every case is planned with ``--objective predicted``, the gap is (predicted - bound) /
predicted, 20 GFLOP/s per device, 50 Mbit/s, 1 ms. Seconds are process time, the bound's after one
warm-up. The script asserts that no bound is above its plan, nor above ``best_s``, the best latency
known of anyone's plan, where there is one. Written to ``benchmarks/results/clock_gap.{json,md}``.

    python benchmarks/clock_gap.py                    # 42 cases, hours
    python benchmarks/clock_gap.py --limit 20         # at most 20 s of search per plan
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from layer_cases import cluster, provenance

from nptp_opt.bound import clock_bound
from nptp_opt.network.load import load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PlanOptions, plan_network

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
MODELS = ("vgg16", "resnet50", "vgg11", "vgg13", "vgg19", "mobilenet_v2")
GFLOPS, MBIT_PER_S = 20.0, 50.0
BEST_S = {("vgg16", 8, True): 0.4389, ("resnet50", 8, True): 0.2435}
"""Of ten minutes of basin hopping."""


def rows(limit_s: float | None) -> Iterator[Row]:
    for model in MODELS:
        network = load_model(model, (1, 3, 224, 224)).network
        for n, shared in itertools.product((2, 4, 8), (True, False)):
            on = cluster([GFLOPS] * n, MBIT_PER_S, shared=shared)
            on = on.model_copy(update={"network": on.network.model_copy(update={"latency_ms": 1.0})})
            clock_bound(network, on)
            began = time.process_time()
            bound_s = clock_bound(network, on)
            seconds = time.process_time() - began
            options = PlanOptions("nptp", objective="predicted", time_limit_s=limit_s)
            value = plan_network(ModelRef(model, (1,)), network, on, options).predicted_s
            value = min(value, BEST_S.get((model, n, shared), value))
            assert bound_s <= value * (1 + 1e-9), (model, n, shared)
            yield {
                "model": model,
                "devices": n,
                "network": "shared" if shared else "switched",
                "predicted_s": value,
                "bound_s": bound_s,
                "gap": 1 - bound_s / value,
                "bound_seconds": seconds,
            }


def markdown(record: Row) -> str:
    about, found = record["provenance"], record["rows"]
    gaps = [row["gap"] for row in found]
    lines = [
        "# The bound on the latency without barriers",
        "",
        f"Commit {about['commit'][:12]}, {about['cpu']}, {about['cores']} cores. {len(found)} cases, "
        f"equal devices of {GFLOPS:.0f} GFLOP/s, {MBIT_PER_S:.0f} Mbit/s, 1 ms. At most "
        f"{record['limit_s'] or 'any'} s of search per plan.",
        "",
        f"Gap: median {statistics.median(gaps):.3f}, worst {max(gaps):.3f}.",
        "",
        "| model | devices | network | predicted_s | bound_s | gap | bound, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        lines.append(
            f"| {row['model']} | {row['devices']} | {row['network']} | {row['predicted_s']:.4f} | "
            f"{row['bound_s']:.4f} | {row['gap']:.3f} | {row['bound_seconds']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, help="seconds of search per plan")
    limit_s = parser.parse_args().limit
    record: Row = {"provenance": provenance(), "limit_s": limit_s, "rows": []}
    stem = RESULTS / "clock_gap"
    for row in rows(limit_s):
        record["rows"].append(row)
        print(row, file=sys.stderr)
        stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
        stem.with_suffix(".md").write_text(markdown(record))
    print(markdown(record))


if __name__ == "__main__":
    main()
