"""How far the default plan is behind the best plan that much more search finds.

    python benchmarks/regret.py [--cases 20] [--times 20]

A bound that is loose says little of a plan; what a long search finds says more. Cases are drawn (by
a fixed seed) from models, numbers and kinds of devices, links and rates. The rival is the best of
the default plan, of one search with ``times`` the default work and of four of a quarter of that
with other seeds. Work is counted in simulated tasks and messages, so the load of the machine
changes nothing. Regret is (default - best) / best. Finished cases are kept when a run is stopped;
they were drawn in random order, so that the first ones are a sample, too.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from about import arguments, kept, provenance, save

import nptp_opt
from nptp_opt.bound import clock_bound
from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.clock import Clock
from nptp_opt.layer.limits import Limits
from nptp_opt.network.ir import Network
from nptp_opt.planner.nptp import fastest
from nptp_opt.planner.options import PlanOptions

MODELS = "vgg11 vgg16 resnet18 resnet50 squeezenet1_1 googlenet mobilenet_v2 densenet121".split()
RATES = (25.0, 50.0, 100.0, 400.0)


@dataclass(frozen=True)
class Case:
    """One network on one cluster."""

    model: str
    devices: int
    shared: bool
    unequal: bool
    mbit_per_s: float

    def cluster(self) -> Cluster:
        """Devices of 20 GFLOP/s, or of 10, 20 and 40 in turn; 0.5 ms."""
        own = (
            {}
            if self.shared
            else dict.fromkeys(("up_mbit_per_s", "down_mbit_per_s"), self.mbit_per_s)
        )
        speeds = (10.0, 20.0, 40.0) if self.unequal else (20.0,)
        devices = [
            {"name": f"d{i}", "gflops": speeds[i % len(speeds)], **own} for i in range(self.devices)
        ]
        shared = {"mbit_per_s": self.mbit_per_s} if self.shared else {}
        kind = "shared" if self.shared else "switched"
        network = {"kind": kind, "latency_ms": 0.5, **shared}
        return Cluster.model_validate({"network": network, "device": devices})

    def __str__(self) -> str:
        kind, speeds = (
            "shared" if self.shared else "switched",
            "unequal" if self.unequal else "equal",
        )
        return f"{self.model}, {self.devices} {speeds}, {kind} {self.mbit_per_s:g}"


def drawn(count: int) -> list[Case]:
    """Different cases, the same ones for the same count."""
    rng = random.Random(20)
    found: dict[Case, None] = {}
    while len(found) < count:
        case = Case(
            rng.choice(MODELS), rng.choice((3, 4, 6, 8)), rng.random() < 0.5, rng.random() < 0.5,
            rng.choice(RATES),
        )  # fmt: skip
        found[case] = None
    return list(found)


@cache
def network_of(model: str) -> Network:
    return nptp_opt.load_model(model, (1, 3, 224, 224)).network


def row_of(case: Case, times: float) -> dict[str, Any]:
    """Default and best latency of one case, and the bound."""
    network, cluster = network_of(case.model), case.cluster()
    clock = Clock(network, cluster)

    def latency_s(effort: float, seed: int) -> float:
        options = replace(PlanOptions(), limits=replace(Limits(), seed=seed))
        return clock.seconds(fastest(network, cluster, options, effort=effort))

    default_s = latency_s(1.0, 0)
    rivals = [latency_s(times, 0), *(latency_s(times / 4, seed) for seed in range(1, 5))]
    best_s, bound_s = min(default_s, *rivals), clock_bound(network, cluster)
    assert bound_s <= best_s * (1 + 1e-9), case
    return {
        "case": str(case),
        "default_s": default_s,
        "best_s": best_s,
        "regret": default_s / best_s - 1.0,
        "bound_s": bound_s,
        "gap": 1.0 - bound_s / default_s,
    }


def finished_rows(protocol: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of an earlier run of the same commit with as much work."""
    old = kept("regret") or {"protocol": {}, "rows": []}
    same = all(old["protocol"].get(key) == protocol[key] for key in ("commit", "times"))
    return list(old["rows"]) if same else []


def table(rows: list[dict[str, Any]], times: float) -> str:
    regrets, gaps = [row["regret"] for row in rows], [row["gap"] for row in rows]
    lines = [
        "# Regret of the default plan",
        "",
        f"Against {times:g} times the work once, and a quarter of that from four other seeds; "
        f"{len(rows)} cases, commit {str(provenance()['commit'])[:12]}.",
        "",
        f"Regret: median {statistics.median(regrets):.1%}, worst {max(regrets):.1%}. "
        f"Gap to the bound: median {statistics.median(gaps):.0%}, worst {max(gaps):.0%}.",
        "",
        "| case | default s | best s | regret | bound s | gap |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['case']} | {r['default_s']:.4f} | {r['best_s']:.4f} | {r['regret']:.1%} "
        f"| {r['bound_s']:.4f} | {r['gap']:.0%} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--times", type=float, default=20.0)
    args = parser.parse_args()
    protocol = {"cases": args.cases, "times": args.times, **provenance()}
    rows = finished_rows(protocol)
    done = {row["case"] for row in rows}
    for case in (case for case in drawn(args.cases) if str(case) not in done):
        rows.append(row_of(case, args.times))
        print(f"{case}: {rows[-1]['regret']:.2%}", file=sys.stderr, flush=True)
        save("regret", {"protocol": protocol, "rows": rows}, table(rows, args.times))


if __name__ == "__main__":
    main()
