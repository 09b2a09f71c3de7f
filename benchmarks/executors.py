"""The runtime with one device and no exchange, by executor, against the engine on the whole model.

    python benchmarks/executors.py [MODEL ...]

Protocol. One thread. The plan has one device, so all its tasks are one tile program, which each
executor computes as a worker does (``DeviceRun``, no launcher, no messages). The engines themselves
run the model's own export by torch in the same process, ONNX Runtime with its default options,
OpenVINO in float32 with one stream; OpenVINO is left out where it is not installed. Contenders take
turns in an order that rotates, at least ``ROUNDS`` times and for ``LEAST_S`` seconds; the least of
each counts, since whatever else this machine does only adds to it. ``ratio`` is the runtime with an
executor over its engine itself; ``gain`` is ``torch`` over the fastest; ``prepare_s`` is what it
takes to compile the program. All outputs are compared with torch's.
"""

from __future__ import annotations

import io
import math
import time
import warnings
from collections.abc import Callable, Mapping

import onnxruntime as ort
import torch
from about import arguments, result
from runtime_cases import Record, Row, cluster
from torch import Tensor, nn

from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors import EXECUTORS, choose
from nptp_opt.kernels.executors.choice import relative_error
from nptp_opt.network.load import LoadedModel, load_module
from nptp_opt.network.zoo import build
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.runtime.blocks import programs
from nptp_opt.runtime.device_program import device_program
from nptp_opt.runtime.executed import Post, as_arrays
from nptp_opt.runtime.trace import Recorder
from nptp_opt.runtime.transport.packing import Packing
from nptp_opt.runtime.worker.device import DeviceRun

MODELS = (
    "vgg16", "resnet50", "inception_v3", "densenet121", "efficientnet_b0", "squeezenet1_1",
    "mobilenet_v2",
)  # fmt: skip
INPUT = (1, 3, 224, 224)
ROUNDS = 12
LEAST_S = 8.0
TOLERANCE = 1e-4

Run = Callable[[], Array]


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
        Post().rank(0),
        {0: 0},
        Recorder(),
        prepared=choose(executor, tiles, as_arrays(model.weights())).prepared,
        packing=Packing(plan.network, "float32", {}),
    )
    (name,), (output,) = plan.network.inputs, plan.network.outputs

    def run() -> Array:
        device.arm({name: x.numpy()})
        found = device.execute()[output]
        device.finish()
        device.recorder.clear()
        return found

    return run


def exported(module: nn.Module, x: Tensor) -> bytes:
    """The whole model, as torch exports it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), file, dynamo=False)
    return file.getvalue()


def onnxruntime_itself(file: bytes, x: Tensor) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feed)[0]


def openvino_itself(file: bytes, x: Tensor) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }  # fmt: skip
    request = core.compile_model(core.read_model(file), "CPU", settings).create_infer_request()
    return lambda: next(iter(request.infer([x.numpy()]).values()))


ITSELF = {"onnxruntime": onnxruntime_itself, "openvino": openvino_itself}
ENGINES = [name for name in ITSELF if EXECUTORS[name].available]


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
    contenders, prepare_s = {}, {}
    for executor in ["torch", *ENGINES]:
        start = time.perf_counter()
        contenders[executor] = runtime(model, executor, x)
        prepare_s[executor] = time.perf_counter() - start
    file = exported(module, x)
    contenders |= {f"{name} itself": ITSELF[name](file, x) for name in ENGINES}
    expected = contenders["torch"]()
    for run in contenders.values():
        assert relative_error(run(), expected) < TOLERANCE
    seconds = least_s(contenders)
    return {
        "model": name,
        "seconds": seconds,
        "prepare_s": prepare_s,
        "ratio": {each: seconds[each] / seconds[f"{each} itself"] for each in ENGINES},
        "gain": seconds["torch"] / min(seconds[each] for each in ENGINES),
    }


def table(record: Record) -> str:
    about, rows = record.about, record.rows
    columns = [*rows[0]["seconds"]]
    lines = [
        "# One device, by executor",
        "",
        f"`python benchmarks/executors.py`; {about['cpu']}, {about['cores']} cores, load "
        f"{min(r['load'] for r in rows):.1f} to {max(r['load'] for r in rows):.1f}, "
        f"commit {about['commit'][:12]}. One thread, 224 x 224, ms.",
        "",
        f"| model | {' | '.join(columns)} | {' | '.join(f'{e} over itself' for e in ENGINES)} | "
        "torch over the fastest |",
        "|" + "---|" * (2 + len(columns) + len(ENGINES)),
    ]
    for r in rows:
        times = " | ".join(f"{r['seconds'][each] * 1e3:.1f}" for each in columns)
        ratios = " | ".join(f"{r['ratio'][each]:.3f}" for each in ENGINES)
        lines.append(f"| {r['model']} | {times} | {ratios} | {r['gain']:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    models = parser.parse_args().models
    torch.set_num_threads(1)
    record = Record("executors", {"rounds": ROUNDS, "least_s": LEAST_S, "input": INPUT})
    with torch.inference_mode():
        for name in models:
            record.add(row(name), ("model", "seconds", "prepare_s", "ratio"))
    worst = {each: max(r["ratio"][each] for r in record.rows) for each in ENGINES}
    record.write({"worst_ratio": worst}, table(record))
    print(f"{result('executors.md')}: at most {worst} times the engine itself")


if __name__ == "__main__":
    main()
