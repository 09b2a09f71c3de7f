"""What all searches share: the clock, exact evaluation, and an honest result."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nptp_opt.cost import LayerCost
from nptp_opt.errors import InfeasibleError
from nptp_opt.geometry import Tile, cover_fault
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import LayerResult, Status, Termination, TracePoint, relative_gap
from nptp_opt.solvers.trace import Trace

FINEST_GAP = 1e-9
"""Targets closer than this are not told apart."""


def tight(gap: float) -> float:
    """The gap to aim at, so that rounding does not leave the result just outside ``gap``."""
    return max(FINEST_GAP, gap * (1 - 1e-6))


def memory_error(problem: LayerProblem) -> InfeasibleError:
    """The error for memory limits that no partition respects."""
    small = min(problem.devices, key=lambda d: d.memory_bytes)
    return InfeasibleError(
        f"{problem.name}: no partition fits the devices' memory; {small.name!r} has the least "
        f"({small.memory_bytes:.0f} bytes): raise memory_mib or add devices"
    )


class OutOfTimeError(Exception):
    """The deadline passed inside a search; never leaves this package."""


@dataclass
class Clock:
    """Time since construction, and the limit on it."""

    limit_s: float
    started: float = field(default_factory=time.perf_counter)

    @property
    def spent_s(self) -> float:
        return time.perf_counter() - self.started

    @property
    def left_s(self) -> float:
        return self.limit_s - self.spent_s

    def check(self) -> None:
        """Raise OutOfTimeError once the limit is reached."""
        if self.left_s <= 0:
            raise OutOfTimeError


@dataclass
class Incumbent:
    """The best partition found, at its exact cost."""

    cost: LayerCost
    tiles: dict[int, Tile] | None = None
    value_s: float = float("inf")
    source: str = ""
    history: list[tuple[float, float]] = field(default_factory=list)
    """Time on the performance counter, and value, of every improvement."""

    def offer(self, tiles: Mapping[int, Tile] | None, source: str = "") -> bool:
        """Keep ``tiles`` if they are a valid partition and better; True when kept."""
        if tiles is None or not self._valid(tiles):
            return False
        value = self.cost.makespan_s(tiles)
        if value >= self.value_s:
            return False
        self.tiles = {i: t for i, t in sorted(tiles.items()) if not t.is_empty}
        self.value_s, self.source = value, source
        self.history.append((time.perf_counter(), value))
        return True

    def offer_single(self) -> None:
        """Offer the whole map on one device of every class: known at no cost."""
        problem = self.cost.problem
        whole = Tile(0, problem.height, 0, problem.width)
        for alike in problem.device_classes:
            self.offer({alike[0]: whole}, "single")

    def _valid(self, tiles: Mapping[int, Tile]) -> bool:
        problem = self.cost.problem
        if cover_fault(tiles.values(), problem.height, problem.width) is not None:
            return False
        return all(self.cost.fits(device, tile) for device, tile in tiles.items())


def result_of(
    name: str,
    best: Incumbent,
    bound_s: float | None,
    limits: Limits,
    clock: Clock,
    *,
    hints: Hints | None = None,
    any_bound_s: float | None = None,
    finished: bool = True,
    nodes: int | None = None,
    notes: Mapping[str, str] | None = None,
    proofs: Iterable[tuple[float, float]] = (),
) -> LayerResult:
    """Result with the status that value and bound deserve; bounds above the value are cut to it.

    ``proofs`` are times on the performance counter and the bounds that were known then.
    """
    bounds = [b for b in (bound_s, any_bound_s, hints.bound_s if hints else None) if b]
    bound = min(max(bounds), best.value_s) if bounds else None
    value = None if best.tiles is None else best.value_s
    gap = relative_gap(value, bound)
    if value is None:
        status = Status.NO_SOLUTION
    else:
        status = Status.OPTIMAL if gap is not None and gap <= limits.gap else Status.FEASIBLE
    stopped = Termination.TIME_LIMIT if clock.left_s <= 0 else Termination.OTHER_LIMIT
    proven = finished or status is Status.OPTIMAL
    return LayerResult(
        formulation=name,
        solver=None,
        status=status,
        termination=Termination.COMPLETED if proven else stopped,
        tiles=best.tiles,
        makespan_s=value,
        bound_s=bound,
        any_bound_s=any_bound_s,
        nodes=nodes,
        trace=_trace(best, proofs, clock),
        solve_s=clock.spent_s,
        notes=dict(notes or {}),
    )


def _trace(
    best: Incumbent, proofs: Iterable[tuple[float, float]], clock: Clock
) -> tuple[TracePoint, ...]:
    """Values and bounds as they became known, in seconds from the start of the clock."""
    known: list[tuple[float, float | None, float | None]] = [
        *((at, value, None) for at, value in best.history),
        *((at, None, min(bound, best.value_s)) for at, bound in proofs),
    ]
    trace = Trace()
    for at, value, bound in sorted(known, key=lambda point: point[0]):
        trace.add(at - clock.started, value, bound)
    return trace.points
