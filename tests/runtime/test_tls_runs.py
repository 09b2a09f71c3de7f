"""Whole runs and services over TLS."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from nptp_opt.deployment.request import DeployRequest, DriftLimits
from nptp_opt.deployment.service import Service
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.site import Hosts
from tests.cli.test_commands import MODEL, called_json
from tests.deployment.test_service import _replan_in_halves
from tests.runtime.certified import file_of, folder, relay
from tests.runtime.forked import Forked, Template
from tests.runtime.plans import hand_plan, model_of, tee
from tests.runtime.test_hosts import DEVICES, _cluster, _free_port
from tests.runtime.test_tls import until


def start_workers(template: Template, port: int, log: Path, *names: str) -> dict[str, int]:
    """Workers of these devices, each with its certificate."""
    pids = {}
    for name in names:
        (log / name).touch()
        words = ["--name", name, "--connect", f"tcp:127.0.0.1:{port}"]
        words += ["--interface", DEVICES[name], "--tls", str(file_of(name))]
        words += ["--secret-file", str(folder() / "secret")]
        pids[name] = Forked(template, argv=words, log=str(log / name), cwd=str(log)).pid
    return pids


def test_a_run_over_tls_gives_the_models_output_and_shows_nothing(
    template: Template, tmp_path: Path
) -> None:
    """Three workers; plan and weights go by a relay, which sees neither."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, _cluster())
    weights = next(v for v in model.weights().values() if v.numel() > 16).numpy().tobytes()[:64]
    port, secret = _free_port(), folder() / "secret"
    with relay(port) as recorder:
        start_workers(template, recorder.port, tmp_path, *DEVICES)
        report = run_plan(
            plan, model, repeats=2, warmup=0, transport="tcp", tls=file_of("launcher"),
            site=Hosts(plan.cluster), listen=f"tcp:127.0.0.1:{port}", secret_file=secret,
        )  # fmt: skip
        until(lambda: len(recorder.seen) == 6)
    assert report.ok and report.bytes == plan.transfer_bytes
    assert sum(map(len, recorder.seen)) > 3 * len(weights)
    assert not any(map(recorder.saw, (weights, b"executor", b'"kind": "job"')))


def test_a_service_over_tls_takes_a_device_in_again(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of a worker: the others answer; one that comes with its certificate works again."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, _cluster())
    _replan_in_halves(monkeypatch, model)
    port = _free_port()
    request = DeployRequest(
        f"127.0.0.1:{port}", secret_file=folder() / "secret", tls=file_of("launcher"),
        drift=DriftLimits(tolerance=1e6),  # this machine is not the plan's: nothing to plan for
    )  # fmt: skip
    pids = start_workers(template, port, tmp_path, *DEVICES)
    x = torch.randn(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    with Service(plan, model, request) as service:
        first = service(x)
        os.kill(pids["d1"], signal.SIGKILL)

        def answers(lost: list[str], back: list[str]) -> bool:
            assert torch.allclose(service(x), first, atol=1e-5)
            return (service.counts.losses, service.counts.returns) == (lost, back)

        until(lambda: answers(["d1"], []))
        start_workers(template, port, tmp_path, "d1")
        until(lambda: answers(["d1"], ["d1"]))


def test_boards_are_measured_and_asked_over_tls(template: Template, tmp_path: Path) -> None:
    """``init``, then ``infer`` by the cluster file that it wrote; each has three workers."""
    port, path, plan = _free_port(), tmp_path / "c.toml", tmp_path / "plan.json"
    x = np.random.default_rng(0).normal(size=(1, 3, 20, 24)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    ours = ("--hosts", f"127.0.0.1:{port}", "--secret-file", folder() / "secret")
    ours += ("--tls", file_of("launcher"))
    boards = [f"--device={name},address={at}" for name, at in DEVICES.items()]
    start_workers(template, port, tmp_path, *DEVICES)
    called_json("init", "-o", path, *ours, "--model", MODEL, "--input", "1x3x20x24", "--repeats", 1,
                "--executor", "torch", *boards)  # fmt: skip
    called_json("solve", MODEL, "-c", path, "-o", plan, "--input", "1x3x20x24", "--planner",
                "strip-equal", "--no-bound", "--trust-import")  # fmt: skip
    asked = ("infer", plan, tmp_path / "x.npy", "--executor", "torch", "-o")
    start_workers(template, port, tmp_path, *DEVICES)
    called_json(*asked, tmp_path / "y.npz", *ours, "--cluster", path)
    called_json(*asked, tmp_path / "local.npz")
    (found,), (expected,) = (
        [*np.load(tmp_path / name).values()] for name in ("y.npz", "local.npz")
    )
    assert np.allclose(found, expected, atol=1e-5)
