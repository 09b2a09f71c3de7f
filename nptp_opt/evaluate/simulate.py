"""Predicted latency: an event-driven simulation of a plan without barriers (docs/network.md).

Each device works through its steps in order and starts one when its own halo is there; in a step
that overlaps, the interior before that and only the rim then. A message
(all transfers of one step between two devices) leaves when its sender has computed what it
carries and has handed over those before it (``message_ms`` each, of its own time); links serve one
message after the other, in the order in which messages become ready.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, Links
from nptp_opt.evaluate.events import run_events
from nptp_opt.evaluate.work import StepWork, Task, step_work
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Network
from nptp_opt.plan.model import owned_maps
from nptp_opt.plan.steps import Step


@dataclass(frozen=True)
class Planned:
    """One predicted stretch of time: a task, or a message on its way; seconds from the input."""

    kind: Literal["compute", "message"]
    step: int
    device: int
    """Who computes or sends."""
    start_s: float
    end_s: float
    peer: int | None = None
    """Who receives."""


def simulate(
    network: Network,
    cluster: Cluster,
    steps: Sequence[Step],
    measured: Mapping[Task, float] | None = None,
) -> float:
    """Seconds from the input at the source until the last task has finished.

    ``measured`` gives tasks other seconds than the cost model.
    """
    simulation = _simulation(network, cluster, steps)
    for task, seconds in (measured or {}).items():
        simulation.set_seconds(task, seconds)
    return simulation.run()[0]


def simulated_s(
    network: Network, cluster: Cluster, steps: Sequence[Step], works: Sequence[StepWork]
) -> float:
    """``simulate`` for steps whose works are known."""
    return _Simulation(cluster, works, _makers(network, steps)).run()[0]


def timeline(network: Network, cluster: Cluster, steps: Sequence[Step]) -> tuple[Planned, ...]:
    """What ``simulate`` goes through: every task and every message, in the order of their start.

    A message starts when it is ready; it may wait for its link.
    """
    simulation = _simulation(network, cluster, steps)
    found = simulation.planned(*simulation.run()[1:])
    return tuple(sorted(found, key=lambda planned: planned.start_s))


def _simulation(network: Network, cluster: Cluster, steps: Sequence[Step]) -> _Simulation:
    owned = owned_maps(network, cluster, steps)
    works = [step_work(network, cluster, step, owned) for step in steps]
    return _Simulation(cluster, works, _makers(network, steps))


def _makers(network: Network, steps: Sequence[Step]) -> IntArray:
    """By number of a layer the step that hands its output on, -1 for none."""
    makers = np.full(len(network.layers), -1)
    for k, step in enumerate(steps):
        for tensor in step.makes:
            makers[network.number[tensor]] = k
    return makers


class _Simulation:
    """The works of all steps as the arrays that ``run_events`` wants."""

    def __init__(self, cluster: Cluster, works: Sequence[StepWork], makers: IntArray) -> None:
        self.cluster, self.n = cluster, len(cluster.devices)
        self.devices, self.task_steps = _joined(works, "devices")
        order = np.lexsort((self.task_steps, self.devices))
        self.devices, self.task_steps = self.devices[order], self.task_steps[order]
        self.ahead_s = _joined(works, "ahead_s")[0][order]
        self.rest_s = _joined(works, "rest_s")[0][order]
        self.number = np.full((len(works), self.n), -1)
        self.number[self.task_steps, self.devices] = np.arange(len(order))
        self.src, self.message_steps = _joined(works, "src")
        self.dst, self.bytes = _joined(works, "dst")[0], _joined(works, "bytes")[0]
        self.awaited = self._awaited(works, makers)

    def _awaited(self, works: Sequence[StepWork], makers: IntArray) -> IntArray:
        """Pairs of a message and the task that it awaits; the source has its input at once."""
        pairs, steps = _joined(works, "awaited")
        firsts = np.concatenate(([0], np.cumsum([len(work.src) for work in works])))
        message, tensor = pairs[:, 0] + firsts[steps], pairs[:, 1]
        made = makers[tensor] >= 0
        message, tensor = message[made], tensor[made]
        return np.stack((message, self.number[makers[tensor], self.src[message]]))

    def set_seconds(self, task: Task, seconds: float) -> None:
        """Scale a task to ``seconds`` in all."""
        number = self.number[task]
        modelled = self.ahead_s[number] + self.rest_s[number]
        share = self.ahead_s[number] / modelled if modelled else 0.0
        self.ahead_s[number], self.rest_s[number] = share * seconds, (1 - share) * seconds

    def run(self) -> tuple[float, IntArray, FloatArray]:
        """Seconds in all; kind and index, start and end of every stretch."""
        network = self.cluster.network
        counts = np.bincount(self.devices, minlength=self.n)
        first = np.concatenate(([0], np.cumsum(counts)))
        seconds, out, into = self._links()
        receiver = self.number[self.message_steps, self.dst]
        awaits = np.bincount(self.awaited[0], minlength=len(self.src))
        now, done, stretches, times = run_events(
            (self.devices, first, self.ahead_s, self.rest_s),
            (awaits, receiver, seconds, out, into),
            self._feeds(),
            self._starting(first),
            self.cluster.source,
            network.message_s,
            network.latency_s,
            np.inf,
        )
        assert done == len(self.devices), "the plan waits for a message that nothing sends"
        return float(now), stretches, times

    def _links(self) -> tuple[FloatArray, IntArray, IntArray]:
        """Seconds on its links, the sender's and the receiver's, of every message; a shared medium
        is one link that all use."""
        seconds = Links.of(self.cluster).message_s(self.bytes, self.src, self.dst)
        if self.cluster.shared:
            medium = np.zeros_like(self.src)
            return seconds, medium, medium
        return seconds, self.src, self.dst

    def _feeds(self) -> tuple[IntArray, IntArray]:
        """The messages that await each task, in their order."""
        message, task = self.awaited
        order = np.lexsort((message, task))
        firsts = np.searchsorted(task[order], np.arange(len(self.devices) + 1))
        return firsts, message[order]

    def _starting(self, first: IntArray) -> IntArray:
        """Devices with tasks: those whose last step is the latest, first."""
        working = np.flatnonzero(np.diff(first))
        last = self.task_steps[first[working + 1] - 1]
        return working[np.lexsort((-working, -last))]

    def planned(self, stretches: IntArray, times: FloatArray) -> list[Planned]:
        """Stretches of a run by step and device."""
        return [
            self._message(index, *ends) if kind else self._task(index, *ends)
            for (kind, index), ends in zip(stretches.tolist(), times.tolist(), strict=True)
        ]

    def _task(self, index: int, start_s: float, end_s: float) -> Planned:
        step, device = int(self.task_steps[index]), int(self.devices[index])
        return Planned("compute", step, device, start_s, end_s)

    def _message(self, index: int, start_s: float, end_s: float) -> Planned:
        step, src, dst = (int(a[index]) for a in (self.message_steps, self.src, self.dst))
        return Planned("message", step, src, start_s, end_s, dst)


def _joined(works: Sequence[StepWork], name: str) -> tuple[Any, IntArray]:
    """One field of all works, and the number of the step of every entry."""
    parts = [getattr(work, name) for work in works]
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])
