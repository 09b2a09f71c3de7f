"""The runtime with one device and no exchange, by executor, against the engine on the whole model.

    python benchmarks/executors.py [MODEL ...]

Protocol. One thread. The plan has one device, so all its tasks are one tile program, which each
executor computes as a worker does (``DeviceRun``, no launcher, no messages). The engine itself is
ONNX Runtime on the model's own export by torch, with its default options, in the same process.
Contenders take turns in an order that rotates, at least ``ROUNDS`` times and for ``LEAST_S``
seconds; the least of each counts, since whatever else this machine does only adds to it. ``ratio``
is the runtime with the executor ``onnxruntime`` over the engine itself; ``gain`` is ``torch`` over
``onnxruntime``. All outputs are compared with torch's.
"""

from __future__ import annotations

import io
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping

import onnxruntime as ort
import torch
from layer_cases import RESULTS
from runtime_cases import Record, Row, cluster
from torch import Tensor, nn

from nptp_opt.kernels.executors import EXECUTORS, choose
from nptp_opt.kernels.executors.choice import relative_error
from nptp_opt.network.load import LoadedModel, load_module
from nptp_opt.network.zoo import build
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.runtime.blocks import programs
from nptp_opt.runtime.device_program import device_program
from nptp_opt.runtime.executed import Post
from nptp_opt.runtime.trace import Recorder
from nptp_opt.runtime.transport.packing import Packing
from nptp_opt.runtime.worker.device import DeviceRun

MODELS = (
    "vgg16", "resnet50", "inception_v3", "densenet121", "efficientnet_b0", "squeezenet1_1",
    "mobilenet_v2",
)  # fmt: skip
INPUT = (1, 3, 224, 224)
ROUNDS = 12
LEAST_S = 10.0
TOLERANCE = 1e-4

Run = Callable[[], Tensor]


def runtime(model: LoadedModel, executor: str, x: Tensor) -> Run:
    """One input through the runtime of one device."""
    where = cluster(1, 20.0, 1000.0, shared=False)
    plan = plan_network(model.ref, model.network, where, PlanOptions(planner="single"))
    program = device_program(plan, 0)
    tiles = programs(program, plan.network)
    assert len(tiles) == 1, "one device has one tile program"
    device = DeviceRun(
        plan.network,
        program,
        model.weights(),
        Post().rank(0),
        {0: 0},
        Recorder(),
        prepared=choose(executor, tiles, model.weights()).prepared,
        packing=Packing(plan.network, "float32"),
    )
    (name,), (output,) = plan.network.inputs, plan.network.outputs

    def run() -> Tensor:
        device.arm({name: x})
        found = device.execute()[output]
        device.finish()
        device.recorder.take()
        return found

    return run


def engine(module: nn.Module, x: Tensor) -> Run:
    """ONNX Runtime on the whole model, as torch exports it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), file, dynamo=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def least_s(contenders: Mapping[str, Run]) -> dict[str, float]:
    """Least seconds of each, taken in turns."""
    found, names = dict.fromkeys(contenders, math.inf), list(contenders)
    end, number = time.perf_counter() + LEAST_S, 0
    while number < ROUNDS or time.perf_counter() < end:
        number += 1
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            contenders[name]()
            found[name] = min(found[name], time.perf_counter() - start)
    return found


def row(name: str) -> Row:
    """One model."""
    torch.manual_seed(0)
    module = build(name)
    model = load_module(module, name, INPUT)
    x = torch.randn(INPUT, generator=torch.Generator().manual_seed(0))
    contenders = {executor: runtime(model, executor, x) for executor in EXECUTORS}
    contenders["engine"] = engine(module, x)
    expected = contenders["torch"]()
    for run in contenders.values():
        assert relative_error(run(), expected) < TOLERANCE
    seconds = least_s(contenders)
    return {
        "model": name,
        **{f"{each}_s": least for each, least in seconds.items()},
        "ratio": seconds["onnxruntime"] / seconds["engine"],
        "gain": seconds["torch"] / seconds["onnxruntime"],
    }


def table(record: Record) -> str:
    about = record.about
    lines = [
        "# One device, by executor",
        "",
        f"`python benchmarks/executors.py`; {about['cpu']}, {about['cores']} cores, load "
        f"{min(r['load'] for r in record.rows):.1f} to {max(r['load'] for r in record.rows):.1f}, "
        f"commit {about['commit'][:12]}. One thread, 224 x 224, ms.",
        "",
        "| model | torch | onnxruntime | engine itself | over the engine | torch over it |",
        "|---|---|---|---|---|---|",
    ]
    for r in record.rows:
        times = " | ".join(f"{r[k] * 1e3:.1f}" for k in ("torch_s", "onnxruntime_s", "engine_s"))
        lines.append(f"| {r['model']} | {times} | {r['ratio']:.3f} | {r['gain']:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    torch.set_num_threads(1)
    record = Record("executors", {"rounds": ROUNDS, "least_s": LEAST_S, "input": INPUT})
    with torch.inference_mode():
        for name in sys.argv[1:] or MODELS:
            record.add(row(name), ("model", "torch_s", "onnxruntime_s", "engine_s", "ratio"))
    worst = max(r["ratio"] for r in record.rows)
    record.write({"worst_ratio": worst}, table(record))
    print(f"{RESULTS / 'executors.md'}: at most {worst:.3f} times the engine itself")


if __name__ == "__main__":
    main()
