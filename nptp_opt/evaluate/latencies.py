"""Both latencies of many plans of one network: what they have in common is worked out once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import MOST_STEPS, Assembler, Choice
from nptp_opt.evaluate.memory import fitting_steps, overfull
from nptp_opt.evaluate.simulate import simulate, simulated_s
from nptp_opt.evaluate.work import StepWork, step_work
from nptp_opt.network.ir import Network
from nptp_opt.plan.model import owned_maps
from nptp_opt.plan.steps import Step


@dataclass(frozen=True)
class Latencies:
    """Of one plan: the sum of its makespans, and as simulated without barriers. Infinite where it
    does not fit into memory."""

    sum_s: float
    predicted_s: float


class Evaluator:
    """Evaluates plans; with ``overlap`` those segments overlap that it makes cheaper."""

    def __init__(self, network: Network, cluster: Cluster, *, overlap: bool = False) -> None:
        self.network, self.cluster, self.overlap = network, cluster, overlap
        self._assembler = Assembler(network, cluster, overlap=overlap)
        self._works: dict[int, tuple[Step, StepWork]] = {}

    def __call__(self, choices: Sequence[Choice]) -> Latencies:
        """Latencies of the plan of ``choices``."""
        network, cluster = self.network, self.cluster
        steps = self._assembler.steps(choices)
        if not overfull(network, cluster, steps):
            predicted_s = simulated_s(network, cluster, steps, self._all_works(steps))
            return Latencies(sum(step.makespan_s for step in steps), predicted_s)
        steps = fitting_steps(network, cluster, choices, overlap=self.overlap)
        if overfull(network, cluster, steps):
            return Latencies(math.inf, math.inf)
        predicted_s = simulate(network, cluster, steps)
        return Latencies(sum(step.makespan_s for step in steps), predicted_s)

    def _all_works(self, steps: Sequence[Step]) -> list[StepWork]:
        if len(self._works) > 2 * MOST_STEPS:
            self._works.clear()
        new = [step for step in steps if id(step) not in self._works]
        owned = owned_maps(self.network, self.cluster, steps) if new else {}
        for step in new:
            self._works[id(step)] = step, step_work(self.network, self.cluster, step, owned)
        return [self._works[id(step)][1] for step in steps]
