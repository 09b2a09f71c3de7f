"""A plan with weights, loaded on devices, that answers inputs until it is closed.

    with nptp_opt.deploy(plan, model) as service:
        y = service(x)

One thread of its own starts the workers, posts what waits as long as fewer than ``in_flight``
inputs are under way, and hands out what comes back. Unless the request is ``fixed``, the plan
follows what becomes of the devices (``adaptation``): where one is lost, the inputs under way are
computed again on a new plan; where one is back, or devices or links have drifted, another plan is
taken between two inputs.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nptp_opt.deployment.adaptation import Adaptation, Counts
from nptp_opt.deployment.answers import Answer, ClosedError, QueueFullError
from nptp_opt.deployment.request import DeployRequest
from nptp_opt.errors import InputError
from nptp_opt.network.load import LoadedModel
from nptp_opt.notebook import html_table
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.device_program import check_executable
from nptp_opt.runtime.launcher.command import site_of
from nptp_opt.runtime.launcher.launch import workers_of
from nptp_opt.runtime.launcher.pipeline import Done, Pipeline
from nptp_opt.runtime.launcher.pool import DeviceLostError, WorkerPool
from nptp_opt.runtime.launcher.session import Session
from nptp_opt.runtime.launcher.site import Site

Array = Tensor | np.ndarray[Any, Any]

State = Literal["starting", "ready", "replanning", "draining", "closed"]

RECENT = 32
"""Answers whose pace tells how long the queue will take."""


@dataclass(frozen=True)
class _Item:
    """An input that waits, or is under way."""

    number: int
    inputs: Sequence[Tensor]
    future: Future[Answer]
    submitted_s: float


@dataclass
class _Flight:
    item: _Item
    waited_s: float


class Service:
    """Use it as a context manager; ``submit``, ``stream`` and calls may come from any thread.

    ``watch`` is told every answer before whoever waits for it, in the service's thread. ``site`` is
    where the workers run, if that is not for the request to say. Entering raises ExecutionError
    where the workers do not start; inputs under way when a device is lost for good raise it, too.
    """

    def __init__(
        self,
        plan: Plan,
        model: LoadedModel,
        request: DeployRequest,
        *,
        progress: Callable[[str], None] = lambda text: None,
        watch: Callable[[Answer], None] = lambda answer: None,
        site: Site | None = None,
    ) -> None:
        check_executable(plan)
        self.model, self.request, self._site = model, request, site
        self.adaptation = Adaptation(plan, model, request, progress)
        self.progress, self.watch = progress, watch
        self.signature = model.signature
        self.error: BaseException | None = None
        """Why it has ended, if that was no wish of its owner."""
        self._state: State = "starting"
        self._changed = threading.Condition()
        self._waiting: deque[_Item] = deque()
        self._flying: dict[int, _Flight] = {}
        self._numbers = itertools.count()
        self._ended: deque[float] = deque(maxlen=RECENT)
        self._pool: WorkerPool | None = None
        self._thread = threading.Thread(target=self._work, name="nptp-service", daemon=True)

    # -- for its owner -------------------------------------------------------------------------

    def __repr__(self) -> str:
        count = len(self.plan.cluster.devices)
        return (
            f"<Service of {self.plan.model} on {count} devices: {self.state}, "
            f"{self.counts.answered} answered, {self.in_flight} in flight, {self.waiting} waiting>"
        )

    def _repr_html_(self) -> str:
        counts = self.counts
        rows = {
            "state": self.state,
            "inputs": ", ".join(map(str, self.signature.inputs)),
            "outputs": ", ".join(map(str, self.signature.outputs)),
            "in flight": f"{self.in_flight} of {self.request.in_flight}",
            "waiting": f"{self.waiting} of {self.request.queue}",
            "answered": counts.answered,
            "devices lost": ", ".join(counts.losses) or "none",
            "devices back": ", ".join(counts.returns) or "none",
            "plans made since": counts.replans,
        }
        names = ", ".join(device.name for device in self.plan.cluster.devices)
        return html_table(f"Service of {self.plan.model} on {names}", rows)

    def __enter__(self) -> Service:
        self._thread.start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._state not in ("starting", "replanning"))
        except BaseException:  # interrupted: the workers must not stay
            self.close(drain=False)
            raise
        if self.error is not None:
            self._thread.join()
            raise self.error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(drain=kind is None)

    def close(self, *, drain: bool = True) -> None:
        """End the workers; with ``drain`` only after all that was submitted has its answer."""
        with self._changed:
            if self._state != "closed":
                self._state = "draining"
            if not drain:
                self._drop(ClosedError("the service was closed"))
            self._wake()
        self._thread.join()

    def wait_closed(self) -> None:
        """Return when it has ended, for whatever reason."""
        self._thread.join()

    @property
    def plan(self) -> Plan:
        """The one that runs: another than was given where devices or links are others."""
        return self.adaptation.plan

    @property
    def counts(self) -> Counts:
        """What has happened since the start."""
        return self.adaptation.counts

    @property
    def state(self) -> State:
        return self._state

    @property
    def is_ready(self) -> bool:
        """True while inputs are taken."""
        return self._state in ("ready", "replanning")

    @property
    def waiting(self) -> int:
        """Inputs in the queue."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Inputs on the devices."""
        return len(self._flying)

    def __call__(self, *inputs: Array, **named: Array) -> Tensor | Mapping[str, Tensor]:
        """What the model makes of one input: a tensor, or tensors by name where it has several.

        Inputs are given in the model's order or by name, as tensors or arrays of the model's shapes
        and types. Raises InputError for any other, ExecutionError where a device is lost.
        """
        return self.submit_named(self._by_name(inputs, named)).result().value

    def submit(self, *inputs: Array, wait: bool = True, **named: Array) -> Future[Answer]:
        """As a call, but the answer comes later. ``wait`` for room in the queue, or raise
        QueueFullError where there is none. A future that is cancelled in time is never computed.
        """
        return self.submit_named(self._by_name(inputs, named), wait=wait)

    def submit_named(
        self, given: Mapping[str, Array], *, wait: bool = True, copy: bool = True
    ) -> Future[Answer]:
        """As ``submit``, for names that are no Python arguments.

        Without ``copy`` the caller leaves the arrays alone until the answer is there.
        """
        own = {name: _tensor(name, value, copy=copy) for name, value in given.items()}
        tensors = self.signature.network_inputs(own)
        future: Future[Answer] = Future()
        with self._changed:
            if wait:
                self._changed.wait_for(self._has_room)
            if not self.is_ready:
                raise ClosedError(str(self.error or "the service is closed"))
            if not self._has_room():
                raise QueueFullError(len(self._waiting), self._retry_s())
            item = _Item(next(self._numbers), tensors, future, time.monotonic())
            self._waiting.append(item)
            self._wake()
        return future

    def stream(self, inputs: Iterable[Mapping[str, Array]]) -> Iterator[Answer]:
        """Answers to many inputs (by name) in their order, with as many in flight as may be."""
        pending: deque[Future[Answer]] = deque()
        for given in inputs:
            pending.append(self.submit_named(given))
            if len(pending) > 2 * self.request.in_flight:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    # -- details for submitting ----------------------------------------------------------------

    def _by_name(self, inputs: Sequence[Array], named: Mapping[str, Array]) -> dict[str, Array]:
        names = [spec.name for spec in self.signature.inputs]
        if len(inputs) > len(names):
            raise InputError(f"{len(inputs)} inputs, the model takes {len(names)}: "
                             f"{', '.join(names)}")  # fmt: skip
        given = dict(zip(names, inputs, strict=False))
        twice = given.keys() & named.keys()
        if twice:
            raise InputError(f"input {min(twice)!r} is given twice")
        return {**given, **named}

    def _has_room(self) -> bool:
        return not self.is_ready or len(self._waiting) < self.request.queue

    def _retry_s(self) -> float:
        """About how long until one of those that wait is on its way."""
        if len(self._ended) < 2:
            return 1.0
        pace_s = (self._ended[-1] - self._ended[0]) / (len(self._ended) - 1)
        return max(pace_s, 1e-3)

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._pool is not None:
            self._pool.wake()

    def _drop(self, error: Exception) -> None:
        """Nothing of what waits or is under way will be answered."""
        for flight in self._flying.values():
            if not flight.item.future.done():
                flight.item.future.set_exception(error)
        for item in self._waiting:
            if item.future.set_running_or_notify_cancel():
                item.future.set_exception(error)
        self._waiting.clear()
        self._flying.clear()

    # -- the service's own thread --------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._run_workers()
        except BaseException as error:  # noqa: BLE001 - told to everyone who waits
            self.error = error
        self.adaptation.close()
        with self._changed:
            self._state, self._pool = "closed", None
            self._drop(ClosedError(str(self.error or "the service was closed")))
            self._changed.notify_all()

    def _run_workers(self) -> None:
        request, adaptation = self.request.as_run(), self.adaptation
        names = workers_of(self.plan, everyone=not self.request.fixed)
        listen = None if request.hosts is None else f"tcp:{request.hosts}"
        where = "" if listen is None else f" at {request.hosts}: {', '.join(names)}"
        self.progress(
            f"{'starting' if listen is None else 'waiting for'} {len(names)} workers{where}"
        )
        with (
            self._place() as site,
            WorkerPool(
                names,
                request.timeout_s,
                site,
                listen,
                request.secret_file,
                request.tls,
                self.progress,
                wait=False,
            ) as pool,
        ):
            self._pool = pool
            while not self._is_over():
                try:
                    pool.await_idle()
                    adaptation.switch(pool)
                    with Session(
                        pool, self.plan, self.model, self.request.run_options()
                    ) as session:
                        for note in session.notes:
                            self.progress(note)
                        self._serve(Pipeline(session))
                except DeviceLostError as error:
                    if self.request.fixed:
                        raise
                    self._enter("replanning")
                    adaptation.go_on_without(pool, error)

    def _place(self) -> AbstractContextManager[Site]:
        if self._site is not None:
            return nullcontext(self._site)
        return site_of(self.plan, self.request.as_run())

    def _is_over(self) -> bool:
        return self._state == "draining" and not (self._waiting or self._flying)

    def _serve(self, pipeline: Pipeline) -> None:
        under_way = [flight.item for flight in tuple(self._flying.values())]  # of before a loss
        for item in sorted(under_way, key=lambda item: item.number):
            pipeline.post(item.number, item.inputs)
        self._enter("ready")
        self.adaptation.begin()
        pool, switching = pipeline.session.pool, False
        while not self._is_over():
            switching = switching or self._wants_switch(pool)
            if switching and pipeline.in_flight == 0:
                return
            if not switching:
                for flight in self._take(self.request.in_flight - pipeline.in_flight):
                    pipeline.post(flight.item.number, flight.item.inputs)
            done = pipeline.poll()
            if done is not None:
                self._answer(done)

    def _wants_switch(self, pool: WorkerPool) -> bool:
        return not self.request.fixed and self.adaptation.wants_switch(pool)

    def _enter(self, state: State) -> None:
        with self._changed:
            if self._state != "draining":
                self._state = state
            self._changed.notify_all()

    def _take(self, room: int) -> list[_Flight]:
        """So many of those that wait, cancelled ones left out."""
        taken: list[_Flight] = []
        with self._changed:
            while self._waiting and len(taken) < room:
                item = self._waiting.popleft()
                if item.future.set_running_or_notify_cancel():
                    taken.append(_Flight(item, time.monotonic() - item.submitted_s))
                    self._flying[item.number] = taken[-1]
            self._changed.notify_all()
        return taken

    def _answer(self, done: Done) -> None:
        with self._changed:
            flight = self._flying.pop(done.number, None)
            self._ended.append(time.monotonic())
        if flight is None or flight.item.future.done():  # given up meanwhile
            self.adaptation.answered(done)
            return
        answer = Answer(
            outputs=self.signature.own_outputs(done.outputs),
            latency_s=done.latency_s,
            waited_s=flight.waited_s,
            ended_s=done.ended_s,
            busy_s=done.busy_s,
            sent_bytes=done.sent_bytes,
            overrun_s=done.overrun_s,
        )
        self.counts.answered += 1
        self.watch(answer)
        flight.item.future.set_result(answer)
        self.adaptation.answered(done)


def _tensor(name: str, value: Array, *, copy: bool) -> Tensor:
    """Of a ``copy``: what its owner does with it while it waits changes nothing here."""
    if isinstance(value, Tensor):
        return value.detach().clone() if copy else value.detach()
    if not isinstance(value, np.ndarray):
        raise InputError(f"input {name!r} is {type(value).__name__}: give a tensor or an array")
    try:
        return torch.from_numpy(np.array(value, copy=copy or None))
    except TypeError:
        raise InputError(f"input {name!r} is of numpy's type {value.dtype}: convert it") from None
