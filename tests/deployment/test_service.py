"""A deployment answers what the model answers, in order, also when devices go."""

from __future__ import annotations

import math
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import nptp_opt as nptp
from nptp_opt.deployment.planning import Planning
from nptp_opt.deployment.request import DeployRequest
from nptp_opt.deployment.service import Service
from nptp_opt.errors import InputError
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.launcher.pool import WorkerPool
from tests.builders import make_cluster
from tests.executors import EACH
from tests.runtime.plans import INPUT, five_devices, grid, halves, hand_plan, model_of, tee

pytestmark = pytest.mark.usefixtures("forked")


def _service(name: str = "chain", **options: Any) -> Service:
    model = model_of(name)
    partition = options.pop("partition", tee)
    return Service(
        hand_plan(model, name, partition, five_devices()),
        model,
        DeployRequest(**{"fixed": True} | options),
    )


def _inputs(count: int) -> list[Tensor]:
    return [torch.randn(INPUT, generator=torch.Generator().manual_seed(k)) for k in range(count)]


def _expected(name: str, x: Tensor) -> Any:
    return model_of(name).witness.outputs(x)


@pytest.fixture(scope="module")
def chain(template: Any) -> Iterator[Service]:
    from tests.runtime.forked import forking

    with forking(template), _service(in_flight=3, queue=4) as service:
        yield service


def _replan_in_halves(monkeypatch: pytest.MonkeyPatch, model: LoadedModel) -> None:
    """A lost device is answered by the plan ``halves`` for the devices that are left."""

    def replanner(plan: Plan, *_: object) -> Any:
        return lambda cluster: hand_plan(model, "chain", halves, cluster)

    monkeypatch.setattr("nptp_opt.deployment.adaptation.replanner", replanner)


def test_a_call_gives_the_models_tensor(chain: Service) -> None:
    """From a tensor, an array, or by name."""
    (x,) = _inputs(1)
    (expected,) = _expected("chain", x)
    (name,) = [spec.name for spec in chain.signature.inputs]
    for y in (chain(x), chain(x.numpy()), chain(**{name: x})):
        assert isinstance(y, Tensor) and torch.allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("transport", ["tcp", "gloo"])
def test_many_in_flight_are_answered_in_order_and_right(transport: str) -> None:
    """Several outputs, by name; each answer is its own input's."""
    given = _inputs(40)
    with _service("together", transport=transport, in_flight=4, partition=grid) as service:
        name = service.signature.inputs[0].name
        answers = list(service.stream({name: x} for x in given))
    assert len(answers) == 40
    for x, answer in zip(given, answers, strict=True):
        expected = _expected("together", x)
        assert list(answer.outputs) == ["output_0", "output_1"]
        for y, wanted in zip(answer.outputs.values(), expected, strict=True):
            assert torch.allclose(y, wanted, atol=1e-5)
        assert answer.latency_s > 0 and set(answer.busy_s) == {"d0", "d1", "d2", "d3"}


@pytest.mark.parametrize("executor", [None, *EACH])
def test_nan_passes_as_in_the_model(executor: str | None) -> None:
    """Bug: whether it did depended on which engine was the fastest. OpenVINO makes numbers of NaN
    and ONNX Runtime's max pooling passes over some. Inputs beside it keep their engine."""
    _passes(math.nan, executor)


def test_infinities_pass_as_in_the_model() -> None:
    _passes(math.inf, None)


def _passes(value: float, executor: str | None) -> None:
    given = _inputs(3)
    given[1][0, 0, 3, 3] = value
    with _service("together", executor=executor, in_flight=2) as service:
        name = service.signature.inputs[0].name
        answers = list(service.stream({name: x} for x in given))
    for x, answer in zip(given, answers, strict=True):
        for y, expected in zip(answer.outputs.values(), _expected("together", x), strict=True):
            assert torch.allclose(y, expected, atol=1e-5, equal_nan=True)
            assert y.isfinite().all() == x.isfinite().all()


def test_what_the_caller_does_with_its_tensor_meanwhile_changes_nothing(chain: Service) -> None:
    (x,) = _inputs(1)
    (expected,) = _expected("chain", x)
    future = chain.submit(x)
    x.zero_()
    assert torch.allclose(future.result().value, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.zeros(1, 3, 24, 21), "has shape 1x3x24x21, the model takes 1x3x24x20"),
        (np.zeros(INPUT), "is float64, the model takes float32"),
        (np.zeros(INPUT, dtype="U1"), "of numpy's type <U1"),
        ([1.0], "is list: give a tensor or an array"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_at_once(
    chain: Service, given: Any, words: str
) -> None:
    """And the service goes on."""
    with pytest.raises(nptp.InputError, match=re.escape(words)):
        chain.submit(given)
    with pytest.raises(nptp.InputError, match="2 inputs, the model takes 1"):
        chain.submit(given, given)
    assert chain.is_ready and isinstance(chain(_inputs(1)[0]), Tensor)


def test_a_full_queue_refuses_or_waits(chain: Service) -> None:
    """The device that waits for its message holds the others up; room is made by cancelling."""
    (x,) = _inputs(1)
    victim = chain._pool.members["d1"].process.pid  # type: ignore[union-attr]
    os.kill(victim, signal.SIGSTOP)
    try:
        futures = [chain.submit(x) for _ in range(3)]
        while chain.in_flight < 3:
            time.sleep(0.01)
        futures += [chain.submit(x) for _ in range(4)]
        with pytest.raises(nptp.QueueFullError, match="4 inputs wait already") as caught:
            chain.submit(x, wait=False)
        assert caught.value.retry_s > 0
        assert futures[-1].cancel() and not futures[0].cancel()
    finally:
        os.kill(victim, signal.SIGCONT)
    late = chain.submit(x)  # waits for room
    assert len({future.result().value.sum().item() for future in (*futures[:-1], late)}) == 1
    with pytest.raises(CancelledError):
        futures[-1].result()


def test_closing_answers_what_was_submitted_and_takes_nothing_more() -> None:
    (x,) = _inputs(1)
    with _service() as service:
        futures = [service.submit(x) for _ in range(12)]
    assert all(future.done() for future in futures)
    (expected,) = _expected("chain", x)
    assert all(torch.allclose(f.result().value, expected, atol=1e-5) for f in futures)
    with pytest.raises(nptp.ClosedError, match="the service is closed"):
        service.submit(x)
    assert not any(thread is service._thread for thread in threading.enumerate())


def test_leaving_by_an_exception_does_not_wait_for_answers() -> None:
    (x,) = _inputs(1)
    with pytest.raises(KeyError), _service(queue=200) as service:
        futures = [service.submit(x) for _ in range(150)]
        raise KeyError
    assert isinstance(futures[-1].exception(), nptp.ClosedError)


def test_a_lost_device_fails_those_who_wait_by_name() -> None:
    """With ``fixed`` the service ends, and says why to whoever comes later."""
    (x,) = _inputs(1)
    with pytest.raises(nptp.ExecutionError, match="'d1' died"), _service() as service:
        service(x)
        futures = [service.submit(x) for _ in range(6)]
        os.kill(service._pool.members["d1"].process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        with pytest.raises(nptp.ExecutionError, match="'d1' died"):
            for future in futures:
                future.result()
            while True:
                service(x)
        service(x)


def test_a_device_that_comes_back_is_taken_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker is started anew; the plan for all is taken between two inputs, and every answer
    on the way there and back is right."""
    model = model_of("chain")

    _replan_in_halves(monkeypatch, model)
    (x,) = _inputs(1)
    (expected,) = _expected("chain", x)
    plan = hand_plan(model, "chain", tee, five_devices())
    devices: list[set[str]] = []
    service = Service(
        plan, model, DeployRequest(fixed=False, in_flight=2),
        watch=lambda answer: devices.append(set(answer.busy_s)),
    )  # fmt: skip
    with service:
        service(x)
        os.kill(service._pool.members["d2"].process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        while service.counts.returns != ["d2"] or devices[-1] != {"d0", "d1", "d2"}:
            for future in [service.submit(x) for _ in range(4)]:
                assert torch.allclose(future.result().value, expected, atol=1e-5)
        assert service.plan is plan and service.counts.losses == ["d2"]
    assert {"d0", "d1"} in devices and service.counts.answered == len(devices)


def test_a_part_of_those_lost_that_comes_back_gets_a_plan_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Planned beside the running plan, for the devices that are there."""
    model = model_of("chain")
    planned: list[list[str]] = []

    def begin(plans: Sequence[Plan], cluster: Any, folder: Path) -> Planning:
        planned.append([device.name for device in cluster.devices])
        assert [old.steps for old in plans] == [service.plan.steps, plan.steps] and folder.is_dir()
        return Planning.of(hand_plan(model, "chain", halves, cluster))

    _replan_in_halves(monkeypatch, model)
    monkeypatch.setattr("nptp_opt.deployment.adaptation.Planning.begin", begin)
    recall = WorkerPool.recall
    monkeypatch.setattr(
        WorkerPool, "recall", lambda pool, name: recall(pool, name) if name == "d3" else None
    )
    (x,) = _inputs(1)
    plan = hand_plan(model, "chain", grid, five_devices())
    with Service(plan, model, DeployRequest(fixed=False)) as service:
        service(x)
        for name in ("d2", "d3"):
            os.kill(service._pool.members[name].process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        while service.counts.returns != ["d3"]:
            service(x)
        y = service(x)
    assert planned[-1] == ["d0", "d1", "d3", "d4"]
    assert isinstance(y, Tensor) and torch.allclose(y, _expected("chain", x)[0], atol=1e-5)


def test_without_its_source_the_service_ends() -> None:
    """No plan can do without it; whoever waits hears why."""
    (x,) = _inputs(1)
    with (
        pytest.raises(
            nptp.ExecutionError,
            match="it is the source: no device that may stand in",
        ),
        _service(fixed=False) as service,
    ):
        service(x)
        os.kill(service._pool.members["d0"].process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        while True:
            service(x)


def test_a_stand_in_takes_the_lost_sources_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the input and the result, until it is back; every answer is right, each comes once."""
    model = model_of("chain")

    _replan_in_halves(monkeypatch, model)
    (x,) = _inputs(1)
    (expected,) = _expected("chain", x)
    plan = hand_plan(model, "chain", tee, five_devices(stand_ins=["d3", "d1"]))
    with Service(plan, model, DeployRequest()) as service:
        service(x)
        for name in ("d3", "d0"):
            os.kill(service._pool.members[name].process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        sources = []
        while len(service.counts.returns) < 2 or service.plan is not plan:
            for future in [service.submit(x) for _ in range(3)]:
                assert torch.allclose(future.result().value, expected, atol=1e-5)
            sources.append(service.plan.cluster.devices[service.plan.cluster.source].name)
        service(x)
    assert "d1" in sources and set(service.counts.losses) == {"d0", "d3"}


def test_survivors_answer_every_input_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 in a stream: what was under way is computed again, nothing is lost or doubled."""
    model = model_of("chain")

    _replan_in_halves(monkeypatch, model)
    given = _inputs(16)
    said: list[str] = []
    service = Service(
        hand_plan(model, "chain", tee, five_devices()), model,
        DeployRequest(fixed=False, in_flight=3), progress=said.append,
    )  # fmt: skip
    seen: list[int] = []
    with service:
        pid = service._pool.members["d2"].process.pid  # type: ignore[union-attr]
        name = service.signature.inputs[0].name
        for k, answer in enumerate(service.stream({name: given[k % 16]} for k in range(200))):
            if k == 50:
                os.kill(pid, signal.SIGKILL)
            (expected,) = _expected("chain", given[k % 16])
            assert torch.allclose(answer.value, expected, atol=1e-5), k
            seen.append(k)
    assert seen == list(range(200))
    assert service.counts.answered == 200
    assert service.counts.losses == ["d2"] and service.counts.replans == 1
    assert any("planning again without it" in text for text in said)


def test_deploy_asks_for_weights_and_the_plans_own_model() -> None:
    """Random weights and another network are refused before a worker starts."""
    model = load_model("squeezenet1_1", (1, 3, 64, 64))
    plan = nptp.solve(model, five_devices(), planner="single", trust_import=True, bound=False)
    with pytest.raises(nptp.InputError, match="has random weights: a deployment needs"):
        nptp.deploy(plan, model)
    with pytest.raises(nptp.VerificationError, match="for another network"):
        nptp.deploy(plan, model_of("chain"))
    for options, words in (
        ({"in_flight": 0}, "in_flight = 0"),
        ({"throttle": "cgroup"}, "is for measuring"),
        ({"site": "nowhere"}, "needs `secret_file`"),
    ):
        with pytest.raises(nptp.InputError, match=words):
            nptp.deploy(plan, model, **options)


def test_deploy_from_python() -> None:
    """The example of the manual, on a module that is an object."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
    model = nptp.load_model(module, (1, 3, 24, 24))
    plan = nptp.solve(model, five_devices(), planner="strip-equal", bound=False)
    x = torch.randn(1, 3, 24, 24)
    with nptp.deploy(plan, model) as service:
        assert torch.allclose(service(x), module(x), atol=1e-5)


def test_pixels_are_answered_as_the_model_answers_normalised_ones() -> None:
    model = nptp.load_model(
        "tests.models:fully_convolutional",
        (1, 3, 24, 20),
        input_dtype="uint8",
        scale=255.0,
        mean=0.5,
    )
    cluster = make_cluster((0.05, 0.05), rates=1e3)
    plan = nptp.solve(model, cluster, planner="strip-equal", bound=False)
    assert any(
        move.tensor in plan.network.input_dtypes for step in plan.steps for move in step.transfers
    )
    x = torch.randint(0, 256, (1, 3, 24, 20), dtype=torch.uint8)
    with Service(plan, model, DeployRequest()) as service:
        assert [spec.dtype for spec in service.signature.inputs] == [torch.uint8]
        answer = service(x)
        with pytest.raises(InputError, match="float32, the model takes uint8"):
            service(x.float())
    wanted = model.witness.outputs(x.float() / 255.0 - 0.5)
    answers = [answer] if isinstance(answer, Tensor) else list(answer.values())
    for made, expected in zip(answers, wanted, strict=True):
        assert torch.allclose(made, expected, atol=1e-5)
