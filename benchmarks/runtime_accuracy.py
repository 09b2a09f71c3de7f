"""Predicted against executed latency on emulated clusters.

    python benchmarks/runtime_accuracy.py [--quick] [--minutes N]     (as root: network namespaces)

Protocol. Every case is planned, then executed on its emulated cluster (namespaces, tbf, transport
tcp) with computation padded to the plan's speeds: one warm-up, then the repeats, each compared
with the unpartitioned model. ``error`` is predicted / median executed - 1. Cases run one after the
other. ``overrun_s`` above a per cent of the latency says that this machine was too slow or too busy
to emulate that case. Rows are written as soon as they are measured; called
again, it measures what is missing, with ``--again`` also what the machine was too busy for:
``--minutes`` begins no case after that time.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator

from about import arguments
from runtime_cases import Record, Row, cluster, header, in_time, measure, model_of, plan_of

from nptp_opt.network.ref import ModelRef

GFLOPS = 5.0
DEVICES = {"strips": 4, "2x2": 4, "T of three": 3, "nptp": 4}
MODELS = ("vgg16", "resnet50")
RATES = (50.0, 100.0, 1000.0)
SHOWN = ("model", "size", "plan", "mbit_per_s", "network", "predicted_s", "executed_s", "error",
         "overrun_s")  # fmt: skip


def cases(quick: bool) -> Iterator[Row]:
    """Labels of every case."""
    sizes = (224,) if quick else (224, 448)
    rates = (50.0, 1000.0) if quick else RATES
    names = ("model", "size", "plan", "mbit_per_s", "network")
    for case in itertools.product(MODELS, sizes, DEVICES, rates, ("switched", "shared")):
        yield dict(zip(names, case, strict=True))


def row(labels: Row, repeats: int) -> Row:
    """One measured case."""
    ref = ModelRef(labels["model"], (1, 3, labels["size"], labels["size"]))
    shared = labels["network"] == "shared"
    where = cluster(DEVICES[labels["plan"]], GFLOPS, labels["mbit_per_s"], shared=shared)
    loaded = model_of(ref)
    return labels | measure(plan_of(labels["plan"], ref, loaded, where), loaded, repeats)


def summary(rows: list[Row]) -> Row:
    """Mean and worst absolute error, over all rows and over those that could be emulated."""
    fair = [r for r in rows if in_time(r)]
    found: Row = {"cases": len(rows), "emulated_in_time": len(fair)}
    for name, chosen in (("all", rows), ("in_time", fair)):
        errors = [abs(r["error"]) for r in chosen]
        if errors:
            found[name] = {"mean_abs_error": statistics.mean(errors), "worst": max(errors)}
    return found


def table(record: Record, found: Row, command: str) -> str:
    lines = [
        *header("Predicted against executed latency", record, command),
        f"Devices of {GFLOPS} GFLOP/s, 0.1 ms per layer call, 0.5 ms per message.",
        "",
        "| model | size | plan | Mbit/s | network | predicted ms | executed ms | error | overrun |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in record.rows:
        cells = [r["model"], r["size"], r["plan"], f"{r['mbit_per_s']:.0f}", r["network"]]
        cells += [f"{r['predicted_s'] * 1e3:.0f}", f"{r['executed_s'] * 1e3:.0f}"]
        cells += [f"{r['error']:+.1%}", f"{r['overrun_s'] / r['executed_s']:.1%}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for name in ("all", "in_time"):
        if name in found:
            count = found["cases" if name == "all" else "emulated_in_time"]
            mean, worst = found[name]["mean_abs_error"], found[name]["worst"]
            text = f"{count} cases ({name}): mean absolute error {mean:.1%}, worst {worst:.1%}."
            lines += ["", text]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="224 only, two rates")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then stop; resumable")
    parser.add_argument("--only", default="", help="only cases whose labels contain this text")
    parser.add_argument("--again", action="store_true", help="late cases, too")
    args = parser.parse_args()
    name = "runtime_accuracy_quick" if args.quick else "runtime_accuracy"
    record, deadline = Record(name, {"repeats": args.repeats}), time.monotonic() + 60 * args.minutes
    if args.again:
        record.drop_late()
    command = "python benchmarks/runtime_accuracy.py" + (" --quick" if args.quick else "")
    for labels in cases(args.quick):
        if args.only not in " ".join(map(str, labels.values())) or record.has(labels):
            continue
        if time.monotonic() > deadline:
            break
        record.add(row(labels, args.repeats), SHOWN)
        found = summary(record.rows)
        record.write(found, table(record, found, command))


if __name__ == "__main__":
    main()
