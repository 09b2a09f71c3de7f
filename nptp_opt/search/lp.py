"""A small LP that grows by columns, on HiGHS: proposes multipliers, proves nothing itself."""

from __future__ import annotations

from collections.abc import Sequence

import highspy
import numpy as np

from nptp_opt.cost import FloatArray
from nptp_opt.geometry import IntArray
from nptp_opt.solvers.highs import new_highs


class ColumnLP:
    """min cost.x over x >= 0 with ``n_equal`` rows of right-hand side 1 and rows sum x <= limit.

    Missing and surplus amounts of the first rows cost ``penalty`` each; the rows in ``at_least``
    may be exceeded for nothing.
    """

    def __init__(
        self, *, n_equal: int, limits: FloatArray, penalty: float, at_least: Sequence[int] = ()
    ) -> None:
        self._n_equal = n_equal
        self._highs = new_highs()
        infinity = highspy.kHighsInf
        for _ in range(n_equal):
            self._highs.addRow(1.0, 1.0, 0, _NO_INDEX, _NO_VALUE)
        for limit in limits:
            self._highs.addRow(-infinity, float(limit), 0, _NO_INDEX, _NO_VALUE)
        for row in range(n_equal):
            for sign, cost in ((1.0, penalty), (-1.0, 0.0 if row in at_least else penalty)):
                index, value = np.array([row], dtype=np.int32), np.array([sign])
                self._highs.addCol(cost, 0.0, infinity, 1, index, value)

    def add(self, cost: FloatArray, rows: FloatArray, group: IntArray) -> None:
        """Add columns: ``rows`` are (columns, n_equal); each counts in one group's limit."""
        n = len(cost)
        one_hot = np.zeros((n, self._highs.getNumRow() - self._n_equal))
        one_hot[np.arange(n), group] = 1.0
        dense = np.hstack([rows, one_hot])
        column, index = np.nonzero(dense)
        starts = np.searchsorted(column, np.arange(n)).astype(np.int32)
        self._highs.addCols(
            n,
            cost,
            np.zeros(n),
            np.full(n, highspy.kHighsInf),
            len(index),
            starts,
            index.astype(np.int32),
            dense[column, index],
        )

    def duals(self) -> FloatArray:
        """Row duals of the optimum over the present columns."""
        self._highs.run()
        return np.array(self._highs.getSolution().row_dual)


_NO_INDEX = np.zeros(0, dtype=np.int32)
_NO_VALUE = np.zeros(0)
