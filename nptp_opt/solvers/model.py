"""A MILP as plain arrays: what every solver takes, whatever wrote it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nptp_opt.layer.result import ModelSize

if TYPE_CHECKING:
    import pulp

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MilpModel:
    """Minimise ``objective @ x + offset`` with ``row_lo <= A x <= row_hi``, ``lo <= x <= hi``.

    ``A`` is stored by rows: the entries of row r are ``start[r]:start[r + 1]`` of ``column`` and
    ``value``. Bounds are infinite where there is none.
    """

    name: str
    objective: FloatArray
    lo: FloatArray
    hi: FloatArray
    integer: BoolArray
    start: IndexArray
    column: IndexArray
    value: FloatArray
    row_lo: FloatArray
    row_hi: FloatArray
    column_names: Sequence[str]
    row_names: Sequence[str]
    offset: float = 0.0

    @property
    def n_columns(self) -> int:
        return len(self.objective)

    @property
    def n_rows(self) -> int:
        return len(self.row_lo)

    @property
    def size(self) -> ModelSize:
        """Rows, columns, non-zeros and integer columns."""
        return ModelSize(self.n_rows, self.n_columns, len(self.value), int(self.integer.sum()))

    def start_indices(self, start: Mapping[str, float]) -> tuple[IndexArray, FloatArray]:
        """Column numbers and values of a (partial) solution that is given by column names."""
        index = {name: j for j, name in enumerate(self.column_names)}
        columns = np.array([index[name] for name in start], dtype=np.int64)
        return columns, np.array(list(start.values()), dtype=np.float64)


def _bounds(variables: Iterable[Any]) -> tuple[FloatArray, FloatArray]:
    variables = list(variables)
    lo = [-math.inf if v.lowBound is None else v.lowBound for v in variables]
    hi = [math.inf if v.upBound is None else v.upBound for v in variables]
    return np.array(lo, dtype=np.float64), np.array(hi, dtype=np.float64)


def from_pulp(problem: pulp.LpProblem) -> MilpModel:
    """The arrays of a PuLP problem; its objective must be a minimisation."""
    assert problem.sense == 1, "formulations minimise"
    variables = problem.variables()
    index = {variable: j for j, variable in enumerate(variables)}
    objective = np.zeros(len(variables))
    for variable, coefficient in problem.objective.items():
        objective[index[variable]] = coefficient
    rows = problem.constraints()
    start: list[int] = [0]
    column: list[int] = []
    value: list[float] = []
    for row in rows:
        column.extend(index[variable] for variable in row)
        value.extend(row.values())
        start.append(len(column))
    lo, hi = _bounds(variables)
    # PuLP keeps a row as "expression + constant (sense) 0"; sense is -1, 0 or 1.
    rhs = np.array([-row.constant for row in rows], dtype=np.float64)
    sense = np.array([row.sense for row in rows], dtype=np.int64)
    return MilpModel(
        name=problem.name,
        objective=objective,
        lo=lo,
        hi=hi,
        integer=np.array([v.cat == "Integer" for v in variables], dtype=np.bool_),
        start=np.array(start, dtype=np.int64),
        column=np.array(column, dtype=np.int64),
        value=np.array(value, dtype=np.float64),
        row_lo=np.where(sense >= 0, rhs, -np.inf),
        row_hi=np.where(sense <= 0, rhs, np.inf),
        column_names=[v.name for v in variables],
        row_names=[row.name or f"row{r}" for r, row in enumerate(rows)],
        offset=float(problem.objective.constant or 0.0),
    )
