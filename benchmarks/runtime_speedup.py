"""Executed latency of ``nptp`` against the baselines on an emulated cluster.

    python benchmarks/runtime_speedup.py [--quick] [--minutes N] [--dilate N] [--planners A,B]

Root: network namespaces.

Protocol as in ``runtime_accuracy.py``: 8 devices of 10 GFLOP/s on a shared medium of 50 Mbit/s (and
4 on a switched one), VGG at 224, computation padded to the plan's speeds, every run compared with
the model. All cases of a planner run one after the other. A case counts only if the machine could
emulate it: ``overrun_s`` is how much slower than the plan it computed on its worst device. Called
again, it measures what is missing, with ``--again`` also what the machine was too busy for. With
``--dilate`` the cluster's clock is slower than this machine's, which may then be slow or busy: all
figures are the cluster's, but what the runtime itself takes counts for less.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence

from about import arguments
from runtime_cases import Record, Row, cluster, header, measure, model_of, plan_of

from nptp_opt.network.ref import ModelRef

GFLOPS, RATE = 10.0, 50.0
MODELS = ("vgg11", "vgg13", "vgg16", "vgg19")
OURS = "nptp"
PLANNERS = ("coedge-style", OURS, "strip-best", "grid-equal", "column-dp", "multilevel", "single")
RIVALS = ("coedge-style", "strip-best")
CLUSTERS = ((8, "shared"), (4, "switched"))
SHOWN = ("model", "devices", "network", "planner", "predicted_s", "executed_s", "overrun_s")


def cases(quick: bool, planners: Sequence[str]) -> Iterator[Row]:
    """Labels of every case."""
    models = MODELS[:1] if quick else MODELS
    where = CLUSTERS[:1] if quick else CLUSTERS
    for (devices, network), planner, model in itertools.product(where, planners, models):
        yield {"model": model, "devices": devices, "network": network, "planner": planner}


def row(labels: Row, repeats: int, dilation: float) -> Row:
    """One measured case."""
    ref = ModelRef(labels["model"], (1, 3, 224, 224))
    where = cluster(labels["devices"], GFLOPS, RATE, shared=labels["network"] == "shared")
    loaded = model_of(ref)
    plan = plan_of(labels["planner"], ref, loaded, where)
    return labels | measure(plan, loaded, repeats, dilation=dilation)


def speedups(rows: list[Row]) -> Row:
    """Geometric means of a rival's over nptp's latency, by cluster."""
    found: Row = {}
    for cell in dict.fromkeys((r["devices"], r["network"]) for r in rows):
        own = [r for r in rows if (r["devices"], r["network"]) == cell]
        for rival, figure in itertools.product(RIVALS, ("predicted_s", "executed_s")):
            of = {name: {r["model"]: r[figure] for r in own if r["planner"] == name}
                  for name in (OURS, rival)}  # fmt: skip
            both = of[OURS].keys() & of[rival].keys()
            if both:
                mean = statistics.geometric_mean(of[rival][m] / of[OURS][m] for m in sorted(both))
                found[f"{cell[0]} {cell[1]}, over {rival}, {figure}"] = mean
    return found


def slower(rows: list[Row]) -> list[str]:
    """Where nptp was executed more than 2 % slower than another planner's plan."""
    found = []
    for own in (r for r in rows if r["planner"] == OURS):
        cell = {key: own[key] for key in ("model", "devices", "network")}
        for r in rows:
            if r["planner"] == OURS or not cell.items() <= r.items():
                continue
            if own["executed_s"] > 1.02 * r["executed_s"]:
                found.append(f"{own['model']}, {own['devices']} {own['network']}: {r['planner']}")
    return found


def table(record: Record, found: Row, command: str) -> str:
    lines = [
        *header("Executed latency of the planners", record, command),
        f"Devices of {GFLOPS} GFLOP/s, {RATE} Mbit/s, 0.1 ms per layer call, 0.5 ms per message.",
        "",
        "| model | devices | network | planner | predicted ms | executed ms | overrun |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in record.rows:
        cells = [r["model"], str(r["devices"]), r["network"], r["planner"]]
        cells += [f"{r['predicted_s'] * 1e3:.0f}", f"{r['executed_s'] * 1e3:.0f}"]
        cells.append(f"{r['overrun_s'] / r['executed_s']:.1%}")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Speed-up of nptp (geometric mean):", ""]
    lines += [f"* {name}: {value:.2f}" for name, value in found.items()]
    behind = slower(record.rows)
    lines += ["", "nptp more than 2 % slower than: " + ("; ".join(behind) or "nobody") + "."]
    return "\n".join(lines) + "\n"


def options(args: argparse.Namespace) -> Iterator[str]:
    """What was asked for that changes the figures."""
    if args.quick:
        yield "--quick"
    if args.dilate != 1:
        yield f"--dilate {args.dilate:g}"
    if args.planners:
        yield f"--planners {args.planners}"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="vgg11, shared, three plans")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then stop; resumable")
    parser.add_argument("--dilate", type=float, default=1.0, help="how slow the cluster's clock is")
    parser.add_argument("--planners", help="of which planners; default: all, or three if --quick")
    parser.add_argument("--again", action="store_true", help="late cases, too")
    args = parser.parse_args()
    name = "runtime_speedup_quick" if args.quick else "runtime_speedup"
    settings = {"repeats": args.repeats, "dilate": args.dilate}
    record, deadline = Record(name, settings), time.monotonic() + 60 * args.minutes
    known = PLANNERS[:3] if args.quick else PLANNERS
    planners = args.planners.split(",") if args.planners else known
    if args.again:
        record.drop_late()
    command = " ".join(["python benchmarks/runtime_speedup.py", *options(args)])
    for labels in cases(args.quick, planners):
        if record.has(labels):
            continue
        if time.monotonic() > deadline:
            break
        record.add(row(labels, args.repeats, args.dilate), SHOWN)
        found = speedups(record.rows)
        record.write(found, table(record, found, command))


if __name__ == "__main__":
    main()
