"""Fewer bytes, nothing lost: pixels as bytes, and zeros not sent.

    python benchmarks/fewer_bytes.py [--minutes N] [--models A,B] [--execute] [--dilate N]
                                                    (--execute as root: network namespaces)

Protocol. The cluster is examples/eight-shared.toml (8 devices of 20 GFLOP/s on one medium of 50
Mbit/s) if no ``--cluster FILE`` is given, the input 1x3x224x224, the weights random. Each planner
plans four times: all of it dense and float32; the input as uint8; maps with bitmasks; both.
Densities are measured on 3 random inputs of the kind that runs take, with seeds of their own;
``half`` takes 0.5 for every map but the input, as one does who only knows that half of what a ReLU
makes is zero. What is sent is counted from the plan. With --execute every plan but ``half`` is
executed on its emulated cluster (transport tcp, computation padded to the plan's speeds, its clock
``--dilate`` times slower: this machine has not the speed of eight such devices) on inputs of other
seeds, one warm-up, then the repeats, each compared with the model; without it nothing is executed.
The codec is timed by itself, on one core. Rows are written as soon as they are there; called again,
it computes what is missing.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
from about import arguments
from runtime_cases import Record, Row, measure

from nptp_opt.cluster import load_cluster
from nptp_opt.kernels.densities import measure_densities
from nptp_opt.network.given import random_inputs
from nptp_opt.network.ir import Density
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.network.ref import Pixels
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.runtime.profiling.layers import measure_codec

CLUSTER = Path(__file__).parents[1] / "examples" / "eight-shared.toml"
SHAPE = (1, 3, 224, 224)
MODELS = ("vgg16", "resnet50")
PLANNERS = ("nptp", "coedge-style", "strip-best", "grid-equal")
VARIANTS = ("dense", "uint8", "bitmask", "both", "half")
IMAGENET = Pixels(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SAMPLES, SAMPLE_SEED = 3, 1000
DENSITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
SHOWN = ("model", "planner", "variant", "predicted_s", "bytes", "dense_bytes")


@lru_cache(maxsize=4)
def model_of(name: str, variant: str) -> LoadedModel:
    """The model with what the variant knows of it."""
    plain = load_model(name, SHAPE)
    loaded = plain.of_pixels(None if variant in ("dense", "bitmask") else IMAGENET)
    if variant in ("dense", "uint8"):
        return loaded
    if variant == "half":
        half = {layer.name: Density(0.5, 0.5) for layer in loaded.network.spatial}
        return loaded.of_densities({n: d for n, d in half.items() if n not in plain.network.inputs})
    with tempfile.TemporaryDirectory() as folder:
        for k in range(SAMPLES):
            (x,) = random_inputs(loaded.network, SAMPLE_SEED + k)
            np.save(Path(folder) / f"{k}.npy", x.numpy())
        found = measure_densities(loaded, Path(folder))
    return loaded.of_densities(found)


def plan_of(loaded: LoadedModel, planner: str, cluster: Path) -> Plan:
    options = PlanOptions(planner=planner, bound=False)
    return plan_network(loaded.ref, loaded.network, load_cluster(cluster), options)


def row(labels: Row, repeats: int, cluster: Path, *, dilation: float | None) -> Row:
    """One plan: what it takes and sends, and with a ``dilation`` what it took and sent."""
    loaded = model_of(labels["model"], labels["variant"])
    start = time.monotonic()
    plan = plan_of(loaded, labels["planner"], cluster)
    spent = time.monotonic() - start
    moves = [move for step in plan.steps for move in step.transfers]
    found: Row = {
        "predicted_s": plan.latency_s,
        "bytes": plan.transfer_bytes,
        "dense_bytes": plan.dense_bytes,
        "transfers": len(moves),
        "coded": sum(move.encoding != "dense" for move in moves),
        "planning_s": spent,
    }
    if dilation is not None and labels["variant"] != "half":
        measured = measure(plan, loaded, repeats, dilation=dilation)
        found |= measured | {"bytes": plan.transfer_bytes, "sent_bytes": measured["bytes"]}
    return labels | found


def codec() -> list[Row]:
    """MB/s of float32 elements, one core, by the median of repeated calls."""
    rows = []
    for density in DENSITIES:
        encode, decode, code, uncode = measure_codec(15, density)
        first = density / 4  # first bytes of non-zeros in a byte of elements
        row = {"density": density, "encode": encode, "decode": decode}
        row["both"] = 1 / (1 / encode + 1 / decode)
        row["with codes"] = 1 / (1 / row["both"] + first / code + first / uncode)
        rows.append(row)
    return rows


def table(record: Record, coded: list[Row], command: str) -> str:
    about = record.about
    lines = [
        "# Pixels as bytes, zeros not sent",
        "",
        f"`{command}`; {about['cpu']}, {about['cores']} cores, commit {about['commit'][:12]}.",
        "1x3x224x224, random weights; without --cluster 8 devices of 20 GFLOP/s, 50 Mbit/s shared.",
        "",
        "| model | planner | "
        + " | ".join(f"{v} ms" for v in VARIANTS)
        + " | MB dense | MB both |",
        "|---|---|" + "---|" * (len(VARIANTS) + 2),
    ]
    for cell in dict.fromkeys((r["model"], r["planner"]) for r in record.rows):
        by = {r["variant"]: r for r in record.rows if (r["model"], r["planner"]) == cell}
        cells = [f"{by[v]['predicted_s'] * 1e3:.0f}" if v in by else "" for v in VARIANTS]
        cells += [f"{by[v]['bytes'] / 1e6:.2f}" if v in by else "" for v in ("dense", "both")]
        lines.append(f"| {' | '.join([*cell, *cells])} |")
    executed = [r for r in record.rows if "executed_s" in r]
    if executed:
        lines += ["", "| model | planner | sent | predicted ms | executed ms | error | overrun |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in executed:
        cells = [r["model"], r["planner"], r["variant"], f"{r['predicted_s'] * 1e3:.0f}"]
        cells += [f"{r['executed_s'] * 1e3:.0f}", f"{r['error']:+.1%}"]
        lines.append(f"| {' | '.join(cells)} | {r['overrun_s'] / r['executed_s']:.1%} |")
    lines += [
        "",
        "The codecs on half-dense and other float32 maps, MB/s on one core, and both ways with "
        "Huffman codes:",
        "",
        "| density | encode | decode | both | with codes |",
        "|---|---|---|---|---|",
    ]
    for r in coded:
        numbers = (f"{r[name]:.0f}" for name in ("encode", "decode", "both", "with codes"))
        lines.append(f"| {r['density']} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--planners", default=",".join(PLANNERS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then stop; resumable")
    parser.add_argument("--execute", action="store_true")
    parser.add_argument("--dilate", type=float, default=8.0, help="with --execute: slower clock")
    parser.add_argument("--cluster", type=Path, default=CLUSTER)
    args = parser.parse_args()
    dilation = args.dilate if args.execute else None
    settings = {"repeats": args.repeats if args.execute else 0, "dilation": dilation}
    own = "" if args.cluster == CLUSTER else f"_{args.cluster.stem}"
    record = Record(f"fewer_bytes{own}", settings)
    deadline, coded = time.monotonic() + 60 * args.minutes, codec()
    command = "python benchmarks/fewer_bytes.py"
    command += f" --execute --dilate {args.dilate:g}" if args.execute else ""
    command += f" --cluster {args.cluster}" if own else ""
    for model, planner, variant in itertools.product(
        args.models.split(","), args.planners.split(","), VARIANTS
    ):
        labels = {"model": model, "planner": planner, "variant": variant}
        if time.monotonic() > deadline:
            break
        if not record.has(labels):
            record.add(row(labels, args.repeats, args.cluster, dilation=dilation), SHOWN)
        record.write({"codec": coded}, table(record, coded, command))
    for cell in dict.fromkeys((r["model"], r["planner"]) for r in record.rows):
        by = {r["variant"]: r for r in record.rows if (r["model"], r["planner"]) == cell}
        # a baseline that sends nothing still normalises
        slower = "both" in by and by["both"]["predicted_s"] > 1.001 * by["dense"]["predicted_s"]
        assert not slower, cell


if __name__ == "__main__":
    main()
