"""What a plan computes on separate processes is what the model computes."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import pytest

from nptp_opt.cluster import TransferDtype
from nptp_opt.errors import ExecutionError, InputError
from nptp_opt.geometry import Tile
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.runtime.device_program import device_program
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.pool import WorkerPool
from nptp_opt.runtime.launcher.report import RunOptions, RunReport
from nptp_opt.runtime.transport.registry import TRANSPORTS
from tests.builders import make_cluster
from tests.runtime.plans import (
    INPUT,
    PARTITIONS,
    five_devices,
    hand_plan,
    in_pieces,
    model_of,
    strips,
    tee,
)


@pytest.mark.parametrize("fuse", [1, 2])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_chain_gives_the_models_output(pool: WorkerPool, partition: str, fuse: int) -> None:
    """Every family, idle and unequal devices, strides and fused segments give the same tensor."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", PARTITIONS[partition], five_devices(), fuse=fuse)
    report = run_plan(plan, model, pool=pool, repeats=2, warmup=1)
    assert report.ok
    assert report.max_abs_error < 1e-4
    assert report.bytes == plan.transfer_bytes
    assert len(report.latency_s) == 2


@pytest.mark.parametrize(("partition", "fuse"), [("strips", 1), ("pinwheel", 2), ("idle", 2)])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_steps_in_pieces_give_the_models_output(
    pool: WorkerPool, partition: str, fuse: int, transport: str
) -> None:
    """Rims and interior of every tile are computed apart, the second run into the same buffers.
    Some message leaves before its sender's step is done, some is awaited by a later piece than the
    first."""
    model = model_of("chain")
    plan = in_pieces(hand_plan(model, "chain", PARTITIONS[partition], five_devices(), fuse=fuse))
    tasks = [task for i in range(5) for task in device_program(plan, i).tasks]
    assert any(piece.receives for task in tasks for piece in task.pieces[1:])
    assert fuse > 1 or any(piece.sends for task in tasks for piece in task.pieces[:-1])
    report = run_plan(plan, model, pool=pool, repeats=2, warmup=1, transport=transport)
    assert report.ok
    assert report.bytes == plan.transfer_bytes


@pytest.mark.parametrize("name", ["residual", "squeeze", "pooled"])
def test_networks_with_branches_in_pieces_give_the_models_output(
    pool: WorkerPool, name: str
) -> None:
    """Skips, reductions and linear layers beside steps in pieces, in a small transfer type."""
    model = model_of(name)
    for dtype in ("float32", "int8"):
        cluster = five_devices(sink="d2").sending_as(dtype)
        plan = in_pieces(hand_plan(model, name, strips, cluster))
        assert run_plan(plan, model, pool=pool, repeats=2, warmup=0).ok


def test_padding_stretches_pieces_apart(pool: WorkerPool) -> None:
    """Every piece lasts at least its modelled seconds, and the device computes before it waits."""
    model = model_of("chain")
    slow = make_cluster([1e-3] * 4, rates=1000.0)
    plan = in_pieces(hand_plan(model, "chain", strips, slow))
    report = run_plan(plan, model, pool=pool, repeats=1, warmup=0, throttle="pad")
    assert report.ok
    task = next(t for t in device_program(plan, 1).tasks if t.pieces and t.pieces[-1].receives)
    spans = [s for s in report.spans["d1"] if s.step == task.step and s.phase != "send"]
    phases = [s.phase for s in spans if s.phase in ("compute", "wait")]
    assert phases[0] == phases[-1] == "compute" and "wait" in phases
    assert spans[-1].end_ns - spans[0].start_ns >= 0.95e9 * task.modelled_s


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("partition", ["strips", "tee", "pinwheel"])
def test_residual_gives_the_models_output(pool: WorkerPool, partition: str, transport: str) -> None:
    """A tensor that a later step reads again stays, and moves where another device needs it."""
    model = model_of("residual")
    plan = hand_plan(model, "residual", PARTITIONS[partition], five_devices())
    report = run_plan(plan, model, pool=pool, repeats=2, warmup=0, transport=transport)
    assert report.ok
    assert report.bytes == plan.transfer_bytes


@pytest.mark.parametrize("partition", ["strips", "idle", "alternating"])
def test_reductions_give_the_models_output(pool: WorkerPool, partition: str) -> None:
    """Partials meet on every device that uses the result, also on one that owns no tile."""
    model = model_of("squeeze")
    assert any(layer.reduces for layer in model.network.layers)
    plan = hand_plan(model, "squeeze", PARTITIONS[partition], five_devices())
    report = run_plan(plan, model, pool=pool, repeats=2, warmup=0)
    assert report.ok
    assert report.bytes == plan.transfer_bytes


@pytest.mark.parametrize("executor", ["torch", "onnxruntime"])
@pytest.mark.parametrize("pieces", [False, True])
def test_whole_layers_in_the_middle_give_the_models_output(
    pool: WorkerPool, executor: str, pieces: bool
) -> None:
    """One device computes them, whichever; what follows is cut again and fetches its parts."""
    model = model_of("attentive")
    cluster = five_devices(source="d2", sink="d4")
    plan = plan_network(ModelRef("tests.runtime.models:attentive", INPUT), model.network, cluster,
                        PlanOptions("strip-equal"))  # fmt: skip
    plan = in_pieces(plan) if pieces else plan
    whole = [layer.name for layer in model.network.layers if layer.is_whole]
    assert whole and model.network.layers[-1].name not in whole
    assert len(plan.steps[-2].tiles) > 1
    report = run_plan(plan, model, pool=pool, repeats=2, warmup=1, executor=executor)
    assert report.ok
    assert report.bytes == plan.transfer_bytes


def test_source_and_sink_may_be_different_devices(pool: WorkerPool) -> None:
    """The input starts and the result ends where the cluster says."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, five_devices(source="d2", sink="d4"))
    assert run_plan(plan, model, pool=pool, repeats=1, warmup=0).ok


@pytest.mark.parametrize("name", ["classifier", "pooled"])
@pytest.mark.parametrize("partition", ["strips", "idle", "alternating"])
def test_split_linear_layers_give_the_models_output(
    pool: WorkerPool, name: str, partition: str
) -> None:
    """Every device computes its features from the whole input; the sink puts them together."""
    model = model_of(name)
    assert len(model.network.vectors) == 2
    plan = hand_plan(model, name, PARTITIONS[partition], five_devices(source="d2", sink="d4"))
    report = run_plan(plan, model, pool=pool, repeats=2, warmup=0)
    assert report.ok
    assert report.bytes == plan.transfer_bytes


@pytest.mark.parametrize(("gflops", "largest"), [((1, 1, 2), (20, 30)), ((1, 50, 2), (45, 50))])
def test_planned_heads_give_the_models_output(
    pool: WorkerPool, gflops: tuple[float, ...], largest: tuple[int, int]
) -> None:
    """Split over all devices, or nearly all of it on the fastest, neither source nor sink."""
    model = model_of("classifier")
    cluster = make_cluster([g / 1e5 for g in gflops], rates=1000.0, source="d0", sink="d2")
    ref = ModelRef("tests.runtime.models:classifier", INPUT)
    plan = plan_network(ref, model.network, cluster)
    first = model.network.vectors[0].name
    tiles = next(step.tiles for step in plan.steps if first in step.layers)
    least, most = largest
    assert least <= max(tile.height for tile in tiles.values()) <= most
    assert 1 in tiles
    report = run_plan(plan, model, pool=pool, repeats=2, warmup=0)
    assert report.ok
    assert report.bytes == plan.transfer_bytes


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("executor", ["torch", "onnxruntime"])
def test_missing_transfer_is_noticed(executor: str) -> None:
    """Bug: ONNX Runtime's ReLU and max pool make a number of NaN, by which it used to show."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", strips, five_devices())
    first = replace(plan.steps[1], transfers=plan.steps[1].transfers[1:])
    broken = replace(plan, steps=(plan.steps[0], first, *plan.steps[2:]))
    with pytest.raises(ExecutionError, match=r"reads \d+ elements of .* that no transfer brings"):
        run_plan(broken, model, repeats=1, warmup=0, executor=executor)


def test_pad_stretches_computation_to_the_model(pool: WorkerPool) -> None:
    """A padded run takes at least what the cost model gives its slowest device."""
    model = model_of("chain")
    slow = make_cluster([0.01] * 4)
    plan = hand_plan(model, "chain", strips, slow)
    report = run_plan(plan, model, pool=pool, repeats=1, warmup=0, throttle="pad")
    assert report.ok
    modelled_s = [sum(t.modelled_s for t in device_program(plan, i).tasks) for i in range(4)]
    assert report.median_s >= max(modelled_s) > 0.01
    assert any(span.phase == "pad" for span in report.spans["d0"])


@pytest.mark.usefixtures("forked")
def test_two_runs_at_once(pool: WorkerPool) -> None:
    """Two pools on one machine do not meet."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, five_devices())
    names = ["d0", "d1", "d2"]
    reports: list[RunReport] = []
    with WorkerPool(names, timeout_s=60) as other:
        threads = [
            threading.Thread(
                target=lambda p=p: reports.append(  # type: ignore[misc]
                    run_plan(plan, model, pool=p, repeats=20, warmup=0)
                )
            )
            for p in (pool, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [report.ok for report in reports] == [True, True]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("repeats", 0),
        ("warmup", -1),
        ("threads", 0),
        ("timeout_s", 0.0),
        ("timeout_s", math.nan),
        ("throttle", "half"),
        ("transport", "pigeon"),
    ],
)
def test_bad_options_are_named(option: str, value: object) -> None:
    """A setting out of range is refused by name before anything starts."""
    with pytest.raises(InputError, match=option.removesuffix("_s")):
        RunOptions(**{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_one_device_alone_runs_over_any_transport(pool: WorkerPool, transport: str) -> None:
    """Bug: over tcp a plan on one device waited for ever for its peers' addresses."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", lambda h, w: {0: Tile(0, h, 0, w)}, five_devices())
    report = run_plan(plan, model, pool=pool, repeats=1, warmup=0, transport=transport)
    assert report.ok and report.bytes == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_transfer_types_are_executed_as_planned(
    pool: WorkerPool, dtype: TransferDtype, transport: str
) -> None:
    """Fewer bytes on the links, a small error, and not the exact result, which would be a fake."""
    for name in ("residual", "squeeze"):
        model = model_of(name)
        exact = hand_plan(model, name, PARTITIONS["tee"], five_devices())
        plan = hand_plan(model, name, PARTITIONS["tee"], five_devices().sending_as(dtype))
        report = run_plan(plan, model, pool=pool, repeats=2, warmup=0, transport=transport)
        assert report.ok
        assert report.bytes == plan.transfer_bytes < exact.transfer_bytes
        assert report.max_abs_error > 1e-7
