"""Executed latency of ``nptp`` against the baselines on an emulated cluster.

    python benchmarks/runtime_speedup.py [--quick]          (as root: it makes network namespaces)

Protocol as in ``runtime_accuracy.py``: 8 devices of 10 GFLOP/s on a shared medium of 50 Mbit/s (and
4 on a switched one), VGG at 224, computation padded to the plan's speeds, every run compared with
the model. The planners of one case run one after the other. A case counts only if the machine could
emulate it: ``overrun_s`` is how much slower than the plan it computed on its worst device.
"""

from __future__ import annotations

import argparse
import statistics

from runtime_cases import Row, cluster, machine, measure, plan_of, say, write_results

from nptp_opt.network.load import load_model
from nptp_opt.steps import ModelRef

GFLOPS, RATE = 10.0, 50.0
MODELS = ("vgg11", "vgg13", "vgg16", "vgg19")
PLANNERS = ("coedge-style", "single", "strip-best", "grid-equal", "column-dp", "multilevel", "nptp")
RIVAL = "coedge-style"


def rows_of(model: str, devices: int, shared: bool, planners: tuple[str, ...], n: int) -> list[Row]:
    """All planners on one model and cluster."""
    ref = ModelRef(model, (1, 3, 224, 224))
    loaded, rows = load_model(ref.ref, ref.input, ref.seed), list[Row]()
    where = cluster(devices, GFLOPS, RATE, shared=shared)
    for planner in planners:
        kind = "shared" if shared else "switched"
        labels = {"model": model, "devices": devices, "network": kind, "planner": planner}
        rows.append(labels | measure(plan_of(planner, ref, loaded, where), loaded, n))
        say(rows[-1], [*labels, "predicted_s", "executed_s", "overrun_s"])
    return rows


def speedups(rows: list[Row]) -> Row:
    """Geometric means of the rival's over nptp's latency, by cluster."""
    found: Row = {}
    for cell in dict.fromkeys((r["devices"], r["network"]) for r in rows):
        for figure in ("predicted_s", "executed_s"):
            own = [r for r in rows if (r["devices"], r["network"]) == cell]
            rival = {r["model"]: r[figure] for r in own if r["planner"] == RIVAL}
            ratios = [rival[r["model"]] / r[figure] for r in own if r["planner"] == "nptp"]
            found[f"{cell[0]} {cell[1]} {figure}"] = statistics.geometric_mean(ratios)
    return found


def table(rows: list[Row], about: Row, found: Row) -> str:
    lines = [
        "# Executed latency of the planners",
        "",
        f"`python benchmarks/runtime_speedup.py`; {about['cpu']}, {about['cores']} cores, load "
        f"{about['load']:.1f}, commit {about['commit'][:12]}.",
        "",
        "| model | devices | network | planner | predicted ms | executed ms | overrun |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        cells = [r["model"], str(r["devices"]), r["network"], r["planner"]]
        cells += [f"{r['predicted_s'] * 1e3:.0f}", f"{r['executed_s'] * 1e3:.0f}"]
        cells.append(f"{r['overrun_s'] / r['executed_s']:.1%}")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Speed-up of nptp over {RIVAL} (geometric mean):", ""]
    return "\n".join([*lines, *(f"* {name}: {value:.2f}" for name, value in found.items())]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="vgg11, shared, two planners")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    models, planners = (("vgg11",), (RIVAL, "nptp")) if args.quick else (MODELS, PLANNERS)
    about, rows = machine(), list[Row]()
    for devices, shared in ((8, True),) if args.quick else ((8, True), (4, False)):
        for model in models:
            rows += rows_of(model, devices, shared, planners, args.repeats)
            content = {"about": about, "rows": rows, "speedup": speedups(rows)}
            name = "runtime_speedup_quick" if args.quick else "runtime_speedup"
            write_results(name, content, table(rows, about, content["speedup"]))


if __name__ == "__main__":
    main()
