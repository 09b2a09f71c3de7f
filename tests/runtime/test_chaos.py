"""kill -9 of each worker at 20 moments: the run ends by itself, says who, and leaves nothing.

Moments are seeded: a stage, and a short delay from its beginning. Workers are forked from a process
that has loaded torch, else most of the time would go into importing it (``test_failures`` kills
workers that were started as usual). What hangs is ended by a watchdog, which fails the test.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.network.load import LoadedModel
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.pool import DeviceLostError
from nptp_opt.runtime.launcher.report import RunOptions, make_references
from nptp_opt.runtime.launcher.session import Session
from nptp_opt.runtime.transport.registry import TRANSPORTS
from tests.runtime.forked import ForkingPool, Template
from tests.runtime.plans import five_devices, halves, hand_plan, model_of, tee
from tests.runtime.watchdog import watchdog

TIMEOUT_S = 10.0
NAMES = ["d0", "d1", "d2"]
STAGES = {"start": 0.05, "load": 0.1, "warm-up": 0.02, "run": 0.05, "end": 0.005}
"""Stages of a run, and the longest delay after their beginning: about as long as each lasts."""
MOMENTS = 7 * int(os.environ.get("NPTP_FUZZ", "1"))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return model_of("chain")


class Killer:
    """Kills the victim a while after a stage has begun."""

    def __init__(self, victim: str, moment: int) -> None:
        random = Random(f"{victim} {moment}")
        self.victim, self.stage = victim, list(STAGES)[moment % len(STAGES)]
        self.delay_s = random.uniform(0.0, STAGES[self.stage])
        self.transport = random.choice(TRANSPORTS)
        self.pids: dict[str, int] = {}

    def spawned(self, name: str, pid: int) -> None:
        """A worker was started."""
        self.pids[name] = pid
        if name == self.victim:
            self.reached("start")

    def reached(self, stage: str) -> None:
        """The run is at the beginning of a stage."""
        if stage == self.stage:
            threading.Timer(self.delay_s, self._kill).start()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # the run may have ended before
            os.kill(self.pids[self.victim], signal.SIGKILL)


def _run(
    pool: ForkingPool, plan: Plan, model: LoadedModel, killer: Killer, fired: threading.Event
) -> None:
    """A run that goes through all stages, and computes until the victim is dead."""
    options = RunOptions(repeats=1, warmup=0, transport=killer.transport)
    (reference,) = make_references(plan, model, options)
    with pool:
        killer.reached("load")
        with Session(pool, plan, model, options) as session:
            killer.reached("warm-up")
            session.run(reference)
            killer.reached("run")
            while killer.stage != "end" and not fired.is_set():
                assert session.run(reference).ok
            killer.reached("end")


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _drops_to(files: int) -> bool:
    """Threads that close a connection may be a moment behind."""
    deadline = time.monotonic() + TIMEOUT_S
    while _open_files() > files and time.monotonic() < deadline:
        time.sleep(1e-3)
    return _open_files() <= files


@pytest.mark.parametrize("victim", NAMES)
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_kill_of_each_worker_at_a_random_moment(
    template: Template, model: LoadedModel, victim: str, moment: int
) -> None:
    """Source, sink or neither; while it joins, loads, computes or ends; over either transport."""
    plan = hand_plan(model, "chain", tee, five_devices(sink="d1"))
    killer = Killer(victim, moment)
    pool = ForkingPool(NAMES, timeout_s=TIMEOUT_S).using(template, killer.spawned)
    files = _open_files()
    with watchdog(killer.pids.values) as fired:
        try:
            _run(pool, plan, model, killer, fired)
            assert killer.stage == "end"
        except DeviceLostError as error:
            assert error.device == victim
            assert "died (killed by signal 9)" in str(error)
    assert len(killer.pids) == 3 or killer.stage == "start"
    assert not any(Path(f"/proc/{pid}").exists() for pid in killer.pids.values())
    assert not pool.folder.exists()
    assert _drops_to(files)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_two_devices_lost_at_once(template: Template, model: LoadedModel, transport: str) -> None:
    """The others finish every input. Bug: the second was started anew as if it had only hung, and
    on other machines it ended the run."""
    pids: dict[str, int] = {}
    lost = ["d1", "d2"]

    def kill_both() -> None:
        for name in lost:
            os.kill(pids[name], signal.SIGKILL)

    def kill(text: str) -> None:
        if "runs on 3 devices" in text:
            threading.Timer(0.05, kill_both).start()

    def replan(cluster: Cluster) -> Plan:
        assert [device.name for device in cluster.devices] == ["d0", "d3", "d4"]
        return hand_plan(model, "chain", halves, cluster)

    names = [*NAMES, "d3", "d4"]
    plan = hand_plan(model, "chain", tee, five_devices())
    with ForkingPool(names, timeout_s=TIMEOUT_S).using(template, pids.__setitem__) as pool:
        report = run_plan(
            plan, model, pool=pool, repeats=100, replan=replan, transport=transport, progress=kill
        )
    assert report.ok
    assert len(report.latency_s) == 100
    assert sorted(report.lost) == lost
    assert set(pids) == set(names)
