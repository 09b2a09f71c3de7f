"""A device that dies, hangs or refuses ends the run by name, and nothing is left behind.

What hangs is ended by a watchdog, which fails the test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.errors import ExecutionError
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.launcher import session as session_module
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.losses import only, without
from nptp_opt.runtime.launcher.pool import DeviceLostError, WorkerPool
from nptp_opt.runtime.launcher.report import RunOptions, make_references
from nptp_opt.runtime.launcher.session import Session
from nptp_opt.runtime.transport.registry import TRANSPORTS
from tests.runtime.plans import five_devices, halves, hand_plan, model_of, tee
from tests.runtime.watchdog import watchdog

TIMEOUT_S = 10.0
NAMES = ["d0", "d1", "d2"]


def _pids(pool: WorkerPool) -> list[int]:
    return [member.process.pid for member in pool.members.values() if member.process]


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(("victim", "transport"), [("d1", "gloo"), ("d0", "tcp")])
def test_lost_device_is_named(victim: str, transport: str) -> None:
    """kill -9 in the middle of a run: it ends by itself, with the right name, and no process is
    left."""
    _lose(victim, signal.SIGKILL, "killed by signal 9", transport, TIMEOUT_S)


@pytest.mark.usefixtures("forked")
def test_hanging_device_is_named() -> None:
    """So it does where a device is stopped."""
    _lose("d2", signal.SIGSTOP, "no sign of life", "gloo", 6.0)


def _lose(victim: str, number: signal.Signals, says: str, transport: str, timeout_s: float) -> None:
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, five_devices())
    options = RunOptions(repeats=1, warmup=0, transport=transport)
    (reference,) = make_references(plan, model, options)
    pool = WorkerPool(NAMES, timeout_s=timeout_s)
    with (
        watchdog(lambda: _pids(pool)) as fired,
        pytest.raises(DeviceLostError, match=says) as caught,
        pool,
        Session(pool, plan, model, options) as session,
    ):
        pids = _pids(pool)
        session.run(reference)
        target = pool.members[victim].process.pid
        threading.Timer(0.5, os.kill, (target, number)).start()
        while not fired.is_set():
            session.run(reference)
    assert caught.value.device == victim
    assert caught.value.exit_code == 6
    assert all(_gone(pid) for pid in pids)
    assert not pool.folder.exists()


@pytest.mark.parametrize("kill", range(4))
def test_kill_while_it_starts(kill: int) -> None:
    """While it joins or imports torch: the run ends by itself and names the victim.

    ``test_chaos`` kills each worker at 20 moments of a whole run.
    """
    random = Random(kill)
    model = model_of("chain")
    plan = hand_plan(model, "chain", halves, five_devices())
    options = RunOptions(repeats=1, warmup=0, transport=random.choice(TRANSPORTS))
    (reference,) = make_references(plan, model, options)
    victim = random.choice(["d0", "d1"])
    pool = WorkerPool(["d0", "d1"], timeout_s=TIMEOUT_S)
    with (
        watchdog(lambda: _pids(pool)) as fired,
        pytest.raises(DeviceLostError) as caught,
        pool,
    ):
        pids = _pids(pool)
        target = pids[int(victim[1])]
        threading.Timer(random.uniform(0.0, 0.6), os.kill, (target, signal.SIGKILL)).start()
        with Session(pool, plan, model, options) as session:
            while not fired.is_set():
                session.run(reference)
    assert caught.value.device == victim
    assert all(_gone(pid) for pid in pids)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_survivors_finish_the_stream(transport: str) -> None:
    """kill -9 of a device in a stream: no input is lost, each gives the model's result."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, five_devices())
    asked: list[Cluster] = []

    def replan(cluster: Cluster) -> Plan:
        asked.append(cluster)
        return hand_plan(model, "chain", halves, cluster)

    with WorkerPool(NAMES, timeout_s=TIMEOUT_S) as pool:
        target = pool.members["d1"].process.pid
        threading.Timer(0.3, os.kill, (target, signal.SIGKILL)).start()
        report = run_plan(plan, model, pool=pool, repeats=200, replan=replan, transport=transport)
    assert report.ok
    assert len(report.latency_s) == 200
    assert report.lost == ("d1",)
    assert [device.name for device in asked[0].devices] == ["d0", "d2", "d3", "d4"]


def test_loss_of_the_source_ends_the_run() -> None:
    """Where nobody may stand in for it."""
    with pytest.raises(ExecutionError, match="'d0' is lost, and it is the source"):
        without(five_devices(), "d0")


def test_the_first_stand_in_that_is_there_becomes_source_and_sink() -> None:
    """Each by itself; who is left keeps its part, and the next loss finds the next one."""
    cluster = five_devices(sink="d1", stand_ins=["d2", "d1"])

    def ends(cluster: Cluster) -> list[str]:
        return [cluster.devices[number].name for number in (cluster.source, cluster.sink)]

    assert only(cluster, ["d0", "d1", "d2", "d3", "d4"]) is cluster
    assert ends(without(cluster, "d0")) == ["d2", "d1"]
    assert ends(without(without(cluster, "d0"), "d2")) == ["d1", "d1"]
    assert ends(only(cluster, ["d1", "d4"])) == ["d1", "d1"]
    assert ends(without(cluster, "d1")) == ["d0", "d2"]
    with pytest.raises(ExecutionError, match="'d1' is lost, and it is the sink: no device that"):
        only(cluster, ["d0", "d3"])


def test_wrong_plan_hash_is_refused(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker checks that its plan is the one that the launcher means; the pool lives on."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, five_devices())
    monkeypatch.setattr(session_module, "plan_to_json", lambda plan: {"hash": "0" * 64})
    with pytest.raises(DeviceLostError, match=r"hash .* is not the plan's"):
        run_plan(plan, model, pool=pool, repeats=1, warmup=0)
    monkeypatch.undo()
    assert run_plan(plan, model, pool=pool, repeats=1, warmup=0).ok


def test_worker_that_cannot_start_is_named() -> None:
    """The last line of its log is part of the message."""

    class Missing:
        def prefix(self, device: str) -> list[str]:
            return ["sh", "-c", "echo out of order >&2; exit 3"] if device == "d1" else []

        def interface(self, device: str) -> str:
            return "lo"

        delay_s = 0.0

    said = r"d1.*exit status 3.*out of order"
    with pytest.raises(DeviceLostError, match=said), WorkerPool(NAMES, site=Missing()):
        pass


SCRIPT = """
import signal, time
from nptp_opt.runtime.children import terminable
from nptp_opt.runtime.launcher.pool import WorkerPool
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
with terminable(), WorkerPool(["d0", "d1"]) as pool:
    print(*[m.process.pid for m in pool.members.values()], pool.folder, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_launcher(number: signal.Signals) -> None:
    """However the launcher ends, a stopped worker included; SIGTERM and Ctrl-C also clean up."""
    launcher = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    *pids, folder = launcher.stdout.readline().split()
    os.kill(int(pids[0]), signal.SIGSTOP)
    launcher.send_signal(number)
    launcher.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while not all(_gone(int(pid)) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert all(_gone(int(pid)) for pid in pids)
    if number != signal.SIGKILL:
        assert not Path(folder).exists()
    else:
        subprocess.run(["rm", "-rf", folder])
