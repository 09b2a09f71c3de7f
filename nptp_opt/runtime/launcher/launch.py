"""Runs a plan on one process per device and measures its latency.

Every input is compared with the unpartitioned model, which runs first, alone, in this process
with a worker's number of threads: its time is the single-device latency.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nptp_opt.errors import InputError
from nptp_opt.kernels.executors.choice import REFERENCE
from nptp_opt.network.load import LoadedModel
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.children import terminable
from nptp_opt.runtime.device_program import check_executable, participants
from nptp_opt.runtime.emulation.quota import find_hierarchy
from nptp_opt.runtime.launcher.losses import Replan, survive
from nptp_opt.runtime.launcher.pipeline import Pipeline
from nptp_opt.runtime.launcher.pool import DeviceLostError, WorkerPool
from nptp_opt.runtime.launcher.report import (
    MOST_TRACED,
    Reference,
    Run,
    RunOptions,
    RunReport,
    Throttle,
    make_references,
    make_report,
    thinned,
)
from nptp_opt.runtime.launcher.session import Session
from nptp_opt.runtime.launcher.site import LOCAL, Site

Watch = Callable[[int, Run], None]
"""Is told every input's run, by its number, as soon as it is over."""


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
    in_flight: int = 1,
    dilation: float = 1.0,
    site: Site = LOCAL,
    listen: str | None = None,
    secret_file: Path | None = None,
    tls: Path | None = None,
    pool: WorkerPool | None = None,
    replan: Replan | None = None,
    progress: Callable[[str], None] = lambda text: None,
    watch: Watch = lambda number, run: None,
    stopped: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Execute ``plan`` on ``repeats`` timed inputs and compare each with the model.

    ``threads`` are those of every worker; ``throttle="pad"`` stretches every task's computation
    to the cost model's seconds, ``"cgroup"`` limits its CPU time. ``executor`` computes tile
    programs; None for the fastest that a self-test on each device shows to be right. ``timeout_s``
    bounds silence and lack of progress. ``in_flight`` inputs are on the devices at a time. A second
    of the devices' clock takes ``dilation`` seconds; ``site`` has links that are as slow.
    ``watch`` is told every run by the number of its input; ``stopped`` is asked between inputs and
    ends the run with what there is.
    ``site`` says where workers run; with ``listen`` (``tcp:HOST:PORT``) they are started elsewhere
    and join there, each with the secret of ``secret_file``, and over TLS where ``tls`` is this
    launcher's certificate. ``pool`` reuses workers that run already, and must know every device
    that the plan uses.

    Raises ExecutionError, with the device's name, when a device fails or does not answer; with
    ``replan``, the survivors get a new plan instead and the input that was under way is computed
    again. Raises KeyboardInterrupt where it was stopped before the first timed input.
    """
    options = RunOptions(repeats, warmup, timeout_s, threads, transport, throttle, seed, executor,
                         in_flight, dilation)  # fmt: skip
    check_executable(plan)
    _check_throttle(throttle, listen)
    progress("single device, for comparison")
    references = make_references(plan, model, options)
    with terminable(), contextlib.ExitStack() as stack:
        if pool is None:
            names = workers_of(plan, everyone=replan is not None)
            _tell_start(names, listen, progress)
            pool = stack.enter_context(
                WorkerPool(names, timeout_s, site, listen, secret_file, tls, progress, wait=False)
            )
        stream = Stream(pool, plan, model, options, replan, progress, watch, stopped)
        runs = stream.run(references)
    if len(runs) <= options.warmup:
        raise KeyboardInterrupt
    return make_report(options, references, runs, stream.lost, model.witness.name)


def _tell_start(names: Sequence[str], listen: str | None, progress: Callable[[str], None]) -> None:
    """Workers are started here, or waited for."""
    waited = f"waiting at {listen} for {', '.join(names)}"
    progress(f"starting {len(names)} workers" if listen is None else waited)


def _check_throttle(throttle: Throttle, listen: str | None) -> None:
    """Raise before anything is started what the throttle lacks here."""
    if throttle == "cgroup":
        if listen is not None:
            raise InputError("`throttle` cgroup limits workers of this machine, not of `hosts`")
        find_hierarchy()


def workers_of(plan: Plan, *, everyone: bool) -> list[str]:
    """Devices that need a worker: those that the plan uses, or everyone, who may be planned in."""
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
    watch: Watch = lambda number, run: None
    stopped: Callable[[], bool] = lambda: False
    lost: list[str] = field(default_factory=list)
    runs: dict[int, Run] = field(default_factory=dict)
    """By the number of the input."""
    traced: int = 0
    """How many of them have spans."""

    def run(self, references: Sequence[Reference]) -> list[Run]:
        """Every input in order; raises DeviceLostError when there is no other plan."""
        cpu_s = min(reference.cpu_s for reference in references)
        while len(self.runs) < len(references) and not self.stopped():
            try:
                self.pool.await_idle()
                with self._session(cpu_s) as session:
                    left = len(references) - len(self.runs)
                    self.progress(f"{left} runs on {len(session.names)} devices")
                    for note in session.notes:
                        self.progress(note)
                    self._go_through(session, references)
            except DeviceLostError as error:
                if self.replan is None:
                    raise
                self.plan, lost = survive(self.pool, self.plan, error, self.replan, self.progress)
                self.lost += lost
        return [self.runs[number] for number in sorted(self.runs)]

    def _go_through(self, session: Session, references: Sequence[Reference]) -> None:
        """All inputs that have no result yet: one at a time, all devices being armed before it
        starts, or with several in flight."""
        if self.options.in_flight == 1:
            for number in range(len(self.runs), len(references)):
                if self.stopped():
                    return
                self._note(number, session.run(references[number]))
            return
        pipeline = Pipeline(session, trace=True)
        left = deque(number for number in range(len(references)) if number not in self.runs)
        while left or pipeline.in_flight:
            if self.stopped():
                left.clear()
            while left and pipeline.in_flight < self.options.in_flight:
                number = left.popleft()
                pipeline.post(number, references[number].inputs)
            done = pipeline.poll()
            if done is not None:
                self._note(done.number, session.measured(references[done.number], done.reports))

    def _note(self, number: int, run: Run) -> None:
        self.runs[number] = run
        self.watch(number, run)
        self.traced += 1
        if self.traced > MOST_TRACED:
            kept = thinned(list(self.runs.values()))
            self.runs = dict(zip(self.runs, kept, strict=True))
            self.traced = sum(bool(each.spans) for each in kept)

    def _session(self, cpu_s: float) -> Session:
        return Session(self.pool, self.plan, self.model, self.options, cpu_s)
