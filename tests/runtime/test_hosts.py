"""Workers that no launcher started: they join over TCP, get the job over the channel, and end."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nptp_opt.cli import main
from nptp_opt.cluster import cluster_from_json
from nptp_opt.errors import LAUNCHER_LOST, REFUSED, ExecutionError, InputError
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.launcher import pool as pool_module
from nptp_opt.runtime.launcher.admission import Admission
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.pool import DeviceLostError
from nptp_opt.runtime.launcher.request import RunRequest
from nptp_opt.runtime.launcher.site import Hosts
from nptp_opt.runtime.transport.control import Channel, ChannelError
from nptp_opt.runtime.transport.handshake import Keys
from nptp_opt.runtime.worker import main as worker
from tests.builders import make_cluster
from tests.runtime.forked import Forked, Template
from tests.runtime.plans import halves, hand_plan, model_of, tee

SECRET = "a secret of this test alone"
Workers = dict[str, subprocess.Popen[bytes]]


def _cluster() -> Any:
    content = make_cluster([1.0, 2.0, 3.0], latency_ms=0.1).to_json()
    for i, device in enumerate(content["device"]):
        device["address"] = f"127.0.0.{i + 2}"
    return cluster_from_json(content)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


@pytest.fixture
def port() -> int:
    return _free_port()


DEVICES = {"d0": "127.0.0.2", "d1": "127.0.0.3", "d2": "127.0.0.4"}
"""Names and interfaces."""


def _worker(port: int, name: str, secret: Path, *more: str) -> subprocess.Popen[bytes]:
    """`nptp-opt worker`."""
    words = ["--connect", f"127.0.0.1:{port}", "--name", name, "--secret-file", str(secret)]
    words += ["--cache", str(secret.with_name("kept")), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "nptp_opt.cli", "worker", *words], stderr=subprocess.PIPE
    )


@pytest.fixture
def workers(port: int, secret: Path) -> Iterator[Workers]:
    """d0, d1 and d2, started before their launcher, as `nptp-opt worker` starts them; d1 with an
    executor of its own."""
    own = {"d1": ("--executor", "onnxruntime")}
    started = {
        name: _worker(port, name, secret, "--interface", interface, *own.get(name, ()))
        for name, interface in DEVICES.items()
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.fixture
def forked_workers(template: Template, port: int, secret: Path, tmp_path: Path) -> dict[str, int]:
    """The same, forked; they end with their launcher's channel, or with the template."""
    pids = {}
    for name, interface in DEVICES.items():
        log = tmp_path / f"{name}.log"
        log.touch()
        words = ["--name", name, "--connect", f"tcp:127.0.0.1:{port}"]
        words += ["--secret-file", str(secret), "--interface", interface]
        pids[name] = Forked(template, argv=words, log=str(log), cwd=str(tmp_path)).pid
    return pids


def test_hosts_give_the_models_output(port: int, secret: Path, workers: Workers) -> None:
    """Plan and weights arrive over the channel; every worker ends with the run, and its own
    executor went before the launcher's."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, _cluster())
    report = run_plan(
        plan, model, repeats=2, warmup=0, transport="tcp",
        site=Hosts(plan.cluster), listen=f"tcp:127.0.0.1:{port}", secret_file=secret,
    )  # fmt: skip
    assert report.ok
    assert report.bytes == plan.transfer_bytes
    assert report.executors == {"d0": "torch", "d1": "onnxruntime", "d2": "torch"}
    assert set(report.spans) == {"d0", "d1", "d2"}
    assert [process.wait(30) for process in workers.values()] == [0, 0, 0]


def test_daemons_take_one_launcher_after_the_other(port: int, secret: Path) -> None:
    """They outlive a run and serve the next, which sends no weights: they share what they keep.
    SIGTERM ends each with its child, status 0."""
    daemons = [_worker(port, name, secret, "--interface", DEVICES[name], "--daemon")
               for name in ("d0", "d1")]  # fmt: skip
    model = model_of("chain")
    plan, told = hand_plan(model, "chain", halves, _cluster()), list[str]()
    for _ in range(2):
        report = run_plan(
            plan, model, repeats=1, warmup=0, transport="tcp", progress=told.append,
            site=Hosts(plan.cluster), listen=f"tcp:127.0.0.1:{port}", secret_file=secret,
        )  # fmt: skip
        assert report.ok
    first, second = (line for line in told if line.startswith("weights: "))
    assert "(d0 0.0" in first and second.startswith("weights: 0 MB sent, 0.0")
    children = [_child_of(process.pid) for process in daemons]
    for process in daemons:
        process.send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=30)[1].decode() for process in daemons]
    assert [process.returncode for process in daemons] == [0, 0]
    assert all("the launcher has ended; again in 0.5 s" in text for text in said)
    assert not any(child and Path(f"/proc/{child}").exists() for child in children)


def _child_of(pid: int) -> int | None:
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(words[0]) if words else None


def test_addresses_come_from_a_cluster_file_of_now() -> None:
    """A plan outlives the addresses that its devices had; a device that is missing is named."""
    then = _cluster()
    content = then.to_json()
    for device in content["device"]:
        device["address"] = device["address"].replace("127.0.0", "127.0.1")
    now = cluster_from_json(content)
    assert Hosts(then, now).interface("d1") == "127.0.1.3"
    assert Hosts(then).interface("d1") == "127.0.0.3"
    fewer = cluster_from_json(content | {"device": content["device"][:2]})
    with pytest.raises(InputError, match="'d2' has no address in the file given as `cluster`"):
        Hosts(then, fewer)
    with pytest.raises(InputError, match="`cluster` gives addresses for `hosts`"):
        RunRequest(cluster=Path("c.toml"))


def test_survivors_on_hosts_go_on(port: int, secret: Path, forked_workers: dict[str, int]) -> None:
    """kill -9 of a worker elsewhere: it is named, and the others finish every input."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, _cluster())

    def replan(cluster: Any) -> Plan:
        return hand_plan(model, "chain", halves, cluster)

    def progress(text: str) -> None:
        if "runs on 3 devices" in text:
            threading.Timer(0.3, os.kill, (forked_workers["d1"], signal.SIGKILL)).start()

    report = run_plan(
        plan, model, repeats=300, warmup=0, transport="tcp", replan=replan, progress=progress,
        site=Hosts(plan.cluster), listen=f"tcp:127.0.0.1:{port}", secret_file=secret,
    )  # fmt: skip
    assert report.ok
    assert report.lost == ("d1",)
    assert len(report.latency_s) == 300


def test_missing_worker_is_named(port: int, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody joins: the run ends within its timeout and says who is missing, each with what to do
    there, meanwhile too."""
    monkeypatch.setattr(pool_module, "REMIND_S", 0.5)
    told: list[str] = []
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, _cluster())
    with pytest.raises(
        DeviceLostError, match=rf"'d0' has not joined at tcp:127.0.0.1:{port} within 2 s"
    ):
        run_plan(
            plan, model, repeats=1, warmup=0, transport="tcp", timeout_s=2.0, progress=told.append,
            site=Hosts(plan.cluster), listen=f"tcp:127.0.0.1:{port}", secret_file=secret,
        )  # fmt: skip

    for name, address in DEVICES.items():
        what = f"nptp-opt worker --name {name} --connect 127.0.0.1:{port} ..."
        assert f"{name} ({address}) has not joined: `{what}` on it" in told


@pytest.mark.parametrize(
    ("last_word", "expected", "status"),
    [("leave", "d0", 0), (None, "d0", LAUNCHER_LOST), (None, "d1", REFUSED)],
)
def test_a_workers_status_tells_why_it_ended(
    template: Template, tmp_path: Path, secret: Path,
    *, last_word: str | None, expected: str, status: int,
) -> None:  # fmt: skip
    """Bug: it was 0 for a launcher that was killed as for one that had finished."""
    joined: queue.SimpleQueue[Channel] = queue.SimpleQueue()
    gate = Admission(
        "tcp:127.0.0.1:0",
        Keys(SECRET.encode()),
        [expected],
        lambda name, channel: joined.put(channel),
    )
    log = tmp_path / "log"
    log.touch()
    words = ["--name", "d0", "--connect", gate.address, "--secret-file", str(secret)]
    process = Forked(template, argv=words, log=str(log), cwd=str(tmp_path))
    if status != REFUSED:
        channel = joined.get(timeout=60)
        while channel.receive().kind != "idle":
            pass
        if last_word is not None:
            channel.send(last_word)
        channel.close()
    process.wait()
    gate.close()
    assert process.poll() == status
    said = {0: "", LAUNCHER_LOST: "the launcher was lost", REFUSED: "refused: device 'd0' is not"}
    assert said[status] in log.read_text()


def test_busy_port_is_named(secret: Path) -> None:
    """Another program listens there."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, _cluster())
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listen = f"tcp:127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(ExecutionError, match=f"cannot listen at {listen}"):
            run_plan(
                plan, model, repeats=1, transport="tcp",
                site=Hosts(plan.cluster), listen=listen, secret_file=secret,
            )  # fmt: skip


def test_wrong_secret_ends_the_worker(port: int, secret: Path, tmp_path: Path) -> None:
    """A worker with another secret is refused and says so; the run does not wait for ever."""
    other = tmp_path / "other"
    other.write_text("not the secret of the run")
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, _cluster())
    worker = _worker(port, "d0", other)
    assert worker.stderr is not None
    assert worker.stderr.readline() == f"waiting for 127.0.0.1:{port}\n".encode()
    with pytest.raises(DeviceLostError, match="'d0' has not joined at"):
        run_plan(
            plan, model, repeats=1, transport="tcp", timeout_s=4.0,
            site=Hosts(plan.cluster), listen=f"tcp:127.0.0.1:{port}", secret_file=secret,
        )  # fmt: skip
    said = worker.communicate(timeout=30)[1]
    assert worker.returncode == REFUSED
    assert b"refused: wrong secret" in said


def test_worker_that_waits_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: int
) -> None:
    """Bug: nothing was printed for two minutes while nobody listened."""
    monkeypatch.setattr(worker, "PATIENCE_S", 0.2)
    monkeypatch.setattr(worker, "RETRY_S", 0.06)
    with pytest.raises(ChannelError):
        worker._join(f"tcp:127.0.0.1:{port}", "", "d0", Keys(SECRET.encode()))
    assert capsys.readouterr().err == f"waiting for 127.0.0.1:{port}\n"


def test_host_without_address_is_named() -> None:
    """A cluster file for local runs has none."""
    with pytest.raises(InputError, match="'d0' has no address"):
        Hosts(make_cluster([1.0]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hosts": "0.0.0.0:7000", "secret_file": Path("s")}, "every interface"),
        ({"hosts": "here:7000", "secret_file": Path("s")}, "must look like"),
        ({"hosts": "127.0.0.1:7000"}, "needs `secret_file`"),
        ({"hosts": "127.0.0.1:1", "secret_file": Path("s"), "transport": "gloo"}, "transport tcp"),
        ({"secret_file": Path("s")}, "belongs to `hosts`"),
        ({"hosts": "127.0.0.1:1", "secret_file": Path("nowhere")}, "nowhere: cannot be read"),
    ],
)
def test_bad_host_options(options: dict[str, Any], words: str) -> None:
    """Each names what is wrong before anything starts."""
    with pytest.raises(InputError, match=words):
        RunRequest(**options)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--connect", "127.0.0.1"], "must look like"),
        (["--interface", "0.0.0.0"], "every interface"),
        (["--interface", "203.0.113.9"], "cannot be bound here"),
        (["--secret-file", "nowhere"], "cannot be read"),
    ],
)
def test_bad_worker_options(secret: Path, args: list[str], words: str) -> None:
    """`nptp-opt worker` checks its options before it becomes a worker."""
    given = ["--connect", "127.0.0.1:1", "--name", "d0", "--secret-file", str(secret)]
    result = CliRunner().invoke(main, ["worker", *given, *args])
    assert result.exit_code == 2
    assert words in result.stderr
