"""Predicted against executed latency on emulated clusters.

    python benchmarks/runtime_accuracy.py [--quick]        (as root: it makes network namespaces)

Protocol. Every case is planned, then executed on its emulated cluster (namespaces, tbf, transport
tcp) with computation padded to the plan's speeds: one warm-up, then the repeats, each compared
with the unpartitioned model. ``error`` is predicted / median executed - 1. Cases run one after the
other. ``overrun_s`` above a per cent of the latency says that this machine was too slow or too busy
to emulate that case. Rows are written as soon as they are measured, to
``benchmarks/results/runtime_accuracy.{json,md}`` with commit, machine, load and versions.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Iterator

from runtime_cases import Row, cluster, machine, measure, plan_of, say, write_results

from nptp_opt.network.load import load_model
from nptp_opt.steps import ModelRef

GFLOPS = 5.0
DEVICES = {"strips": 4, "2x2": 4, "T of three": 3, "nptp": 4}
MODELS = ("vgg16", "resnet50")
RATES = (50.0, 100.0, 1000.0)


def cases(quick: bool) -> Iterator[tuple[str, int, str, float, bool]]:
    """Model, input size, plan, Mbit/s, shared."""
    sizes = (224,) if quick else (224, 448)
    rates = (50.0, 1000.0) if quick else RATES
    yield from itertools.product(MODELS, sizes, DEVICES, rates, (False, True))


def row(model: str, size: int, plan: str, rate: float, shared: bool, repeats: int) -> Row:
    """One measured case."""
    ref = ModelRef(model, (1, 3, size, size))
    loaded = load_model(ref.ref, ref.input, ref.seed)
    where = cluster(DEVICES[plan], GFLOPS, rate, shared=shared)
    found = measure(plan_of(plan, ref, loaded, where), loaded, repeats)
    kind = "shared" if shared else "switched"
    labels = {"model": model, "size": size, "plan": plan, "mbit_per_s": rate, "network": kind}
    return labels | found


def summary(rows: list[Row]) -> Row:
    """Mean and worst absolute error, over all rows and over those that could be emulated."""
    fair = [r for r in rows if r["overrun_s"] < 0.01 * r["executed_s"]]
    found: Row = {"cases": len(rows), "emulated_in_time": len(fair)}
    for name, chosen in (("all", rows), ("in_time", fair)):
        errors = [abs(r["error"]) for r in chosen]
        if errors:
            found[name] = {"mean_abs_error": statistics.mean(errors), "worst": max(errors)}
    return found


def table(rows: list[Row], about: Row, found: Row) -> str:
    lines = [
        "# Predicted against executed latency",
        "",
        f"`python benchmarks/runtime_accuracy.py`; {about['cpu']}, {about['cores']} cores, load "
        f"{about['load']:.1f}, commit {about['commit'][:12]}, devices of {GFLOPS} GFLOP/s.",
        "",
        "| model | size | plan | Mbit/s | network | predicted ms | executed ms | error | overrun |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="224 only, two rates")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="only cases whose labels contain this text")
    args = parser.parse_args()
    about, rows = machine(), list[Row]()
    for case in cases(args.quick):
        if args.only not in " ".join(map(str, case)):
            continue
        rows.append(row(*case, repeats=args.repeats))
        say(rows[-1], ["model", "size", "plan", "mbit_per_s", "network", "predicted_s",
                       "executed_s", "error", "overrun_s"])  # fmt: skip
        content = {"about": about, "gflops": GFLOPS, "rows": rows, "summary": summary(rows)}
        name = "runtime_accuracy_quick" if args.quick else "runtime_accuracy"
        write_results(name, content, table(rows, about, content["summary"]))


if __name__ == "__main__":
    main()
