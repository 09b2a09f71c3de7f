"""A ``MilpModel`` as text: MPS (fixed-name free format, also what CBC reads) and LP."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nptp_opt.solvers.model import MilpModel


def _row_sense(lo: float, hi: float) -> str:
    if lo == hi:
        return "E"
    return "L" if hi < math.inf else "G"


def _by_column(model: MilpModel) -> Iterator[tuple[int, int, float]]:
    row = np.repeat(np.arange(model.n_rows), np.diff(model.start))
    order = np.argsort(model.column, kind="stable")
    for at in order:
        yield int(model.column[at]), int(row[at]), float(model.value[at])


def _mps_columns(model: MilpModel, columns: list[str], rows: list[str]) -> Iterator[str]:
    entries: list[list[str]] = [[] for _ in columns]
    for j in np.flatnonzero(model.objective).tolist():
        entries[j].append(f" {columns[j]} OBJ {float(model.objective[j])!r}")
    for j, r, value in _by_column(model):
        entries[j].append(f" {columns[j]} {rows[r]} {value!r}")
    for integer in (False, True):
        if integer:
            yield " MARKER 'MARKER' 'INTORG'"
        for j in np.flatnonzero(model.integer == integer).tolist():
            yield from entries[j] or [f" {columns[j]} OBJ 0"]
    yield " MARKER 'MARKER' 'INTEND'"


def _mps_bound(name: str, lo: float, hi: float) -> Iterator[str]:
    if lo == -math.inf and hi == math.inf:
        yield f" FR BND {name}"
        return
    yield f" LO BND {name} {lo!r}" if lo > -math.inf else f" MI BND {name}"
    if hi < math.inf:
        yield f" UP BND {name} {hi!r}"


def _mps_ranges(model: MilpModel, rows: list[str]) -> Iterator[str]:
    for name, lo, hi in zip(rows, model.row_lo.tolist(), model.row_hi.tolist(), strict=True):
        if -math.inf < lo < hi < math.inf:
            yield f" RNG {name} {hi - lo!r}"


def to_mps(model: MilpModel, *, short_names: bool = False) -> str:
    """MPS text; ``short_names`` writes C0, C1 ... and R0, R1 ... in place of the model's names."""
    columns = [f"C{j}" for j in range(model.n_columns)] if short_names else [*model.column_names]
    rows = [f"R{r}" for r in range(model.n_rows)] if short_names else [*model.row_names]
    bounds = list(zip(rows, model.row_lo.tolist(), model.row_hi.tolist(), strict=True))
    lines = [f"NAME {model.name or 'model'}", "ROWS", " N OBJ"]
    lines += [f" {_row_sense(lo, hi)} {name}" for name, lo, hi in bounds]
    lines += ["COLUMNS", *_mps_columns(model, columns, rows), "RHS"]
    if model.offset:
        lines.append(f" RHS OBJ {-model.offset!r}")
    lines += [f" RHS {name} {hi if hi < math.inf else lo!r}" for name, lo, hi in bounds]
    lines += ["RANGES", *_mps_ranges(model, rows), "BOUNDS"]
    for name, lo, hi in zip(columns, model.lo.tolist(), model.hi.tolist(), strict=True):
        lines += _mps_bound(name, lo, hi)
    return "\n".join([*lines, "ENDATA", ""])


def _terms(coefficients: Iterator[tuple[float, str]]) -> str:
    return " ".join(f"{value:+.17g} {name}" for value, name in coefficients)


def _lp_rows(model: MilpModel) -> Iterator[str]:
    names = model.column_names
    for r, row in enumerate(model.row_names):
        span = range(model.start[r], model.start[r + 1])
        entries = ((float(model.value[t]), names[model.column[t]]) for t in span)
        left = _terms(entries) or f"0 {names[0]}"
        lo, hi = float(model.row_lo[r]), float(model.row_hi[r])
        if lo == hi:
            yield f" {row}: {left} = {lo!r}"
            continue
        if hi < math.inf:
            yield f" {row}: {left} <= {hi!r}"
        if lo > -math.inf:
            yield f" {row}{'_lo' if hi < math.inf else ''}: {left} >= {lo!r}"


def to_lp(model: MilpModel) -> str:
    """CPLEX LP text."""
    objective = _terms(
        (float(c), n) for c, n in zip(model.objective, model.column_names, strict=True) if c
    )
    bounds = zip(model.column_names, model.lo.tolist(), model.hi.tolist(), strict=True)
    lines = ["Minimize", f" obj: {objective} {model.offset:+.17g}", "Subject To"]
    lines += [*_lp_rows(model), "Bounds"]
    lines += [f" {lo!r} <= {name} <= {hi!r}" for name, lo, hi in bounds]
    lines += [
        "General",
        *(f" {model.column_names[j]}" for j in np.flatnonzero(model.integer).tolist()),
    ]
    return "\n".join([*lines, "End", ""])
