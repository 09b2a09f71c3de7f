"""Plans executed by each executor: the same outputs, and reports that say who computed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random

import pytest
import torch

from nptp_opt.errors import ExecutionError, InputError
from nptp_opt.evaluate.usage import evaluated
from nptp_opt.geometry import Tile
from nptp_opt.kernels.executors import EXECUTORS
from nptp_opt.kernels.executors.onnxruntime import OnnxRuntime
from nptp_opt.runtime.blocks import blocks, programs
from nptp_opt.runtime.device_program import device_program
from nptp_opt.runtime.executed import Execution
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.pool import WorkerPool
from nptp_opt.runtime.launcher.report import RunOptions, make_reference
from nptp_opt.runtime.profiling.calibrate import calibrate_cluster
from nptp_opt.verification.torch_check import sent_errors, verify_plan
from tests.builders import make_cluster
from tests.executors import EACH, OF_ONNX
from tests.runtime.grown import grown_model
from tests.runtime.plans import PARTITIONS, five_devices, hand_plan, in_pieces, model_of
from tests.runtime.ranks import execute
from tests.runtime.test_random import random_plan

ALONE = {"chain": 1, "residual": 1, "squeeze": 1, "classifier": 1, "pooled": 1}
"""Tile programs of one device that computes all of a model."""


def alone(height: int, width: int) -> dict[int, Tile]:
    return {0: Tile(0, height, 0, width)}


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("seed", range(6))
def test_random_plans_of_random_networks_give_the_models_output(seed: int, name: str) -> None:
    """Fused segments, joins, reductions, pieces, transfer types; the second input goes through
    used buffers."""
    model = grown_model(seed, Random(seed), 16, 15)
    shape = model.network.shapes[model.network.inputs[0]]
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(shape, generator=generator) for _ in range(2)]
    references = [make_reference(model, x) for x in inputs]
    for number in range(1 if name == "openvino" else 3):  # it takes its time to compile
        plan = random_plan(model, 1000 * seed + number)
        answers, _ = execute(plan, model, inputs, name)
        for reference, found in zip(references, answers, strict=True):
            exact = plan.cluster.transfer_dtype == "float32"
            lossy = 0.0 if exact else 2 * sent_errors(plan, model, reference.inputs).relative
            error, ok = reference.error(found, lossy)
            assert ok, (seed, number, error)


@pytest.mark.parametrize("executor", OF_ONNX)
@pytest.mark.parametrize("name", ["residual", "squeeze", "chain"])
def test_processes_execute_plans_by_engines(pool: WorkerPool, name: str, executor: str) -> None:
    """Real workers, pieces included; the report says what each device used."""
    model = model_of(name)
    plan = in_pieces(hand_plan(model, name, PARTITIONS["tee"], five_devices(), fuse=1))
    report = run_plan(plan, model, pool=pool, repeats=2, warmup=1, executor=executor)
    assert report.ok and report.bytes == plan.transfer_bytes
    assert set(report.to_json()["executors"].values()) == {executor}


def test_without_a_wish_every_device_has_an_engine_that_is_right(pool: WorkerPool) -> None:
    model = model_of("chain")
    plan = hand_plan(model, "chain", PARTITIONS["strips"], five_devices())
    report = run_plan(plan, model, pool=pool, repeats=1, warmup=0, executor=None)
    assert report.ok and set(report.executors.values()) <= set(EXECUTORS)
    assert set(report.executors) == set(report.spans)


def test_a_padded_run_takes_the_plans_seconds_by_any_executor(pool: WorkerPool) -> None:
    model = model_of("chain")
    plan = hand_plan(model, "chain", alone, five_devices())
    slow = replace(plan, cluster=make_cluster([0.05] * 5))
    slow = evaluated(slow)
    report = run_plan(
        slow, model, pool=pool, repeats=1, warmup=0, executor="onnxruntime", throttle="pad"
    )
    assert report.ok
    assert report.median_s >= 0.99 * slow.latency_s > 0.005


def test_quotas_are_for_the_engine_by_whose_seconds_they_are_set() -> None:
    """Bug: under quotas of torch's CPU time a faster engine was a faster device than the plan's."""
    with pytest.raises(InputError, match="`throttle` pad with executor 'onnxruntime'"):
        RunOptions(throttle="cgroup", executor="onnxruntime")
    assert RunOptions(throttle="cgroup").chosen_executor == "torch"
    assert RunOptions(throttle="pad").chosen_executor is None


@pytest.mark.parametrize("name", ALONE)
def test_one_device_alone_has_one_tile_program(name: str) -> None:
    """What lies between two exchanges is compiled together: reductions and heads, too."""
    model = model_of(name)
    plan = hand_plan(model, name, alone, five_devices())
    program = device_program(plan, 0)
    assert len(plan.steps) > 1 and len(program.tasks) == len(plan.steps)
    assert len(programs(program, plan.network)) == ALONE[name]


def test_exchanges_part_a_devices_tasks() -> None:
    """Whatever is received comes before a block, and whatever is sent after it."""
    model = model_of("squeeze")
    plan = hand_plan(model, "squeeze", PARTITIONS["strips"], five_devices())
    for device in range(4):
        program = device_program(plan, device)
        found = blocks(program, plan.network)
        assert tuple(task for block in found for task in block.tasks) == program.tasks
        for block in found:
            assert not any(task.receives for task in block.tasks[1:])
            assert not any(task.sends for task in block.tasks[:-1])


def test_a_blocks_time_is_shared_among_its_steps(pool: WorkerPool) -> None:
    """Calibration and timelines ask for every step, also of those that were computed together."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", alone, five_devices())
    report = run_plan(plan, model, pool=pool, repeats=1, warmup=0)
    spans = [span for span in report.spans["d0"] if span.phase == "compute"]
    assert [span.step for span in spans] == [*range(len(plan.steps))]
    assert all(a.end_ns == b.start_ns for a, b in itertools.pairwise(spans))
    seconds = [span.end_ns - span.start_ns for span in spans]
    modelled = [task.modelled_s for task in device_program(plan, 0).tasks]
    assert seconds[0] / seconds[1] == pytest.approx(modelled[0] / modelled[1], rel=0.01)
    assert calibrate_cluster(plan, report.spans)["device"][0]["layers"]


def _verified(name: str, executor: str | None) -> tuple[bool, dict[str, object]]:
    model = model_of(name)
    plan = hand_plan(model, name, PARTITIONS["tee"], five_devices())
    plan = in_pieces(plan)
    report = verify_plan(plan, model, execution=lambda: Execution(plan, model, executor))
    return report.ok, report.to_json()


@pytest.mark.parametrize("executor", [None, *EACH])
@pytest.mark.parametrize("name", ["residual", "squeeze"])
def test_verify_holds_every_tile_program_against_the_model(name: str, executor: str | None) -> None:
    ok, found = _verified(name, executor)
    assert ok, found["faults"]
    assert found["executor"] == (executor or found["executor"]) and found["executor_programs"]
    error = found["executor_max_rel_error"]
    assert isinstance(error, float) and error < 1e-5


def test_verify_finds_an_executor_that_is_a_little_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than the self-test tolerates, and more than rounding explains."""
    opened = OnnxRuntime._open

    def off(self, weights, threads):  # type: ignore[no-untyped-def]
        return opened(self, {key: w * 1.0003 for key, w in weights.items()}, threads)

    monkeypatch.setattr(OnnxRuntime, "_open", off)
    ok, found = _verified("residual", "onnxruntime")
    assert not ok
    assert "executor onnxruntime" in str(found["faults"]) and "differs from the model" in str(
        found["faults"]
    )


def test_a_device_whose_engine_fails_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for its messages are told: nobody waits for ever."""
    from nptp_opt.kernels.executors import onnxruntime

    def fail(self, inputs):  # type: ignore[no-untyped-def]
        raise ExecutionError("the engine broke")

    monkeypatch.setattr(onnxruntime._Session, "__call__", fail)
    with pytest.raises(ExecutionError, match="the engine broke"):
        _verified("residual", "onnxruntime")
