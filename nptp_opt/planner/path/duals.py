"""Weights of the next shortest path: the dual prices of the best mixture of the plans seen.

Sets: plans k seen so far, rows r of which the objective is the maximum (one for a sum such as the
bytes; every device, link or medium for the throughput), limited rows s. v[r, k] is plan k's row,
l[s, k] its limited row, L[s] the limit.

    min T + M sum_s e[s]   T >= sum_k v[r, k] x[k] for all r,   sum_k x[k] = 1
                           sum_k l[s, k] x[k] <= L[s] + e[s] for all s

The rows' dual prices (they sum to 1) and the limits' prices say what a plan has to beat: a path
under the sum of all rows at their prices finds the plan that improves the mixture most, or that
none does (column generation). T is no bound on plans that are not mixtures of paths over the
templates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from nptp_opt.cost import FloatArray
from nptp_opt.cost.objectives import Weights
from nptp_opt.planner.path.aim import Aim

PENALTY = 1e3
"""M, in units of the objective's best value per limit."""


@dataclass(frozen=True)
class Duals:
    """Prices of an aim's rows (R,) and of what it limits (S,)."""

    rows: FloatArray
    limits: FloatArray

    @property
    def every(self) -> FloatArray:
        """Prices of ``Aim.every``."""
        return np.concatenate([self.rows, self.limits])

    def towards(self, other: Duals, step: float) -> Duals:
        """A part of the way to ``other``: prices that jump find extreme plans only."""
        return Duals(
            self.rows + step * (other.rows - self.rows),
            self.limits + step * (other.limits - self.limits),
        )

    def close(self, other: Duals) -> bool:
        """Do both say nearly the same?"""
        alike = np.allclose(self.rows, other.rows, atol=1e-2)
        return bool(alike and np.allclose(self.limits, other.limits, rtol=0.05, atol=1e-300))

    def weights(self, aim: Aim) -> Weights:
        """What a path minimises at these prices."""
        zero = np.zeros_like(aim.rows[0].compute)
        mixture = Weights(0.0, zero, zero, zero)
        for row, price in zip(aim.every, self.every, strict=True):
            mixture = mixture.plus(row, float(price))
        return mixture


def duals_of(values: FloatArray, limited: FloatArray, most: FloatArray) -> Duals:
    """Dual prices for plans with ``values`` (K, R) and ``limited`` (K, S), at ``most`` (S,)."""
    (count, rows), limits = values.shape, len(most)
    scale = max(float(values.max(axis=1).min()), float(values.max()) * 1e-9, 1e-300)
    largest = np.maximum(limited.max(axis=0), 1e-300)
    unit = np.clip(most, largest * 1e-6, largest)
    # columns: T, the excesses, then the plans
    above = np.hstack([-np.ones((rows, 1)), np.zeros((rows, limits)), values.T / scale])
    late = np.hstack([np.zeros((limits, 1)), -np.eye(limits), (limited / unit).T])
    solution = linprog(
        np.concatenate([[1.0], np.full(limits, PENALTY), np.zeros(count)]),
        A_ub=np.vstack([above, late]),
        b_ub=np.concatenate([np.zeros(rows), np.minimum(most, 2 * largest) / unit]),
        A_eq=np.concatenate([np.zeros(1 + limits), np.ones(count)])[None],
        b_eq=[1.0],
        method="highs",
    )
    assert solution.status == 0, "one plan alone is a mixture"
    prices = np.maximum(-np.asarray(solution.ineqlin.marginals), 0.0)
    return Duals(prices[:rows], prices[rows:] * scale / unit)
