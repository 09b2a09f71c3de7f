"""What the report computes from records; every rule is in its function's docstring.

Times are seconds of build and solve. A run that proved nothing counts with its time limit.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from nptp_opt.comparison.records import Record, best_values, by_contender, shared_cases
from nptp_opt.comparison.runs import HARNESS

SHIFT_S = 1.0
"""Added to every time before the geometric mean, subtracted after it."""

TIE = 1e-6
"""Values closer than this, relatively, are a tie."""

CURVE_POINTS = 60

USED = ("bytes", "energy_j", "period_s")
"""What plans use besides time, as their runs' ``notes`` have it."""

Curve = list[tuple[float, float]]


def shifted_geomean(values: Sequence[float], shift: float) -> float | None:
    """exp(mean(log(v + shift))) - shift; None of nothing."""
    if not values:
        return None
    return math.exp(fmean(math.log(value + shift) for value in values)) - shift


def summary(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row per contender: how its runs ended, and means over the cases that all have run.

    ``time_s`` is the shifted geometric mean; ``ratio`` the geometric mean of the value over the
    best value of any contender, of runs with a value; ``gap`` the mean final gap.
    """
    shared = by_contender(shared_cases(records))
    best = best_values(records)
    return [
        _summary(name, group, shared.get(name, []), best)
        for name, group in by_contender(records).items()
    ]


def _summary(
    name: str, group: Sequence[Record], shared: Sequence[Record], best: Mapping[str, float]
) -> dict[str, Any]:
    ended = Counter(record.row["harness"] for record in group)
    ratios = [r.value_s / best[r.instance] for r in shared if r.value_s]
    return {
        "contender": name,
        "family": group[0].family,
        "runs": len(group),
        "solved": sum(record.value_s is not None for record in group),
        "optimal": sum(record.proven for record in group),
        "infeasible": sum(record.row["status"] == "infeasible" for record in group),
        **{status: ended[status] for status in HARNESS[1:]},
        "faults": sum(record.row["fault"] is not None for record in group),
        "shared": len(shared),
        "time_s": shifted_geomean([record.time_s for record in shared], SHIFT_S),
        "ratio": shifted_geomean(ratios, 0.0),
        "gap": fmean(record.gap for record in shared) if shared else None,
        "primal_integral_s": _mean_integral(shared, best),
        "peak_mib": max((record.row["peak_mib"] or 0.0) for record in group),
    }


def _mean_integral(group: Sequence[Record], best: Mapping[str, float]) -> float | None:
    found = [primal_integral(r, best[r.instance]) for r in group if r.instance in best]
    return fmean(found) if found else None


def primal_integral(record: Record, best: float) -> float:
    """Integral over the time limit of (value - best) / value, which is 1 before the first value.

    Seconds; ``best`` is the best value of any contender.
    """
    total, since, height = 0.0, 0.0, 1.0
    for at, value, _ in record.trace:
        if value is not None:
            until = max(since, min(at, record.limit_s))
            total += height * (until - since)
            since, height = until, min(height, max(0.0, 1 - best / value))
    return total + height * max(0.0, record.limit_s - since)


def sizes(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Medians of the models' sizes and nodes, for contenders that have a model."""
    rows = []
    for name, group in by_contender(records).items():
        row: dict[str, Any] = {"contender": name}
        for field in ("rows", "columns", "nonzeros", "integers", "nodes"):
            known = [r.row[field] for r in group if r.row[field] is not None]
            row[field] = median(known) if known else None
        if row["columns"] is not None:
            rows.append(row)
    return rows


def roots(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Root and final bound as a part of the best value that the family has, and the gap closed.

    ``closed_at_root`` is (root - any) / (best - any), where ``any`` is the bound over all families
    that was known before the solver began; 0 where none was.
    """
    best: dict[tuple[str | None, str], float] = {}
    for r in records:
        if r.value_s is not None:
            key = (r.family, r.instance)
            best[key] = min(r.value_s, best.get(key, r.value_s))
    rows = []
    for name, group in by_contender(records).items():
        known = [
            (r, best[r.family, r.instance])
            for r in group
            if r.row["root_bound_s"] is not None and (r.family, r.instance) in best
        ]
        if known:
            rows.append({"contender": name, "runs": len(known), **_root_means(known)})
    return rows


def _root_means(known: Sequence[tuple[Record, float]]) -> dict[str, float]:
    closed = []
    for record, best in known:
        own = record.family == "dissection"
        start = 0.0 if own else record.row["any_bound_s"] or 0.0
        room = best - start
        closed.append(
            min(1.0, max(0.0, (record.row["root_bound_s"] - start) / room)) if room > 0 else 1.0
        )
    return {
        "root": fmean(min(1.0, r.row["root_bound_s"] / best) for r, best in known),
        "final": fmean(min(1.0, (r.bound_s or 0.0) / best) for r, best in known),
        "closed_at_root": fmean(closed),
    }


def usage(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What plans cost and use: geometric means over the shared cases on which all have a plan."""
    planned = [r for r in shared_cases(records) if r.value_s is not None]
    groups = by_contender(planned)
    if not all(r.row["notes"] for r in planned) or not planned:
        return []
    cases = set.intersection(*({r.case for r in group} for group in groups.values()))
    return [
        {"contender": name, "cases": len(cases), **_used([r for r in group if r.case in cases])}
        for name, group in groups.items()
    ]


def _used(group: Sequence[Record]) -> dict[str, float | None]:
    """Energy is None where a device has no watts."""
    found: dict[str, float | None] = {}
    for field in ("value_s", "synchronous_s", *USED):
        values = [r.row[field] if field in r.row else r.row["notes"].get(field) for r in group]
        known = [value for value in values if value is not None]
        found[field] = _geomean(known) if len(known) == len(group) else None
    return found


def _geomean(values: Sequence[float]) -> float | None:
    """0 where a value is: a single device sends no byte."""
    return shifted_geomean(values, 0.0) if all(values) else 0.0


def executed(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Measured latencies of the planners' plans; empty where none was executed.

    ``ratio`` is the geometric mean of the measured latency over the lowest of any contender, on
    the cases where every executed contender has one; ``error`` the mean of |predicted - measured|
    / measured, for emulated clusters only: other processes run at this machine's own speed.
    """
    tried = [record for record in records if record.execution is not None]
    known = [record for record in tried if record.measured_s is not None]
    shared = shared_cases(known) if known else []
    best: dict[tuple[str, int], float] = {}
    for record in shared:
        assert record.measured_s is not None
        best[record.case] = min(record.measured_s, best.get(record.case, math.inf))
    common = by_contender(shared)
    return [
        _executed(name, group, common.get(name, []), best)
        for name, group in by_contender(tried).items()
    ]


def _executed(
    name: str,
    group: Sequence[Record],
    shared: Sequence[Record],
    best: Mapping[tuple[str, int], float],
) -> dict[str, Any]:
    known = [(r.row["value_s"], r.measured_s) for r in group if r.measured_s is not None]
    how = group[0].execution["how"] if group[0].execution else None
    times = [r.measured_s for r in shared if r.measured_s is not None]
    ratios = [r.measured_s / best[r.case] for r in shared if r.measured_s is not None]
    errors = [abs(said - found) / found for said, found in known if said is not None]
    return {
        "contender": name,
        "how": how,
        "executed": len(known),
        "failed": len(group) - len(known),
        "shared": len(shared),
        "measured_s": shifted_geomean(times, 0.0),
        "ratio": shifted_geomean(ratios, 0.0),
        "error": fmean(errors) if errors and how == "emulated" else None,
    }


def profiles(records: Sequence[Record], measure: str) -> dict[str, Curve]:
    """Dolan-More: part of the shared cases within a factor of the best, by contender.

    ``time`` counts proven runs only, ``value`` runs with a value, ``measured`` executed plans.
    Points are (factor, part).
    """
    shared = shared_cases(records)
    costs = {id(r): _cost(r, measure) for r in shared}
    best: dict[tuple[str, int], float] = {}
    for r in shared:
        best[r.case] = min(costs[id(r)], best.get(r.case, math.inf))
    curves = {}
    for name, group in by_contender(shared).items():
        ratios = sorted(costs[id(r)] / best[r.case] for r in group if math.isfinite(costs[id(r)]))
        curves[name] = _steps(ratios, len(group))
    return curves


def _cost(record: Record, measure: str) -> float:
    if measure == "time":
        return max(1e-3, record.time_s) if record.proven else math.inf
    if measure == "measured":
        return math.inf if record.measured_s is None else record.measured_s
    return math.inf if record.value_s is None else record.value_s


def _steps(ratios: Sequence[float], total: int) -> Curve:
    """The distribution function of sorted ratios, one point per distinct ratio."""
    points: dict[float, float] = {1.0: 0.0}
    for number, ratio in enumerate(ratios, start=1):
        points[round(ratio, 6)] = number / total
    return sorted(points.items())


def gap_curves(records: Sequence[Record]) -> dict[str, Curve]:
    """Mean gap over time on the shared cases, by contender; 1 before value and bound are known."""
    shared = shared_cases(records)
    longest = max(record.limit_s for record in records)
    times = [longest * 10 ** (3 * (k / (CURVE_POINTS - 1) - 1)) for k in range(CURVE_POINTS)]
    return {
        name: list(zip(times, _mean_gaps(group, times), strict=True))
        for name, group in by_contender(shared).items()
    }


def _mean_gaps(group: Sequence[Record], times: Sequence[float]) -> list[float]:
    totals = [0.0] * len(times)
    for record in group:
        ats = [point[0] for point in record.trace]
        for k, at in enumerate(times):
            index = bisect.bisect_right(ats, at)
            totals[k] += _gap_of(*record.trace[index - 1][1:]) if index else 1.0
    return [round(total / len(group), 6) for total in totals]


def _gap_of(value: float | None, bound: float | None) -> float:
    return 1.0 if value is None or bound is None else max(0.0, (value - bound) / value)


def wins(records: Sequence[Record]) -> list[dict[str, Any]]:
    """On how many shared cases the row's contender has the better value than the column's."""
    shared = by_contender(shared_cases(records))
    values = {name: {r.case: _cost(r, "value") for r in group} for name, group in shared.items()}
    return [{"contender": a, **{b: _won(values[a], values[b]) for b in values}} for a in values]


def _won(mine: Mapping[Any, float], theirs: Mapping[Any, float]) -> int:
    return sum(mine[case] < theirs[case] * (1 - TIE) for case in mine)
