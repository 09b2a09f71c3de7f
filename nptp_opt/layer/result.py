"""One solver-free result for every method that partitions a layer.

Why it stopped, what was found and which bounds hold are separate fields; unknown is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nptp_opt.geometry import Tile
from nptp_opt.notebook import html_table, short


class Status(StrEnum):
    """What is known at the end."""

    OPTIMAL = "optimal"
    """Proven within the gap tolerance, over the method's family, at exact costs."""
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    NO_SOLUTION = "no-solution"


class Termination(StrEnum):
    """Why the method stopped."""

    COMPLETED = "completed"
    TIME_LIMIT = "time-limit"
    OTHER_LIMIT = "other-limit"


@dataclass(frozen=True)
class ModelSize:
    """Size of a MILP or CP model; ``nonzeros`` is None where the model has no matrix."""

    rows: int
    columns: int
    nonzeros: int | None
    integers: int


PRECISION = 1e-9
"""Relative distance below which value and bound count as equal."""

TracePoint = tuple[float, float | None, float | None]
"""Seconds since the start, then the value and the bound known at that time."""


@dataclass(frozen=True, repr=False)
class LayerResult:
    """Outcome of one method on one layer problem.

    ``makespan_s`` is the exact cost of ``tiles`` (docs/cost.md), never the solver's own value.
    ``bound_s`` is proven for every partition of the method's family; ``any_bound_s`` for every
    partition of any family, None where it was not sought. ``gap`` is
    (makespan_s - bound_s) / makespan_s.
    """

    formulation: str
    solver: str | None
    status: Status
    termination: Termination
    tiles: Mapping[int, Tile] | None = None
    makespan_s: float | None = None
    bound_s: float | None = None
    any_bound_s: float | None = None
    root_bound_s: float | None = None
    nodes: int | None = None
    size: ModelSize | None = None
    build_s: float = 0.0
    solve_s: float = 0.0
    trace: tuple[TracePoint, ...] = ()
    """How value and bound improved, for solvers that tell."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Which method gave the value and which the bound, for methods that combine several."""

    def __repr__(self) -> str:
        return (
            f"<LayerResult {self.formulation}: {self.status}, makespan {short(self.makespan_s)} s, "
            f"bound {short(self.bound_s)} s>"
        )

    def _repr_html_(self) -> str:
        rows = {
            "solver": self.solver,
            "status": str(self.status),
            "makespan_s": self.makespan_s,
            "bound_s": self.bound_s,
            "gap": self.gap,
            "solve_s": self.solve_s,
        }
        tiles = {f"tile of device {i}": tile for i, tile in (self.tiles or {}).items()}
        return html_table(f"Layer by {self.formulation}", {**rows, **tiles})

    @property
    def gap(self) -> float | None:
        """Relative distance of value and bound; None where either is unknown."""
        return relative_gap(self.makespan_s, self.bound_s)


def relative_gap(value: float | None, bound: float | None) -> float | None:
    """(value - bound) / value, 0 within ``PRECISION``; None where either is unknown."""
    if value is None or bound is None:
        return None
    assert bound <= value * (1 + 1e-6), f"bound {bound} above value {value}: one of them is wrong"
    gap = (value - bound) / value if value > 0 else 0.0
    return gap if gap > PRECISION else 0.0
