"""Runs a plan on one process per device and measures its latency.

Every input is compared with the unpartitioned model, which runs first, alone, in this process
with a worker's number of threads: its time is the single-device latency.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.errors import ExecutionError, InputError
from nptp_opt.kernels.executors.choice import REFERENCE
from nptp_opt.network.load import LoadedModel
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.children import terminable
from nptp_opt.runtime.device_program import check_executable, participants
from nptp_opt.runtime.emulation.quota import find_hierarchy
from nptp_opt.runtime.launcher.pool import DeviceLostError, WorkerPool
from nptp_opt.runtime.launcher.report import (
    Reference,
    Run,
    RunOptions,
    RunReport,
    Throttle,
    make_references,
    make_report,
)
from nptp_opt.runtime.launcher.session import Session
from nptp_opt.runtime.launcher.site import LOCAL, Site

Replan = Callable[[Cluster], Plan]
"""Plans the same model for the devices that are left."""


def run_plan(
    plan: Plan,
    model: LoadedModel,
    *,
    repeats: int = 10,
    warmup: int = 2,
    timeout_s: float = 30.0,
    threads: int = 1,
    transport: str = "gloo",
    throttle: Throttle = "none",
    seed: int = 0,
    executor: str | None = REFERENCE,
    site: Site = LOCAL,
    listen: str | None = None,
    secret_file: Path | None = None,
    pool: WorkerPool | None = None,
    replan: Replan | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> RunReport:
    """Execute ``plan`` on ``repeats`` timed inputs and compare each with the model.

    ``threads`` are those of every worker; ``throttle="pad"`` stretches every task's computation
    to the cost model's seconds, ``"cgroup"`` limits its CPU time. ``executor`` computes tile
    programs; None for the fastest that a self-test on each device shows to be right. ``timeout_s``
    bounds silence and lack of progress.

    ``site`` says where workers run; with ``listen`` (``tcp:HOST:PORT``) they are started elsewhere
    and join there, each with the secret of ``secret_file``. ``pool`` reuses workers that run
    already, and must know every device that the plan uses.

    Raises ExecutionError, with the device's name, when a device fails or does not answer; with
    ``replan``, the survivors get a new plan instead and the input that was under way is computed
    again.
    """
    options = RunOptions(repeats, warmup, timeout_s, threads, transport, throttle, seed, executor)
    check_executable(plan)
    if throttle == "cgroup":
        if listen is not None:
            raise InputError("`throttle` cgroup limits workers of this machine, not of `hosts`")
        find_hierarchy()
    progress("single device, for comparison")
    references = make_references(plan, model, options)
    with terminable(), contextlib.ExitStack() as stack:
        if pool is None:
            names = _workers_of(plan, everyone=replan is not None)
            progress(
                f"starting {len(names)} workers"
                if listen is None
                else f"waiting at {listen} for {', '.join(names)}"
            )
            pool = stack.enter_context(
                WorkerPool(names, options.timeout_s, site, address=listen, secret_file=secret_file)
            )
        stream = Stream(pool, plan, model, options, replan, progress)
        runs = stream.run(references)
    return make_report(options, references, runs, stream.lost, model.witness.name)


def _workers_of(plan: Plan, *, everyone: bool) -> list[str]:
    devices = plan.cluster.devices
    numbers = range(len(devices)) if everyone else participants(plan)
    return [devices[i].name for i in numbers]


@dataclass
class Stream:
    """A stream of inputs of which none is lost, as long as ``replan`` finds another plan."""

    pool: WorkerPool
    plan: Plan
    model: LoadedModel
    options: RunOptions
    replan: Replan | None
    progress: Callable[[str], None]
    lost: list[str] = field(default_factory=list)

    def run(self, references: Sequence[Reference]) -> list[Run]:
        """Every input in order; raises DeviceLostError when there is no other plan."""
        runs: list[Run] = []
        cpu_s = min(reference.cpu_s for reference in references)
        while len(runs) < len(references):
            try:
                with self._session(cpu_s) as session:
                    self.progress(
                        f"{len(references) - len(runs)} runs on {len(session.names)} devices"
                    )
                    for note in session.notes:
                        self.progress(note)
                    while len(runs) < len(references):
                        runs.append(session.run(references[len(runs)]))
            except DeviceLostError as error:
                if self.replan is None:
                    raise
                self._go_on_without(error, self.replan)
        return runs

    def _session(self, cpu_s: float) -> Session:
        return Session(self.pool, self.plan, self.model, self.options, cpu_s)

    def _go_on_without(self, error: DeviceLostError | None, replan: Replan) -> None:
        """Give up who is lost, and who turns out to be lost meanwhile; plan for those left."""
        cluster = self.plan.cluster
        while error is not None:
            self.progress(f"{error}; planning again without it")
            cluster = without(cluster, error.device)
            self.lost.append(error.device)
            error = self._drop(error.device)
        self.plan = replan(cluster)
        check_executable(self.plan)

    def _drop(self, device: str) -> DeviceLostError | None:
        try:
            self.pool.drop(device)
        except DeviceLostError as another:
            return another
        return None


def without(cluster: Cluster, device: str) -> Cluster:
    """The cluster after the loss of a device; raises ExecutionError when it cannot do without."""
    for role, number in (("source", cluster.source), ("sink", cluster.sink)):
        if cluster.devices[number].name == device:
            raise ExecutionError(f"device {device!r} is lost, and it is the {role}")
    content = cluster.to_json()
    return cluster_from_json(
        content | {"device": [entry for entry in content["device"] if entry["name"] != device]}
    )
