"""Plans for the clock: local search on the simulated latency, which has no barriers.

``nptp`` minimises the sum of the segments' makespans, as if all waited for the last before each
segment. Executed, a device begins when its own halo is there: the first to receive may have more to
do than the last, and links work while others compute. Starting from the plan that is best with
barriers, cuts of one segment, or of neighbouring segments on the same devices together, are moved
while the simulation gets faster. The bound and the gap stay those of the sum.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

from nptp_opt.cluster import Cluster
from nptp_opt.network.ir import Network
from nptp_opt.planner.assemble import Choice
from nptp_opt.planner.memory import fitting_steps, overfull
from nptp_opt.planner.moves import neighbours
from nptp_opt.planner.simulate import simulate
from nptp_opt.planner.templates import from_tiles

LEAST_GAIN = 1e-5
"""Relative gain below which a change does not count as one."""

FINEST = 56
"""Cut positions per axis on which the cuts of several segments move together."""


class Settle:
    """Walks downhill from a plan; ``choices`` is the best so far."""

    def __init__(
        self,
        network: Network,
        cluster: Cluster,
        choices: Sequence[Choice],
        *,
        deadline: float,
        latency_limit_s: float = math.inf,
        overlap: bool = False,
    ) -> None:
        """``latency_limit_s`` is on the sum of the makespans."""
        self.network, self.cluster = network, cluster
        self.deadline, self.limit_s, self.overlap = deadline, latency_limit_s, overlap
        self.choices = list(choices)
        self.value = self._simulated_s(self.choices)

    def run(self) -> list[Choice]:
        """The plan that no single move makes faster, or the best one in time."""
        before = math.inf
        while self.value < before * (1 - LEAST_GAIN) and time.monotonic() < self.deadline:
            before = self.value
            for start, end in self._spans():
                while self._improve(start, end):
                    pass
        return self.choices

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Runs of segments on the same devices, longest first, down to single ones."""
        spatial = [k for k, choice in enumerate(self.choices) if len(choice.tiles) > 1]
        found = [
            (a, b)
            for a in spatial
            for b in spatial
            if a <= b and all(self._devices(k) == self._devices(a) for k in range(a, b + 1))
        ]
        yield from sorted(found, key=lambda span: (span[0] - span[1], span[0]))

    def _devices(self, number: int) -> frozenset[int]:
        return frozenset(self.choices[number].tiles)

    def _improve(self, start: int, end: int) -> bool:
        """Take the first faster plan around the segments ``start`` to ``end``."""
        for changed in self._around(start, end):
            if time.monotonic() > self.deadline:
                return False
            value = self._simulated_s(changed)
            if value < self.value * (1 - LEAST_GAIN):
                self.choices, self.value = changed, value
                return True
        return False

    def _around(self, start: int, end: int) -> Iterator[list[Choice]]:
        for number in {start, end}:
            last = self.choices[number].layers[-1]
            grid = (min(last.height, FINEST), min(last.width, FINEST))
            template = from_tiles("", self.choices[number].tiles, last.height, last.width)
            tiles = template.at(*grid) if start < end else dict(self.choices[number].tiles)
            size = grid if start < end else (last.height, last.width)
            for moved in neighbours(tiles, max(size) // 8, self.cluster.kinds):
                near = from_tiles("", moved, *size)
                yield [
                    Choice(c.layers, near.at(c.layers[-1].height, c.layers[-1].width))
                    if start <= k <= end
                    else c
                    for k, c in enumerate(self.choices)
                ]

    def _simulated_s(self, choices: Sequence[Choice]) -> float:
        steps = fitting_steps(self.network, self.cluster, choices, overlap=self.overlap)
        late = sum(step.makespan_s for step in steps) > self.limit_s
        if late or overfull(self.network, self.cluster, steps):
            return math.inf
        return simulate(self.network, self.cluster, steps)
