"""Planners side by side: predicted latency of every planner, one run.

Protocol: each case is a model at one input size on one cluster; every planner plans it once, with
one thread and no time limit; seconds are process time after one warm-up plan (compilation), the
bound's own seconds not counted. The script asserts that no planner is faster than ``nptp`` by
latency_s and that no plan is faster than the bound. "Without the head" drops the layers behind the
last feature map, as in the paper's setting. The grid has 4,608 cases; a random sample of it (seed
0, each case equally likely) stands in for it. Finished cases are kept when a run is stopped.

    python benchmarks/planner_methods.py                # VGGs without the head, 100 of the grid
    python benchmarks/planner_methods.py --sample 4608  # the whole grid: days
    python benchmarks/planner_methods.py --quick        # the four VGGs without the head
    python benchmarks/planner_methods.py --effort 0.25  # ``nptp`` searches a quarter as long
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from about import arguments, kept, provenance, save
from layer_cases import cluster, unequal

from nptp_opt.bound import clock_bound
from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.network.ir import Network
from nptp_opt.network.load import load_model
from nptp_opt.planner import PLANNERS, PlanOptions
from nptp_opt.planner.nptp import fastest

Row = dict[str, Any]
VGGS = ("vgg11", "vgg13", "vgg16", "vgg19")
UNET = "nptp_opt.instances.models:unet"
PER_CASE = len(PLANNERS) - 1
"""Rows of one case."""

GRID: dict[str, tuple[Any, ...]] = {
    "model": (*VGGS, "resnet50", "mobilenet_v2", "inception_v3", UNET),
    "size": (224, 448, 896),
    "devices": (3, 4, 6, 8),
    "equal": (True, False),
    "gflops": (5.0, 10.0, 20.0),
    "mbit_per_s": (25.0, 50.0, 100.0, 1000.0),
    "shared": (True, False),
}


def headless(network: Network) -> Network:
    """The network up to its last feature map, which becomes the result."""
    behind = {layer.name for layer in network.vectors}
    layers = tuple(layer for layer in network.shared_out if layer.name not in behind)
    return replace(network, layers=layers, outputs=(layers[-1].name,))


Search = Callable[[Network, Cluster, PlanOptions], list[Choice]]
"""How ``nptp`` plans here: by default, or with another effort."""


def plan_all(network: Network, on: Cluster, labels: Row, search: Search) -> Iterator[Row]:
    """One row per planner; the slow, poor ``layerwise`` is left to its own command."""
    bound_s = clock_bound(network, on)
    for name in PLANNERS:
        if name == "layerwise":
            continue
        began = time.process_time()
        plan = search if name == "nptp" else PLANNERS[name].plan
        steps = assemble(network, on, plan(network, on, PlanOptions(name)))
        seconds = time.process_time() - began
        latency_s = simulate(network, on, steps)
        yield labels | {
            "planner": name,
            "latency_s": latency_s,
            "bytes": sum(move.bytes for step in steps for move in step.transfers),
            "bound_s": bound_s,
            "gap": 1 - bound_s / latency_s,
            "seconds": seconds,
        }


def vgg_rows(_: int, done: Collection[str], search: Search) -> Iterator[Row]:
    """VGGs without the head: 8 devices of 20 GFLOP/s, 50 Mbit/s shared, 1 ms."""
    on = cluster([20.0] * 8, 50.0, shared=True)
    link = on.network.model_copy(update={"latency_ms": 1.0})
    on = on.model_copy(update={"network": link})
    for name in VGGS:
        case = f"{name} headless n8 50 Mbit/s shared"
        if case not in done:
            network = headless(load_model(name, (1, 3, 224, 224)).network)
            yield from plan_all(network, on, {"case": case}, search)


def grid_rows(count: int, done: Collection[str], search: Search) -> Iterator[Row]:
    """A random sample of the grid in random order, so that the first cases are a sample, too."""
    cases = list(itertools.product(*GRID.values()))
    for values in random.Random(0).sample(cases, min(count, len(cases))):
        labels = dict(zip(GRID, values, strict=True))
        if str(labels) in done:
            continue
        n, top = labels["devices"], labels["gflops"]
        shape = [1.0] * n if labels["equal"] else unequal(n)
        speeds = [top * share / max(shape) for share in shape]
        on = cluster(speeds, labels["mbit_per_s"], shared=labels["shared"])
        network = _network(labels["model"], labels["size"])
        yield from plan_all(network, on, {"case": str(labels), **labels}, search)


@lru_cache(maxsize=8)
def _network(name: str, size: int) -> Network:
    return load_model(name, (1, 3, size, size)).network


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
        found[planner] = {
            "latency_s": math.prod(latency) ** (1 / len(latency)),
            "smallest": min(latency),
        }
    return dict(sorted(found.items(), key=lambda item: -item[1]["latency_s"]))


def markdown(record: Row) -> str:
    about = record["provenance"]
    lines = [
        "# Planners",
        "",
        f"Commit {about['commit'][:12]}, {about['cpu']}, {about['cores']} cores; `nptp` with "
        f"{record['effort']:g} of its default work.",
    ]
    for title, rows in record["rows"].items():
        if not rows:
            continue
        gaps = sorted(row["gap"] for row in rows if row["planner"] == "nptp")
        small = sum(gap < 0.05 for gap in gaps)
        seconds = sorted(row["seconds"] for row in rows if row["planner"] == "nptp")
        lines += [
            "",
            f"## {title}: {len(gaps)} cases",
            "",
            f"`nptp`: gap to the bound median {statistics.median(gaps):.3f}, worst {gaps[-1]:.3f}, "
            f"below 0.05 in {small}; "
            f"planning median {seconds[len(seconds) // 2]:.1f} s, longest {seconds[-1]:.1f} s.",
            "",
            "| planner | times nptp's latency | smallest |",
            "|---|---|---|",
        ]
        for planner, ratio in ratios(rows).items():
            numbers = " | ".join(f"{ratio[key]:.3f}" for key in ratio)
            lines.append(f"| {planner} | {numbers} |")
    return "\n".join(lines) + "\n"


def finished_rows(
    name: str, about: Row, effort: float, titles: Iterable[str]
) -> dict[str, list[Row]]:
    """Rows of the cases that an earlier run of the same commit and effort has finished."""
    old = kept(name) or {"provenance": {}, "rows": {}}
    same = (old["provenance"].get("commit"), old.get("effort")) == (about["commit"], effort)
    found: dict[str, list[Row]] = {}
    for title in titles:
        rows = old["rows"].get(title, []) if same else []
        cases = [row["case"] for row in rows]
        found[title] = [row for row in rows if cases.count(row["case"]) == PER_CASE]
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="only the VGGs without the head")
    parser.add_argument("--sample", type=int, default=100, help="cases of the grid")
    parser.add_argument("--effort", type=float, default=1.0, help="work of `nptp`, 1: the default")
    given = parser.parse_args()
    sources = {"VGG without the head": vgg_rows}
    if not given.quick:
        sources |= {"sample of the grid": grid_rows}
    name = "planner_methods_quick" if given.quick else "planner_methods"
    about = provenance()
    rows = finished_rows(name, about, given.effort, sources)
    record: Row = {"provenance": about, "effort": given.effort, "rows": rows}
    search = partial(fastest, effort=given.effort)
    list(itertools.islice(vgg_rows(0, (), search), PER_CASE))  # warm-up
    for title, source in sources.items():
        rows = record["rows"][title]
        for row in source(given.sample, {row["case"] for row in rows}, search):
            rows.append(row)
            print(row["case"], row["planner"], f"{row['latency_s']:.4f}", file=sys.stderr)
            if len(rows) % PER_CASE == 0:
                save(name, record, markdown(record))
        check(rows)
    print(markdown(record))


if __name__ == "__main__":
    main()
