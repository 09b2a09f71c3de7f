"""Predicted latency: a discrete-event simulation of a plan without barriers (docs/network.md).

Each device works through its pieces in order (a step's tile is one piece or several) and starts one
when the messages that it reads are there. A message (all transfers of one step between two devices)
leaves when its sender has computed the pieces that it reads from and has handed over those before
it (``message_ms`` each, of its own time); links serve one message after the other, in the order in
which messages become ready.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray
from nptp_opt.evaluate.step_store import StepStore
from nptp_opt.evaluate.task_graph import Task, step_graph
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Network
from nptp_opt.plan.model import owned_maps
from nptp_opt.plan.steps import Step


@dataclass(frozen=True)
class Stretch:
    """One predicted stretch of time: a piece, or a message on its way; seconds from the input."""

    kind: Literal["compute", "message"]
    step: int
    device: int
    """Who computes or sends."""
    start_s: float
    end_s: float
    peer: int | None = None
    """Who receives."""
    on_link_s: tuple[float, float] | None = None
    """From when until when a message keeps its links: it is ready before, and arrives a latency
    after."""


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


def timeline(network: Network, cluster: Cluster, steps: Sequence[Step]) -> tuple[Stretch, ...]:
    """What ``simulate`` goes through: every piece and every message, in the order of their start.

    A message starts when it is ready; it may wait for its link.
    """
    simulation = _simulation(network, cluster, steps)
    stretches = simulation.read_stretches(*simulation.run()[1:])
    return tuple(sorted(stretches, key=lambda planned: planned.start_s))


def _simulation(network: Network, cluster: Cluster, steps: Sequence[Step]) -> _Simulation:
    owned = owned_maps(network, cluster, steps)
    maker = {tensor: k for k, step in enumerate(steps) for tensor in step.makes}
    store, makers = StepStore(cluster), []
    for step in steps:
        read = [step.source_of(network, move.tensor) for move in step.transfers]
        maps = list(dict.fromkeys(read))
        store.add(step_graph(network, cluster, step, owned, maps))
        makers.append([maker.get(tensor, -1) for tensor in maps])
    return _Simulation(store, makers, _ends(steps))


def _ends(steps: Sequence[Step]) -> list[tuple[int, int, int]]:
    """Step, sender and receiver of every message, in order."""
    pairs = [dict.fromkeys((move.src, move.dst) for move in step.transfers) for step in steps]
    return [(k, src, dst) for k, between in enumerate(pairs) for src, dst in between]


class _Simulation:
    """A plan as the arrays that ``run_events`` wants."""

    def __init__(
        self,
        store: StepStore,
        makers: Sequence[Sequence[int]],
        ends: Sequence[tuple[int, int, int]],
    ) -> None:
        self.store, self.ends = store, ends
        self.arrays = store.arrays(range(len(makers)), makers)
        self.devices, self.seconds, self.steps = (
            self.arrays[0][0], self.arrays[0][2], self.arrays[4],
        )  # fmt: skip

    def set_seconds(self, task: Task, seconds: float) -> None:
        """Scale a task's pieces to ``seconds`` in all."""
        own = (self.steps == task[0]) & (self.devices == task[1])
        modelled = self.seconds[own].sum()
        shares = self.seconds[own] / modelled if modelled else 1.0 / own.sum()
        self.seconds[own] = shares * seconds

    def run(self) -> tuple[float, IntArray, FloatArray]:
        """Seconds in all; kind and index, start and end of every stretch."""
        now, done, stretches, times = self.store.events(self.arrays)
        assert done == len(self.devices), "the plan waits for a message that nothing sends"
        return float(now), stretches, times

    def read_stretches(self, stretches: IntArray, times: FloatArray) -> list[Stretch]:
        """Stretches of a run by step and device."""
        return [
            self._message(index, *ends) if kind else self._piece(index, *ends)
            for (kind, index), ends in zip(stretches.tolist(), times.tolist(), strict=True)
        ]

    def _piece(self, index: int, start_s: float, end_s: float) -> Stretch:
        step, device = int(self.steps[index]), int(self.devices[index])
        return Stretch("compute", step, device, start_s, end_s)

    def _message(self, index: int, start_s: float, end_s: float) -> Stretch:
        step, src, dst = self.ends[index]
        left_s = end_s - self.store.latency_s
        taken_s = max(start_s, left_s - float(self.arrays[1][2][index]))
        return Stretch("message", step, src, start_s, end_s, dst, (taken_s, left_s))
