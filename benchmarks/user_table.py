"""What a user would pick: one device with its fastest engine, or a plan on 2, 4 or 8 of them.

    python benchmarks/user_table.py [--models A,B] [--sizes 224,448] [--emulate] [--record]

Protocol. The device is one core of this machine, as ``profile`` measures it for the model at that
size, by the executor that ``run`` would take. ``engine_s`` is that engine on the whole model: the
least of at least five runs in ``LEAST_S`` seconds; on the whole as one tile program where torch
does not export the model at that size (VGG-16, but for multiples of 224). Devices are equal, each
with a link of its own (``LATENCY_MS`` one way). ``latency_s`` is what ``nptp`` predicts with a
fifth of its default work, ``single_s`` the same prediction for one device, ``speedup`` is engine_s
over latency_s, so the engine's own time counts, not its prediction. *Not worth distributing* stands
where the plan is not ``WORTH`` times as fast as the engine. With ``--emulate`` the plans at
``EMULATED`` Mbit/s on four devices are executed, too, in namespaces whose clock is ``DILATED``
times slower: two cores are enough then.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from about import arguments, head, provenance, save
from executors import exported, onnxruntime_itself, openvino_itself, runtime
from torch.onnx.errors import OnnxExporterError

import nptp_opt
from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.cluster.profiles import Profile
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.clock import Clock
from nptp_opt.evaluate.usage import evaluated
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.network.zoo import build
from nptp_opt.plan.model import Plan
from nptp_opt.planner.baselines.quick import single_on
from nptp_opt.planner.nptp import fastest
from nptp_opt.planner.options import PlanOptions
from nptp_opt.runtime.profiling.profile import ProfileRequest, make_profile

MODELS = ("vgg16", "resnet50", "mobilenet_v2")
SIZES = (224, 448, 1024)
DEVICES = (2, 4, 8)
RATES = (50.0, 100.0, 300.0, 1000.0)
LATENCY_MS = 0.3
EFFORT = 0.2
LEAST_S = 3.0
WORTH = 1.1
EMULATED, DILATED = 300.0, 8.0

Row = dict[str, Any]


def engine(loaded: LoadedModel, model: str, executor: str, x: torch.Tensor) -> Callable[[], Any]:
    """The engine itself on the whole model."""
    module = build(model)
    if executor == "torch":
        return lambda: module(x)
    itself = {"onnxruntime": onnxruntime_itself, "openvino": openvino_itself}[executor]
    try:
        return itself(exported(module, x), x)
    except OnnxExporterError:
        return runtime(loaded, executor, x)


def engine_s(loaded: LoadedModel, model: str, size: int, executor: str) -> float:
    """Its seconds, one thread."""
    torch.set_num_threads(1)
    run = engine(loaded, model, executor, torch.randn(1, 3, size, size))
    began, found = time.perf_counter(), list[float]()
    with torch.no_grad():
        while len(found) < 6 or time.perf_counter() - began < LEAST_S:
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return min(found[1:])


def cluster(profile: Profile, count: int, mbit_per_s: float) -> Cluster:
    """So many devices as measured, each with a link of its own."""
    fields = profile.device_fields(own_link=False)
    rates = {"up_mbit_per_s": mbit_per_s, "down_mbit_per_s": mbit_per_s}
    devices = [{"name": f"d{i}", **fields, **rates} for i in range(count)]
    network = {"kind": "switched", "latency_ms": LATENCY_MS}
    return cluster_from_json({"network": network, "device": devices})


def plan_of(loaded: LoadedModel, where: Cluster, choices: list[Choice]) -> Plan:
    """These choices, priced."""
    steps = assemble(loaded.network, where, choices)
    return evaluated(Plan(loaded.ref, loaded.network, where, steps, 0.0))


def rows_of(model: str, size: int, *, emulate: bool) -> Iterator[Row]:
    """All clusters of one model at one size."""
    shape = (1, 3, size, size)
    profile = make_profile(model, ProfileRequest(shape, repeats=3), print)
    loaded = load_model(model, shape)
    alone_s = engine_s(loaded, model, size, profile.executor)
    for count in DEVICES:
        for rate in RATES:
            where = cluster(profile, count, rate)
            clock = Clock(loaded.network, where)
            choices = fastest(loaded.network, where, PlanOptions(), effort=EFFORT)
            row: Row = {
                "model": model,
                "size": size,
                "devices": count,
                "mbit_per_s": rate,
                "executor": profile.executor,
                "engine_s": alone_s,
                "single_s": clock.seconds(single_on(loaded.network, where.source)),
                "latency_s": clock.seconds(choices),
            }
            row["speedup"] = alone_s / row["latency_s"]
            if emulate and (count, rate) == (4, EMULATED) and row["speedup"] > WORTH:
                row["executed_s"] = executed_s(plan_of(loaded, where, choices), loaded)
            yield row


def executed_s(plan: Plan, loaded: LoadedModel) -> float | None:
    """Median of executed runs on an emulated cluster; None where this machine was too slow."""
    report = nptp_opt.run(plan, loaded, emulate=True, dilate=DILATED, repeats=3, warmup=1)
    return None if report.is_void else report.median_s


def ms(seconds: float) -> str:
    """Milliseconds with three digits, or all before the point."""
    return f"{1e3 * seconds:.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"


def table(rows: list[Row]) -> str:
    """A row per model, size and number of devices; a column per rate."""
    lines = [
        "| model | input | engine | one device ms | devices | "
        + " | ".join(f"{rate:g} Mbit/s" for rate in RATES)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(RATES),
    ]
    keys = dict.fromkeys((row["model"], row["size"], row["devices"]) for row in rows)
    for model, size, devices in keys:
        own = {
            row["mbit_per_s"]: row
            for row in rows
            if (row["model"], row["size"], row["devices"]) == (model, size, devices)
        }
        first = next(iter(own.values()))
        cells = [cell(own[rate]) if rate in own else "" for rate in RATES]
        lines.append(
            f"| {model} | {size} | {first['executor']} | {ms(first['engine_s'])} "
            f"| {devices} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def cell(row: Mapping[str, Any]) -> str:
    """Latency and speed-up, or the verdict."""
    if row["speedup"] < WORTH:
        return "not worth distributing"
    executed = row.get("executed_s")
    beside = f", executed {ms(executed)} ms" if executed else ""
    return f"{ms(row['latency_s'])} ms, {row['speedup']:.2f}x{beside}"


def command(args: argparse.Namespace) -> str:
    """What repeats this run."""
    flag = " --emulate" if args.emulate else ""
    return f"python benchmarks/user_table.py --models {args.models} --sizes {args.sizes}{flag}"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--emulate", action="store_true")
    args = parser.parse_args()
    about, rows = provenance(), list[Row]()
    for model in args.models.split(","):
        for size in map(int, args.sizes.split(",")):
            for row in rows_of(model, size, emulate=args.emulate):
                rows.append(row)
                print(row, flush=True)
                lines = [*head("What a user would pick", command(args), about), table(rows)]
                save("user_table", {"protocol": about, "rows": rows}, "\n".join(lines))


if __name__ == "__main__":
    main()
