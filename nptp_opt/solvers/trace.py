"""Value and bound over time, put together from what a solver calls back or writes to its log."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from nptp_opt.layer.result import TracePoint


class Trace:
    """Keeps the best value and bound so far; a point is added only where one of them improves."""

    def __init__(self) -> None:
        self._points: list[TracePoint] = []

    def add(self, at_s: float, value: float | None = None, bound: float | None = None) -> None:
        """What is known ``at_s`` seconds after the start; None and infinite tell nothing."""
        _, best, proven = self._points[-1] if self._points else (0.0, None, None)
        if value is not None and math.isfinite(value) and (best is None or value < best):
            best = value
        if bound is not None and math.isfinite(bound) and (proven is None or bound > proven):
            proven = bound
        last = self._points[-1][1:] if self._points else (None, None)
        if (best, proven) != last:
            self._points.append((at_s, best, proven))

    @property
    def points(self) -> tuple[TracePoint, ...]:
        return tuple(self._points)


_NUMBER = r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?"
_UNKNOWN = 1e49
"""CBC writes 1e+50 where it has no solution."""

_CBC_VALUE = re.compile(
    rf"(?:Integer solution of|improved solution from \S+ to) ({_NUMBER}) .*?\(([0-9.]+) seconds\)"
)
_CBC_BOTH = re.compile(
    rf"({_NUMBER}) best solution, best possible ({_NUMBER}) \(([0-9.]+) seconds\)"
)


def cbc_trace(log: str) -> tuple[TracePoint, ...]:
    """From CBC's log: its values have six digits."""
    points: list[tuple[float, float | None, float | None]] = [
        (float(at), float(value), None) for value, at in _CBC_VALUE.findall(log)
    ]
    for value, bound, at in _CBC_BOTH.findall(log):
        known = float(value) if float(value) < _UNKNOWN else None
        points.append((float(at), known, float(bound) if abs(float(bound)) < _UNKNOWN else None))
    trace = Trace()
    for point in sorted(points, key=lambda point: point[0]):
        trace.add(*point)
    return trace.points


_SCIP_ROW = re.compile(
    r"^\S?\s*([0-9.]+)s\|\s*([0-9]+)\s\|.*\|\s*(\S+)\s*\|\s*(\S+)\s*\|[^|]*\|[^|]*$"
)


def scip_rows(lines: Iterable[str]) -> list[tuple[float, int, float | None, float | None]]:
    """Seconds, node, value and bound of every line of SCIP's progress table."""
    rows = []
    for line in lines:
        row = _SCIP_ROW.match(line)
        if row:
            at, node, bound, value = row.groups()
            rows.append((float(at), int(node), _number(value), _number(bound)))
    return rows


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:  # "--" and the like
        return None
    return value if abs(value) < 1e20 else None
