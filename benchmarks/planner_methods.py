"""Planners side by side: predicted latency of every planner, one run.

Protocol: each case is a model at one input size on one cluster; every planner plans it once, with
one thread and no time limit; seconds are process time after one warm-up plan (compilation). The
script asserts that no planner is faster than ``nptp`` and that no plan is faster than the bound.
"Without the head" drops the layers behind the last feature map, as in the paper's setting.
Written to ``benchmarks/results/planner_methods.{json,md}`` with commit, machine and versions.

    python benchmarks/planner_methods.py           # a grid of 72 cases
    python benchmarks/planner_methods.py --quick   # the four VGGs without the head
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from layer_cases import cluster, provenance, unequal

from nptp_opt.cluster import Cluster
from nptp_opt.network.ir import Network
from nptp_opt.network.load import load_model
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network
from nptp_opt.steps import ModelRef

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
VGGS = ("vgg11", "vgg13", "vgg16", "vgg19")
GRID = {
    "model": ("vgg16", "resnet50", "mobilenet_v2"),
    "devices": (3, 6),
    "equal": (True, False),
    "gflops": (5.0, 20.0),
    "mbit_per_s": (25.0, 1000.0),
    "shared": (True, False),
}


def headless(network: Network) -> Network:
    """The network up to its last feature map, which becomes the result."""
    behind = {layer.name for layer in network.vectors}
    layers = tuple(layer for layer in network.shared_out if layer.name not in behind)
    return replace(network, layers=layers, outputs=(layers[-1].name,))


def plan_all(network: Network, on: Cluster, labels: Row) -> Iterator[Row]:
    """One row per planner; the slow, poor ``layerwise`` is left to its own command."""
    for name in PLANNERS:
        if name == "layerwise":
            continue
        began = time.process_time()
        plan = plan_network(ModelRef(network.name, (1,)), network, on, PlanOptions(name))
        yield labels | {
            "planner": name,
            "latency_s": plan.latency_s,
            "predicted_s": plan.predicted_s,
            "bytes": plan.transfer_bytes,
            "bound_s": plan.bound_s,
            "gap": plan.gap,
            "seconds": time.process_time() - began,
        }


def vgg_rows() -> Iterator[Row]:
    """VGGs without the head: 8 devices of 20 GFLOP/s, 50 Mbit/s shared, 1 ms."""
    on = cluster([20.0] * 8, 50.0, shared=True)
    link = on.network.model_copy(update={"latency_ms": 1.0})
    on = on.model_copy(update={"network": link})
    for name in VGGS:
        network = headless(load_model(name, (1, 3, 224, 224)).network)
        yield from plan_all(network, on, {"case": f"{name} headless n8 50 Mbit/s shared"})


def grid_rows() -> Iterator[Row]:
    networks = {name: load_model(name, (1, 3, 224, 224)).network for name in GRID["model"]}
    for values in itertools.product(*GRID.values()):
        labels = dict(zip(GRID, values, strict=True))
        n, top = labels["devices"], labels["gflops"]
        shape = [1.0] * n if labels["equal"] else unequal(n)
        speeds = [top * share / max(shape) for share in shape]
        on = cluster(speeds, labels["mbit_per_s"], shared=labels["shared"])
        yield from plan_all(networks[labels["model"]], on, {"case": str(labels), **labels})


def check(rows: Iterable[Row]) -> None:
    """No planner beats ``nptp``, and no plan its bound."""
    cases: dict[str, list[Row]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row)
    for case, found in cases.items():
        best = next(row["latency_s"] for row in found if row["planner"] == "nptp")
        for row in found:
            assert best <= row["latency_s"] * (1 + 1e-9), (case, row["planner"])
            assert row["bound_s"] <= row["latency_s"] * (1 + 1e-9), (case, row["planner"])


def ratios(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Geometric mean and smallest ratio of each planner's latency to that of ``nptp``."""
    best = {row["case"]: row for row in rows if row["planner"] == "nptp"}
    found: dict[str, dict[str, float]] = {}
    for planner in {row["planner"] for row in rows} - {"nptp"}:
        mine = [row for row in rows if row["planner"] == planner]
        latency = [row["latency_s"] / best[row["case"]]["latency_s"] for row in mine]
        simulated = [row["predicted_s"] / best[row["case"]]["predicted_s"] for row in mine]
        found[planner] = {
            "latency_s": math.prod(latency) ** (1 / len(latency)),
            "predicted_s": math.prod(simulated) ** (1 / len(simulated)),
            "smallest": min(latency),
        }
    return dict(sorted(found.items(), key=lambda item: -item[1]["latency_s"]))


def markdown(record: Row) -> str:
    about = record["provenance"]
    lines = [
        "# Planners",
        "",
        f"Commit {about['commit'][:12]}, {about['cpu']}, {about['cores']} cores.",
    ]
    for title, rows in record["rows"].items():
        gaps = sorted(row["gap"] for row in rows if row["planner"] == "nptp")
        seconds = sorted(row["seconds"] for row in rows if row["planner"] == "nptp")
        lines += [
            "",
            f"## {title}: {len(gaps)} cases",
            "",
            f"`nptp`: gap to the bound median {gaps[len(gaps) // 2]:.3f}, worst {gaps[-1]:.3f}; "
            f"planning median {seconds[len(seconds) // 2]:.1f} s, longest {seconds[-1]:.1f} s.",
            "",
            "| planner | times nptp's latency_s | times nptp's predicted_s | smallest |",
            "|---|---|---|---|",
        ]
        for planner, ratio in ratios(rows).items():
            numbers = " | ".join(f"{ratio[key]:.3f}" for key in ratio)
            lines.append(f"| {planner} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    sources = {"VGG without the head": vgg_rows} | ({} if quick else {"grid": grid_rows})
    list(itertools.islice(vgg_rows(), len(PLANNERS) - 1))
    record: Row = {"provenance": provenance(), "rows": {title: [] for title in sources}}
    stem = RESULTS / ("planner_methods_quick" if quick else "planner_methods")
    for title, source in sources.items():
        for row in source():
            record["rows"][title].append(row)
            print(row["case"], row["planner"], f"{row['latency_s']:.4f}", file=sys.stderr)
            stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
        check(record["rows"][title])
    stem.with_suffix(".md").write_text(markdown(record))
    print(markdown(record))


if __name__ == "__main__":
    main()
