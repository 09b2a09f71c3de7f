"""What every part of ``nptp``'s search is worth: simulated latency with and without it.

    python benchmarks/planner_ablation.py [--effort 0.5] [--seeds 2] [--output FILE]

Each variant plans every case from as many seeds, with the same work (tasks and messages that are
simulated), which does not depend on how busy the machine is. The table has the mean over the seeds,
and how much slower that is than with all parts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import nptp_opt
from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.clock import Clock
from nptp_opt.network.ir import Network
from nptp_opt.planner.baselines.quick import QUICK
from nptp_opt.planner.candidates.pool import solved_layers, with_families
from nptp_opt.planner.local_search import anneal, operators
from nptp_opt.planner.nptp import paths
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.path.discounted import DISCOUNTS

CASES = (
    ("vgg16", 8, "shared", 50.0),
    ("resnet50", 8, "shared", 50.0),
    ("vgg16", 4, "switched", 100.0),
)

Plan = list[Choice]


def cluster_of(count: int, kind: str, rate: float) -> Cluster:
    """Equal devices of 20 GFLOP/s, 1 ms."""
    own = {} if kind == "shared" else {"up_mbit_per_s": rate, "down_mbit_per_s": rate}
    devices = [{"name": f"d{i}", "gflops": 20.0, **own} for i in range(count)]
    shared = {"mbit_per_s": rate} if kind == "shared" else {}
    network = {"kind": kind, "latency_ms": 1.0, **shared}
    return Cluster.model_validate({"network": network, "device": devices})


class Variant:
    """The search with parts changed: constants of ``anneal``, shares of operators, starts."""

    def __init__(
        self,
        name: str,
        *,
        constants: Mapping[str, float] | None = None,
        shares: Sequence[str] = (),
        discounts: Sequence[float] = DISCOUNTS,
        solved: bool = True,
        overlap: bool = True,
    ) -> None:
        """``shares`` names operators that are left out."""
        self.name, self.constants, self.discounts = name, constants or {}, discounts
        self.solved, self.overlap = solved, overlap
        left_out = [*shares, *(["overlap"] if not overlap else [])]
        self.shares = dict.fromkeys(left_out, 0.0)

    def latency_s(self, network: Network, cluster: Cluster, effort: float, seed: int) -> float:
        """Simulated latency of the plan that it finds."""
        solved = solved_layers(network, cluster, PlanOptions()) if self.solved else {}
        templates = with_families(network, cluster, solved)
        starts: list[Plan] = [plan(network, cluster) for plan in QUICK.values()]
        starts += paths(network, cluster, templates, discounts=self.discounts)
        if not self.overlap:
            starts = [[Choice(c.layers, c.tiles) for c in plan] for plan in starts]
        with ExitStack() as stack:
            for name, value in self.constants.items():
                stack.enter_context(mock.patch.object(anneal, name, value))
            stack.enter_context(mock.patch.dict(operators.SHARES, self.shares))
            clock = Clock(network, cluster)
            found = anneal.searched(clock, starts, templates, effort=effort, seed=seed)
            return clock.seconds(found)


VARIANTS = (
    Variant("all parts"),
    Variant("paths without discount", discounts=(1.0,)),
    Variant("no paths, baselines alone", discounts=()),
    Variant("no overlap", overlap=False),
    Variant("downhill alone", constants={"WARM": 1e-9, "LUKEWARM": 1e-9, "COLD": 1e-9}),
    Variant("one walk", constants={"WALKS": 1, "LAST_SHARE": 0.01}),
    Variant("no last walk", constants={"LAST_SHARE": 0.01}),
    Variant("no partitions of solved layers", solved=False),
    Variant("no moves of single segments", shares=("shift",)),
    Variant("no moves of spans", shares=("shift_span",)),
    Variant("no partitions of neighbours", shares=("spread",)),
    Variant("no templates", shares=("take_template",)),
    Variant("no other segments", shares=("split", "join", "slide")),
    Variant("no swaps", shares=("swap",)),
    Variant("no relocated devices", shares=("relocate",)),
)


def measured(effort: float, seeds: int) -> Iterator[dict[str, object]]:
    """A row per case and variant."""
    for model, count, kind, rate in CASES:
        network = nptp_opt.load_model(model, (1, 3, 224, 224)).network
        cluster = cluster_of(count, kind, rate)
        for variant in VARIANTS:
            began = time.process_time()
            found = [variant.latency_s(network, cluster, effort, seed) for seed in range(seeds)]
            row = {
                "case": f"{model}, {count} {kind}",
                "variant": variant.name,
                "mean_s": statistics.mean(found),
                "latencies_s": found,
                "process_s": (time.process_time() - began) / seeds,
            }
            print(f"{row['case']:24} {variant.name:34} {row['mean_s']:.4f} s", flush=True)
            yield row


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Variants by cases, in Markdown."""
    cases = list(dict.fromkeys(str(row["case"]) for row in rows))
    mean = {(row["case"], row["variant"]): float(str(row["mean_s"])) for row in rows}
    lines = ["| | " + " | ".join(cases) + " |", "|---|" + "---|" * len(cases)]
    for variant in VARIANTS:
        cells = [
            f"{mean[case, variant.name]:.4f} s "
            f"({mean[case, variant.name] / mean[case, VARIANTS[0].name] - 1:+.1%})"
            if (case, variant.name) in mean
            else ""
            for case in cases
        ]
        lines.append(f"| {variant.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--effort", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", default="benchmarks/results/planner_ablation")
    args = parser.parse_args()
    protocol = {"effort": args.effort, "seeds": args.seeds}
    head = (
        f"Mean simulated latency over {args.seeds} seeds, {args.effort:g} of the default work.\n\n"
    )
    rows: list[dict[str, object]] = []
    for row in measured(args.effort, args.seeds):
        rows.append(row)
        content = json.dumps({"protocol": protocol, "rows": rows}, indent=1)
        Path(f"{args.output}.json").write_text(content)
        Path(f"{args.output}.md").write_text(head + table(rows))


if __name__ == "__main__":
    main()
