"""The runtime beside torch on one device, torch.compile and DTensor, in one run.

    python benchmarks/runtime_peers.py

Protocol. VGG-16 at 224 in eager mode and compiled, with one thread and with one per core; the
runtime on four local processes of one thread with the plan of ``nptp``; medians of the repeats.
Then single layers through ``torch.distributed.tensor`` on four processes: the input sharded by
rows or by columns and the weights replicated, or the weights sharded by output channels; the full
result compared with torch's own and timed where it is right, in torch's default mode, under
``no_grad`` and under ``inference_mode``: they differ. Whatever is not right is listed as it came
out. NVIDIA PhysicsNeMo 2.2.2 is not part of it: it asks for a newer torch and CUDA's packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from about import arguments
from runtime_cases import Record, Row, cluster, model_of, plan_of
from torch import Tensor
from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh

from nptp_opt.network.ref import ModelRef
from nptp_opt.network.zoo import build
from nptp_opt.runtime.launcher.launch import run_plan

REF = ModelRef("vgg16", (1, 3, 224, 224))
DEVICES, REPEATS = 4, 9

Layer = Callable[[Tensor, Tensor], Tensor]

LAYERS: dict[str, tuple[tuple[int, ...], Layer]] = {
    "conv k3 s1 p1": ((256, 128, 3, 3), lambda x, w: F.conv2d(x, w, padding=1)),
    "conv k3 s2 p1": ((256, 128, 3, 3), lambda x, w: F.conv2d(x, w, padding=1, stride=2)),
    "conv k3 s1 p0": ((256, 128, 3, 3), F.conv2d),
    "conv k1": ((256, 128, 1, 1), F.conv2d),
    "conv k2 s2": ((256, 128, 2, 2), lambda x, w: F.conv2d(x, w, stride=2)),
    "max pool k2 s2": ((1, 1), lambda x, w: F.max_pool2d(x, 2)),
    "max pool k3 s2 p1": ((1, 1), lambda x, w: F.max_pool2d(x, 3, 2, 1)),
    "relu": ((1, 1), lambda x, w: x.relu()),
}
"""Shape of the weight, and the layer, on a map of 128 x 56 x 56."""
MODES = {
    "default": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}
SHARDS = {"input by rows": 2, "input by columns": 3, "weight by output channels": None}


def seconds(call: Callable[[], Any]) -> float:
    """Median of the repeats, after two calls that do not count."""
    times = []
    for k in range(REPEATS + 2):
        start = time.perf_counter()
        call()
        if k > 1:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def single_device() -> list[Row]:
    """VGG-16 in this process."""
    torch.manual_seed(0)
    model, x = build(REF.ref), torch.randn(REF.input)
    expected, rows = model(x), list[Row]()
    for threads in dict.fromkeys((1, os.cpu_count() or 1)):
        torch.set_num_threads(threads)
        for name, run in (("eager", model), ("torch.compile", torch.compile(model))):
            with torch.inference_mode():
                assert torch.allclose(run(x), expected, atol=1e-4)
                found = seconds(lambda run=run: run(x))
            rows.append({"who": name, "where": f"1 process, {threads} threads", "seconds": found})
    torch.set_num_threads(1)
    return rows


def ours() -> Row:
    """The runtime with a plan for four equal devices."""
    model = model_of(REF)
    plan = plan_of("nptp", REF, model, cluster(DEVICES, 20.0, 1000.0, shared=False))
    report = run_plan(plan, model, repeats=REPEATS, warmup=2)
    assert report.ok
    where = f"{len(report.spans)} processes of 1 thread"
    return {"who": "nptp-opt run", "where": where, "seconds": report.median_s}


def dtensor_rows() -> list[Row]:
    """Every layer and every way of sharding."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        torch.multiprocessing.spawn(_dtensor, args=(f"{folder}/meet", str(out)), nprocs=DEVICES)
        rows: list[Row] = json.loads(out.read_text())
        return rows


def _dtensor(rank: int, meet: str, out: str) -> None:
    """One of the processes; the first writes what was found."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=DEVICES)
    rows = [_check(layer, name, dim, mode) for layer in LAYERS for name, dim in SHARDS.items()
            for mode in MODES if dim is not None or layer.startswith("conv")]  # fmt: skip
    if rank == 0:
        Path(out).write_text(json.dumps(rows))
    dist.destroy_process_group()


def _check(layer: str, name: str, dim: int | None, mode: str) -> Row:
    mesh = init_device_mesh("cpu", (DEVICES,))
    torch.manual_seed(0)
    shape, run = LAYERS[layer]
    x, w = torch.randn(1, 128, 56, 56), torch.randn(shape)
    row: Row = {"layer": layer, "sharded": name, "mode": mode, "seconds": None}
    try:
        with MODES[mode]():
            expected = run(x, w)
            on_x, on_w = (Replicate(), Shard(0)) if dim is None else (Shard(dim), Replicate())
            dx, dw = distribute_tensor(x, mesh, [on_x]), distribute_tensor(w, mesh, [on_w])
            result = run(dx, dw)
            full = result.full_tensor()  # type: ignore[attr-defined]
            placed = str(result.placements[0])  # type: ignore[attr-defined]
            if full.shape != expected.shape:
                said = f"WRONG: shape {tuple(full.shape)} instead of {tuple(expected.shape)}"
                return row | {"result": said, "placed": placed}
            error = float((full - expected).abs().max())
            if error > 1e-3:
                return row | {"result": f"WRONG: error {error:.2g}", "placed": placed}
            found = seconds(lambda: run(dx, dw))
            return row | {"result": "right", "placed": placed, "seconds": found}
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        return row | {"result": f"refused: {type(error).__name__}: {str(error).splitlines()[0]}"}


def table(record: Record) -> str:
    about = record.about
    lines = [
        "# The runtime beside torch, torch.compile and DTensor",
        "",
        f"`python benchmarks/runtime_peers.py`; {about['cpu']}, {about['cores']} cores, load "
        f"{record.rows[0]['load']:.1f}, commit {about['commit'][:12]}, torch {torch.__version__}.",
        "",
        "VGG-16 at 224. Four processes share the cores of one machine: this compares overheads, "
        "not what four devices would gain.",
        "",
        "| who | where | ms |",
        "|---|---|---|",
    ]
    for r in (row for row in record.rows if "who" in row):
        lines.append(f"| {r['who']} | {r['where']} | {r['seconds'] * 1e3:.1f} |")
    lines += [
        "",
        f"DTensor on {DEVICES} processes (map of 128 x 56 x 56). What is wrong is so in the "
        "modes that the rows name, and in no other:",
        "",
    ]
    lines += ["| layer | sharded | mode | result | placed | ms |", "|---|---|---|---|---|---|"]
    for r in (row for row in record.rows if "layer" in row):
        took = "" if r["seconds"] is None else f"{r['seconds'] * 1e3:.2f}"
        placed = r.get("placed", "")
        lines.append(
            f"| {r['layer']} | {r['sharded']} | {r['mode']} | {r['result']} | {placed} | {took} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    arguments(__doc__).parse_args()
    record = Record("runtime_peers", {"repeats": REPEATS, "at": time.time()})
    for row in (*single_device(), ours()):
        record.add(row, ("who", "where", "seconds"))
    for row in dtensor_rows():
        record.add(row, ("layer", "sharded", "mode", "result", "seconds"))
    record.write({}, table(record))


if __name__ == "__main__":
    main()
