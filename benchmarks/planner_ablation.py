"""What every part of ``nptp``'s search is worth: simulated latency with and without it.

    python benchmarks/planner_ablation.py [--effort 0.5] [--seeds 2] [--cases 3]

Each variant plans every case from as many seeds, with the same work (tasks and messages that are
simulated), which does not depend on how busy the machine is. The table has the mean over the seeds,
and how much slower that is than with all parts. Seconds are those of the search alone: what it
starts from is made once for all variants that start from the same.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from unittest import mock

from about import arguments, provenance, save

import nptp_opt
from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.clock import Clock
from nptp_opt.planner.baselines.quick import QUICK
from nptp_opt.planner.candidates.pool import solved_layers, with_families
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.local_search import anneal, operators
from nptp_opt.planner.nptp import of_fewer, paths
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.path.discounted import DISCOUNTS, FEWER_DISCOUNTS

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


class Case:
    """A network on a cluster, and what searches start from there."""

    def __init__(self, model: str, count: int, kind: str, rate: float) -> None:
        self.name = f"{model}, {count} {kind}"
        self.network = nptp_opt.load_model(model, (1, 3, 224, 224)).network
        self.cluster = cluster_of(count, kind, rate)
        self._starts: dict[object, tuple[list[Plan], list[Template]]] = {}

    def starts(
        self, discounts: Sequence[float], *, fewer: bool, solved: bool
    ) -> tuple[list[Plan], list[Template]]:
        """Plans to start from and templates."""
        key = tuple(discounts), fewer, solved
        if key not in self._starts:
            self._starts[key] = self._made(discounts, fewer=fewer, solved=solved)
        return self._starts[key]

    def _made(
        self, discounts: Sequence[float], *, fewer: bool, solved: bool
    ) -> tuple[list[Plan], list[Template]]:
        network, cluster = self.network, self.cluster
        layers = solved_layers(network, cluster, PlanOptions()) if solved else {}
        templates = with_families(network, cluster, layers)
        starts: list[Plan] = [plan(network, cluster) for plan in QUICK.values()]
        starts += paths(network, cluster, templates, discounts=discounts)
        for some in of_fewer(templates, len(cluster.devices)) if fewer else ():
            starts += paths(network, cluster, some, discounts=FEWER_DISCOUNTS)
        return starts, templates


class Variant:
    """The search with parts changed: constants of ``anneal``, shares of operators, starts."""

    def __init__(
        self,
        name: str,
        *,
        constants: Mapping[str, float] | None = None,
        shares: Sequence[str] = (),
        discounts: Sequence[float] = DISCOUNTS,
        fewer: bool = True,
        solved: bool = True,
        apart: bool = True,
    ) -> None:
        """``shares`` names operators that are left out."""
        self.name, self.constants, self.discounts = name, constants or {}, discounts
        self.fewer, self.solved, self.apart = fewer, solved, apart
        left_out = [*shares, *(["rims"] if not apart else [])]
        self.shares = dict.fromkeys(left_out, 0.0)

    def latency_s(self, case: Case, effort: float, seed: int) -> float:
        """Simulated latency of the plan that it finds."""
        starts, templates = case.starts(self.discounts, fewer=self.fewer, solved=self.solved)
        if not self.apart:
            starts = [[Choice(c.layers, c.tiles) for c in plan] for plan in starts]
        with ExitStack() as stack:
            for name, value in self.constants.items():
                stack.enter_context(mock.patch.object(anneal, name, value))
            stack.enter_context(mock.patch.dict(operators.SHARES, self.shares))
            clock = Clock(case.network, case.cluster)
            found = anneal.searched(clock, starts, templates, effort=effort, seed=seed)
            return clock.seconds(found)


VARIANTS = (
    Variant("all parts"),
    Variant("paths without discount", discounts=(1.0,)),
    Variant("no paths with fewer devices", fewer=False),
    Variant("no paths, baselines alone", discounts=(), fewer=False),
    Variant("no pieces", apart=False),
    Variant("no order of messages", shares=("first",)),
    Variant("downhill alone", constants={"WARM": 1e-9, "COLD": 1e-9}),
    Variant("one walk", constants={"ROUNDS": (1,)}),
    Variant("one round", constants={"ROUNDS": (8,)}),
    Variant("4, 2 and 1 walks", constants={"ROUNDS": (4, 2, 1)}),
    Variant("no partitions of solved layers", solved=False),
    Variant("no moves of single segments", shares=("shift",)),
    Variant("no moves of spans", shares=("shift_span",)),
    Variant("no partitions of neighbours", shares=("spread",)),
    Variant("no templates", shares=("take_template",)),
    Variant("no other segments", shares=("split", "join", "slide")),
    Variant("no swaps", shares=("swap",)),
    Variant("no relocated devices", shares=("relocate",)),
)


def measured(count: int, effort: float, seeds: int) -> Iterator[dict[str, object]]:
    """A row per variant of the first cases."""
    for labels in CASES[:count]:
        case = Case(*labels)
        for variant in VARIANTS:
            case.starts(variant.discounts, fewer=variant.fewer, solved=variant.solved)
            began = time.process_time()
            found = [variant.latency_s(case, effort, seed) for seed in range(seeds)]
            row = {
                "case": case.name,
                "variant": variant.name,
                "mean_s": statistics.mean(found),
                "latencies_s": found,
                "process_s": (time.process_time() - began) / seeds,
            }
            print(f"{case.name:24} {variant.name:34} {row['mean_s']:.4f} s", flush=True)
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
    parser = arguments(__doc__)
    parser.add_argument("--effort", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cases", type=int, default=len(CASES))
    args = parser.parse_args()
    protocol = {"effort": args.effort, "seeds": args.seeds, **provenance()}
    head = (
        f"Mean simulated latency over {args.seeds} seeds, {args.effort:g} of the default work.\n\n"
    )
    rows: list[dict[str, object]] = []
    for row in measured(args.cases, args.effort, args.seeds):
        rows.append(row)
        save("planner_ablation", {"protocol": protocol, "rows": rows}, head + table(rows))


if __name__ == "__main__":
    main()
