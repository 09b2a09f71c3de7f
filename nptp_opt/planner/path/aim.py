"""What a search under an objective aims at: the rows whose maximum is minimised, and limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nptp_opt.cost import FloatArray
from nptp_opt.cost.objectives import Weights


@dataclass(frozen=True)
class Aim:
    """Least maximum of ``rows`` among the plans that keep within ``most`` of every ``limited``."""

    rows: Sequence[Weights]
    limited: Sequence[Weights]
    most: FloatArray

    @classmethod
    def of(cls, rows: Sequence[Weights], limits: Sequence[tuple[Weights, float]]) -> Aim:
        """Leaves out limits that are infinite."""
        kept = [(row, most) for row, most in limits if math.isfinite(most)]
        return cls(rows, [row for row, _ in kept], np.array([most for _, most in kept]))

    def with_latency(self, factor: float) -> Aim:
        """The aim where latencies are sums of makespans, ``factor`` of which is the latency."""
        rows = [row.with_latency(factor) for row in self.rows]
        return Aim(rows, [row.with_latency(factor) for row in self.limited], self.most)

    @property
    def every(self) -> list[Weights]:
        """All rows, the limited ones last."""
        return [*self.rows, *self.limited]

    def excess(self, limited: FloatArray) -> FloatArray:
        """How far values (..., S) of what is limited are above the limits, relative to these; 0
        where they keep them."""
        above = np.maximum(limited - self.most, 0.0) / np.maximum(self.most, 1e-300)
        return np.asarray(above.sum(axis=-1))
