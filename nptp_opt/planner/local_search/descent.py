"""Downhill from one plan under any objective, the limits kept: one partition at a time.

All neighbours of one segment's partition are evaluated together: its own step and those that read
it change, the others stay. The best neighbour is taken: less excess over the limits, then less of
the objective, then (the throughput's maximum is flat) less of the other rows. Where nothing
improves, the plan is a local optimum among these changes. Segments next to reductions stay as they
are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import CandidateTiles, FloatArray, StepCosts, candidate_array
from nptp_opt.cost.objectives import step_values
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.usage import usage_of
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Network
from nptp_opt.planner.local_search.moves import Partition
from nptp_opt.planner.local_search.polish import Ledger
from nptp_opt.planner.path.aim import Aim

LEAST_GAIN = 1e-6
"""Relative gain below which a change does not count as one."""

TRIES = 5
"""Improving neighbours that are offered before a segment is left as it is."""

EVENNESS = 1e-3
"""Weight of all rows' mean in the value of a plan, so that a flat maximum has a slope."""


def descend(
    network: Network,
    cluster: Cluster,
    choices: Sequence[Choice],
    aim: Aim,
    deadline: float,
    accept: Callable[[list[Choice]], bool],
) -> list[Choice]:
    """Take improving neighbours that ``accept`` allows until there is none, or time is up."""
    walk = _Descent(network, cluster, list(choices), aim)
    improved = True
    while improved and time.monotonic() < deadline:
        improved = False
        for number in range(walk.ledger.final):
            while walk.ledger.plain(number) and time.monotonic() < deadline:
                if not walk.step(number, accept):
                    break
                improved = True
    return walk.ledger.choices


class _Descent:
    """A plan's choices and what they add up to: the aim's rows and limits (V,)."""

    def __init__(self, network: Network, cluster: Cluster, choices: list[Choice], aim: Aim) -> None:
        self.cluster, self.aim = cluster, aim
        self.ledger = Ledger(network, cluster, choices)
        steps = assemble(network, cluster, choices)
        used = usage_of(network, cluster, steps)
        latency_s = sum(step.makespan_s for step in steps)
        rows = [row.latency * latency_s + float(row.usage(used)) for row in aim.every]
        self.total = np.array(rows)

    def step(self, number: int, accept: Callable[[list[Choice]], bool]) -> bool:
        """Take the best neighbour of one partition that improves the plan and is accepted."""
        neighbours = self.ledger.around(number)
        values = self._values(number, neighbours)
        totals = self.total + values - values[0]
        late, value = self._scores(totals)
        better = (late < late[0] * (1 - LEAST_GAIN)) | (
            (late <= late[0]) & (value < value[0] * (1 - LEAST_GAIN))
        )
        order = np.lexsort((value, late))
        for pick in [int(k) for k in order if better[k]][:TRIES]:
            changed = list(self.ledger.choices)
            changed[number] = Choice(changed[number].layers, neighbours[pick])
            if accept(changed):
                self.ledger.choices, self.total = changed, totals[pick]
                return True
        return False

    def _scores(self, totals: FloatArray) -> tuple[FloatArray, FloatArray]:
        rows, limited = np.split(totals, [len(self.aim.rows)], axis=1)
        return self.aim.excess(limited), rows.max(axis=1) + EVENNESS * rows.mean(axis=1)

    def _values(self, number: int, neighbours: Sequence[Partition]) -> FloatArray:
        """Rows and limits (Q, V) of the steps that depend on one partition."""
        ledger, owners = self.ledger, self.ledger.owners()
        tiles = CandidateTiles(candidate_array(neighbours, len(self.cluster.devices)))
        costs = ledger.segment(number, tiles)
        values = self._step_values(costs, ledger.inputs(number, owners))[0]
        owners[ledger.choices[number].layers[-1].name] = tiles.array
        for reader in ledger.readers(number):
            values = (
                values
                + self._step_values(ledger.reader(reader), ledger.inputs(reader, owners))[:, 0]
            )
        return np.asarray(values)

    def _step_values(self, costs: StepCosts, inputs: dict[str, IntArray]) -> FloatArray:
        """Rows and limits (P, Q, V) of one step."""
        return step_values(self.cluster, costs.loads(inputs), self.aim.every)
