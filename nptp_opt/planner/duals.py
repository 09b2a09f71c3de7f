"""Weights of the next shortest path: the dual prices of the best mixture of the plans seen.

Sets: plans k seen so far, rows r of which the objective is the maximum (one for a sum such as the
bytes; every device, link or medium for the throughput). v[r, k] is plan k's row, l[k] its latency.

    min T + M s   T >= sum_k v[r, k] x[k] for all r,   sum_k l[k] x[k] <= L + s,   sum_k x[k] = 1

The rows' dual prices u (they sum to 1) and the limit's price m say what a plan has to beat: a path
under sum_r u[r] row[r] + m x latency finds the plan that improves the mixture most, or that none
does (column generation). T is no bound on plans that are not mixtures of paths over the templates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from nptp_opt.cost import FloatArray
from nptp_opt.cost.objectives import Weights

PENALTY = 1e3
"""M, in units of the objective's best value per latency limit."""


@dataclass(frozen=True)
class Duals:
    """Prices of the rows (R,) and of a second of latency."""

    rows: FloatArray
    latency: float

    def towards(self, other: Duals, step: float) -> Duals:
        """A part of the way to ``other``: prices that jump find extreme plans only."""
        return Duals(
            self.rows + step * (other.rows - self.rows),
            self.latency + step * (other.latency - self.latency),
        )

    def close(self, other: Duals) -> bool:
        """Do both say nearly the same?"""
        alike = np.allclose(self.rows, other.rows, atol=1e-2)
        return bool(alike and abs(self.latency - other.latency) <= 0.05 * other.latency + 1e-300)

    def weights(self, rows: list[Weights]) -> Weights:
        """What a path minimises at these prices."""
        zero = np.zeros_like(rows[0].compute)
        found = Weights(self.latency, zero, zero, zero)
        for row, price in zip(rows, self.rows, strict=True):
            found = found.plus(row, float(price))
        return found


def duals_of(values: FloatArray, latencies: FloatArray, limit_s: float) -> Duals:
    """Dual prices for plans with ``values`` (K, R) and ``latencies`` (K,)."""
    count, rows = values.shape
    scale = max(float(values.max(axis=1).min()), float(values.max()) * 1e-9, 1e-300)
    unit = min(limit_s, float(latencies.max()))
    # columns: T, s, then the plans
    above = np.hstack([-np.ones((rows, 1)), np.zeros((rows, 1)), values.T / scale])
    late = np.concatenate([[0.0, -1.0], latencies / unit])
    most = min(limit_s, 2 * float(latencies.max())) / unit
    found = linprog(
        np.concatenate([[1.0, PENALTY], np.zeros(count)]),
        A_ub=np.vstack([above, late]),
        b_ub=np.concatenate([np.zeros(rows), [most]]),
        A_eq=np.concatenate([[0.0, 0.0], np.ones(count)])[None],
        b_eq=[1.0],
        method="highs",
    )
    assert found.status == 0, "one plan alone is a mixture"
    prices = np.maximum(-np.asarray(found.ineqlin.marginals), 0.0)
    return Duals(prices[:-1], float(prices[-1]) * scale / unit)
