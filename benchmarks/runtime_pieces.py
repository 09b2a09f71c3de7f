"""What pieces give where they are executed: one plan, its rims left out step by step.

    python benchmarks/runtime_pieces.py                               (as root: network namespaces)

Protocol as in ``runtime_accuracy.py``: VGG-16 at 224 on 8 devices of 10 GFLOP/s and a shared medium
of 50 Mbit/s, computation padded to the plan's speeds, every run compared with the model.
``searched``: the plan of ``nptp``. ``all rims``: each of its segments with outgoing and incoming
rims. ``incoming``, ``whole``: with no other rims, with none. Each by ONNX Runtime and by torch.
``coedge-style`` stands beside them. Where ``overrun_s`` is above a per cent, this machine was too
slow for its pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from about import arguments
from runtime_cases import Record, Row, cluster, header, measure, model_of

from nptp_opt.cost import Rims
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.planner.nptp import fastest
from nptp_opt.planner.planners import plan_of

REPEATS = 3
SHOWN = ("plan", "executor", "pieces", "predicted_s", "executed_s", "overrun_s")
NO_OUTGOING: dict[Rims, Rims] = {
    "none": "none", "incoming": "incoming", "outgoing": "none", "both": "incoming"
}  # fmt: skip
REF, WHERE = ModelRef("vgg16", (1, 3, 224, 224)), cluster(8, 10.0, 50.0, shared=True)


def plans() -> Iterator[tuple[str, Plan]]:
    """The plans by name."""
    network = model_of(REF).network
    yield "coedge-style", plan_network(REF, network, WHERE, PlanOptions("coedge-style"))
    found = fastest(network, WHERE, PlanOptions())
    ways: dict[str, list[Choice]] = {
        "searched": found,
        "all rims": [replace(each, rims="both") for each in found if not each.is_global],
        "incoming": [replace(each, rims=NO_OUTGOING[each.rims]) for each in found],
        "whole": [replace(each, rims="none") for each in found],
    }
    for name, choices in ways.items():
        yield name, plan_of(REF, network, WHERE, choices)


def pieces(plan: Plan) -> int:
    """Pieces of all devices in all segments."""
    spatial = (step for step in plan.steps if step.kind == "spatial")
    return sum(len(step.pieces_of(device)) for step in spatial for device in step.devices)


def table(record: Record) -> str:
    lines = header("Plans in pieces, executed", record, "python benchmarks/runtime_pieces.py")
    lines += ["| plan | executor | pieces | predicted ms | executed ms | overrun ms |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for row in record.rows:
        times = (f"{row[key] * 1e3:.0f}" for key in SHOWN[3:])
        lines.append(
            f"| {' | '.join([row['plan'], row['executor'], str(row['pieces']), *times])} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    arguments(__doc__).parse_args()
    record = Record("runtime_pieces", {"repeats": REPEATS})
    for name, plan in plans():
        for executor in ("onnxruntime", "torch"):
            labels: Row = {"plan": name, "executor": executor, "pieces": pieces(plan)}
            if not record.has(labels):
                row = labels | measure(plan, model_of(REF), REPEATS, executor=executor)
                record.add(row, SHOWN)
                record.write({}, table(record))


if __name__ == "__main__":
    main()
